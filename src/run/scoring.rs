//! What all workers of a run score with.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use driftline_operators::latency::Latencies;
use driftline_operators::model::{ModelIdentity, Task};
use driftline_operators::model_bank::{ReadyEnsemble, ReadyModel, ReadyModels};
use driftline_operators::model_input::ModelInput;
use driftline_operators::routes::ensemble::{Ensemble, Policy};
use driftline_operators::routes::table::{Breaker, Cascade, RouteSettings, RouteTable};
use driftline_operators::run::Run;
use driftline_operators::score::Scoring;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;

use super::loading::{Features, LoadedModel};
use super::options::RunOptions;
use super::prediction_references::PredictionReferences;
use super::prepare::Prepared;
use super::served;
use super::switching::{KnownVersion, ModelPlace, ModelSwitched, RunModels, Switchable};
use crate::config::Job;
use crate::config::job::ModelFile;
use crate::config::routing::Pick;
use crate::models::card::ModelCard;
use crate::registry::Version;
use crate::registry::cache::model_file;

/// What all workers need to score.
pub struct ScoringParts {
    /// That the run begins with; the first of them where there are several.
    pub model: LoadedModel,
    /// Those behind it.
    pub others: Vec<LoadedModel>,
    /// What of the routes models are known by.
    pub routes: Option<Arc<RouteTable>>,
    pub watched: Watched,
    /// Of all workers.
    pub latencies: Latencies,
    models: Arc<RunModels>,
    /// Of the registries that models come from, by place.
    pub versions: Vec<Option<Version>>,
    /// The latency (ms) that the run is measured against: the job's, or that of the version.
    pub max_latency_ms: Option<u64>,
    warm_up: WarmUp,
    /// How long after it was read a row is scored, where rows are read as they come.
    timeout: Option<Duration>,
    /// Whether somebody waits for each row.
    on_request: bool,
    /// Whether rows are to be kept from shadows for now.
    pub shed: Option<Arc<AtomicBool>>,
}

/// A job's model as a file with what is said of it, and the version of its registry if it has one.
fn located(file: &ModelFile) -> Result<(ModelFile, Option<Version>)> {
    if let Some(registered) = &file.registered {
        let (version, path) = registered.fetch()?;
        let (number, card) = (version.version.clone(), Arc::new(version.card(&path)?));
        return Ok((ModelFile { path, version: number, card, ..file.clone() }, Some(version)));
    }
    if file.path.is_dir() {
        let in_folder = |why| anyhow!("{}: {why} (model.path)", file.path.display());
        let path = model_file(&file.path).map_err(in_folder)?;
        let card = Arc::new(ModelCard::read(&file.path, &[]).map_err(in_folder)?);
        return Ok((ModelFile { path, card, ..file.clone() }, None));
    }
    Ok((file.clone(), None))
}

