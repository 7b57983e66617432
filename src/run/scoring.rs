//! What all workers of a run score with.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use driftline_operators::latency::Latencies;
use driftline_operators::run::Run;
use driftline_operators::score::Scoring;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;

use super::loading::{Features, LoadedModel};
use super::options::RunOptions;
use super::prepare::Prepared;
use super::switching::{ModelSwitched, RunModels, Switchable};

/// What all workers need to score.
pub struct ScoringParts {
    /// That the run begins with.
    pub model: LoadedModel,
    pub watched: Watched,
    /// Of all workers.
    pub latencies: Latencies,
    features: Features,
    models: Arc<RunModels>,
    warm_up: WarmUp,
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
        let model = LoadedModel::load(&features, file, options.model.as_ref())?;
        let switchable = Switchable {
            features: features.clone(),
            file: file.clone(),
            task: model.task,
            order: job.order,
            workers: options.workers.max(1),
        };
        Ok(ScoringParts {
            models: options.models.begin(switchable)?,
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
            alerts: None,
            run: run.clone(),
        })
    }
}
