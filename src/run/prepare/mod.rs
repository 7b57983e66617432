//! Everything that is opened, read and compiled once, before workers start.

pub mod compile;
pub mod inputs;
mod routes;
pub mod tables;
pub mod unread;

use std::sync::Arc;

use anyhow::Result;
use driftline_jobs::graph::Events;
use driftline_operators::admit::{Admission, LatePolicy};
use driftline_operators::as_of::table::TableAdmission;
use driftline_operators::core::tables::Retention;
use driftline_operators::drift::coverage::Coverage;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::features::refusals::Refused;
use driftline_operators::features::sql::Expression;
use driftline_operators::gate::Order;
use driftline_operators::ingest::{FlowBounds, Intake};
use driftline_operators::key_group::key_type;
use driftline_operators::known::Known;
use driftline_operators::layout::{CameAs, EventLayout};
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::routes::table::RouteTable;
use driftline_operators::run::Run;
use driftline_operators::too_early::FutureHorizon;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watermark::EVENTS;
use driftline_operators::watermark::{Progress, Span, StreamBounds, Watermarks};
use indexmap::IndexMap;

use self::compile::{Compiled, CompiledTable, column, compile, not_a_key};
use self::tables::{LoadedTable, load};
pub use self::tables::{parquet_batches, read_parquet};
use super::options::{Exchange, RunOptions};
use crate::config::job::{FeatureKind, ShardBy};
use crate::config::{Job, Problem};
use crate::sources::inputs::Inputs;

/// Epochs of a live run that may be under way, if the job does not say more.
const LIVE_EPOCHS_IN_FLIGHT: u64 = 256;

/// A job whose data is open and whose features are compiled against it.
pub struct Prepared {
    pub job: Arc<Job>,
    pub inputs: Inputs,
    pub layout: EventLayout,
    pub plan: Arc<FeaturePlan>,
    /// Which of several models scores a row.
    pub routes: Option<Arc<RouteTable>>,
    pub tables: Vec<CompiledTable>,
    pub static_tables: IndexMap<String, LoadedTable>,
    pub partition_names: PartitionNames,
    bounds: Vec<StreamBounds>,
    filter: Option<Expression>,
    shard_by: Option<usize>,
    time_column: usize,
    future_horizon: Option<FutureHorizon>,
}

impl Prepared {
    /// # Errors
    /// If the data cannot be read, or the features do not fit it.
    pub fn new(job: &Arc<Job>, options: &RunOptions) -> Result<Self> {
        let static_tables = load(&job.tables)?;
        let mut inputs = inputs::open(job, options)?;
        let explain = unread::Explain::new(&inputs, &static_tables);
        let in_job = |error| placed(job, explain.explained(error));
        let compiled =
            compile(job, &mut inputs, &static_tables, &options.extensions).map_err(in_job)?;
        let Compiled { layout, plan, filter, routes, tables } = compiled;
        let schema = inputs.schema(EVENTS);
        let shard_by = match &job.shard_by {
            ShardBy::Key => layout.key,
            ShardBy::Id => layout.id,
            ShardBy::Column(name) => {
                Some(column(&schema, "job.shard_by", "event", name).map_err(in_job)?)
            }
        };
        if let Some(at) = shard_by {
            let field = layout.schema.field(at);
            if key_type(field.data_type()).is_none() {
                let stored = inputs.stored_type(EVENTS, field.name());
                let found = stored.unwrap_or(field.data_type());
                return Err(in_job(not_a_key("job.shard_by", field.name(), found).into()));
            }
        }
        let names: Vec<String> = inputs.partitions().into_iter().map(|p| p.name).collect();
        Ok(Prepared {
            job: job.clone(),
            bounds: inputs::bounds(job, &inputs),
            time_column: schema.index_of(&job.event.time)?,
            future_horizon: inputs.future_horizon()?,
            inputs,
            layout,
            plan: Arc::new(plan),
            routes: routes.map(Arc::new),
            tables,
            static_tables,
            partition_names: names.into(),
            filter,
            shard_by,
        })
    }

    /// Which event times a replay looks at, and which it knows of.
    pub fn coverage(&self, options: &RunOptions) -> Coverage {
        // Without bounds all is read, and what is read is seen.
        let is_bounded = options.from.is_some() || options.to.is_some();
        let known = self.inputs.known_times().filter(|_| is_bounded);
        Coverage { scored: (options.from(), options.to()), known: known.unwrap_or(Span::NONE) }
    }

    /// What is to be said of the columns that are read, of all inputs.
    pub fn notes(&self) -> Vec<String> {
        let of_streams = (0..=self.tables.len()).flat_map(|stream| self.inputs.notes(stream));
        of_streams
            .chain(self.static_tables.keys().flat_map(|name| self.table_notes(name)))
            .collect()
    }

    /// What expressions have refused so far, by what they are of.
    pub fn refused(&self) -> Vec<(String, Refused)> {
        let filter = self.filter.iter().map(|filter| ("event.filter".to_owned(), filter.refused()));
        let routes = self.routes.iter().flat_map(|routes| &routes.routes);
        let whens = routes.filter_map(|route| {
            Some((format!("routes.{}.when", route.name), route.when.as_ref()?.refused()))
        });
        let deletes = self.tables.iter().filter_map(|table| {
            let name = format!("tables.{}.delete", table.table.name);
            Some((name, table.delete.as_ref()?.refused()))
        });
        Refused::by_name(self.plan.refused().into_iter().chain(filter).chain(deletes).chain(whens))
    }