impl ScoringParts {
    /// Loads the job's model once, and those that take its place later, as far as they are known.
    ///
    /// # Errors
    /// If there is none, or one does not fit.
    pub fn load(prepared: &Prepared, options: &RunOptions) -> Result<Self> {
        let job = &prepared.job;
        if job.model.is_none() {
            bail!(
                "{}: there is no section [model]; `driftline export` needs none",
                job.path.display()
            );
        }
        let features = Features::new(prepared, options);
        let mut loaded = Vec::new();
        let mut places = Vec::new();
        let mut versions = Vec::new();
        for (at, (name, file)) in job.models().into_iter().enumerate() {
            let members = job.routing.as_ref().map(|routing| routing.members_of(at));
            let features = features.with_members(members.unwrap_or_default());
            let (file, version) = match options.model {
                Some(_) => (file.clone(), None),
                None => located(file)?,
            };
            let model = LoadedModel::load(&features, &file, options.model.as_ref())?;
            places.push(ModelPlace {
                name: name.map(str::to_owned),
                features,
                file,
                task: model.task,
                width: model.width,
                gives_doubles: model.gives_doubles,
                is_widened: false,
                first: KnownVersion {
                    identity: model.identity.clone(),
                    digest: model.digest.clone(),
                    reference: None,
                },
            });
            loaded.push(model);
            versions.push(version);
        }
        let give_doubles = loaded.iter().any(|model| model.gives_doubles);
        for place in &mut places {
            place.is_widened = give_doubles && !place.gives_doubles;
        }
        let routes = prepared.routes.clone();
        let ensembles = routes.iter().flat_map(|routes| &routes.ensembles);
        let ensembles = ensembles.map(|ensemble| ready_ensemble(ensemble, &loaded, give_doubles));
        let ensembles = ensembles.collect::<Result<Vec<_>>>()?;
        routes.iter().try_for_each(|routes| check_cascades(routes, &loaded))?;
        let target = served::max_latency_ms(&job.realtime, &loaded[0].file.card);
        let max_latency_ms = target.map(|target| target.value);
        let references = PredictionReferences::new(job.drift.as_ref().map(|drift| drift.mode));
        let switchable = Switchable {
            models: places,
            settings: first_settings(job),
            routes: routes.clone(),
            ensembles,
            references,
            order: job.order,
            workers: options.workers.max(1),
            models_kept: job.realtime.model_cache_size,
        };
        let is_live = options.on_request || options.topics.reading().is_some();
        let watched = watched(&features, &loaded);
        let mut loaded = loaded.into_iter();
        let model = loaded.next().context("there is a model")?;
        Ok(ScoringParts {
            models: options.models.begin(switchable)?,
            versions,
            routes,
            watched,
            latencies: Latencies::new(max_latency_ms.map_or(Duration::MAX, Duration::from_millis)),
            max_latency_ms,
            model,
            others: loaded.collect(),
            warm_up: prepared.warm_up(options),
            timeout: job.realtime.request_timeout.filter(|_| is_live),
            on_request: options.on_request,
            shed: None,
        })
    }

    /// All models, by place.
    pub fn all(&self) -> impl Iterator<Item = &LoadedModel> {
        std::iter::once(&self.model).chain(&self.others)
    }

    /// Which model scores what.
    pub fn models(&self) -> Arc<RunModels> {
        self.models.clone()
    }

    /// What has taken the place of the model so far.
    pub fn switched(&self) -> Vec<ModelSwitched> {
        self.models.switched()
    }

    /// One worker's scoring, with a model of its own.
    ///
    /// # Errors
    /// If the model cannot be loaded again.
    pub fn worker(&self, prepared: &Prepared, run: &Run) -> Result<Scoring> {
        let ready = |(place, model): (usize, &LoadedModel)| {
            let version = self.models.first_version(place);
            anyhow::Ok(ReadyModel { version, ..self.models.widened(place, model.ready()?) })
        };
        let models = self.all().enumerate().map(ready).collect::<Result<Vec<_>>>()?;
        let (ensembles, settings) = self.models.first();
        Ok(Scoring {
            layout: prepared.layout.clone(),
            models: ReadyModels { models, ensembles, settings },
            shelf: Some(self.models.clone()),
            routes: self.routes.clone(),
            on_request: self.on_request,
            shed: self.shed.clone(),
            bounds: prepared.job.realtime.bounds,
            timeout: self.timeout,
            warm_up: self.warm_up.clone(),
            partition_names: prepared.partition_names.clone(),
            rules: prepared.plan.rules.clone(),
            alerts: None,
            run: run.clone(),
        })
    }
}

fn first_settings(job: &Job) -> RouteSettings {
    let Some(routing) = &job.routing else { return RouteSettings::default() };
    let weights = routing.routes.iter().map(|route| match &route.pick {
        Pick::Variants { weights, .. } => Some(weights.clone()),
        Pick::One(_) | Pick::From(_) => None,
    });
    RouteSettings {
        weights: weights.collect(),
        breakers: vec![Breaker::default(); routing.models.len()],
    }
}

