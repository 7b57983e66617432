//! The order gate, and the versions of as-of tables.

use driftline_operators::admit::LatePolicy;
use driftline_operators::gate::Order;

use super::super::graph::Line;
use super::super::words;
use crate::config::Job;
use crate::config::job::ShardBy;
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;
use crate::run::prepare::inputs::as_of_tables;

pub(super) fn gate(job: &Job) -> Vec<Line> {
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

/// Of a table that changes, by its position among those.
pub(super) fn versions(prepared: &Prepared, position: usize) -> Vec<Line> {
    let job = &prepared.job;
    let Some((_, table, versions)) = as_of_tables(job).nth(position) else { return Vec::new() };
    let values = prepared.tables[position].table.values.iter();
    let values: Vec<&str> = values.map(|field| field.name().as_str()).collect();
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
