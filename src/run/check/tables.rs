//! The tables of a job, and what features take from them.

use arrow::datatypes::{Schema, SchemaRef};
use driftline_operators::layout::CameAs;

use super::sheet::Sheet;
use super::{columns, note, notes};
use crate::config::Job;
use crate::config::job::{FeatureKind, Table, TableVersions};
use crate::run::numbers::thousands;
use crate::run::plan::words;
use crate::run::prepare::Prepared;
use crate::run::prepare::tables::LoadedTable;
use crate::run::summary::not_in_order;

/// `all_columns`: those of each stream.
pub(super) fn add(sheet: &mut Sheet, prepared: &Prepared, all_columns: &[SchemaRef]) {
    let mut stream = 0;
    for (name, table) in &prepared.job.tables {
        match &table.versions {
            Some(versions) => {
                stream += 1;
                let read = prepared.inputs.schema(stream);
                let path = words::table(table);
                let eager = if versions.eager { ", eager" } else { "" };
                let about =
                    format!("{}, as of the event's time{eager}", words::stored(prepared, stream));
                let mut rows = of_table(&prepared.job, name, table, &read, &all_columns[stream]);
                rows.extend(order(prepared, stream, versions));
                rows.extend(notes(prepared, stream));
                sheet.section(&format!("table {name}: {path} ({about})"), &rows);
            }
            None => static_table(sheet, prepared, name, table),
        }
    }
}

/// What there is to say of the order in which rows come.
fn order(prepared: &Prepared, stream: usize, versions: &TableVersions) -> Vec<Vec<String>> {
    let inputs = &prepared.inputs;
    let mut rows = Vec::new();
    let sorted = inputs.sorted(stream);
    if !sorted.is_empty() {
        let text = format!("{}: read whole, and sorted by time", not_in_order(&sorted));
        rows.push(vec!["(order)".to_owned(), text]);
    } else if inputs.came_as(stream) == CameAs::Bytes && !inputs.is_live(stream) {
        let text = "read whole before it is used, and sorted by time where it is not in order";
        rows.push(vec!["(order)".to_owned(), text.to_owned()]);
    }
    if versions.eager {
        let text = "events do not wait for it: what they find depends on how the input is cut";
        rows.push(vec!["(eager)".to_owned(), text.to_owned()]);
    }
    rows
}

fn static_table(sheet: &mut Sheet, prepared: &Prepared, name: &str, table: &Table) {
    let job = &prepared.job;
    let LoadedTable { table: loaded, columns: all, format, files, .. } =
        &prepared.static_tables[name];
    let is_read = |field: &str| field == table.key || !features_of(job, name, field).is_empty();
    let read = all.fields().iter().filter(|field| is_read(field.name())).cloned();
    let read = Schema::new(read.collect::<Vec<_>>());
    let of_files = if *files == 1 { String::new() } else { format!(", {files} files") };
    let (path, rows) = (words::path(table.file()), thousands(loaded.num_rows() as u64));
    let format = words::format(*format);
    let title = format!("table {name}: {path} ({format}, static{of_files}, {rows} rows)");
    let mut rows = of_table(job, name, table, &read, all);
    rows.extend(prepared.table_notes(name).into_iter().map(note));
    sheet.section(&title, &rows);
}

/// A row for each column that is read: what the job makes of it.
fn of_table(job: &Job, name: &str, table: &Table, read: &Schema, all: &Schema) -> Vec<Vec<String>> {
    let role = |column: &str| {
        let mut roles: Vec<String> = Vec::new();
        roles.extend((column == table.key).then(|| "key".to_owned()));
        if let Some(TableVersions { time, sequence, .. }) = &table.versions {
            roles.extend((column == time).then(|| "time".to_owned()));
            roles.extend((Some(column) == sequence.as_deref()).then(|| "sequence".to_owned()));
        }
        let features = features_of(job, name, column);
        roles.extend((!features.is_empty()).then(|| format!("features.{}", features.join(", "))));
        roles.join(", ")
    };
    let mut rows = columns(read, all, role);
    let ages = job.features.iter().filter_map(|(feature, about)| match &about.kind {
        FeatureKind::Age { table, .. } if table == name => Some(feature.as_str()),
        _ => None,
    });
    let ages: Vec<&str> = ages.collect();
    if !ages.is_empty() {
        let row = ["(age in ms)", "Float64", &format!("features.{}", ages.join(", "))];
        rows.push(row.map(str::to_owned).to_vec());
    }
    if let Some(TableVersions { max_age_ms: Some(age), .. }) = &table.versions {
        rows.push(vec!["(max age)".to_owned(), words::length(*age)]);
    }
    rows
}

/// The features that are a column of a table.
fn features_of<'a>(job: &'a Job, table_name: &str, column_name: &str) -> Vec<&'a str> {
    let features = job.features.iter().filter(|(_, feature)| {
        matches!(&feature.kind, FeatureKind::Lookup { table, column, .. }
            if table == table_name && column == column_name)
    });
    features.map(|(name, _)| name.as_str()).collect()
}
