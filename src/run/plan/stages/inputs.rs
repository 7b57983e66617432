//! Sources, the admission of events, and watermarks; what is refused.

use driftline_operators::admit::LatePolicy;
use driftline_operators::core::parts::Part;
use driftline_operators::dead_letter::Reason;
use driftline_operators::features::rules::Rule;
use driftline_operators::features::validity::OnFail;
use driftline_operators::watermark::EVENTS;

use super::super::graph::Line;
use super::super::words;
use crate::config::Job;
use crate::config::job::{Event, Table};
use crate::run::numbers::thousands;
use crate::run::options::RunOptions;
use crate::run::prepare::Prepared;
use crate::run::prepare::inputs::as_of_tables;

pub(super) fn events(prepared: &Prepared, options: &RunOptions) -> Vec<Line> {
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

/// Of a table that changes, by its position among those.
pub(super) fn as_of_table(prepared: &Prepared, position: usize) -> Vec<Line> {
    let Some((_, table, versions)) = as_of_tables(&prepared.job).nth(position) else {
        return Vec::new();
    };
    let mut lines = vec![
        Line::new("path", words::table(table)),
        Line::new("holds", words::stored(prepared, EVENTS + 1 + position)),
    ];
    lines.extend(time(&versions.time, versions.allowed_lateness_ms, versions.idle_timeout_ms));
    lines
}

/// The name of a table that does not change, by its position among those.
pub(super) fn static_name(job: &Job, position: usize) -> &str {
    static_tables(job).nth(position).map_or("", |(name, _)| name)
}

pub(super) fn static_table(job: &Job, position: usize) -> Vec<Line> {
    let Some((_, table)) = static_tables(job).nth(position) else { return Vec::new() };
    vec![
        Line::new("path", words::path(table.file())),
        Line::new("key", table.key.as_str()),
        Line::new("read", "once, whole, before the run; shared by all workers, no owner is asked"),
    ]
}

fn static_tables(job: &Job) -> impl Iterator<Item = (&str, &Table)> {
    let tables = job.tables.iter().filter(|(_, table)| table.versions.is_none());
    tables.map(|(name, table)| (name.as_str(), table))
}

fn time(column: &str, allowed_lateness_ms: i64, idle_timeout_ms: Option<u64>) -> [Line; 3] {
    let idle = idle_timeout_ms.map(|millis| words::length(millis as i64));
    [
        Line::new("event time", column),
        Line::new("lateness", format!("{} allowed", words::length(allowed_lateness_ms))),
        Line::new("idle timeout", idle.unwrap_or_else(|| "not set".to_owned())),
    ]
}

pub(super) fn admission(event: &Event) -> Vec<Line> {
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

pub(super) fn watermark(job: &Job) -> Vec<Line> {
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
    lines
}

/// Why a part makes dead letters.
pub(super) fn reasons(of: Part, prepared: &Prepared) -> String {
    let job = &prepared.job;
    match of {
        Part::Admit => {
            let late = (job.event.late == LatePolicy::DeadLetter).then_some(Reason::Late);
            let of_topics = job.source.as_ref().is_some_and(|source| source.topics.is_some());
            let judges = of_topics || job.event.future_horizon_ms.is_some();
            let early = judges.then_some(Reason::TooEarly);
            let reasons = [Some(Reason::NoEventTime), late, Some(Reason::TooLate), early];
            of_stream(prepared, EVENTS, reasons.into_iter().flatten())
        }
        Part::Table(at) => of_stream(prepared, EVENTS + 1 + at, [Reason::TableRow].into_iter()),
        Part::Validate => {
            let missing = job.model.is_some().then_some(Reason::MissingFeature);
            let is_fatal = |rule: &Rule| rule.on_fail == OnFail::DeadLetter;
            let is_broken = prepared.plan.rules.iter().any(is_fatal);
            let broken = is_broken.then_some(Reason::ValidationFailed);
            let names: Vec<&str> = missing.into_iter().chain(broken).map(Reason::name).collect();
            names.join(", ")
        }
        Part::Model => Reason::ScoringFailed.name().to_owned(),
        _ => String::new(),
    }
}

/// Names of reasons; what comes as bytes may also be undecodable.
fn of_stream(prepared: &Prepared, stream: usize, others: impl Iterator<Item = Reason>) -> String {
    let undecoded = prepared.inputs.came_as(stream).is_bytes().then_some(Reason::DecodeFailed);
    let names: Vec<&str> = undecoded.into_iter().chain(others).map(Reason::name).collect();
    names.join(", ")
}
