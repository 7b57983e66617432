//! What `check` says of a job: its columns, features, model and outputs.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::Result;
use driftline_operators::admit::EVENTS;
use driftline_operators::features::trip::Errand;

use super::drift::PreparedDrift;
use super::options::RunOptions;
use super::prepare::Prepared;
use super::scoring::{ScoringParts, describe as describe_dependence};
use crate::config::Job;

/// Opens all that a replay would open, and describes it.
///
/// # Errors
/// What a replay would fail on.
pub fn describe(job: &Arc<Job>) -> Result<String> {
    let options = RunOptions::default();
    let prepared = Prepared::new(job, &options)?;
    let mut text = String::new();
    writeln!(text, "job {}: rows in order of {}", job.name, job.order.name())?;
    let partitions = prepared.inputs.partitions();
    let events = partitions.iter().filter(|partition| partition.stream == EVENTS).count();
    let rows = prepared.inputs.total_rows();
    writeln!(
        text,
        "input: {} partition(s), {}",
        events,
        rows.map_or_else(|| "rows not known beforehand".to_owned(), |rows| format!("{rows} rows"))
    )?;
    writeln!(text, "event columns that are read:")?;
    for field in prepared.inputs.schema(EVENTS).fields() {
        writeln!(text, "  {:<20} {}", field.name(), field.data_type())?;
    }
    for (at, compiled) in prepared.tables.iter().enumerate() {
        let columns = prepared.inputs.schema(at + 1);
        let columns = columns.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
        let columns = columns.collect::<Vec<_>>().join(", ");
        writeln!(text, "table {}, as of the event's time: {columns}", compiled.table.name)?;
    }
    writeln!(text, "features:")?;
    for (field, (_, feature)) in prepared.plan.fields().iter().zip(&job.features) {
        let default =
            feature.default.as_ref().map_or_else(String::new, |d| format!(", default {d}"));
        writeln!(text, "  {:<20} {}{default}", field.name(), field.data_type())?;
    }
    for trip in &prepared.plan.trips {
        let errand = match &trip.errand {
            Errand::Windows(windows) => format!("{} window(s)", windows.len()),
            Errand::Lookups(lookups) => {
                let table = &prepared.tables[lookups.table].table;
                format!("{} value(s) of table {}", trip.answers.len(), table.name)
            }
        };
        writeln!(text, "side trip by {}: {errand}", trip.key_sql)?;
    }
    if job.model.is_none() {
        writeln!(text, "no model: the job can only export features")?;
        return Ok(text);
    }
    let parts = ScoringParts::load(&prepared, &options)?;
    let model = &parts.identity;
    writeln!(
        text,
        "model {} version {}: {}",
        model.name,
        model.version,
        describe_dependence(parts.dependence)
    )?;
    for line in &parts.described {
        writeln!(text, "  {line}")?;
    }
    if PreparedDrift::new(job, &parts)?.is_some() {
        writeln!(
            text,
            "drift: the baseline covers all {} watched columns",
            parts.watched.names.len()
        )?;
    }
    writeln!(text, "the job is sound")?;
    Ok(text)
}
