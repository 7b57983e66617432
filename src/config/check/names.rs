//! Names that a job may not use: those of what the program keeps beside the columns of events.

use driftline_operators::features::sql_bounds::column_with;
use driftline_operators::layout::INTERNAL;

use super::problem::Problem;
use crate::config::raw::{EventSection, FeatureSection, RawJob, TableSection};

/// # Errors
/// The first name, of a column, feature, table or model, that begins with [`INTERNAL`].
pub(super) fn check_names(raw: &RawJob) -> Result<(), Problem> {
    check_event(&raw.event)?;
    named("job.shard_by", Some(&raw.job.shard_by))?;
    for (name, table) in &raw.tables {
        check_table(name, table)?;
    }
    for (name, feature) in &raw.features {
        check_feature(name, feature)?;
    }
    for (name, check) in &raw.checks {
        named(&format!("checks.{name}"), Some(name))?;
        sql(&format!("checks.{name}.sql"), Some(&check.sql))?;
    }
    let model = raw.model.as_ref().and_then(|model| model.name.as_deref());
    named("model.name", model)
}

fn check_event(event: &EventSection) -> Result<(), Problem> {
    named("event.time", Some(&event.time))?;
    named("event.id", event.id.as_deref())?;
    named("event.key", event.key.as_deref())?;
    sql("event.filter", event.filter.as_deref())?;
    event.columns.keys().try_for_each(|name| named("event.columns", Some(name)))
}

fn check_table(name: &str, table: &TableSection) -> Result<(), Problem> {
    let key = |key: &str| format!("tables.{name}.{key}");
    named(&format!("tables.{name}"), Some(name))?;
    named(&key("key"), Some(&table.key))?;
    named(&key("time"), table.time.as_deref())?;
    named(&key("sequence"), table.sequence.as_deref())?;
    sql(&key("delete"), table.delete.as_deref())?;
    let columns = table.columns.iter().flat_map(|columns| columns.keys());
    columns.into_iter().try_for_each(|name| named(&key("columns"), Some(name)))
}

fn check_feature(name: &str, feature: &FeatureSection) -> Result<(), Problem> {
    let key = |key: &str| format!("features.{name}.{key}");
    named(&format!("features.{name}"), Some(name))?;
    named(&key("column"), feature.column.as_deref())?;
    sql(&key("sql"), feature.sql.as_deref())?;
    if let Some(window) = &feature.window {
        sql(&key("window.key"), Some(&window.key))?;
        sql(&key("window.value"), window.value.as_deref())?;
    }
    if let Some(lookup) = &feature.lookup {
        sql(&key("lookup.key"), Some(&lookup.key))?;
        named(&key("lookup.column"), lookup.column.as_deref())?;
    }
    let encoded = feature.encode.as_ref().map(|encode| encode.column.as_str());
    named(&key("encode.column"), encoded)
}

fn sql(key: &str, sql: Option<&str>) -> Result<(), Problem> {
    named(key, sql.and_then(|sql| column_with(sql, INTERNAL)).as_deref())
}

fn named(key: &str, name: Option<&str>) -> Result<(), Problem> {
    let Some(name) = name.filter(|name| name.starts_with(INTERNAL)) else { return Ok(()) };
    let message = format!(
        "{name:?} begins with {INTERNAL}, as names of driftline's own columns do; call it otherwise"
    );
    Err(Problem::at(key, message))
}
