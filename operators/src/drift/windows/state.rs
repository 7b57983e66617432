//! The windows of the columns of one key group, as pieces of state: samples of panes, and what has been
//! issued of the windows over them.
//!
//! Which revision a window is at, and whether rows have come since, is the same for all columns, and so
//! it is in the piece of each group. Figures are not kept: they follow from the samples, and are made
//! anew if a window is issued again without a change.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, UInt32Array,
};
use arrow::datatypes::{Int32Type, Int64Type, UInt32Type};

use super::super::calendar::WindowLength;
use super::super::columns::{CHANGED, DriftColumns, LENGTH, REVISED_AT, REVISION, START};
use super::super::partials::Partial;
use super::{OpenWindow, OpenWindows, Revision};
use crate::state::groups::by_group;
use crate::state::{Piece, StateError};

impl<F: Clone> OpenWindows<F> {
    /// The pieces of some key groups.
    ///
    /// # Errors
    /// If windows are being issued.
    pub fn export(
        &self,
        columns: &DriftColumns,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        if self.issuing.is_under_way {
            return Err(StateError::WithinEpoch { part: columns.windows.part().to_owned() });
        }
        let samples = self.panes.iter().flat_map(|(&pane_start, pane)| {
            pane.iter().filter_map(move |(&column, sample)| {
                let null_count = sample.null_count;
                let partial = Partial { pane_start, column, null_count, sample: sample.merged()? };
                Some((columns.group(column), partial))
            })
        });
        let mut pieces = Vec::new();
        for (group, partials) in by_group(samples, &groups) {
            let grown = partials.iter().map(|part| Some(self.grown.contains(&part.pane_start)));
            let grown = Arc::new(grown.collect::<BooleanArray>());
            let rows = columns.rows(&columns.windows, &partials, grown)?;
            pieces.push(columns.windows.piece(group, rows)?);
            if !self.open.is_empty() {
                pieces.push(self.export_issued(columns, group)?);
            }
        }
        Ok(pieces)
    }

    fn export_issued(&self, columns: &DriftColumns, group: u64) -> Result<Piece, StateError> {
        let open = || self.open.values();
        let last = |window: &OpenWindow<F>| window.last.as_ref().map(|last| last.number);
        let revised_at = |window: &OpenWindow<F>| window.last.as_ref().map(|last| last.watermark);
        let position = |length: &WindowLength| {
            let position = self.schedule.lengths.iter().position(|known| known == length);
            position.unwrap_or_default() as u32
        };
        let lengths = self.open.keys().map(|(length, _)| position(length));
        let found: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(lengths)),
            Arc::new(Int64Array::from_iter_values(self.open.keys().map(|(_, start)| *start))),
            Arc::new(open().map(|window| Some(window.changed)).collect::<BooleanArray>()),
            Arc::new(open().map(last).collect::<Int32Array>()),
            Arc::new(open().map(revised_at).collect::<Int64Array>()),
        ];
        let kind = &columns.issued;
        kind.piece(group, RecordBatch::try_new(kind.schema().clone(), found)?)
    }

    /// Adds the samples of a piece, or what it says has been issued.
    ///
    /// # Errors
    /// If it is a piece of other columns, or does not go together with those before.
    pub fn import(&mut self, columns: &DriftColumns, piece: &Piece) -> Result<(), StateError> {
        if piece.part == columns.issued.part() {
            return self.import_issued(columns.issued.open(piece)?);
        }
        let rows = columns.windows.open(piece)?;
        let grown = rows.column(0).as_boolean();
        for (row, partial) in columns.partials(rows)?.into_iter().enumerate() {
            let Partial { pane_start, column, null_count, sample } = partial;
            if grown.value(row) {
                self.grown.insert(pane_start);
            }
            let pane = self.panes.entry(pane_start).or_default();
            pane.entry(column).or_default().push(sample, null_count);
        }
        Ok(())
    }

    fn import_issued(&mut self, rows: &RecordBatch) -> Result<(), StateError> {
        let lengths = rows.column(LENGTH).as_primitive::<UInt32Type>().values();
        let starts = rows.column(START).as_primitive::<Int64Type>().values();
        let changed = rows.column(CHANGED).as_boolean();
        let revisions = rows.column(REVISION).as_primitive::<Int32Type>();
        let revised_at = rows.column(REVISED_AT).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let Some(&length) = self.schedule.lengths.get(lengths[row] as usize) else {
                return Err(StateError::damaged("a window is of a length that is none"));
            };
            let last = revisions.is_valid(row).then(|| Revision {
                number: revisions.value(row),
                watermark: revised_at.value(row),
                figures: None,
            });
            let window = OpenWindow { changed: changed.value(row), last };
            let place = (length, starts[row]);
            if self.open.get(&place).is_some_and(|other| !other.agrees(&window)) {
                return Err(StateError::damaged("two columns are at other revisions of a window"));
            }
            self.open.insert(place, window);
        }
        Ok(())
    }

    /// Goes on from a watermark, as of the last epoch.
    pub fn resume(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }
}

impl<F> OpenWindow<F> {
    fn agrees(&self, other: &Self) -> bool {
        let at = |window: &Self| window.last.as_ref().map(|last| (last.number, last.watermark));
        self.changed == other.changed && at(self) == at(other)
    }
}

#[cfg(test)]
mod tests;
