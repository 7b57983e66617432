//! Files for tests of sources.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use driftline_operators::chunk::Chunk;
use indexmap::IndexMap;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::StreamSpec;
use crate::config::job::JsonType;

/// A row: its number, and its event time (ms).
pub type Row = (i64, Option<i64>);

/// A folder that is gone after the test.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// A Parquet file of `groups`, with statistics if so wanted.
    pub fn parquet(&self, name: &str, groups: &[Vec<Row>], statistics: bool) -> PathBuf {
        let path = self.file(name);
        let level = if statistics { EnabledStatistics::Page } else { EnabledStatistics::None };
        let properties = WriterProperties::builder().set_statistics_enabled(level).build();
        let schema = batch(&[]).schema();
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
        for group in groups {
            writer.write(&batch(group)).unwrap();
            writer.flush().unwrap();
        }
        writer.close().unwrap();
        path
    }

    /// A file of JSON lines.
    pub fn json(&self, name: &str, rows: &[Row]) -> PathBuf {
        let path = self.file(name);
        let line = |&(n, time): &Row| {
            let time = time.map_or("null".to_owned(), |time| time.to_string());
            format!("{{\"time\": {time}, \"n\": {n}}}\n")
        };
        std::fs::write(&path, rows.iter().map(line).collect::<String>()).unwrap();
        path
    }
}

fn batch(rows: &[Row]) -> RecordBatch {
    let times: Vec<Option<i64>> = rows.iter().map(|row| row.1).collect();
    let columns: [(&str, ArrayRef, bool); 2] = [
        ("time", Arc::new(TimestampMillisecondArray::from(times)), true),
        ("n", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// A stream of what [`Folder`] writes.
pub fn spec(path: &Path) -> StreamSpec {
    StreamSpec {
        own: None,
        topics: None,
        path: path.to_owned(),
        format: None,
        time: "time".to_owned(),
        columns: IndexMap::from([
            ("time".to_owned(), JsonType::Int64),
            ("n".to_owned(), JsonType::Int64),
        ]),
        keys: Vec::new(),
        key_parts: Vec::new(),
        required: Vec::new(),
        time_unit: None,
        from: i64::MIN,
        to: i64::MAX,
        idle_timeout_ms: None,
        future: None,
        time_key: "event.time".to_owned(),
        columns_key: "[event.columns]".to_owned(),
        allowed_lateness_ms: 0,
    }
}

/// The numbers of the rows of a chunk.
pub fn numbers(chunk: &Chunk) -> Vec<i64> {
    integers(chunk, "n").into_iter().flatten().collect()
}

/// The event times (ms) of the rows of a chunk.
pub fn times(chunk: &Chunk) -> Vec<Option<i64>> {
    integers(chunk, "time")
}

fn integers(chunk: &Chunk, name: &str) -> Vec<Option<i64>> {
    let column = cast(chunk.rows.column_by_name(name).unwrap(), &DataType::Int64).unwrap();
    column.as_primitive::<Int64Type>().iter().collect()
}
