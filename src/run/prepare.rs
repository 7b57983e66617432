//! Everything that is opened, read and compiled once, before workers start.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use driftline_jobs::enriched::Events;
use driftline_operators::admit::Admission;
use driftline_operators::features::categories::Categories;
use driftline_operators::features::plan::{Definition, FeatureDeclaration, FeaturePlan};
use driftline_operators::features::sql::Expression;
use driftline_operators::features::table::StaticTable;
use driftline_operators::key_group::key_type;
use driftline_operators::layout::EventLayout;
use driftline_operators::run::Run;
use driftline_operators::watermark::Watermarks;
use indexmap::IndexMap;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::options::RunOptions;
use crate::config::Job;
use crate::config::job::{FeatureKind, Format, ShardBy, Table};
use crate::sources::json_lines::JsonLinesInput;
use crate::sources::parquet::ParquetInput;
use crate::sources::{EventInput, Extent, files};

/// A job whose data is open and whose features are compiled against it.
pub struct Prepared {
    pub job: Arc<Job>,
    pub input: Box<dyn EventInput>,
    pub layout: EventLayout,
    pub plan: Arc<FeaturePlan>,
    pub partition_names: Arc<[String]>,
    floors: Vec<i64>,
    filter: Option<Expression>,
    shard_by: Option<usize>,
    time_column: usize,
}

impl Prepared {
    /// # Errors
    /// If the data cannot be read, or the features do not fit it.
    pub fn new(job: &Arc<Job>, options: &RunOptions) -> Result<Self> {
        let tables = load_tables(&job.tables)?;
        let extent = Extent {
            from: warm_up_from(job, options),
            to: options.to(),
            limit: options.limit,
            epoch_rows_max: job.epoch_rows_max,
        };
        let mut input = open_input(job, options, extent)?;
        let in_job = || job.path.display().to_string();
        // Compiled twice: against all columns to see which are read, then against those alone.
        let (layout, plan, filter) = compile(job, &*input, &tables).with_context(in_job)?;
        let read = columns_read(job, &layout, &plan, filter.as_ref());
        input.project(&read.into_iter().collect::<Vec<_>>());
        let (layout, plan, filter) = compile(job, &*input, &tables).with_context(in_job)?;
        let shard_by = match &job.shard_by {
            ShardBy::Key => layout.key,
            ShardBy::Id => layout.id,
            ShardBy::Column(name) => Some(column(&input.schema(), "job.shard_by", name)?),
        };
        if let Some(at) = shard_by {
            let field = layout.schema.field(at);
            if key_type(field.data_type()).is_none() {
                bail!(
                    "{}: job.shard_by: {:?} is {}; it must be a string or an integer",
                    in_job(),
                    field.name(),
                    field.data_type()
                );
            }
        }
        let (names, floors): (Vec<String>, Vec<i64>) = input.partitions().into_iter().unzip();
        let time_column = input.schema().index_of(&job.event.time)?;
        Ok(Prepared {
            job: job.clone(),
            input,
            layout,
            plan: Arc::new(plan),
            partition_names: names.into(),
            floors,
            filter,
            shard_by,
            time_column,
        })
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
        let admission = Admission {
            layout: self.layout.clone(),
            time_column: self.time_column,
            filter: self.filter.clone(),
            allowed_lateness_ms: job.event.allowed_lateness_ms,
            late: job.event.late,
            late_horizon_ms: Some(job.event.late_horizon_ms),
            from: options.from(),
            to: options.to(),
            warm_up_from: warm_up_from(job, options),
            partition_names: self.partition_names.clone(),
            counters: run.counters.clone(),
        };
        Ok(Events {
            source: self.input.open(worker, workers)?,
            admission,
            layout: self.layout.clone(),
            plan: self.plan.clone(),
            order: job.order,
            shard_by: self.shard_by,
            watermarks: Watermarks::new(job.event.allowed_lateness_ms, &self.floors),
            epochs_in_flight_max: job.epochs_in_flight_max,
            run: run.clone(),
        })
    }

    /// What is written into the footer of every file.
    pub fn file_metadata(
        &self,
        parts: Option<&super::scoring::ScoringParts>,
    ) -> Vec<(String, String)> {
        let mut pairs = vec![
            ("driftline.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            ("driftline.job".to_owned(), self.job.name.clone()),
        ];
        if let Some(parts) = parts {
            pairs.push(("driftline.model_name".to_owned(), parts.identity.name.clone()));
            pairs.push(("driftline.model_version".to_owned(), parts.identity.version.clone()));
            pairs.push(("driftline.model_xxh3".to_owned(), parts.digest.clone()));
        }
        pairs
    }
}

/// How far back windows have to be fed for rows from `--from` on to see all they would have seen.
fn warm_up_from(job: &Job, options: &RunOptions) -> i64 {
    let reach = job.features.iter().filter_map(|(_, feature)| match &feature.kind {
        FeatureKind::Window { spec, .. } => Some(spec.length_ms + spec.history_ms),
        _ => None,
    });
    options.from().saturating_sub(reach.max().unwrap_or(0))
}

fn open_input(job: &Job, options: &RunOptions, extent: Extent) -> Result<Box<dyn EventInput>> {
    let source = options.source(job);
    let event = &job.event;
    let integers: Vec<&str> =
        [&event.id, &event.key].into_iter().flatten().map(String::as_str).collect();
    let json = |files| JsonLinesInput::open(files, &event.time, &event.columns, &integers, extent);
    if source.path.as_os_str() == "-" {
        return Ok(Box::new(json(Vec::new())?));
    }
    let listed = files::list(&source.path)?;
    let format = match source.format.or_else(|| files::format_of(&listed[0].path)) {
        Some(format) => format,
        None => bail!(
            "{}: the name does not tell whether it is Parquet or JSON; set sources.NAME.format",
            listed[0].path.display()
        ),
    };
    Ok(match format {
        Format::Parquet => Box::new(ParquetInput::open(listed, &event.time, extent)?),
        Format::Json => Box::new(json(listed)?),
    })
}

fn column(schema: &Schema, key: &str, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        anyhow!("{key}: the event has no column {name:?}; it has {}", names.join(", "))
    })
}

