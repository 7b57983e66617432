//! The departures of a year as messages.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::json::LineDelimitedWriter;
use driftline::run::prepare::read_parquet;

use crate::root;

/// Event times of a copy of the year are so much (ms) after those of the one before.
const YEAR_MS: i64 = 365 * 86_400_000;
/// What the live job declares.
const COLUMNS: [&str; 10] = [
    "event_time",
    "event_id",
    "tailnum",
    "carrier",
    "origin",
    "dest",
    "hour",
    "minute",
    "dep_delay",
    "distance",
];

/// Messages in order of event time.
pub struct Messages {
    lines: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
    keys: StringArray,
}

impl Messages {
    /// The year, so many years later. With `numbered`, ids are 0, 1, and so on.
    pub fn of_year(years_later: i64, numbered: bool) -> Result<Self> {
        let rows = read_parquet(&root().join("data/flights/departures.parquet"))?;
        let column = |name: &str| rows.column_by_name(name).context("a column of the departures");
        let columns = COLUMNS.map(|name| -> Result<(&str, ArrayRef)> {
            Ok(match name {
                "event_time" => {
                    let times = cast(column(name)?, &DataType::Int64)?;
                    let times = times.as_primitive::<Int64Type>();
                    let later = times.unary(|time| time + years_later * YEAR_MS);
                    let later: Int64Array = later;
                    (name, Arc::new(later))
                }
                "event_id" if numbered => {
                    let ids = (0..rows.num_rows()).map(|row| row.to_string());
                    (name, Arc::new(StringArray::from_iter_values(ids)))
                }
                _ => (name, column(name)?.clone()),
            })
        });
        let columns = columns.into_iter().collect::<Result<Vec<_>>>()?;
        let keys = cast(column("tailnum")?, &DataType::Utf8)?.as_string::<i32>().clone();
        let mut writer = LineDelimitedWriter::new(Vec::new());
        writer.write(&RecordBatch::try_from_iter(columns)?)?;
        writer.finish()?;
        let lines = writer.into_inner();
        let newlines = lines.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends = newlines.map(|(at, _)| at).collect();
        Ok(Messages { lines, ends, keys })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn value(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] + 1);
        &self.lines[start..self.ends[at]]
    }

    pub fn key(&self, at: usize) -> Option<&[u8]> {
        self.keys.is_valid(at).then(|| self.keys.value(at).as_bytes())
    }
}