/// What drift watches: the features of all models, and predictions.
fn watched(features: &Features, models: &[LoadedModel]) -> Watched {
    let mut inputs: Vec<ModelInput> = Vec::new();
    for input in models.iter().flat_map(|model| &model.inputs) {
        let is_known = inputs.iter().any(|known| known.column == input.column);
        // Scores of others are watched as theirs.
        if !is_known && input.column < features.enriched.fields().len() {
            inputs.push(input.clone());
        }
    }
    Watched::new(&features.enriched, &inputs)
}

/// An ensemble of models that have been loaded.
///
/// # Errors
/// If they do not go together.
fn ready_ensemble(
    ensemble: &Ensemble,
    models: &[LoadedModel],
    give_doubles: bool,
) -> Result<ReadyEnsemble> {
    let in_job = |why: String| anyhow!("ensembles.{}: {why}", ensemble.name);
    let members: Vec<&LoadedModel> =
        ensemble.members.iter().map(|member| &models[member.model]).collect();
    let decides = match ensemble.policy {
        Policy::Stacking { by } => &models[by],
        _ => members[0],
    };
    for member in &members {
        let (is, first) = (describe_kind(member), describe_kind(members[0]));
        if !is_stacking(ensemble) && is != first {
            let (one, other) = (&members[0].identity.name, &member.identity.name);
            return Err(in_job(format!(
                "members must be of one kind: {one} is {first}, and {other} is {is}"
            )));
        }
        if member.task == Task::Regression && ensemble.policy == Policy::Majority {
            let name = &member.identity.name;
            return Err(in_job(format!(
                "{name} is a regression, which has no classes to vote for"
            )));
        }
        let needs_neutral = is_stacking(ensemble) || ensemble.policy == Policy::WeightedAverage;
        if member.task == Task::Regression && needs_neutral && ensemble.neutral.is_none() {
            let name = &member.identity.name;
            return Err(in_job(format!(
                "{name} is a regression: say what it counts as where it fails: neutral = 0.0"
            )));
        }
    }
    let versions: Vec<&str> =
        members.iter().map(|member| member.identity.version.as_str()).collect();
    let identity = ModelIdentity { name: ensemble.name.clone(), version: versions.join("+") };
    let format = decides.format.clone().of_ensemble(&identity);
    let format =
        if give_doubles && !decides.gives_doubles { format.with_doubles() } else { format };
    Ok(ReadyEnsemble {
        version: 0,
        task: decides.task,
        width: decides.width,
        gives_doubles: members.iter().any(|member| member.gives_doubles) || decides.gives_doubles,
        format,
        identity,
    })
}

fn is_stacking(ensemble: &Ensemble) -> bool {
    matches!(ensemble.policy, Policy::Stacking { .. })
}

/// What a model predicts.
fn describe_kind(model: &LoadedModel) -> String {
    match model.task {
        Task::Regression => "a regression".to_owned(),
        Task::Binary | Task::Multiclass => format!("a classifier of {} classes", model.width),
    }
}

/// Whether the models of cascades predict the same kind of thing.
fn check_cascades(routes: &RouteTable, models: &[LoadedModel]) -> Result<()> {
    for Cascade { name, first, then, .. } in &routes.cascades {
        let (first, then) = (&models[*first], &models[*then]);
        let kinds = [describe_kind(first), describe_kind(then)];
        if first.task == Task::Regression {
            bail!(
                "cascades.{name}: {} is a regression, which is never unsure",
                first.identity.name
            );
        }
        if kinds[0] != kinds[1] {
            let (one, other) = (&first.identity.name, &then.identity.name);
            bail!("cascades.{name}: {one} is {}, and {other} is {}", kinds[0], kinds[1]);
        }
    }
    Ok(())
}
