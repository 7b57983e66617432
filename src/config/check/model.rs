//! The section `[model]`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftline_operators::breaker::{BreakerLimits, IDS};
use driftline_operators::model::Task;
use indexmap::IndexMap;

use super::parity::check_parity;
use super::problem::{Problem, at_least, suggestion};
use crate::config::job::{Feature, ModelEngine, ModelFile};
use crate::config::raw::model::BreakerSection;
use crate::config::raw::words::EngineWord;
use crate::config::raw::{ModelSection, OneOrMore};
use crate::registry::reference::SCHEME;
use crate::registry::{Reference, Registered, models_cache};

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_model(
    raw: ModelSection,
    features: &[(String, Feature)],
    folder: &Path,
    versions_kept: usize,
) -> Result<ModelFile, Problem> {
    let known = features.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    check_features(&raw.features, &known)?;
    if raw.breaker.is_some() {
        let message = "keeps rows from one of several models: it goes with [models.NAME] and the \
                       fallback of a route";
        return Err(Problem::at("model.breaker", message));
    }
    checked(raw, folder, versions_kept)
}

/// What a model of several is given.
pub(super) struct NamedFeatures<'a> {
    /// The model's.
    pub name: &'a str,
    pub features: &'a [(String, Feature)],
    /// Models whose scores it can be given.
    pub members: Vec<String>,
}

/// The section `[models.NAME]`.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn check_named_model(
    raw: ModelSection,
    of: &NamedFeatures,
    folder: &Path,
    versions_kept: usize,
) -> Result<ModelFile, Problem> {
    let is_own_name = raw.name.is_none();
    let members: Vec<&str> = of.members.iter().map(String::as_str).collect();
    let features: Vec<&str> = of.features.iter().map(|(name, _)| name.as_str()).collect();
    let placed = |problem: Problem| match problem.key.strip_prefix("model.") {
        Some(key) => Problem::at(format!("models.{}.{key}", of.name), problem.message),
        None => problem,
    };
    if let Some(both) = members.iter().find(|member| features.contains(member)) {
        let message = format!("{both:?} is a feature and a member, whose score it is to be given");
        return Err(Problem::at(format!("models.{}.features", of.name), message));
    }
    let known = [members, features].concat();
    check_features(&raw.features, &known).map_err(placed)?;
    let model = checked(raw, folder, versions_kept).map_err(placed)?;
    let name = match model.registered.is_none() && is_own_name {
        true => of.name.to_owned(),
        false => model.name.clone(),
    };
    Ok(ModelFile { name, ..model })
}

fn check_features(names: &[String], known: &[&str]) -> Result<(), Problem> {
    let in_features = |message: String| Problem::at("model.features", message);
    if names.is_empty() {
        return Err(in_features("is empty; it lists the model's inputs in order".to_owned()));
    }
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let nearest = suggestion(name, known.iter().copied());
            Err(in_features(format!("there is no section [features.{name}]; {nearest}")))
        }
        None => Ok(()),
    }
}

/// A model whose features are known.
fn checked(raw: ModelSection, folder: &Path, versions_kept: usize) -> Result<ModelFile, Problem> {
    let timeout = raw.run_timeout_ms;
    at_least("model.run_timeout_ms", timeout.map_or(1, |ms| ms as i64), 1)?;
    let registered = check_registered(&raw, folder, versions_kept)?;
    let path = match &registered {
        Some(registered) => PathBuf::from(registered.reference.to_string()),
        None => folder.join(&raw.path),
    };
    let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let own_name = registered.as_ref().map_or_else(stem, |it| it.reference.name.clone());
    Ok(ModelFile {
        name: raw.name.unwrap_or(own_name),
        path,
        registered,
        version: raw.version.unwrap_or_else(|| "1".to_owned()),
        card: Arc::default(),
        inputs: check_inputs(raw.inputs, &raw.features)?,
        features: raw.features,
        output: raw.output,
        task: raw.task.map(Task::from),
        engine: match raw.engine {
            EngineWord::Auto => ModelEngine::Auto,
            EngineWord::Onnxruntime => ModelEngine::OnnxRuntime,
        },
        run_timeout: timeout.map(Duration::from_millis),
        breaker: raw.breaker.map(check_breaker).transpose()?,
        parity: check_parity(raw.parity, folder)?,
    })
}

fn check_breaker(raw: BreakerSection) -> Result<BreakerLimits, Problem> {
    let BreakerSection { failures, open_ms, trial_weight, trial_runs } = raw;
    at_least("model.breaker.failures", failures as i64, 1)?;
    at_least("model.breaker.trial_runs", trial_runs as i64, 1)?;
    if !(1..=IDS).contains(&trial_weight) {
        return Err(Problem::at("model.breaker.trial_weight", format!("must be from 1 to {IDS}")));
    }
    Ok(BreakerLimits { failures, open_ms, trial_weight, trial_runs })
}

/// The model of a registry, if it is one.
fn check_registered(
    raw: &ModelSection,
    folder: &Path,
    versions_kept: usize,
) -> Result<Option<Registered>, Problem> {
    if !raw.path.starts_with(SCHEME) {
        let set = [("registry", raw.registry.is_some()), ("cache", raw.cache.is_some())];
        return match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => {
                let message = format!("has no effect on a file; it goes with path = \"{SCHEME}…\"");
                Err(Problem::at(format!("model.{key}"), message))
            }
            None => Ok(None),
        };
    }
    let reference =
        Reference::parse(&raw.path).map_err(|message| Problem::at("model.path", message))?;
    if raw.version.is_some() {
        let message = "the registry says which version it is; name it in path";
        return Err(Problem::at("model.version", message));
    }
    let cache = match &raw.cache {
        Some(cache) => folder.join(cache),
        None => models_cache(),
    };
    Ok(Some(Registered { reference, server: raw.registry.clone(), cache, versions_kept }))
}

/// The features of each input that the job names; whether the model has such inputs is seen later.
fn check_inputs(
    raw: IndexMap<String, OneOrMore>,
    features: &[String],
) -> Result<IndexMap<String, Vec<String>>, Problem> {
    let check = |(input, names): (String, OneOrMore)| {
        let names = names.into_list();
        let at = |message: String| Problem::at(format!("model.inputs.{input}"), message);
        if names.is_empty() {
            return Err(at("is empty; it names features".to_owned()));
        }
        match names.iter().find(|&name| !features.contains(name)) {
            Some(name) => {
                let known = features.join(", ");
                Err(at(format!("{name:?} is not among model.features ({known})")))
            }
            None => Ok((input, names)),
        }
    };
    raw.into_iter().map(check).collect()
}
