//! Predictions on request: a program gives rows and gets their predictions, from the very graph that
//! a replay runs.

mod batcher;
mod requests;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray};
use arrow::compute::{filter_record_batch, not, prep_null_mask_filter};
use arrow::datatypes::{Field, Schema, SchemaRef};
use driftline_operators::admit::LatePolicy;
use driftline_operators::features::refusals::Refused;
use driftline_operators::features::sql::Expression;
use driftline_operators::gate::Order;
use indexmap::IndexMap;

use crate::config::Job;
use crate::config::job::{Feature, FeatureKind, ShardBy};
use crate::run::options::RunOptions;
use crate::run::prepare::compile::predicate;
use crate::run::prepare::inputs::event_uses;
use crate::run::replay;
use crate::run::summary::Summary;
use crate::sinks::own::OwnSinks;
use crate::sources::columns::{Normalised, time_type};
use crate::sources::own::OwnEvents;
use crate::sources::stored_columns::StoredColumns;
use batcher::Batcher;
use requests::{Requests, ResultSink};

/// Rows that wait at most, where nothing else is said.
const ROWS_WAITING_MAX: u64 = 1_000_000;

/// What became of the rows of a request.
#[derive(Clone, Debug)]
pub struct Predicted {
    /// Of the rows that were scored, in their order; the columns of the predictions of a job.
    pub predictions: RecordBatch,
    /// Of the rows that could not be scored, in their order; the columns of the dead letters of a
    /// job.
    pub dead_letters: RecordBatch,
    /// Rows that the job's filter leaves out.
    pub skipped: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// They are scored nevertheless, and events among them are in the windows.
    #[error("the rows were not scored within {0:?}")]
    Timeout(Duration),
    /// They are not taken: try again later.
    #[error("{waiting} rows wait to be scored, and these would be too many")]
    Busy { waiting: u64 },
    #[error("the rows do not fit the job: {0}")]
    Rows(String),
    #[error("the predictor has stopped: {0}")]
    Stopped(String),
}

/// A job's graph that runs in this process and scores what it is given, for any number of threads.
///
/// Rows are applied to windows and tables request by request, within one by (event time, id):
/// `order = "epoch"`, whatever the job says. Nothing waits for a watermark. A row behind those of
/// earlier requests is late, as in a job, and marked degraded; none is too late to be scored. Drift
/// is not measured. Requests that come while others are under way are scored together.
pub struct Predictor {
    requests: Arc<Requests>,
    columns: StoredColumns,
    /// Column of the current time, where rows have none of their own.
    stamps: bool,
    filter: Option<Expression>,
    graph: Option<JoinHandle<Result<Summary>>>,
}

impl Predictor {
    /// Predictions on events with the columns of `schema`: features are made as the job says, and
    /// windows remember the events of earlier requests. Tables are read before the first of them.
    ///
    /// Of `options` only workers, extensions and the like count: no input and no output.
    ///
    /// # Errors
    /// If the job cannot run on such events.
    pub fn on_events(job: &Job, schema: &SchemaRef, options: &RunOptions) -> Result<Self> {
        Self::start(job.clone(), schema.clone(), options, false)
    }

    /// Predictions on features: `schema` has a column for each feature of the model, in any order.
    /// Defaults and rules of features (for nulls, too) are those of the job; nothing else of it is
    /// computed, and its checks of rows, which are of events, are left out. Columns with
    /// the names of the job's id, key, event time and `shard_by` are used if they are there; without
    /// an event time it is now.
    ///
    /// # Errors
    /// If a feature of the model has no column, or the job no model.
    pub fn on_features(job: &Job, schema: &SchemaRef, options: &RunOptions) -> Result<Self> {
        let mut job = job.clone();
        job.model.as_ref().context("the job has no section [model]")?;
        let features = job.model_features();
        let given = |name: &String| schema.index_of(name).is_ok();
        if let Some(missing) = features.iter().find(|name| !given(name)) {
            return Err(anyhow!("there is no column {missing:?}, which is a feature of the model"));
        }
        let of_model = |name: &String| features.contains(name);
        let as_column = |(name, feature): (String, Feature)| {
            let kind = FeatureKind::Column(name.clone());
            (name, Feature { kind, ..feature })
        };
        job.features =
            job.features.into_iter().filter(|(name, _)| of_model(name)).map(as_column).collect();
        job.checks = Vec::new();
        job.tables = IndexMap::new();
        job.event.filter = None;
        job.event.id = job.event.id.filter(given);
        job.event.key = job.event.key.filter(given);
        if matches!(&job.shard_by, ShardBy::Column(column) if !given(column)) {
            job.shard_by = ShardBy::Key;
        }
        // Nothing remembers earlier rows, so none is late.
        job.event.allowed_lateness_ms = i64::MAX;
        let stamps = !given(&job.event.time);
        let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(stamps.then(|| Field::new(&job.event.time, time_type(), false)));
        Self::start(job, Arc::new(Schema::new(fields)), options, stamps)
    }

