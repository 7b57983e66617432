//! A job's features, tables and filter, compiled against the columns of its inputs.

use std::collections::BTreeSet;

use anyhow::{Context, Result, anyhow, bail};
use arrow::datatypes::{DataType, Field, Schema};
use driftline_operators::as_of::sequence::can_be_sequence;
use driftline_operators::as_of::table::AsOfTable;
use driftline_operators::features::categories::Categories;
use driftline_operators::features::columns::seen_by_sql;
use driftline_operators::features::declaration::Problem::NotAKey;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration, PlanError};
use driftline_operators::features::plan::{DeclaredRules, FeaturePlan, RuleError};
use driftline_operators::features::sql::Expression;
use driftline_operators::features::trip::Errand;
use driftline_operators::features::window::{Aggregate, WindowSpec};
use driftline_operators::key_group::key_type;
use driftline_operators::layout::EventLayout;
use driftline_operators::routes::table::RouteTable;
use driftline_operators::watermark::EVENTS;
use indexmap::IndexMap;

use super::inputs::as_of_tables;
use super::routes::compile_routes;
use super::tables::LoadedTable;
use crate::config::job::{Feature, FeatureKind, Figure, JsonType, ShardBy, Table, TableVersions};
use crate::config::{Job, Problem, expression};
use crate::run::extensions::Extensions;
use crate::sources::inputs::Inputs;

/// What a job comes to on the columns of its inputs.
pub struct Compiled {
    pub layout: EventLayout,
    pub plan: FeaturePlan,
    pub filter: Option<Expression>,
    /// Which of several models scores a row.
    pub routes: Option<RouteTable>,
    pub tables: Vec<CompiledTable>,
}

/// An as-of table, and the positions of its columns in its input.
#[derive(Clone)]
pub struct CompiledTable {
    pub table: AsOfTable,
    pub key: usize,
    pub time: usize,
    pub sequence: Option<usize>,
    pub delete: Option<Expression>,
    pub values: Vec<usize>,
}

/// Compiles the job, and leaves in `inputs` only the columns that it reads.
///
/// # Errors
/// What does not fit.
pub fn compile(
    job: &Job,
    inputs: &mut Inputs,
    static_tables: &IndexMap<String, LoadedTable>,
    own: &Extensions,
) -> Result<Compiled> {
    // Compiled twice: against all columns to see which are read, then against those alone.
    let all = compile_with(job, inputs, static_tables, own, |_| None)
        .map_err(|error| unreadable_behind(job, inputs, error))?;
    let mut used: Vec<BTreeSet<String>> = vec![BTreeSet::new(); all.tables.len()];
    for trip in &all.plan.trips {
        let Errand::Lookups(lookups) = &trip.errand else { continue };
        let values = &all.tables[lookups.table].table.values;
        used[lookups.table].extend(lookups.columns.iter().map(|&at| values[at].name().clone()));
    }
    let mut read = events_read(job, &all);
    if let Some(sent) = inputs.sent_column() {
        read.insert(column(&inputs.schema(EVENTS), "event.future_horizon_ms", "event", sent)?);
    }
    inputs.project(EVENTS, &Vec::from_iter(read))?;
    for (at, (table, used)) in all.tables.iter().zip(&used).enumerate() {
        inputs.project(at + 1, &Vec::from_iter(table_read(table, used)))?;
    }
    compile_with(job, inputs, static_tables, own, |table| Some(&used[table]))
}

/// What is wrong with a column that cannot be read, if the job names one where `error` is: it stands
/// for nothing when features are compiled, and that is not what is wrong.
fn unreadable_behind(job: &Job, inputs: &Inputs, error: anyhow::Error) -> anyhow::Error {
    let Some(problem) = error.downcast_ref::<Problem>() else { return error };
    let feature = problem.key.strip_prefix("features.");
    let feature = feature.and_then(|name| job.features.iter().find(|(found, _)| found == name));
    let text = match feature {
        Some((_, feature)) => format!("{:?}", feature.kind),
        None => problem.to_string(),
    };
    let names = |name: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == name)
    };
    let streams = 1 + as_of_tables(job).count();
    let mut unreadable = (0..streams).flat_map(|stream| inputs.unreadable(stream));
    match unreadable.find(|(column, _)| names(column) || text.contains(&format!("{column:?}"))) {
        Some((_, trouble)) => anyhow::Error::from(trouble).context(problem.key.clone()),
        None => error,
    }
}

