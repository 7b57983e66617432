//! The rows that wait of the homes of one key group, as a piece of state: rows of the job's layout.
//!
//! When a row was read is told by the clock of a run, and no other run knows it: it counts as read when
//! it is taken over.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::error::ArrowError;

use super::OrderGate;
use crate::beside::copied;
use crate::exchange::Route;
use crate::layout::EventLayout;
use crate::state::groups::{by_group, rows_at};
use crate::state::{Piece, PieceKind, StateError};

/// The pieces of the rows that wait.
#[derive(Clone)]
pub struct GatePieces {
    kind: PieceKind,
    /// How a row finds its home.
    home: Route,
    /// The column that says when a row was read.
    read_at: usize,
}

impl GatePieces {
    pub fn new(part: String, layout: &EventLayout, home: &Route) -> Self {
        let by = match *home {
            Route::KeyGroup { key, .. } => layout.schema.field(key).name(),
            _ => "",
        };
        let id = layout.id.map_or("", |id| layout.schema.field(id).name());
        let spec = [by.to_owned(), id.to_owned()];
        let kind = PieceKind::new(part, layout.schema.clone(), &spec);
        GatePieces { kind, home: home.clone(), read_at: layout.read_at }
    }

    pub fn part(&self) -> &str {
        self.kind.part()
    }

    /// The rows, as if they had been read at one instant (µs).
    fn read_at(&self, rows: &RecordBatch, instant: i64) -> Result<RecordBatch, ArrowError> {
        let mut columns = rows.columns().to_vec();
        columns[self.read_at] = Arc::new(Int64Array::from_value(instant, rows.num_rows()));
        RecordBatch::try_new(rows.schema(), columns)
    }
}

impl OrderGate {
    /// The pieces of the homes of some key groups.
    ///
    /// # Errors
    /// If the rows have no home.
    pub fn export(
        &self,
        pieces: &GatePieces,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        let runs: Vec<RecordBatch> = self.runs.iter().map(|run| run.rows.clone()).collect();
        let waiting = pieces.read_at(&self.sorted(&runs)?, 0)?;
        let mut rows = Vec::with_capacity(waiting.num_rows());
        pieces.home.for_each_group(&waiting, |row, group| rows.push((group, row as u32)))?;
        let by_group = by_group(rows, &groups).into_iter();
        by_group
            .map(|(group, rows)| pieces.kind.piece(group, copied(rows_at(&waiting, rows)?)))
            .collect()
    }

    /// Has the rows of a piece wait, which is taken over at an instant (µs) of the run's clock; returns
    /// how many there are.
    ///
    /// # Errors
    /// If it is no piece of a gate of this job.
    pub fn import(
        &mut self,
        pieces: &GatePieces,
        piece: &Piece,
        now: i64,
    ) -> Result<usize, StateError> {
        let rows = pieces.read_at(pieces.kind.open(piece)?, now)?;
        let count = rows.num_rows();
        self.insert(&[rows])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
