//! The order gate, and the versions of as-of tables.

use driftline_operators::admit::LatePolicy;
use driftline_operators::gate::Order;

use super::super::graph::{Graph, Group, Line};
use super::super::words;
use super::{ids, inputs};
use crate::config::Job;
use crate::config::job::{ShardBy, Table, TableVersions};
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;
use crate::run::prepare::inputs::as_of_tables;

pub(super) fn add(graph: &mut Graph, prepared: &Prepared) {
    let job = &prepared.job;
    graph.stage(ids::GATE, "order gate", Group::Home, gate(job));
    let rows = graph.rows(ids::ADMIT, ids::GATE, "rows, each to its home");
    match job.order {
        Order::Arrival => {}
        Order::Epoch => rows.waits_for("the row's epoch to be complete"),
        Order::EventTime => {
            let streams = inputs::waited_for(job);
            graph.progress(ids::WATERMARK, ids::GATE, "").waits_for(format!(
                "an epoch to be complete whose watermark is past the row's event time: {streams}"
            ));
        }
    }
    let sources = job.tables.values().enumerate().filter(|(_, table)| table.versions.is_some());
    let sources: Vec<usize> = sources.map(|(position, _)| position).collect();
    for (at, ((name, table, versions), source)) in as_of_tables(job).zip(sources).enumerate() {
        let id = ids::versions(at);
        let values = &prepared.tables[at].table.values;
        let values: Vec<&str> = values.iter().map(|field| field.name().as_str()).collect();
        let lines = arrangement(job, table, versions, &values);
        graph.stage(&id, &format!("versions of {name}"), Group::Owner, lines);
        graph.rows(&ids::table(source), &id, "rows, each to the owner of its key");
        graph.progress(ids::WATERMARK, &id, "what no row looks up any more");
    }
}

fn gate(job: &Job) -> Vec<Line> {
    let (name, column) = match &job.shard_by {
        ShardBy::Key => ("key", job.event.key.as_ref()),
        ShardBy::Id => ("id", job.event.id.as_ref()),
        ShardBy::Column(column) => (column.as_str(), Some(column)),
    };
    let home = match column {
        Some(column) => format!("key group of {column}"),
        None => format!("key group of the row's file and position; there is no event.{name}"),
    };
    let mut lines = vec![Line::new("home", format!("{home} (shard_by = {name:?})"))];
    let ties = job.event.id.as_ref().map_or_else(String::new, |id| format!("{id}, "));
    let by = format!("({}, {ties}file, position)", job.event.time);
    let rows = thousands(job.bounds.gate_rows_max);
    match job.order {
        Order::Arrival => {
            lines.insert(0, Line::new("waits for", "nothing"));
            lines.push(Line::new("order", "as rows arrive; not reproducible"));
        }
        Order::Epoch => lines.push(Line::new("order", format!("{by} within an epoch"))),
        Order::EventTime => {
            lines.push(Line::new("order", by));
            lines.push(Line::new(
                "holds",
                format!(
                    "up to gate_rows_max = {rows} rows; above it only what holds the watermark \
                     back is read"
                ),
            ));
        }
    }
    lines
}

fn arrangement(job: &Job, table: &Table, versions: &TableVersions, values: &[&str]) -> Vec<Line> {
    let otherwise = match table.input {
        Some(_) => "file and position",
        None => "the epoch, then partition and offset",
    };
    let sequence = versions.sequence.as_deref().unwrap_or(otherwise);
    let max_age = versions.max_age_ms.map(words::length);
    let values = if values.is_empty() { "none".to_owned() } else { values.join(", ") };
    vec![
        Line::new("key", table.key.as_str()),
        Line::new("valid from", versions.time.as_str()),
        Line::new("ties by", sequence),
        Line::new("values", values),
        Line::new("delete", versions.delete.as_deref().unwrap_or("never")),
        Line::new("max age", max_age.unwrap_or_else(|| "none".to_owned())),
        Line::new("keeps", kept(job)),
    ]
}

/// How long a version is kept that a later one supersedes.
fn kept(job: &Job) -> String {
    let mut text = "superseded versions until the job's watermark has passed them".to_owned();
    if job.event.late == LatePolicy::Score {
        let horizon = words::length(job.event.late_horizon_ms);
        text.push_str(&format!(" by {horizon} (late_horizon_ms: late rows are scored)"));
    }
    if job.order == Order::Arrival {
        let epochs = job.bounds.epochs_in_flight_max + 1;
        text.push_str(&format!(", as of {epochs} epochs before"));
    }
    text
}
