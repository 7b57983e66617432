//! What all workers of a run score with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use driftline_operators::latency::Latencies;
use driftline_operators::run::Run;
use driftline_operators::score::Scoring;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;

use super::loading::{Features, LoadedModel};
use super::options::RunOptions;
use super::prediction_references::PredictionReferences;
use super::prepare::Prepared;
use super::served;
use super::switching::{KnownVersion, ModelSwitched, RunModels, Switchable};
use crate::config::job::ModelFile;
use crate::models::card::ModelCard;
use crate::registry::Version;
use crate::registry::cache::model_file;

/// What all workers need to score.
pub struct ScoringParts {
    /// That the run begins with.
    pub model: LoadedModel,
    pub watched: Watched,
    /// Of all workers.
    pub latencies: Latencies,
    features: Features,
    models: Arc<RunModels>,
    /// Of the registry that the model comes from.
    pub version: Option<Version>,
    /// The latency (ms) that the run is measured against: the job's, or that of the version.
    pub max_latency_ms: Option<u64>,
    warm_up: WarmUp,
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
        let Some(file) = &job.model else {
            bail!(
                "{}: there is no section [model]; `driftline export` needs none",
                job.path.display()
            );
        };
        let features = Features::new(prepared, options);
        let (file, version) = match options.model {
            Some(_) => (file.clone(), None),
            None => located(file)?,
        };
        let model = LoadedModel::load(&features, &file, options.model.as_ref())?;
        let target = served::max_latency_ms(&job.realtime, &model.file.card);
        let max_latency_ms = target.map(|target| target.value);
        let references = PredictionReferences::new(job.drift.as_ref().map(|drift| drift.mode));
        let switchable = Switchable {
            features: features.clone(),
            file,
            task: model.task,
            gives_doubles: model.gives_doubles,
            first: KnownVersion {
                identity: model.identity.clone(),
                digest: model.digest.clone(),
                reference: None,
            },
            references,
            order: job.order,
            workers: options.workers.max(1),
            models_kept: job.realtime.model_cache_size,
        };
        Ok(ScoringParts {
            models: options.models.begin(switchable)?,
            version,
            watched: Watched::new(&features.enriched, &model.inputs),
            features,
            latencies: Latencies::new(max_latency_ms.map_or(Duration::MAX, Duration::from_millis)),
            max_latency_ms,
            model,
            warm_up: prepared.warm_up(options),
        })
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
        Ok(Scoring {
            layout: prepared.layout.clone(),
            enriched: self.features.enriched.clone(),
            model: self.model.ready()?,
            shelf: Some(self.models.clone()),
            bounds: prepared.job.realtime.bounds,
            warm_up: self.warm_up.clone(),
            partition_names: prepared.partition_names.clone(),
            rules: prepared.plan.rules.clone(),
            alerts: None,
            run: run.clone(),
        })
    }
}