    /// What is to be said of the columns of a static table that are read.
    pub fn table_notes(&self, name: &str) -> Vec<String> {
        let is_read = |column: &str| {
            self.job.features.iter().any(|(_, feature)| {
                matches!(&feature.kind, FeatureKind::Lookup { table, column: read, .. }
                if table == name && read == column)
            })
        };
        let notes = self.static_tables[name].notes.iter();
        notes.filter(|(column, _)| is_read(column)).map(|(_, note)| note.clone()).collect()
    }

    /// One worker's part of the graph up to the features.
    ///
    /// # Errors
    /// If its share of the input cannot be opened.
    pub fn events(
        &self,
        worker: usize,
        workers: usize,
        options: &RunOptions,
        run: &Run,
    ) -> Result<Events> {
        let job = &self.job;
        let bounds = bounds(job, options).of_one(workers.min(self.inputs.event_partitions()));
        let tables = (EVENTS + 1..).zip(&self.tables).zip(&self.bounds[1..]);
        let known = Known::new(run.beginning.settled(worker, workers));
        let intake = Intake {
            source: self.inputs.open_worker(worker, workers)?,
            events: self.admission(options, run, &known),
            tables: tables
                .map(|((stream, table), bounds)| self.table_admission(stream, table, bounds, run))
                .collect(),
            bounds,
            gate: Progress::new(Watermarks::new(&self.bounds)),
            control: options.models.control(),
            known,
        };
        let late_are_scored = job.event.late == LatePolicy::Score;
        let retention = Retention {
            history_ms: if late_are_scored { job.event.late_horizon_ms } else { 0 },
            // In arrival order a lookup is not bound to its epoch.
            epochs: match job.order {
                Order::Arrival => bounds.epochs_in_flight_max as usize + 1,
                Order::Epoch | Order::EventTime => 0,
            },
        };
        Ok(Events {
            intake,
            layout: self.layout.clone(),
            plan: self.plan.clone(),
            order: job.order,
            shard_by: self.shard_by,
            tables: self.tables.iter().map(|compiled| compiled.table.clone()).collect(),
            retention,
            is_split: options.exchange == Exchange::Bytes,
            run: run.clone(),
        })
    }

    /// By table the files that are not in order of time, and are sorted; those of lines are known when
    /// they have been read.
    pub fn sorted(&self) -> impl Iterator<Item = (&str, Vec<String>)> {
        let sorted = (EVENTS + 1..).zip(&self.tables);
        let sorted = sorted.map(|(stream, table)| (&*table.table.name, self.inputs.sorted(stream)));
        sorted.filter(|(_, files)| !files.is_empty())
    }

    fn admission(&self, options: &RunOptions, run: &Run, known: &Known) -> Admission {
        let event = &self.job.event;
        Admission {
            layout: self.layout.clone(),
            time_column: self.time_column,
            filter: self.filter.clone(),
            allowed_lateness_ms: event.allowed_lateness_ms,
            late: event.late,
            future_horizon: self.future_horizon,
            late_horizon_ms: (!options.on_request).then_some(event.late_horizon_ms),
            warm_up: self.warm_up(options),
            to: options.to(),
            warm_up_from: inputs::warm_up_from(&self.job, options),
            partition_names: self.partition_names.clone(),
            counters: run.counters.clone(),
            settled: known.settled().clone(),
        }
    }

    /// Rows that feed windows only.
    pub fn warm_up(&self, options: &RunOptions) -> WarmUp {
        WarmUp { before: options.from(), first_offsets: self.inputs.first_offsets().into() }
    }

    fn table_admission(
        &self,
        stream: usize,
        compiled: &CompiledTable,
        bounds: &StreamBounds,
        run: &Run,
    ) -> TableAdmission {
        let CompiledTable { table, key, time, sequence, delete, values } = compiled.clone();
        TableAdmission {
            schema: table.schema(),
            table,
            key,
            time,
            sequence,
            delete,
            values,
            by_epoch: self.inputs.came_as(stream) == CameAs::Messages,
            allowed_lateness_ms: bounds.allowed_lateness_ms,
            partition_names: self.partition_names.clone(),
            counters: run.counters.clone(),
        }
    }
}

/// Epochs of a live run are as large as what has come at once: it is their rows that are bounded.
fn bounds(job: &Job, options: &RunOptions) -> FlowBounds {
    let epochs = job.bounds.epochs_in_flight_max;
    match options.topics.reading() {
        Some(_) => FlowBounds {
            epochs_in_flight_max: epochs.max(LIVE_EPOCHS_IN_FLIGHT),
            gather_for: Some(job.kafka.poll_interval),
            ..job.bounds
        },
        None => job.bounds,
    }
}

/// An error with the place in the job where its key stands, if it is of a key.
fn placed(job: &Job, error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Problem>() {
        Ok(problem) => job.origin.place(problem).into(),
        Err(other) => other.context(job.path.display().to_string()),
    }
}
