//! The windows over one key that one worker owns.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

use crate::features::trip::KeyedWindow;
use crate::features::window::{KeyedWindows, Place, WindowPieces};
use crate::state::{Piece, StateError};

/// Rows that ask windows, `[rows]` each, in order of (event time, id, origin).
pub struct WindowRows<'a> {
    /// Utf8, Int64 or UInt64, nulls allowed.
    pub keys: &'a ArrayRef,
    /// Int64, ms.
    pub times: &'a ArrayRef,
    /// Boolean: late rows read and update nothing.
    pub late: &'a ArrayRef,
    /// Request ids: Utf8, Int64 or UInt64, nulls allowed.
    pub ids: Option<&'a ArrayRef>,
    /// UInt32.
    pub partitions: &'a ArrayRef,
    /// UInt64.
    pub offsets: &'a ArrayRef,
    /// Of the windows that have a value, in their order; Float64.
    pub values: &'a [ArrayRef],
}

/// The windows of the keys that one worker owns.
pub struct WindowOwner {
    windows: KeyedWindows,
    /// Whether each window has a value in the rows.
    has_value: Vec<bool>,
}

impl WindowOwner {
    pub fn new(windows: &[KeyedWindow]) -> Self {
        WindowOwner {
            windows: KeyedWindows::new(windows.iter().map(|window| window.spec).collect())
                .with_keys_max(windows.first().and_then(|window| window.keys_max)),
            has_value: windows.iter().map(|window| window.value.is_some()).collect(),
        }
    }

    /// The same, of rows that come in order of (event time, id, origin) over all calls, late ones aside,
    /// as they do in order of event time where late rows are not scored: ids need not be kept then.
    #[must_use]
    pub fn with_rows_in_order(mut self, in_order: bool) -> Self {
        self.windows = self.windows.with_rows_in_order(in_order);
        self
    }

    /// The aggregates as of each row, Float64, `[rows]` a window.
    ///
    /// # Errors
    /// If the keys are of another type.
    pub fn answer(&mut self, rows: &WindowRows) -> Result<Vec<ArrayRef>, ArrowError> {
        let mut given = rows.values.iter();
        let values: Vec<Option<&ArrayRef>> =
            self.has_value.iter().map(|has| if *has { given.next() } else { None }).collect();
        let places = Places::of(rows);
        let place = |row: usize| places.get(row);
        let aggregates = self.windows.apply(rows.keys, rows.times, rows.late, place, &values)?;
        Ok(aggregates.into_iter().map(|aggregate| Arc::new(aggregate) as ArrayRef).collect())
    }

    /// Forgets the keys whose rows no row at or after `watermark`, and no late one, can see.
    pub fn forget(&mut self, watermark: i64) {
        self.windows.forget(watermark);
    }

    /// The pieces of some key groups.
    ///
    /// # Errors
    /// If they are pieces of other windows.
    pub fn export(
        &self,
        pieces: &WindowPieces,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        self.windows.export(pieces, groups)
    }

    /// Adds the keys of a piece.
    ///
    /// # Errors
    /// If it is a piece of other windows.
    pub fn import(&mut self, pieces: &WindowPieces, piece: &Piece) -> Result<(), StateError> {
        self.windows.import(pieces, piece)
    }

    /// How many keys are held.
    pub fn keys(&self) -> usize {
        self.windows.keys()
    }

    /// How many rows are held, over all windows.
    pub fn rows(&self) -> usize {
        self.windows.rows()
    }

    /// How many keys were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.windows.forgotten()
    }
}

/// What tells each row apart from others of the same time.
struct Places<'a> {
    ids: Ids<'a>,
    partitions: &'a [u32],
    offsets: &'a [u64],
}

enum Ids<'a> {
    None,
    Text(&'a StringArray),
    Number(&'a Int64Array),
    Count(&'a UInt64Array),
}

impl<'a> Places<'a> {
    fn of(rows: &WindowRows<'a>) -> Self {
        let ids = match rows.ids.map(|ids| (ids, ids.data_type())) {
            Some((ids, DataType::Utf8)) => Ids::Text(ids.as_string::<i32>()),
            Some((ids, DataType::UInt64)) => Ids::Count(ids.as_primitive::<UInt64Type>()),
            Some((ids, _)) => Ids::Number(ids.as_primitive::<Int64Type>()),
            None => Ids::None,
        };
        Places {
            ids,
            partitions: rows.partitions.as_primitive::<UInt32Type>().values(),
            offsets: rows.offsets.as_primitive::<UInt64Type>().values(),
        }
    }

    fn get(&self, row: usize) -> Place<'a> {
        match self.ids {
            Ids::Text(ids) if ids.is_valid(row) => Place::Text(ids.value(row)),
            Ids::Number(ids) if ids.is_valid(row) => Place::Number(ids.value(row)),
            Ids::Count(ids) if ids.is_valid(row) => Place::Count(ids.value(row)),
            _ => Place::Origin(self.partitions[row], self.offsets[row]),
        }
    }
}

#[cfg(test)]
mod tests;