/// `values`: which columns of each as-of table are its values; all where it says nothing.
fn compile_with<'a>(
    job: &Job,
    inputs: &Inputs,
    static_tables: &IndexMap<String, LoadedTable>,
    own: &Extensions,
    values: impl Fn(usize) -> Option<&'a BTreeSet<String>>,
) -> Result<Compiled> {
    let schema = inputs.schema(EVENTS);
    let named = |key: &str, name: &Option<String>| -> Result<Option<usize>> {
        name.as_ref().map(|name| column(&schema, key, "event", name)).transpose()
    };
    let (id, key) = (named("event.id", &job.event.id)?, named("event.key", &job.event.key)?);
    let stored = |name: &str| inputs.stored_type(EVENTS, name);
    let event = with_key_types(&schema, [("event.id", id), ("event.key", key)], stored)?;
    let time = column(&schema, "event.time", "event", &job.event.time)?;
    let declared = &job.event.columns;
    let layout = EventLayout::new(&event, id, key, inputs.came_as(EVENTS))
        .with_integers(|name| is_integer(declared, name))
        .with_own_time(time, schema.field(time).data_type());
    let tables = as_of_tables(job).enumerate().map(|(at, (name, table, versions))| {
        compile_table(inputs, at + 1, (name, table, versions), values(at), own)
    });
    let tables = tables.collect::<Result<Vec<_>>>()?;
    let known: Vec<AsOfTable> = tables.iter().map(|compiled| compiled.table.clone()).collect();
    let plan = FeaturePlan::compile(
        &layout,
        declarations(job, static_tables, own)?,
        &known,
        &own.functions,
    );
    let plan = plan.map_err(|PlanError { feature, problem }| {
        let key = job.features.iter().find(|(name, _)| *name == feature);
        let key = key.and_then(|(_, feature)| feature.kind.key());
        let at = format!("features.{feature}");
        match (&problem, key) {
            (NotAKey(found), Some(key)) if schema.index_of(key).is_ok() => {
                let found = stored(key).unwrap_or(found);
                Problem::at(at, format!("{key:?} is {found}, which {}", no_key(key, found)))
            }
            _ => Problem::at(at, expression(&problem.to_string())),
        }
    })?;
    let plan =
        plan.with_rules(&layout, &declared_rules(job), &own.functions).map_err(unfit_rule)?;
    let filter =
        job.event.filter.as_ref().map(|sql| predicate("event.filter", sql, &schema, declared, own));
    let routes = job.routing.as_ref();
    let routes = routes.map(|routing| compile_routes(routing, &plan, &layout, &own.functions));
    Ok(Compiled { layout, plan, filter: filter.transpose()?, routes: routes.transpose()?, tables })
}

fn declared_rules(job: &Job) -> DeclaredRules {
    let of_feature =
        |(name, feature): &(String, Feature)| Some((name.clone(), feature.valid.clone()?));
    DeclaredRules {
        features: job.features.iter().filter_map(of_feature).collect(),
        checks: job.checks.clone(),
    }
}

/// A rule that does not fit the features.
fn unfit_rule(error: RuleError) -> Problem {
    match error {
        RuleError::Feature { feature, problem } => {
            Problem::at(format!("features.{feature}.valid.{}", problem.key), problem.message)
        }
        RuleError::Check { check, problem } => {
            Problem::at(format!("checks.{check}"), expression(&problem.to_string()))
        }
    }
}

/// Whether a job declares a column to be of integers.
fn is_integer(declared: &IndexMap<String, JsonType>, name: &str) -> bool {
    declared.get(name) == Some(&JsonType::Int64)
}

