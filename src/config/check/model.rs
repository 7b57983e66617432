//! The section `[model]`.

use std::path::Path;

use driftline_operators::model::Task;
use indexmap::IndexMap;

use super::problem::{Problem, suggestion};
use crate::config::job::{Feature, ModelEngine, ModelFile};
use crate::config::raw::words::EngineWord;
use crate::config::raw::{ModelSection, OneOrMore};

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_model(
    raw: ModelSection,
    features: &[(String, Feature)],
    folder: &Path,
) -> Result<ModelFile, Problem> {
    let in_features = |message: String| Problem::at("model.features", message);
    if raw.features.is_empty() {
        return Err(in_features("is empty; it lists the model's inputs in order".to_owned()));
    }
    let known = || features.iter().map(|(name, _)| name.as_str());
    if let Some(name) = raw.features.iter().find(|&name| !known().any(|known| known == name)) {
        let nearest = suggestion(name, known());
        return Err(in_features(format!("there is no section [features.{name}]; {nearest}")));
    }
    let path = folder.join(&raw.path);
    let stem =
        path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    Ok(ModelFile {
        name: raw.name.unwrap_or(stem),
        path,
        version: raw.version,
        inputs: check_inputs(raw.inputs, &raw.features)?,
        features: raw.features,
        output: raw.output,
        task: raw.task.map(Task::from),
        engine: match raw.engine {
            EngineWord::Auto => ModelEngine::Auto,
            EngineWord::Onnxruntime => ModelEngine::OnnxRuntime,
        },
    })
}

/// The features of each input that the job names; whether the model has such inputs is seen later.
fn check_inputs(
    raw: IndexMap<String, OneOrMore>,
    features: &[String],
) -> Result<IndexMap<String, Vec<String>>, Problem> {
    let check = |(input, names): (String, OneOrMore)| {
        let names = match names {
            OneOrMore::One(name) => vec![name],
            OneOrMore::More(names) => names,
        };
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
