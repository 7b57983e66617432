//! Sources, the admission of events, and watermarks.

use driftline_operators::admit::LatePolicy;
use driftline_operators::dead_letter::Reason;
use driftline_operators::watermark::EVENTS;

use super::super::graph::{Graph, Group, Line};
use super::super::words;
use super::ids;
use crate::config::Job;
use crate::config::job::{Event, Table, TableVersions};
use crate::run::numbers::thousands;
use crate::run::options::RunOptions;
use crate::run::prepare::Prepared;
use crate::run::prepare::inputs::as_of_tables;

pub(super) fn add(graph: &mut Graph, prepared: &Prepared, options: &RunOptions) {
    let job = &prepared.job;
    graph.stage(ids::EVENTS, "events", Group::Inputs, events(prepared, options));
    let admission = admission(&job.event);
    graph.stage(ids::ADMIT, "admit", Group::Inputs, admission);
    graph.rows(ids::EVENTS, ids::ADMIT, "rows");
    let mut stream = EVENTS;
    for (position, (name, table)) in job.tables.iter().enumerate() {
        let id = ids::table(position);
        match &table.versions {
            Some(versions) => {
                stream += 1;
                let lines = as_of_table(prepared, stream, table, versions);
                graph.stage(&id, &format!("table {name}"), Group::Inputs, lines);
            }
            None => {
                let title = format!("static table {name}");
                graph.stage(&id, &title, Group::Inputs, static_table(table));
            }
        }
    }
    add_watermark(graph, job);
}

fn events(prepared: &Prepared, options: &RunOptions) -> Vec<Line> {
    let (job, event) = (&prepared.job, &prepared.job.event);
    let rows = match prepared.inputs.total_rows() {
        Some(rows) => format!("{} rows", thousands(rows)),
        None => "rows not known beforehand".to_owned(),
    };
    let source = match (&options.input, &job.source) {
        (Some(path), _) => Some(words::path(path)),
        (None, source) => source.as_ref().map(words::source),
    };
    let mut lines = Vec::from_iter(source.map(|source| Line::new("path", source)));
    lines.push(Line::new("holds", format!("{}, {rows}", words::stored(prepared, EVENTS))));
    lines.extend(time(&event.time, event.allowed_lateness_ms, event.idle_timeout_ms));
    lines
}

fn as_of_table(
    prepared: &Prepared,
    stream: usize,
    table: &Table,
    versions: &TableVersions,
) -> Vec<Line> {
    let mut lines = vec![
        Line::new("path", words::table(table)),
        Line::new("holds", words::stored(prepared, stream)),
    ];
    lines.extend(time(&versions.time, versions.allowed_lateness_ms, versions.idle_timeout_ms));
    lines
}

fn static_table(table: &Table) -> Vec<Line> {
    vec![
        Line::new("path", words::path(table.file())),
        Line::new("key", table.key.as_str()),
        Line::new("read", "once, whole, before the run; shared by all workers, no side trip"),
    ]
}

fn time(column: &str, allowed_lateness_ms: i64, idle_timeout_ms: Option<u64>) -> [Line; 3] {
    let idle = idle_timeout_ms.map(|millis| words::length(millis as i64));
    [
        Line::new("event time", column),
        Line::new("lateness", format!("{} allowed", words::length(allowed_lateness_ms))),
        Line::new("idle timeout", idle.unwrap_or_else(|| "not set".to_owned())),
    ]
}

fn admission(event: &Event) -> Vec<Line> {
    let lateness = words::length(event.allowed_lateness_ms);
    let late = match event.late {
        LatePolicy::Score => "scored, marked degraded, in no window of other rows",
        LatePolicy::DeadLetter => "dead letters",
        LatePolicy::Skip => "skipped",
    };
    let horizon = words::length(event.late_horizon_ms);
    let id = event.id.as_deref().unwrap_or("none: ties are in order of file and position");
    let filter = event.filter.as_deref().unwrap_or("none: all rows are kept");
    vec![
        Line::new("event time", event.time.as_str()),
        Line::new("id", id),
        Line::new("filter", filter),
        Line::new("late", format!("more than {lateness} behind the highest of its partition")),
        Line::new("late rows", format!("{late}; more than {horizon} behind: dead letters")),
    ]
}

/// Streams by name with the lateness each is allowed.
fn with_lateness<'a>(streams: impl IntoIterator<Item = (&'a str, i64)>) -> String {
    let named = streams
        .into_iter()
        .map(|(name, millis)| format!("{name} (lateness {})", words::length(millis)));
    named.collect::<Vec<_>>().join(", ")
}

/// The streams whose watermarks the job's is the lowest of.
pub(super) fn waited_for(job: &Job) -> String {
    let tables = as_of_tables(job).filter(|(_, _, versions)| !versions.eager);
    let tables = tables.map(|(name, _, versions)| (name.as_str(), versions.allowed_lateness_ms));
    with_lateness(std::iter::once(("events", job.event.allowed_lateness_ms)).chain(tables))
}

fn add_watermark(graph: &mut Graph, job: &Job) {
    let mut lines = vec![
        Line::new("lowest of", waited_for(job)),
        Line::new(
            "a stream's",
            "lowest over its partitions of (highest event time - lateness); idle ones left out",
        ),
        Line::new("told to", "every worker, for each epoch"),
    ];
    let eager = as_of_tables(job).filter(|(_, _, versions)| versions.eager);
    let eager: Vec<&str> = eager.map(|(name, ..)| name.as_str()).collect();
    if !eager.is_empty() {
        lines.insert(1, Line::new("not of", format!("{} (eager)", eager.join(", "))));
    }
    graph.stage(ids::WATERMARK, "watermark of the job", Group::Inputs, lines);
    graph.progress(ids::ADMIT, ids::WATERMARK, "highest event times");
    for (position, (_, table)) in job.tables.iter().enumerate() {
        if table.versions.as_ref().is_some_and(|versions| !versions.eager) {
            graph.progress(&ids::table(position), ids::WATERMARK, "highest event times");
        }
    }
}

/// Why records of the events and tables become dead letters before any feature.
pub(super) fn add_dead_letters(graph: &mut Graph, prepared: &Prepared) {
    let job = &prepared.job;
    let late = (job.event.late == LatePolicy::DeadLetter).then_some(Reason::Late);
    let of_topics = job.source.as_ref().is_some_and(|source| source.topics.is_some());
    let judges = of_topics || job.event.future_horizon_ms.is_some();
    let early = judges.then_some(Reason::TooEarly);
    let of_events = [Some(Reason::NoEventTime), late, Some(Reason::TooLate), early];
    let label = reasons(prepared, EVENTS, of_events.into_iter().flatten());
    graph.rows(ids::ADMIT, ids::DEAD_LETTERS, &label);
    let tables = job.tables.values().enumerate().filter(|(_, table)| table.versions.is_some());
    for (at, (position, _)) in tables.enumerate() {
        let label = reasons(prepared, at + 1, [Reason::TableRow].into_iter());
        graph.rows(&ids::table(position), ids::DEAD_LETTERS, &label);
    }
}

/// Names of reasons; what comes as bytes may also be undecodable.
fn reasons(prepared: &Prepared, stream: usize, others: impl Iterator<Item = Reason>) -> String {
    let undecoded = prepared.inputs.came_as(stream).is_bytes().then_some(Reason::DecodeFailed);
    let names: Vec<&str> = undecoded.into_iter().chain(others).map(Reason::name).collect();
    names.join(", ")
}