fn compile(
    job: &Job,
    input: &dyn EventInput,
    tables: &IndexMap<String, StaticTable>,
) -> Result<(EventLayout, FeaturePlan, Option<Expression>)> {
    let schema = input.schema();
    let named = |key: &str, name: &Option<String>| -> Result<Option<usize>> {
        name.as_ref().map(|name| column(&schema, key, name)).transpose()
    };
    let (id, key) = (named("event.id", &job.event.id)?, named("event.key", &job.event.key)?);
    let event = with_key_types(&schema, [("event.id", id), ("event.key", key)])?;
    let layout = EventLayout::new(&event, id, key, input.keeps_raw());
    let plan = FeaturePlan::compile(&layout, declarations(job, tables)?)?;
    let stored: Vec<(String, DataType)> =
        schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone())).collect();
    let filter = job.event.filter.as_ref().map(|sql| Expression::compile(sql, &stored)).transpose();
    let filter = filter.context("event.filter")?;
    if let Some(filter) = &filter
        && *filter.data_type() != DataType::Boolean
    {
        bail!("event.filter is of type {}; it must be true or false", filter.data_type());
    }
    Ok((layout, plan, filter))
}

/// The event's schema with id and key as the strings or integers that they are admitted as.
fn with_key_types(schema: &SchemaRef, keys: [(&str, Option<usize>); 2]) -> Result<Schema> {
    let mut fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    for (name, at) in keys {
        let Some(at) = at else { continue };
        let from = schema.field(at).data_type();
        let to = key_type(from)
            .ok_or_else(|| anyhow!("{name} is {from}; it must be a string or an integer"))?;
        fields[at] = Field::new(fields[at].name(), to, true);
    }
    Ok(Schema::new(fields))
}

fn declarations(
    job: &Job,
    tables: &IndexMap<String, StaticTable>,
) -> Result<Vec<FeatureDeclaration>> {
    let declare = |(name, feature): &(String, crate::config::job::Feature)| {
        let definition = match &feature.kind {
            FeatureKind::Column(column) => Definition::Column(column.clone()),
            FeatureKind::Sql(sql) => Definition::Sql(sql.clone()),
            FeatureKind::Window { key, value, spec } => {
                Definition::Window { key: key.clone(), value: value.clone(), spec: *spec }
            }
            FeatureKind::Lookup { table, key, column } => Definition::Lookup {
                table: tables[table].clone(),
                key: key.clone(),
                column: column.clone(),
            },
            FeatureKind::Encode { input, categories, unseen } => Definition::Encode {
                input: input.clone(),
                categories: Categories::new(categories, *unseen).map_err(|twice| {
                    anyhow!("features.{name}: the category {twice:?} is listed twice")
                })?,
            },
        };
        Ok(FeatureDeclaration {
            name: name.clone(),
            definition,
            default: feature.default.clone(),
            allow_null: feature.allow_null,
        })
    };
    job.features.iter().map(declare).collect()
}

/// Positions of the event's columns that anything reads.
fn columns_read(
    job: &Job,
    layout: &EventLayout,
    plan: &FeaturePlan,
    filter: Option<&Expression>,
) -> BTreeSet<usize> {
    let mut read: BTreeSet<usize> = plan.columns_read().into_iter().collect();
    read.extend(filter.into_iter().flat_map(|filter| filter.columns().iter().copied()));
    read.extend([layout.id, layout.key].into_iter().flatten());
    let mut names = vec![&job.event.time];
    if let ShardBy::Column(name) = &job.shard_by {
        names.push(name);
    }
    read.extend(names.into_iter().filter_map(|name| layout.schema.index_of(name).ok()));
    read.retain(|&column| column < layout.event_columns);
    read
}

/// Reads the static tables, whole.
fn load_tables(tables: &IndexMap<String, Table>) -> Result<IndexMap<String, StaticTable>> {
    let load = |(name, table): (&String, &Table)| {
        let rows = read_parquet(&table.path)?;
        let loaded = StaticTable::new(rows, &table.key);
        let loaded = loaded.with_context(|| format!("tables.{name} ({})", table.path.display()))?;
        Ok((name.clone(), loaded))
    };
    tables.iter().map(load).collect()
}

/// All rows of one Parquet file.
///
/// # Errors
/// If it cannot be read.
pub fn read_parquet(path: &Path) -> Result<RecordBatch> {
    let name = || path.display().to_string();
    let file = File::open(path).with_context(name)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .with_context(name)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().with_context(name)?;
    concat_batches(&schema, &batches).with_context(name)
}
