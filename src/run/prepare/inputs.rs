//! Which inputs a job reads, and what of them.

use std::path::PathBuf;

use anyhow::Result;
use driftline_operators::watermark::StreamBounds;

use crate::config::job::{FeatureKind, Input, TableVersions};
use crate::config::{Job, Problem};
use crate::run::options::RunOptions;
use crate::sources::inputs::Inputs;
use crate::sources::stream::StreamSpec;
use crate::sources::unreadable;

/// The as-of tables of a job, by name, in the order of their streams.
pub fn as_of_tables(
    job: &Job,
) -> impl Iterator<Item = (&String, &crate::config::job::Table, &TableVersions)> {
    job.tables.iter().filter_map(|(name, table)| Some((name, table, table.versions.as_ref()?)))
}

/// Opens the events and the as-of tables.
///
/// # Errors
/// If one of them cannot be read, or lacks the column of its time.
pub fn open(job: &Job, options: &RunOptions) -> Result<Inputs> {
    let source = match (options.source(job), &options.events) {
        (Some(source), _) => source,
        (None, Some(_)) => Input { path: PathBuf::new(), format: None },
        (None, None) => {
            let message = "the job has no section [sources.NAME]; add one, or give --input";
            return Err(job.origin.place(Problem::at("sources", message)).into());
        }
    };
    let event = &job.event;
    let keys = [&event.id, &event.key].into_iter().flatten().cloned().collect();
    let events = StreamSpec {
        path: source.path,
        own: options.events.clone(),
        format: source.format,
        time: event.time.clone(),
        time_key: "event.time".to_owned(),
        columns: event.columns.clone(),
        keys,
        from: warm_up_from(job, options),
        to: options.to(),
        idle_timeout_ms: event.idle_timeout_ms,
        allowed_lateness_ms: event.allowed_lateness_ms,
    };
    let tables = as_of_tables(job).map(|(name, table, versions)| StreamSpec {
        path: table.input.path.clone(),
        own: None,
        format: table.input.format,
        time: versions.time.clone(),
        time_key: format!("tables.{name}.time"),
        columns: versions.columns.clone(),
        keys: std::iter::once(&table.key).chain(&versions.sequence).cloned().collect(),
        // A version holds until the next one, however long ago it came.
        from: match versions.max_age_ms {
            Some(age) => warm_up_from(job, options).saturating_sub(age),
            None => i64::MIN,
        },
        to: options.to(),
        idle_timeout_ms: versions.idle_timeout_ms,
        allowed_lateness_ms: versions.allowed_lateness_ms,
    });
    let tables: Vec<StreamSpec> = tables.collect();
    all_there(job, options, &events, &tables)?;
    Ok(Inputs::open(events, tables, options.limit, job.epoch_rows_max)?)
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
    let lengths = job.features.iter().filter_map(|(_, feature)| match &feature.kind {
        FeatureKind::Window { length_ms, .. } => Some(*length_ms),
        _ => None,
    });
    let reach = lengths.max().map_or(0, |longest| longest.saturating_add(job.history_ms()));
    options.from().saturating_sub(reach)
}
