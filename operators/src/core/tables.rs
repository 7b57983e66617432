//! The versions of an as-of table that one worker owns, and the lookups of them.

mod state;

pub use state::{VersionPieces, passed_kind};

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

use super::values::{NOWHERE, Place, Store, store_of};
use super::versions::{Key, Sequence, Versions};
use crate::as_of::table::{
    AsOfTable, DELETED, KEY, OFFSET, PARTITION, SEQUENCE, TIME, VALUES, unpack,
};
use crate::features::trip::AsOfLookups;
use crate::fine_time::{FineTime, instants};

/// How long versions are kept that are superseded by the watermark of the job.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How far behind the watermark (ms) a row may still look up.
    pub history_ms: i64,
    /// How many epochs a lookup may lag behind the watermark.
    pub epochs: usize,
}

/// The versions of the keys that one worker owns. An epoch is completed first and looked up then, until
/// the next is complete.
pub struct TableOwner {
    versions: Versions,
    /// By column of the table.
    values: Vec<Box<dyn Store>>,
    fine_column: Option<usize>,
    history_ms: i64,
    /// Watermarks of epochs whose rows may still be looked up, oldest first.
    passed: VecDeque<i64>,
}

impl TableOwner {
    /// # Errors
    /// If a column is of a type that values cannot have.
    pub fn new(table: &AsOfTable, retention: Retention) -> Result<Self, ArrowError> {
        let values = table.values.iter().map(|field| store_of(field.data_type()));
        Ok(TableOwner {
            versions: Versions::new(table.max_age_ms),
            values: values.collect::<Result<_, _>>()?,
            fine_column: table.fine_column(),
            history_ms: retention.history_ms,
            passed: VecDeque::from(vec![i64::MIN; retention.epochs + 1]),
        })
    }

    /// Versions held.
    pub fn held(&self) -> usize {
        self.versions.held()
    }

    /// An epoch is complete: `batches` are its own versions, `[rows]` of [`AsOfTable::schema`], and
    /// `watermark` (ms) is that of the job as of it. What no row of this or a later epoch can look up
    /// goes before they come.
    ///
    /// # Errors
    /// If a column is not of its type.
    pub fn complete(&mut self, batches: &[RecordBatch], watermark: i64) -> Result<(), ArrowError> {
        let lowest = self.passed.pop_front().unwrap_or(i64::MIN);
        self.passed.push_back(watermark);
        let TableOwner { versions, values, .. } = self;
        versions.forget(lowest.saturating_sub(self.history_ms), |place| {
            values.iter_mut().for_each(|column| column.forget(place));
        });
        if let Some(had) = versions.close_ranks() {
            values.iter_mut().for_each(|column| column.close_ranks(&had));
        }
        batches.iter().try_for_each(|batch| self.insert(batch))
    }

    fn insert(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let times = batch.column(TIME).as_primitive::<Int64Type>().values();
        let sequences = batch.column(SEQUENCE).as_primitive::<Int64Type>().values();
        let deleted = batch.column(DELETED).as_boolean();
        let partitions = batch.column(PARTITION).as_primitive::<UInt32Type>().values();
        let offsets = batch.column(OFFSET).as_primitive::<UInt64Type>().values();
        let fine =
            self.fine_column.map(|at| batch.column(at).as_primitive::<UInt64Type>().values());
        let mut kept: Vec<(u32, Place)> = Vec::with_capacity(batch.num_rows());
        for_each_key(batch.column(KEY), |row, key| {
            let Some(key) = key else { return };
            let (ns, low) = unpack(fine.map_or(0, |fine| fine[row]));
            let valid_from = FineTime { ms: times[row], ns };
            let (partition, offset) = (partitions[row], offsets[row]);
            let sequence = Sequence { high: sequences[row], low, partition, offset };
            let place = self.versions.insert(key, valid_from, sequence, deleted.value(row));
            if place != NOWHERE {
                kept.push((row as u32, place));
            }
        })?;
        let columns = self.values.iter_mut().zip(&batch.columns()[VALUES..]);
        columns.into_iter().try_for_each(|(values, column)| values.keep(column, &kept))
    }

    /// The looked-up columns as of the times of the keys, then the age if it is asked for, `[rows]`
    /// each. `times` is Int64 ms, `times_ns` UInt32, the ns within them. A row without a key finds
    /// nothing.
    ///
    /// # Errors
    /// If the keys are neither Utf8, Int64 nor UInt64.
    pub fn answer(
        &self,
        lookups: &AsOfLookups,
        keys: &ArrayRef,
        times: &ArrayRef,
        times_ns: Option<&ArrayRef>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let time = instants(times, times_ns);
        let mut found: Vec<Place> = Vec::with_capacity(keys.len());
        let mut ages = Float64Builder::with_capacity(if lookups.age { keys.len() } else { 0 });
        for_each_key(keys, |row, key| {
            let version = key.and_then(|key| self.versions.valid_at(key, time(row)));
            found.push(version.map_or(NOWHERE, |version| version.values));
            if lookups.age {
                ages.append_option(version.map(|version| time(row).ms_since(version.valid_from)));
            }
        })?;
        let columns = lookups.columns.iter().map(|&column| self.values[column].gather(&found));
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        if lookups.age {
            columns.push(Arc::new(ages.finish()));
        }
        Ok(columns)
    }
}

/// Calls `with(row, key)` for each row of a key column, `None` for null.
///
/// # Errors
/// If the column is neither Utf8, Int64 nor UInt64.
fn for_each_key<'a>(
    column: &'a ArrayRef,
    mut with: impl FnMut(usize, Option<Key<'a>>),
) -> Result<(), ArrowError> {
    match column.data_type() {
        DataType::Utf8 => {
            let keys = column.as_string::<i32>().iter().enumerate();
            keys.for_each(|(row, key)| with(row, key.map(Key::Text)));
        }
        DataType::Int64 => {
            let keys = column.as_primitive::<Int64Type>().iter().enumerate();
            keys.for_each(|(row, key)| with(row, key.map(Key::Number)));
        }
        // Keys of a table are of one type: their bits tell them apart.
        DataType::UInt64 => {
            let keys = column.as_primitive::<UInt64Type>().iter().enumerate();
            keys.for_each(|(row, key)| with(row, key.map(|key| Key::Number(key.cast_signed()))));
        }
        other => {
            let message = format!("a table cannot be keyed by {other}");
            return Err(ArrowError::SchemaError(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
