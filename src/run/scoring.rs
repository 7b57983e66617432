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
use super::prepare::Prepared;
use super::switching::{ModelSwitched, RunModels, Switchable};
use crate::config::job::ModelFile;
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
    warm_up: WarmUp,
}

/// A job's model as a file, and the version of its registry if it has one.
fn located(file: &ModelFile) -> Result<(ModelFile, Option<Version>)> {
    if let Some(registered) = &file.registered {
        let (version, path) = registered.fetch()?;
        let number = version.version.clone();
        return Ok((ModelFile { path, version: number, ..file.clone() }, Some(version)));
    }
    if file.path.is_dir() {
        let path = model_file(&file.path)
            .map_err(|why| anyhow!("{}: {why} (model.path)", file.path.display()))?;
        return Ok((ModelFile { path, ..file.clone() }, None));
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
        let switchable = Switchable {
            features: features.clone(),
            file,
            task: model.task,
            gives_doubles: model.gives_doubles,
            order: job.order,
            workers: options.workers.max(1),
            models_kept: job.realtime.model_cache_size,
        };
        Ok(ScoringParts {
            models: options.models.begin(switchable)?,
            version,
            watched: Watched::new(&features.enriched, &model.inputs),
            features,
            latencies: Latencies::new(
                job.realtime.max_latency_ms.map_or(Duration::MAX, Duration::from_millis),
            ),
            model,
            warm_up: prepared.warm_up(options),
        })
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
