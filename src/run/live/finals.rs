//! The windows of drift that earlier runs of a job have made final, from their files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use driftline_operators::drift::finals::FinalWindows;
use driftline_operators::model::ModelIdentity;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::run::outputs::JOB_KEY;
use crate::sources::parquet::guard::{footer, guarded};
use crate::text::without_prefixes;

/// What tells windows apart, and whether they are final.
const TEXTS: [&str; 4] = ["window", "feature", "model_name", "model_version"];
const START: &str = "window_start";
const IS_FINAL: &str = "final";

/// How length and column of a window are written, and its start (ms).
type Window = (String, String, i64);

/// Whose windows are looked for.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    Version(&'a ModelIdentity),
    /// Of all versions of a registered model: which of them scores is the registry's to say, and a window that
    /// one has made final is not opened again by the next.
    Model(&'a str),
}

impl Of<'_> {
    fn has(self, name: &str, version: &str) -> bool {
        match self {
            Of::Version(model) => model.name == name && model.version == version,
            Of::Model(model) => model == name,
        }
    }
}

/// The final windows `of` a model in the files of live runs of `job` in `folder`, if there is one. A file
/// that cannot be read is passed over, and it is said.
///
/// # Errors
/// If the folder cannot be read.
pub fn final_windows(folder: &Path, job: &str, of: Of) -> Result<FinalWindows> {
    let mut all = Vec::new();
    for path in files(folder).with_context(|| folder.display().to_string())? {
        match read(&path, job, of) {
            Ok(windows) => all.extend(windows),
            Err(error) => {
                let (path, why) = (path.display(), without_prefixes(&format!("{error:#}")));
                say!(
                    "warning: {path}: not read: {why}; windows that are final in it may be written again"
                );
            }
        }
    }
    Ok(FinalWindows::new(all))
}

/// Results of live runs, in order of their names: `part-RUN-WORKER-NUMBER.parquet`.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<std::io::Result<Vec<PathBuf>>>()?;
    paths.retain(|path| {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let numbers = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".parquet"));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        numbers.is_some_and(|numbers| {
            numbers.split('-').count() == 3 && numbers.split('-').all(is_number)
        })
    });
    paths.sort();
    Ok(paths)
}

fn read(path: &Path, job: &str, model: Of) -> Result<Vec<Window>> {
    let file = File::open(path)?;
    let footer = footer(&file)?;
    let pairs = footer.metadata().file_metadata().key_value_metadata();
    let of = pairs.into_iter().flatten().find(|pair| pair.key == JOB_KEY);
    if of.and_then(|of| of.value.as_deref()).is_some_and(|of| of != job) {
        return Ok(Vec::new());
    }
    let names = footer.schema().fields().iter().map(|field| field.name().as_str());
    let places: BTreeMap<&str, usize> = names.zip(0..).collect();
    let mut columns = Vec::new();
    for name in TEXTS.into_iter().chain([START, IS_FINAL]) {
        let place = places.get(name).with_context(|| format!("it has no column {name:?}"));
        columns.push(*place?);
    }
    let mask = ProjectionMask::roots(footer.parquet_schema(), columns);
    let batches = guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?.with_projection(mask);
        Ok(builder.build()?.collect::<Result<Vec<RecordBatch>, _>>()?)
    })?;
    let mut windows = Vec::new();
    for batch in &batches {
        windows.extend(of_batch(batch, model).context("its columns are not those of drift")?);
    }
    Ok(windows)
}

