//! Everything that is opened, read and compiled once, before workers start.

pub mod compile;
pub mod inputs;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use driftline_jobs::enriched::Events;
use driftline_operators::admit::{Admission, LatePolicy};
use driftline_operators::as_of::arrange::Retention;
use driftline_operators::as_of::table::TableAdmission;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::features::sql::Expression;
use driftline_operators::features::table::StaticTable;
use driftline_operators::gate::Order;
use driftline_operators::ingest::{FlowBounds, Intake};
use driftline_operators::key_group::key_type;
use driftline_operators::layout::EventLayout;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::run::Run;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watermark::EVENTS;
use driftline_operators::watermark::{Progress, StreamBounds, Watermarks};
use indexmap::IndexMap;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use self::compile::{Compiled, CompiledTable, column, compile, not_a_key};
use super::options::RunOptions;
use crate::config::job::{ShardBy, Table};
use crate::config::{Job, Problem};
use crate::sources::columns::{ColumnUses, Normalised, normal_schema, normalise};
use crate::sources::inputs::Inputs;
use crate::sources::parquet::guard::{self, guarded};
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::{damaged, failed, unreadable};

/// Epochs of a live run that may be under way, if the job does not say more.
const LIVE_EPOCHS_IN_FLIGHT: u64 = 256;

/// A job whose data is open and whose features are compiled against it.
pub struct Prepared {
    pub job: Arc<Job>,
    pub inputs: Inputs,
    pub layout: EventLayout,
    pub plan: Arc<FeaturePlan>,
    pub tables: Vec<CompiledTable>,
    pub partition_names: PartitionNames,
    bounds: Vec<StreamBounds>,
    filter: Option<Expression>,
    shard_by: Option<usize>,
    time_column: usize,
}

impl Prepared {
    /// # Errors
    /// If the data cannot be read, or the features do not fit it.
    pub fn new(job: &Arc<Job>, options: &RunOptions) -> Result<Self> {
        let static_tables = load_tables(&job.tables)?;
        let mut inputs = inputs::open(job, options)?;
        let in_job = |error| placed(job, error);
        let compiled =
            compile(job, &mut inputs, &static_tables, &options.extensions).map_err(in_job)?;
        let Compiled { layout, plan, filter, tables } = compiled;
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
            inputs,
            layout,
            plan: Arc::new(plan),
            tables,
            partition_names: names.into(),
            filter,
            shard_by,
        })
    }

    /// What is to be said of the columns that are read, of all inputs.
    pub fn notes(&self) -> Vec<String> {
        (0..=self.tables.len()).flat_map(|stream| self.inputs.notes(stream)).collect()
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
        let bounds = bounds(job, options);
        let watermarks = Watermarks::new(&self.bounds);
        let tables = self.tables.iter().zip(&self.bounds[1..]);
        let intake = Intake {
            source: self.inputs.open_worker(worker, workers)?,
            events: self.admission(options, run),
            tables: tables
                .map(|(table, bounds)| self.table_admission(table, bounds, run))
                .collect(),
            bounds,
            gate: Progress::new(watermarks.clone()),
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
            watermarks,
            run: run.clone(),
        })
    }

    fn admission(&self, options: &RunOptions, run: &Run) -> Admission {
        let event = &self.job.event;
        Admission {
            layout: self.layout.clone(),
            time_column: self.time_column,
            filter: self.filter.clone(),
            allowed_lateness_ms: event.allowed_lateness_ms,
            late: event.late,
            late_horizon_ms: (!options.on_request).then_some(event.late_horizon_ms),
            warm_up: self.warm_up(options),
            to: options.to(),
            warm_up_from: inputs::warm_up_from(&self.job, options),
            partition_names: self.partition_names.clone(),
            counters: run.counters.clone(),
            settled: run.settled.clone(),
        }
    }

    /// Rows that feed windows only.
    pub fn warm_up(&self, options: &RunOptions) -> WarmUp {
        WarmUp { before: options.from(), first_offsets: self.inputs.first_offsets() }
    }

    fn table_admission(
        &self,
        compiled: &CompiledTable,
        bounds: &StreamBounds,
        run: &Run,
    ) -> TableAdmission {
        let CompiledTable { table, key, time, sequence, delete, values } = compiled.clone();
        TableAdmission {
            table,
            key,
            time,
            sequence,
            delete,
            values,
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

/// Reads the static tables, whole.
fn load_tables(tables: &IndexMap<String, Table>) -> Result<IndexMap<String, StaticTable>> {
    let load = |(name, table): (&String, &Table)| {
        let path = table.file();
        let rows = read_parquet(path).with_context(|| format!("tables.{name}.path"))?;
        let rows = in_normal_form(&rows, table)
            .with_context(|| format!("tables.{name} ({})", path.display()))?;
        let loaded = StaticTable::new(rows, &table.key);
        let loaded = loaded.with_context(|| format!("tables.{name} ({})", path.display()))?;
        Ok((name.clone(), loaded))
    };
    tables.iter().filter(|(_, table)| table.versions.is_none()).map(load).collect()
}

/// The rows of a static table as those of streams are.
fn in_normal_form(rows: &RecordBatch, table: &Table) -> Result<RecordBatch> {
    let keys = [table.key.clone()].into();
    let uses = ColumnUses { keys, ..ColumnUses::default() };
    let schema = normal_schema(&rows.schema(), &uses)?;
    let Normalised { rows, refused } = normalise(rows, &schema, &uses)?;
    match refused.first() {
        Some((row, why)) => bail!("row {row}: {why}"),
        None => Ok(rows),
    }
}

/// All rows of one Parquet file.
///
/// # Errors
/// If it cannot be read.
pub fn read_parquet(path: &Path) -> Result<RecordBatch> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let read = || {
        let metadata = guard::footer(&file)?;
        let file = WholeFile(file);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).build()?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<Vec<_>, _>>()?))
    };
    let (schema, batches) =
        guarded(read).map_err(|error| failed(path.display(), damaged(&error)))?;
    concat_batches(&schema, &batches).with_context(name)
}
