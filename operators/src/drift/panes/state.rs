//! What a worker has not sent of its panes, as one piece of state. Samples merge, so whoever takes it
//! sends them with its own.

use std::sync::Arc;

use arrow::array::StringArray;

use super::super::columns::DriftColumns;
use super::super::partials::Partial;
use super::super::sample::Sample;
use super::{OpenPanes, PaneColumn};
use crate::state::{Piece, StateError};

impl OpenPanes {
    /// What is to be sent of open panes, under a key group of this worker; none of none.
    ///
    /// # Errors
    /// If it cannot be put into columns.
    pub fn export(
        &mut self,
        columns: &DriftColumns,
        group: u64,
    ) -> Result<Option<Piece>, StateError> {
        let mut partials = Vec::new();
        for (&pane_start, pane) in &self.open {
            for (column, seen) in pane.iter().enumerate() {
                partials.push(Partial {
                    pane_start,
                    column,
                    null_count: seen.null_count,
                    sample: seen.clone().into_sample(&mut self.dictionaries[column]),
                });
            }
        }
        if partials.is_empty() {
            return Ok(None);
        }
        let names = partials.iter().map(|partial| columns.names[partial.column].as_str());
        let names = Arc::new(StringArray::from_iter_values(names));
        let rows = columns.rows(&columns.panes, &partials, names)?;
        columns.panes.piece(group, rows).map(Some)
    }

    /// Adds what another worker, or this one before, had not sent.
    ///
    /// # Errors
    /// If it is a piece of other panes.
    pub fn import(&mut self, columns: &DriftColumns, piece: &Piece) -> Result<(), StateError> {
        let partials = columns.partials(columns.panes.open(piece)?)?;
        for Partial { pane_start, column, null_count, sample } in partials {
            let (dictionaries, mode) = (&self.dictionaries, &self.mode);
            let unseen = || dictionaries.iter().map(|_| PaneColumn::new(mode)).collect();
            let pane = &mut self.open.entry(pane_start).or_insert_with(unseen)[column];
            pane.null_count += null_count;
            let before = pane.moved.take();
            pane.moved = Sample::merge(before.iter().chain([&sample]));
        }
        Ok(())
    }

    /// Goes on from a watermark, as of the last epoch.
    pub fn resume(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }
}

#[cfg(test)]
mod tests;
