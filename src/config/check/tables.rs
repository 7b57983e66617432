//! Sections [tables.NAME].

use std::path::Path;

use arrow::datatypes::TimeUnit;
use indexmap::IndexMap;

use super::problem::{Problem, at_least};
use super::resolve;
use crate::config::job::{Input, Table, TableVersions};
use crate::config::raw::TableSection;

pub(super) fn check_tables(
    raw: IndexMap<String, TableSection>,
    folder: &Path,
) -> Result<IndexMap<String, Table>, Problem> {
    let check = |(name, section): (String, TableSection)| {
        let table = check_table(&name, section, folder)?;
        Ok((name, table))
    };
    raw.into_iter().map(check).collect()
}

fn check_table(name: &str, raw: TableSection, folder: &Path) -> Result<Table, Problem> {
    let key = |key: &str| format!("tables.{name}.{key}");
    if raw.time.is_none()
        && let Some(set) = raw.set_without_time()
    {
        let message = format!("has no effect without {}", key("time"));
        return Err(Problem::at(key(set), message));
    }
    let input = raw.path.map(|path| Input { path: resolve(folder, &path), format: raw.format });
    if input.is_none() && raw.topic.is_none() {
        return Err(Problem::at(format!("tables.{name}"), "say where it is: path = \"...\""));
    }
    let Some(time) = raw.time else {
        if input.is_none() {
            return Err(Problem::at(format!("tables.{name}"), "say where it is: path = \"...\""));
        }
        let columns = raw.columns.unwrap_or_default();
        return Ok(Table { input, topic: None, key: raw.key, columns, versions: None });
    };
    let lateness = raw.allowed_lateness_ms.unwrap_or(0);
    at_least(&key("allowed_lateness_ms"), lateness, 0)?;
    at_least(&key("max_age_ms"), raw.max_age_ms.unwrap_or(1), 1)?;
    let versions = TableVersions {
        time,
        time_unit: raw.time_unit.map(TimeUnit::from),
        sequence: raw.sequence,
        delete: raw.delete,
        max_age_ms: raw.max_age_ms,
        allowed_lateness_ms: lateness,
        eager: raw.eager.unwrap_or(false),
        idle_timeout_ms: raw.idle_timeout_ms,
    };
    Ok(Table {
        input,
        topic: raw.topic,
        key: raw.key,
        columns: raw.columns.unwrap_or_default(),
        versions: Some(versions),
    })
}
