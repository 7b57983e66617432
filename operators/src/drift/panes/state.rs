//! What a worker has not sent of its panes, as one piece of state. Samples merge, so whoever takes it
//! sends them with its own.

use std::sync::Arc;

use arrow::array::StringArray;

use super::super::columns::DriftColumns;
use super::super::partials::Partial;
use super::super::sample::Sample;
use super::{OpenPanes, Pane, PaneColumn};
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
        let open: Vec<(i64, Pane)> =
            self.open.iter().map(|(&start, pane)| (start, pane.clone())).collect();
        let partials: Vec<Partial> =
            open.into_iter().flat_map(|(start, pane)| self.partials(start, pane)).collect();
        if partials.is_empty() {
            return Ok(None);
        }
        let names = partials.iter().map(|partial| columns.name(partial.column));
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
            let version = self.columns.version(column);
            version.iter().for_each(|&version| self.know(version));
            let (mode, features) = (&self.mode, self.columns.features());
            let pane = self.open.entry(pane_start).or_insert_with(|| Pane::new(features, mode));
            let pane = match version {
                None => &mut pane.features[column],
                Some(version) => {
                    pane.predictions.entry(version).or_insert_with(|| PaneColumn::new(mode))
                }
            };
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
