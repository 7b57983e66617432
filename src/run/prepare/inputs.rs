//! Which inputs a job reads, and what of them.

use std::path::PathBuf;

use anyhow::Result;
use driftline_operators::features::sql_bounds::identifiers;
use driftline_operators::watermark::StreamBounds;

use crate::config::job::{Input, ShardBy, Table, TableVersions};
use crate::config::routing::Routing;
use crate::config::{Job, Problem};
use crate::run::options::{RunOptions, TopicUse};
use crate::sources::columns::ColumnUses;
use crate::sources::inputs::Inputs;
use crate::sources::stream::{Future, Required, StreamSpec, TopicSpec};
use crate::sources::unreadable;

/// Of events in files: when the message was sent that an event came as.
pub const SENT: &str = "kafka_timestamp";

/// What messages call the declared columns of events.
const EVENT_COLUMNS: &str = "[event.columns]";

/// The as-of tables of a job, by name, in the order of their streams.
pub fn as_of_tables(job: &Job) -> impl Iterator<Item = (&String, &Table, &TableVersions)> {
    job.tables.iter().filter_map(|(name, table)| Some((name, table, table.versions.as_ref()?)))
}

/// Opens the events and the as-of tables.
///
/// # Errors
/// If one of them cannot be read, or lacks the column of its time.
pub fn open(job: &Job, options: &RunOptions) -> Result<Inputs> {
    let topics = event_topics(job, options);
    let source = match (options.source(job), &options.events, &topics) {
        (_, _, Some(_)) | (None, Some(_), _) => Input { path: PathBuf::new(), format: None },
        (Some(source), ..) => source,
        (None, None, None) => return Err(without_source(job)),
    };
    let event = &job.event;
    let EventKeys { keys, key_parts } = event_keys(job);
    let future = future(job, options, topics.is_some());
    let events = StreamSpec {
        path: source.path,
        own: options.events.clone(),
        topics,
        format: source.format,
        time: event.time.clone(),
        time_key: "event.time".to_owned(),
        columns_key: EVENT_COLUMNS.to_owned(),
        time_unit: event.time_unit,
        columns: event.columns.clone(),
        keys,
        key_parts,
        required: required_of_events(job, future.as_ref()),
        from: warm_up_from(job, options),
        to: options.to(),
        idle_timeout_ms: event.idle_timeout_ms,
        future,
        allowed_lateness_ms: event.allowed_lateness_ms,
    };
    let table_spec = |(at, (name, table, versions)): (usize, AsOf)| -> Result<StreamSpec> {
        let topics = table_topic(at, table, versions, options);
        let input = match (&table.input, &topics) {
            (_, Some(_)) => Input { path: PathBuf::new(), format: None },
            (Some(input), None) => input.clone(),
            (None, None) => return Err(without_path(job, name)),
        };
        Ok(StreamSpec {
            path: input.path,
            own: None,
            topics,
            format: input.format,
            time: versions.time.clone(),
            time_key: format!("tables.{name}.time"),
            columns_key: format!("[tables.{name}.columns]"),
            time_unit: versions.time_unit,
            columns: table.columns.clone(),
            key_parts: Vec::new(),
            required: required_of_table(name, table, versions),
            keys: std::iter::once(&table.key).chain(&versions.sequence).cloned().collect(),
            // A version holds until the next one, however long ago it came.
            from: match versions.max_age_ms {
                Some(age) => warm_up_from(job, options).saturating_sub(age),
                None => i64::MIN,
            },
            to: options.to(),
            idle_timeout_ms: versions.idle_timeout_ms,
            future: None,
            allowed_lateness_ms: versions.allowed_lateness_ms,
        })
    };
    let tables = as_of_tables(job).enumerate().map(table_spec).collect::<Result<Vec<_>>>()?;
    all_there(job, options, &events, &tables)?;
    let topics = options.topics.reading().cloned();
    Ok(Inputs::open(events, tables, options.limit, job.epoch_rows_max)?.with_topics(topics))
}

/// Which events count for nothing. Requests are answered whatever their time.
fn future(job: &Job, options: &RunOptions, are_messages: bool) -> Option<Future> {
    let event = &job.event;
    if are_messages {
        return Some(Future { horizon_ms: event.live_future_horizon_ms(), sent_column: None });
    }
    let horizon_ms = event.future_horizon_ms.filter(|_| !options.on_request)?;
    Some(Future { horizon_ms, sent_column: Some(SENT.to_owned()) })
}

/// What no event comes without.
fn required_of_events(job: &Job, future: Option<&Future>) -> Vec<Required> {
    let event = &job.event;
    let shard_by = match &job.shard_by {
        ShardBy::Column(name) => Some(name),
        ShardBy::Key | ShardBy::Id => None,
    };
    let named = [
        (Some(&event.time), "event.time"),
        (event.id.as_ref(), "event.id"),
        (event.key.as_ref(), "event.key"),
        (shard_by, "job.shard_by"),
        (future.and_then(|future| future.sent_column.as_ref()), "event.future_horizon_ms"),
    ];
    named.into_iter().filter_map(|(column, key)| Some(Required::new(column?, key))).collect()
}

/// What no version of a table comes without.
fn required_of_table(name: &str, table: &Table, versions: &TableVersions) -> Vec<Required> {
    let named = [
        (Some(&versions.time), "time"),
        (Some(&table.key), "key"),
        (versions.sequence.as_ref(), "sequence"),
    ];
    let named = named.into_iter();
    named
        .filter_map(|(column, key)| Some(Required::new(column?, format!("tables.{name}.{key}"))))
        .collect()
}