fn compile_table(
    inputs: &Inputs,
    stream: usize,
    (name, table, versions): (&str, &Table, &TableVersions),
    values: Option<&BTreeSet<String>>,
    own: &Extensions,
) -> Result<CompiledTable> {
    let (schema, declared) = (&inputs.schema(stream), &table.columns);
    let in_job = |key: &str| format!("tables.{name}.{key}");
    let key = column(schema, &in_job("key"), "table", &table.key)?;
    let time = column(schema, &in_job("time"), "table", &versions.time)?;
    let sequence = versions.sequence.as_ref();
    let sequence =
        sequence.map(|name| column(schema, &in_job("sequence"), "table", name)).transpose()?;
    if let Some(field) = sequence.map(|at| schema.field(at))
        && !can_be_sequence(field.data_type())
    {
        let found = field.data_type();
        let message = format!(
            "it is {found}, and must be an integer, a timestamp, a date or RFC 3339 text; \
             [tables.{name}.columns] {} = \"int64\" has whole numbers read as integers",
            field.name()
        );
        bail!(Problem::at(in_job("sequence"), message));
    }
    let delete = versions.delete.as_ref();
    let delete =
        delete.map(|sql| predicate(&in_job("delete"), sql, schema, declared, own)).transpose()?;
    let from = schema.field(key).data_type();
    let key_type = key_type(from).ok_or_else(|| {
        let found = inputs.stored_type(stream, &table.key).unwrap_or(from);
        not_a_key(&in_job("key"), &table.key, found)
    })?;
    let is_value = |name: &String| values.is_none_or(|values| values.contains(name));
    let values: Vec<usize> =
        (0..schema.fields().len()).filter(|&at| is_value(schema.field(at).name())).collect();
    let table = AsOfTable {
        name: name.to_owned(),
        key_type,
        values: values.iter().map(|&at| value_field(schema.field(at), declared)).collect(),
        max_age_ms: versions.max_age_ms,
        eager: versions.eager,
        fine: AsOfTable::is_fine(
            schema.field(time).data_type(),
            sequence.map(|at| schema.field(at).data_type()),
        ),
    };
    Ok(CompiledTable { table, key, time, sequence, delete, values })
}

/// A column of a table as it is looked up: a key or a sequence is a number like others.
fn value_field(field: &Field, declared: &IndexMap<String, JsonType>) -> Field {
    let to = match field.data_type() {
        integer if integer.is_integer() && !is_integer(declared, field.name()) => DataType::Float64,
        other => other.clone(),
    };
    field.clone().with_data_type(to)
}

/// A column's position; `whose` it is and `key` say what is wrong if there is none.
pub fn column(schema: &Schema, key: &str, whose: &str, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let message = format!("the {whose} has no column {name:?}; it has {}", names.join(", "));
        anyhow!(Problem::at(key, message))
    })
}

/// What is wrong with the column `name` as a key, which is stored as `found`.
pub fn not_a_key(key: &str, name: &str, found: &DataType) -> Problem {
    let message = format!("it is {found}, and must be a string or an integer");
    Problem::at(key, format!("{message}; it {}", no_key(name, found)))
}

fn no_key(name: &str, found: &DataType) -> String {
    let advice = match found {
        number if number.is_numeric() => format!(
            "; if its values are whole, declare it in the columns of its section: {name} = \"int64\""
        ),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => {
            format!("; as text it can, such as encode({name}, 'hex') gives")
        }
        _ => String::new(),
    };
    format!("cannot be a key{advice}")
}

/// An SQL expression that must be true or false.
///
/// # Errors
/// If it does not compile, or is something else.
pub fn predicate(
    key: &str,
    sql: &str,
    schema: &Schema,
    declared: &IndexMap<String, JsonType>,
    own: &Extensions,
) -> Result<Expression> {
    let seen = schema.fields().iter().map(|field| {
        let keeps_integers = is_integer(declared, field.name());
        (field.name().clone(), seen_by_sql(field.data_type(), keeps_integers))
    });
    let predicate = Expression::compile(sql, &Vec::from_iter(seen), &own.functions)
        .map_err(|error| Problem::at(key, expression(&error.to_string())))?;
    if *predicate.data_type() != DataType::Boolean {
        let found = predicate.data_type();
        bail!(Problem::at(key, format!("it is of type {found}, and must be true or false")));
    }
    Ok(predicate)
}

