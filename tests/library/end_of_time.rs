//! An event time of `i64::MAX`, which people write for "for ever": no row can be there, and none is
//! behind it.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{Float32Type, UInt64Type};
use driftline::{Feature, JobBuilder, Model as ModelSection, Pipeline};
use parquet::arrow::ArrowWriter;

use crate::support::{collecting, first_feature, in_time};

const END: i64 = i64::MAX;
const TIMES: [i64; 6] = [END, 1_000, END, 1_001, 1_000_000, 1_000_001];

fn events() -> RecordBatch {
    let numbers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let columns = [("t", numbers(TIMES.to_vec())), ("n", numbers((0..6).collect()))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Row groups of `rows` rows.
fn write_parquet(path: &Path, rows: usize) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, events().schema(), None).unwrap();
    for from in (0..TIMES.len()).step_by(rows) {
        writer.write(&events().slice(from, rows.min(TIMES.len() - from))).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
}

fn write_json(path: &Path) {
    let line = |(n, time)| format!("{{\"t\": {time}, \"n\": {n}}}\n");
    std::fs::write(path, TIMES.into_iter().enumerate().map(line).collect::<String>()).unwrap();
}

/// The features of what was scored, and offsets and reasons of what was not.
fn run(name: &str, job: JobBuilder, folder: &Path) -> (Vec<f32>, Vec<(u64, String)>) {
    let job = job.build(folder).unwrap();
    let (pipeline, predictions, letters, _) = collecting(Pipeline::new(job).model(first_feature()));
    in_time(name, move || pipeline.run().map(|_| ())).expect(name);
    let mut scores = Vec::new();
    if !predictions.is_empty() {
        let column = predictions.all().column_by_name("score").unwrap().clone();
        scores.extend_from_slice(column.as_primitive::<Float32Type>().values());
    }
    scores.sort_by(f32::total_cmp);
    if letters.is_empty() {
        return (scores, Vec::new());
    }
    let letters = letters.all();
    let reasons = letters.column_by_name("reason").unwrap().as_string::<i32>();
    let offsets = letters.column_by_name("offset").unwrap().as_primitive::<UInt64Type>();
    let offsets = offsets.values().iter().copied();
    let mut letters: Vec<_> = offsets.zip(reasons.iter().flatten().map(str::to_owned)).collect();
    letters.sort();
    (scores, letters)
}

#[test]
fn events_at_the_end_of_time_are_dead_letters_and_no_other_is_however_the_rows_are_cut() {
    for epoch_rows_max in [1, 2, 3, 6] {
        for row_group in [None, Some(1), Some(2), Some(6)] {
            let folder = tempfile::tempdir().unwrap();
            let path = match row_group {
                None => "events.jsonl",
                Some(_) => "events.parquet",
            };
            match row_group {
                None => write_json(&folder.path().join(path)),
                Some(rows) => write_parquet(&folder.path().join(path), rows),
            }
            let job = JobBuilder::new("end", "t")
                .source(path)
                .set("job.epoch_rows_max", epoch_rows_max)
                .set("event.columns.t", "int64")
                .set("event.columns.n", "int64")
                .feature("n", Feature::sql("CAST(n AS DOUBLE)"))
                .model(ModelSection::own("n", ["n"]));
            let name = format!("epochs of {epoch_rows_max}, row groups of {row_group:?}");
            let (scores, letters) = run(&name, job, folder.path());
            assert_eq!(scores, [1.0, 3.0, 4.0, 5.0], "{name}");
            let lost = |offset| (offset, "no_event_time".to_owned());
            assert_eq!(letters, [lost(0), lost(2)], "{name}");
        }
    }
}

#[test]
fn versions_from_the_end_of_time_on_are_dead_letters_and_hold_nobody_back_or_let_nobody_by() {
    let folder = tempfile::tempdir().unwrap();
    // The table comes behind its own sentinel: events have to wait for what is after it.
    let versions = [(END, 9), (0, 1), (1_000, 2), (1_000_000, 3)];
    let line = |(time, value)| format!("{{\"k\": 1, \"at\": {time}, \"v\": {value}}}\n");
    let versions = versions.into_iter().map(line).collect::<String>();
    std::fs::write(folder.path().join("versions.jsonl"), versions).unwrap();
    let events: String = [999, 1_000, 999_999, 1_000_000]
        .map(|time| format!("{{\"t\": {time}, \"k\": 1}}\n"))
        .concat();
    std::fs::write(folder.path().join("events.jsonl"), events).unwrap();
    for epoch_rows_max in [1, 2, 100] {
        let job = JobBuilder::new("end", "t");
        let columns = ["event.columns.t", "event.columns.k"].into_iter().map(str::to_owned);
        let of_table = ["k", "at", "v"].map(|name| format!("tables.versions.columns.{name}"));
        let job = columns.chain(of_table).fold(job, |job, column| job.set(&column, "int64"));
        let job = job
            .source("events.jsonl")
            .set("job.epoch_rows_max", epoch_rows_max)
            .changing_table("versions", "versions.jsonl", "k", "at")
            .feature("v", Feature::lookup("versions", "k", "v").default(-1.0))
            .feature("value", Feature::sql("CAST(v AS DOUBLE)"))
            .model(ModelSection::own("v", ["value"]));
        let name = format!("epochs of {epoch_rows_max}");
        let (scores, letters) = run(&name, job, folder.path());
        assert_eq!(scores, [1.0, 2.0, 2.0, 3.0], "{name}");
        assert_eq!(letters, [(0, "table_row".to_owned())], "{name}");
    }
}
