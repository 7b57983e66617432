//! A job with the parts that a program brings itself.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use arrow::datatypes::{Field, SchemaRef};
use driftline_operators::features::functions::SqlFunction;
use driftline_operators::features::window::WindowFunction;
use driftline_operators::model::{Model, ModelError};
use driftline_operators::sinks::{Sink, SinkError};

use crate::config::Job;
use crate::interrupt::Interrupt;
use crate::predict::Predictor;
use crate::run::options::RunOptions;
use crate::run::summary::Summary;
use crate::run::switching::ModelControl;
use crate::run::{export_features, make_baseline, replay};
use crate::sinks::own::SinkFactory;
use crate::sources::own::OwnEvents;

/// A job, where its events come from, where its results go, and what it can call.
///
/// What is not set is as the job says. Everything runs in one timely dataflow, the same that the
/// program `driftline` runs.
///
/// ```no_run
/// use driftline::{Job, Pipeline};
///
/// let job = Job::load("jobs/flights.toml".as_ref())?;
/// let summary = Pipeline::new(job).workers(2).out("out/flights").run()?;
/// println!("{summary}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Pipeline {
    job: Arc<Job>,
    options: RunOptions,
}

impl Pipeline {
    pub fn new(job: Job) -> Self {
        Pipeline { job: Arc::new(job), options: RunOptions { workers: 1, ..RunOptions::default() } }
    }

    /// Worker threads; results do not depend on their number.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.options.workers = workers;
        self
    }

    /// Events of the program, in place of the job's source.
    #[must_use]
    pub fn events(mut self, events: OwnEvents) -> Self {
        self.options.events = Some(events);
        self
    }

    /// Events from a file or folder, in place of the job's source.
    #[must_use]
    pub fn input(mut self, path: impl AsRef<Path>) -> Self {
        self.options.input = Some(path.as_ref().to_owned());
        self
    }

    /// A folder for all results, in place of the job's sinks; those of an earlier run are replaced.
    #[must_use]
    pub fn out(mut self, folder: impl AsRef<Path>) -> Self {
        self.options.out = Some(folder.as_ref().to_owned());
        self.options.overwrite = true;
        self
    }

    /// Predictions go to sinks of the program: `make` is called on each worker's thread, with its
    /// number and the schema of the batches.
    #[must_use]
    pub fn predictions<F>(mut self, make: F) -> Self
    where
        F: Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync + 'static,
    {
        self.options.sinks.predictions = Some(factory(make));
        self
    }

    /// Dead letters go to sinks of the program.
    #[must_use]
    pub fn dead_letters<F>(mut self, make: F) -> Self
    where
        F: Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync + 'static,
    {
        self.options.sinks.dead_letters = Some(factory(make));
        self
    }

    /// Drift snapshots go to sinks of the program.
    #[must_use]
    pub fn drift<F>(mut self, make: F) -> Self
    where
        F: Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync + 'static,
    {
        self.options.sinks.drift = Some(factory(make));
        self
    }

    /// A model of the program, in place of the job's file: `make` is called on each worker's thread,
    /// with the features that the model is handed, in the order of `model.features`.
    #[must_use]
    pub fn model<F>(mut self, make: F) -> Self
    where
        F: Fn(&[Field]) -> Result<Box<dyn Model>, ModelError> + Send + Sync + 'static,
    {
        self.options.model = Some(Arc::new(make));
        self
    }

    /// A version of the job's model, in a file, that scores the events with times from `since` (ms since
    /// 1970) on, in order of event time: a replay of a run whose model was switched at that watermark.
    #[must_use]
    pub fn model_since(self, since: i64, version: &str, file: impl AsRef<Path>) -> Self {
        self.options.models.schedule_file(since, version, file.as_ref());
        self
    }

    /// What switches the model while the pipeline runs, from another thread.
    pub fn models(&self) -> ModelControl {
        self.options.models.clone()
    }

    /// SQL expressions of the job can call `function`.
    #[must_use]
    pub fn function(mut self, function: SqlFunction) -> Self {
        self.options.extensions = self.options.extensions.function(function);
        self
    }

    /// Windows of the job can have `function = "name"` in place of an aggregate.
    #[must_use]
    pub fn window_function(
        mut self,
        name: impl Into<String>,
        function: impl WindowFunction + 'static,
    ) -> Self {
        self.options.extensions = self.options.extensions.window(name, function);
        self
    }

    /// Rows of requests that may wait for a predictor, 1,000,000 if nothing is said; what would be
    /// more is refused as [`PredictError::Busy`](crate::PredictError::Busy).
    #[must_use]
    pub fn rows_waiting_max(mut self, rows: u64) -> Self {
        self.options.rows_waiting_max = Some(rows);
        self
    }

    /// What stops a run from another thread.
    pub fn interrupt(&self) -> Interrupt {
        self.options.interrupt.clone()
    }

    /// Runs the job until its events are at their end.
    ///
    /// # Errors
    /// Whatever ends the run before all of its output is durable and accounted for.
    pub fn run(&self) -> Result<Summary> {
        replay(&self.job, &self.options)
    }

    /// Writes the feature rows that the model would see to `folder`, for training.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn export(&self, folder: impl AsRef<Path>) -> Result<Summary> {
        export_features(&self.job, &self.options, folder.as_ref())
    }

    /// Makes the reference for drift, at the place that the job names.
    ///
    /// # Errors
    /// As [`Pipeline::run`].
    pub fn baseline(&self) -> Result<Summary> {
        make_baseline(&self.job, None, &self.options)
    }

    /// Predictions on events that the program gives, batch by batch; see [`Predictor::on_events`].
    ///
    /// # Errors
    /// If the job cannot run on events with the columns of `schema`.
    pub fn predictor(&self, schema: &SchemaRef) -> Result<Predictor> {
        Predictor::on_events(&self.job, schema, &self.options)
    }

    /// Predictions on features that the program gives; see [`Predictor::on_features`].
    ///
    /// # Errors
    /// If a feature of the model has no column in `schema`.
    pub fn predictor_on_features(&self, schema: &SchemaRef) -> Result<Predictor> {
        Predictor::on_features(&self.job, schema, &self.options)
    }
}

fn factory<F>(make: F) -> SinkFactory
where
    F: Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync + 'static,
{
    Arc::new(make)
}