    fn start(mut job: Job, schema: SchemaRef, options: &RunOptions, stamps: bool) -> Result<Self> {
        if schema.index_of(&job.event.time).is_err() {
            return Err(anyhow!("there is no column {:?} (event.time)", job.event.time));
        }
        let columns = StoredColumns::new(schema.as_ref(), event_uses(&job))?;
        // A request waits for an answer for each of its rows: what is skipped is left out before.
        let filter = job.event.filter.take();
        let filter = filter.map(|sql| {
            let (schema, declared) = (columns.schema(), &job.event.columns);
            predicate("event.filter", &sql, schema, declared, &options.extensions)
        });
        job.order = Order::Epoch;
        if job.event.late == LatePolicy::Skip {
            job.event.late = LatePolicy::DeadLetter;
        }
        let rows_waiting_max = options.rows_waiting_max.unwrap_or(ROWS_WAITING_MAX);
        let requests = Arc::new(Requests::new(rows_waiting_max));
        let (ready, started) = mpsc::channel();
        let source = Batcher::new(requests.clone(), job.epoch_rows_max, ready);
        let options = RunOptions {
            events: Some(OwnEvents::arranged(columns.schema().clone(), source)),
            sinks: OwnSinks {
                predictions: Some(ResultSink::predictions(&requests)),
                dead_letters: Some(ResultSink::dead_letters(&requests)),
                drift: None,
            },
            without_drift: true,
            on_request: true,
            progress: false,
            ..options.clone()
        };
        let graph = std::thread::Builder::new().name("predictor".to_owned());
        let graph = graph.spawn({
            let requests = requests.clone();
            move || {
                let ended = replay(&Arc::new(job), &options);
                let why = ended.as_ref().err().map(|error| format!("{error:#}"));
                requests.stop(why.unwrap_or_else(|| "it was closed".to_owned()));
                ended
            }
        })?;
        let mut predictor = Predictor {
            requests,
            columns,
            stamps,
            filter: filter.transpose()?,
            graph: Some(graph),
        };
        // The source drops its end of the channel if the graph cannot be built.
        match started.recv() {
            Ok(()) => Ok(predictor),
            Err(_) => Err(predictor.join().err().unwrap_or_else(|| anyhow!("it did not start"))),
        }
    }

    /// Scores `rows`, which have the columns the predictor was made for, and waits for all of them.
    ///
    /// # Errors
    /// If the rows do not have these columns, too many rows wait, or the graph has failed.
    pub fn predict_batch(&self, rows: &RecordBatch) -> Result<Predicted, PredictError> {
        self.predict(rows, None)
    }

    /// As [`Predictor::predict_batch`], and waits no longer than `timeout`.
    ///
    /// # Errors
    /// As there, or [`PredictError::Timeout`].
    pub fn predict_batch_within(
        &self,
        rows: &RecordBatch,
        timeout: Duration,
    ) -> Result<Predicted, PredictError> {
        self.predict(rows, Some(timeout))
    }

    fn predict(
        &self,
        rows: &RecordBatch,
        timeout: Option<Duration>,
    ) -> Result<Predicted, PredictError> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let (rows, skipped) = self.to_score(rows).map_err(PredictError::Rows)?;
        let mut request = self.requests.add(rows)?;
        while !request.is_complete() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            match request.wait(left) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(PredictError::Timeout(timeout.unwrap_or_default()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PredictError::Stopped(self.requests.why_stopped()));
                }
            }
        }
        let (predictions, dead_letters) =
            request.results().map_err(|error| PredictError::Rows(error.to_string()))?;
        Ok(Predicted { predictions, dead_letters, skipped })
    }

    /// The rows in the form of the stream, less those that the filter leaves out, and their number.
    fn to_score(&self, rows: &RecordBatch) -> Result<(RecordBatch, usize), String> {
        let stamped = if self.stamps { stamp(rows, &self.columns) } else { Ok(rows.clone()) };
        let stamped = stamped.map_err(|error| error.to_string())?;
        let arranged = self.columns.arrange(&stamped);
        let Normalised { rows, refused } = arranged.map_err(|error| {
            let mut fields = self.columns.schema().fields().iter();
            match fields.find(|field| stamped.column_by_name(field.name()).is_none()) {
                Some(missing) => format!("there is no column {:?}", missing.name()),
                None => error.to_string(),
            }
        })?;
        if let Some((row, why)) = refused.first() {
            return Err(format!("row {row}: {why}"));
        }
        let Some(filter) = &self.filter else { return Ok((rows, 0)) };
        let passes = filter.evaluate(rows.columns(), rows.num_rows());
        let passes = passes.map_err(|error| format!("event.filter: {error}"))?;
        let passes = match passes.as_boolean() {
            sure if sure.null_count() == 0 => sure.clone(),
            unsure => prep_null_mask_filter(unsure),
        };
        let kept = filter_record_batch(&rows, &passes).map_err(|error| error.to_string())?;
        let skipped = not(&passes).map_err(|error| error.to_string())?.true_count();
        Ok((kept, skipped))
    }

    /// Scores what is under way, ends the graph, and tells what it did.
    ///
    /// # Errors
    /// Whatever had ended it before, or an account that does not balance.
    pub fn close(mut self) -> Result<Summary> {
        self.requests.close();
        let mut summary = self.join()?;
        let filter = self.filter.iter().map(|filter| ("event.filter".to_owned(), filter.refused()));
        summary.refused = Refused::by_name(summary.refused.into_iter().chain(filter));
        Ok(summary)
    }

    fn join(&mut self) -> Result<Summary> {
        let graph = self.graph.take().context("the predictor is closed")?;
        graph.join().map_err(|_| anyhow!("the predictor's thread has panicked"))?
    }
}

impl Drop for Predictor {
    fn drop(&mut self) {
        self.requests.close();
        let _ = self.join();
    }
}

/// The rows with the current time as their last column.
fn stamp(
    rows: &RecordBatch,
    columns: &StoredColumns,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    let times = TimestampMillisecondArray::from_value(now, rows.num_rows()).with_timezone("UTC");
    let time = columns.schema().fields().last().cloned();
    let mut fields = rows.schema().fields().to_vec();
    fields.extend(time);
    let mut values: Vec<ArrayRef> = rows.columns().to_vec();
    values.push(Arc::new(times));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), values)
}