/// The final windows of a batch; none if a column is of another type.
fn of_batch(batch: &RecordBatch, model: Of) -> Option<Vec<Window>> {
    let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
    let [lengths, columns, models, versions] = TEXTS.map(text);
    let (lengths, columns, models, versions) = (lengths?, columns?, models?, versions?);
    let starts = batch.column_by_name(START)?.as_primitive_opt::<TimestampMillisecondType>()?;
    let is_final = batch.column_by_name(IS_FINAL)?.as_boolean_opt()?;
    let rows = (0..batch.num_rows())
        .filter(|&row| is_final.value(row) && model.has(models.value(row), versions.value(row)));
    let window =
        |row| (lengths.value(row).to_owned(), columns.value(row).to_owned(), starts.value(row));
    Some(rows.map(window).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampMillisecondArray};
    use driftline_operators::sinks::Sink;

    use super::*;
    use crate::sinks::parquet::ParquetSink;

    fn model(version: &str) -> ModelIdentity {
        ModelIdentity { name: "m".to_owned(), version: version.to_owned() }
    }

    /// Of rows: length, column, start, version of the model, and whether it is final.
    fn write(path: PathBuf, rows: &[(&str, &str, i64, &str, bool)]) {
        let text = |of: fn(&(&str, &str, i64, &str, bool)) -> String| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(rows.iter().map(of)))
        };
        let starts = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.2));
        let finals: BooleanArray = rows.iter().map(|row| Some(row.4)).collect();
        let columns: [(&str, ArrayRef); 6] = [
            ("window", text(|row| row.0.to_owned())),
            ("window_start", Arc::new(starts.with_timezone("UTC"))),
            ("final", Arc::new(finals)),
            ("model_name", text(|_| "m".to_owned())),
            ("model_version", text(|row| row.3.to_owned())),
            ("feature", text(|row| row.1.to_owned())),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        write_batch(path, &rows, "j");
    }

    fn write_batch(path: PathBuf, rows: &RecordBatch, job: &str) {
        let metadata = [(JOB_KEY.to_owned(), job.to_owned())];
        let mut sink = ParquetSink::create(path, rows.schema(), &metadata, &[]).unwrap();
        sink.write(rows).unwrap();
        sink.finish().unwrap();
    }

    #[test]
    fn final_rows_of_the_same_model_are_found_whatever_else_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(
            path("part-1-00000-00000.parquet"),
            &[("1d", "a", 0, "1", true), ("1d", "a", 10, "1", false), ("1d", "b", 10, "1", true)],
        );
        write(
            path("part-2-00000-00000.parquet"),
            &[("1mo", "a", 10, "1", true), ("1d", "b", 20, "2", true)],
        );
        fs::write(path("part-3-00000-00000.parquet"), "cut off").unwrap();
        fs::write(path("part-4.csv"), "no Parquet").unwrap();
        write(path(".part-5-00000-00000.tmp"), &[("1d", "a", 99, "1", true)]);
        let other: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let other = RecordBatch::try_from_iter([("final", other)]).unwrap();
        let file = path("part-6-00000-00000.parquet");
        write_batch(file.clone(), &other, "j");
        let error = read(&file, "j", Of::Version(&model("1"))).unwrap_err().to_string();
        assert_eq!(error, "it has no column \"window\"");
        // Of a replay, and of another job.
        write(path("part-00000.parquet"), &[("1d", "a", 99, "1", true)]);
        write_batch(path("part-7-00000-00000.parquet"), &other, "another");

        let found = final_windows(folder.path(), "j", Of::Version(&model("1"))).unwrap();
        let mut has = Vec::new();
        for length in ["1d", "1mo"] {
            for column in ["a", "b"] {
                let starts = [0, 10, 20, 99].into_iter();
                let starts = starts.filter(|start| found.has(length, column, *start));
                has.extend(starts.map(|start| (length, column, start)));
            }
        }
        assert_eq!(has, [("1d", "a", 0), ("1d", "b", 10), ("1mo", "a", 10)]);
        let newer = final_windows(folder.path(), "j", Of::Version(&model("2"))).unwrap();
        assert!(newer.has("1d", "b", 20) && !newer.has("1d", "a", 0));
        let all = final_windows(folder.path(), "j", Of::Model("m")).unwrap();
        assert!(all.has("1d", "b", 20) && all.has("1d", "a", 0));
        let others = final_windows(folder.path(), "j", Of::Model("n")).unwrap();
        assert!(!others.has("1d", "b", 20));
    }

    #[test]
    fn a_folder_that_is_not_there_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let none = final_windows(&folder.path().join("drift"), "j", Of::Model("m")).unwrap();
        assert!(!none.has("1d", "a", 0));
    }
}