/// Columns of the event that rows are told apart, grouped or found by.
#[derive(Default)]
struct EventKeys {
    keys: Vec<String>,
    /// Those of expressions of keys.
    key_parts: Vec<String>,
}

fn event_keys(job: &Job) -> EventKeys {
    let event = &job.event;
    let mut keys: Vec<String> = [&event.id, &event.key].into_iter().flatten().cloned().collect();
    if let ShardBy::Column(name) = &job.shard_by {
        keys.push(name.clone());
    }
    let of_features = job.features.iter().filter_map(|(_, feature)| feature.kind.key());
    let of_routes = job.routing.iter().flat_map(Routing::ids);
    let expressions: Vec<&String> = of_features.chain(of_routes).collect();
    // One that is a column's name, whatever characters that has, is this column.
    keys.extend(expressions.iter().map(|&key| key.clone()));
    let key_parts = expressions.iter().flat_map(|key| identifiers(key)).collect();
    EventKeys { keys, key_parts }
}

/// What the job does with the columns of the events.
pub fn event_uses(job: &Job) -> ColumnUses {
    let EventKeys { keys, key_parts } = event_keys(job);
    let event = &job.event;
    ColumnUses {
        time: Some(event.time.clone()),
        time_unit: event.time_unit,
        keys: keys.into_iter().collect(),
        key_parts: key_parts.into_iter().collect(),
        declared: event.columns.clone(),
        columns_key: EVENT_COLUMNS.to_owned(),
    }
}

type AsOf<'a> = (&'a String, &'a Table, &'a TableVersions);

/// The topics that events are read from, if they are.
fn event_topics(job: &Job, options: &RunOptions) -> Option<TopicSpec> {
    let source = job.source.as_ref()?;
    let topics = source.topics.as_ref()?;
    let places = match &options.topics {
        TopicUse::Read(open) => open.events.clone(),
        TopicUse::Described if source.input.is_none() && options.input.is_none() => Vec::new(),
        TopicUse::Described | TopicUse::Never => return None,
    };
    Some(TopicSpec { names: topics.names.clone(), places, table_key: None, is_eager: false })
}

/// The topic that the as-of table of this number is read from, if it is.
fn table_topic(
    at: usize,
    table: &Table,
    versions: &TableVersions,
    options: &RunOptions,
) -> Option<TopicSpec> {
    let topic = table.topic.as_ref()?;
    let places = match &options.topics {
        TopicUse::Read(open) => open.tables.get(at)?.clone()?,
        TopicUse::Described if table.input.is_none() => Vec::new(),
        TopicUse::Described | TopicUse::Never => return None,
    };
    let table_key = Some(table.key.clone());
    Some(TopicSpec { names: vec![topic.clone()], places, table_key, is_eager: versions.eager })
}

fn without_source(job: &Job) -> anyhow::Error {
    let (at, message) = match &job.source {
        Some(source) => (
            format!("sources.{}", source.name),
            "it has no path, so there is nothing to replay; give --input, or use `driftline run`",
        ),
        None => (
            "sources".to_owned(),
            "the job has no section [sources.NAME]; add one, or give --input",
        ),
    };
    job.origin.place(Problem::at(at, message)).into()
}

fn without_path(job: &Job, table: &str) -> anyhow::Error {
    let message = "it has no path, so only `driftline run` can read it";
    job.origin.place(Problem::at(format!("tables.{table}"), message)).into()
}

/// Whether there is something at each path; what names the path is said if not.
fn all_there(
    job: &Job,
    options: &RunOptions,
    events: &StreamSpec,
    tables: &[StreamSpec],
) -> Result<()> {
    let source = match options.input {
        Some(_) => "--input".to_owned(),
        None => {
            let name = job.source.as_ref().map_or("NAME", |source| source.name.as_str());
            format!("sources.{name}.path")
        }
    };
    let named = as_of_tables(job).map(|(name, ..)| format!("tables.{name}.path")).zip(tables);
    for (key, spec) in std::iter::once((source, events)).chain(named) {
        if spec.own.is_none()
            && spec.topics.is_none()
            && spec.path.as_os_str() != "-"
            && let Err(error) = std::fs::metadata(&spec.path)
        {
            return Err(anyhow::Error::from(unreadable(&spec.path, &error)).context(key));
        }
    }
    Ok(())
}

/// What watermarks need to know of the streams.
pub fn bounds(job: &Job, inputs: &Inputs) -> Vec<StreamBounds> {
    let floors = |stream: usize| {
        let of_stream = inputs.partitions().into_iter().filter(move |p| p.stream == stream);
        of_stream.map(|partition| partition.floor).collect()
    };
    let events = StreamBounds {
        allowed_lateness_ms: job.event.allowed_lateness_ms,
        holds_events: true,
        floors: floors(0),
    };
    let tables = as_of_tables(job).enumerate().map(|(at, (_, _, versions))| StreamBounds {
        allowed_lateness_ms: versions.allowed_lateness_ms,
        holds_events: !versions.eager,
        floors: floors(at + 1),
    });
    std::iter::once(events).chain(tables).collect()
}

/// How far back windows have to be fed for rows from `--from` on to see all they would have seen.
pub fn warm_up_from(job: &Job, options: &RunOptions) -> i64 {
    options.from().saturating_sub(job.windows_reach_ms())
}