/// The event's schema with id and key as the strings or integers that they are admitted as.
fn with_key_types<'a>(
    schema: &Schema,
    keys: [(&str, Option<usize>); 2],
    stored: impl Fn(&str) -> Option<&'a DataType>,
) -> Result<Schema> {
    let mut fields: Vec<Field> =
        schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    for (name, at) in keys {
        let Some(at) = at else { continue };
        let from = schema.field(at).data_type();
        let column = schema.field(at).name();
        let to = key_type(from)
            .ok_or_else(|| not_a_key(name, column, stored(column).unwrap_or(from)))?;
        fields[at] = Field::new(fields[at].name(), to, true);
    }
    Ok(Schema::new(fields))
}

fn declarations(
    job: &Job,
    static_tables: &IndexMap<String, LoadedTable>,
    own: &Extensions,
) -> Result<Vec<FeatureDeclaration>> {
    let as_of = |table: &String| as_of_tables(job).position(|(name, ..)| name == table);
    let own_aggregate = |feature: &String, function: &String| {
        own.aggregates.get(function).copied().ok_or_else(|| {
            let message = format!("there is no function {function:?}; a program brings it");
            Problem::at(format!("features.{feature}"), message)
        })
    };
    let history_ms = job.history_ms();
    let declare = |(name, feature): &(String, Feature)| {
        let definition = match &feature.kind {
            FeatureKind::Column(column) => Definition::Column(column.clone()),
            FeatureKind::Sql(sql) => Definition::Sql(sql.clone()),
            FeatureKind::Window { key, value, figure, length_ms, keys_max } => {
                let aggregate = match figure {
                    Figure::Aggregate(aggregate) => *aggregate,
                    Figure::Function(function) => Aggregate::Own(own_aggregate(name, function)?),
                };
                let spec = WindowSpec { aggregate, length_ms: *length_ms, history_ms };
                let (key, value) = (key.clone(), value.clone());
                Definition::Window { key, value, spec, keys_max: *keys_max }
            }
            FeatureKind::Lookup { table, key, column } => match as_of(table) {
                Some(table) => {
                    Definition::AsOf { table, key: key.clone(), column: Some(column.clone()) }
                }
                None => Definition::Lookup {
                    table: static_tables[table].table.clone(),
                    key: key.clone(),
                    column: column.clone(),
                },
            },
            FeatureKind::Age { table, key } => {
                let table = as_of(table).context("only values of as-of tables have an age")?;
                Definition::AsOf { table, key: key.clone(), column: None }
            }
            FeatureKind::Encode { input, categories, unseen } => Definition::Encode {
                input: input.clone(),
                categories: Categories::new(categories, *unseen).map_err(|twice| {
                    anyhow!(Problem::at(
                        format!("features.{name}"),
                        format!("the category {twice:?} is listed twice")
                    ))
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
fn events_read(job: &Job, compiled: &Compiled) -> BTreeSet<usize> {
    let Compiled { layout, plan, filter, routes, .. } = compiled;
    let mut read: BTreeSet<usize> = plan.columns_read().into_iter().collect();
    read.extend(filter.iter().flat_map(|filter| filter.columns().iter().copied()));
    read.extend(routes.iter().flat_map(RouteTable::columns_read));
    read.extend([layout.id, layout.key].into_iter().flatten());
    let mut names = vec![&job.event.time];
    if let ShardBy::Column(name) = &job.shard_by {
        names.push(name);
    }
    read.extend(names.into_iter().filter_map(|name| layout.schema.index_of(name).ok()));
    read.retain(|&column| column < layout.event_columns);
    read
}

/// Positions of the columns of a table that are read, given the names of the values that are.
fn table_read(compiled: &CompiledTable, used: &BTreeSet<String>) -> BTreeSet<usize> {
    let CompiledTable { table, key, time, sequence, delete, values } = compiled;
    let mut read = BTreeSet::from([*key, *time]);
    read.extend(sequence);
    read.extend(delete.iter().flat_map(|delete| delete.columns().iter().copied()));
    let values = values.iter().zip(&table.values);
    read.extend(values.filter(|(_, field)| used.contains(field.name())).map(|(&at, _)| at));
    read
}
