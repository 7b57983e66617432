//! The rows that wait of the homes of one key group, as a piece of state: rows of the job's layout.

use std::ops::Range;

use super::OrderGate;
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
}

impl GatePieces {
    pub fn new(part: String, layout: &EventLayout, home: &Route) -> Self {
        let by = match *home {
            Route::KeyGroup { key, .. } => layout.schema.field(key).name(),
            _ => "",
        };
        let id = layout.id.map_or("", |id| layout.schema.field(id).name());
        let spec = [by.to_owned(), id.to_owned()];
        GatePieces { kind: PieceKind::new(part, layout.schema.clone(), &spec), home: home.clone() }
    }

    pub fn part(&self) -> &str {
        self.kind.part()
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
        let waiting = self.sorted(&self.runs)?;
        let mut rows = Vec::with_capacity(waiting.num_rows());
        pieces.home.for_each_group(&waiting, |row, group| rows.push((group, row as u32)))?;
        let by_group = by_group(rows, &groups).into_iter();
        by_group.map(|(group, rows)| pieces.kind.piece(group, rows_at(&waiting, rows)?)).collect()
    }

    /// Has the rows of a piece wait; returns how many.
    ///
    /// # Errors
    /// If it is no piece of a gate of this job.
    pub fn import(&mut self, pieces: &GatePieces, piece: &Piece) -> Result<usize, StateError> {
        let rows = pieces.kind.open(piece)?;
        self.insert(std::slice::from_ref(rows))?;
        Ok(rows.num_rows())
    }
}

#[cfg(test)]
mod tests;
