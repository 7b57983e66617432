//! What an owner holds of the keys of some key groups.

use std::ops::Range;

use super::{GaugedTable, GaugedWindows, Owner, rows_are_in_order};
use crate::as_of::table::AsOfTable;
use crate::core::parts::{Part, TripShape};
use crate::core::tables::{VersionPieces, passed_kind};
use crate::features::plan::FeaturePlan;
use crate::features::trip::{Errand, KeyedWindow, Trip};
use crate::features::window::{WindowPieces, WindowSpec};
use crate::gate::Order;
use crate::layout::EventLayout;
use crate::state::{Piece, PieceKind, StateError};

/// The pieces of an owner's state.
#[derive(Clone)]
pub struct OwnerPieces {
    /// By trip; none for lookups.
    pub windows: Vec<Option<WindowPieces>>,
    /// By table.
    pub versions: Vec<VersionPieces>,
    /// The watermarks of epochs whose rows may still look up: the same for all tables.
    pub passed: PieceKind,
}

impl OwnerPieces {
    pub fn new(
        plan: &FeaturePlan,
        tables: &[AsOfTable],
        layout: &EventLayout,
        order: Order,
    ) -> Self {
        let of_trip = |(at, trip)| window_pieces(at, trip, layout, order);
        let of_table = |(at, table)| VersionPieces::new(Part::Versions(at).id(), table);
        OwnerPieces {
            windows: plan.trips.iter().enumerate().map(of_trip).collect(),
            versions: tables.iter().enumerate().map(of_table).collect(),
            passed: passed_kind("passed".to_owned()),
        }
    }

    /// The parts that there are pieces of.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        let windows = self.windows.iter().flatten().map(WindowPieces::part);
        let versions = self.versions.iter().map(VersionPieces::part);
        windows.chain(versions).chain([self.passed.part()])
    }
}

fn window_pieces(
    at: usize,
    trip: &Trip,
    layout: &EventLayout,
    order: Order,
) -> Option<WindowPieces> {
    let Errand::Windows(windows) = &trip.errand else { return None };
    let specs: Vec<WindowSpec> = windows.iter().map(|window| window.spec).collect();
    let mut spec = vec![trip.key_sql.clone()];
    let of_window = |window: &KeyedWindow| {
        format!("{} {:?} {:?}", window.feature, window.value_sql, window.keys_max)
    };
    spec.extend(windows.iter().map(of_window));
    spec.push(format!("{}", rows_are_in_order(windows, order)));
    let id = layout.id.map(|id| layout.schema.field(id).data_type());
    let part = Part::Trip(at, TripShape::Windows).id();
    Some(WindowPieces::new(part, &trip.key_type, id, &specs, &spec))
}

impl Owner {
    /// The pieces of some key groups, between epochs.
    ///
    /// # Errors
    /// If versions have come of an epoch that is not complete.
    pub fn export(
        &self,
        pieces: &OwnerPieces,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        let mut exported = Vec::new();
        let windows = self.windows.iter().zip(&pieces.windows);
        for (GaugedWindows { owner, .. }, pieces) in
            windows.filter_map(|(w, p)| w.as_ref().zip(p.as_ref()))
        {
            exported.extend(owner.export(pieces, groups.clone())?);
        }
        for (GaugedTable { owner, arrived, .. }, pieces) in self.tables.iter().zip(&pieces.versions)
        {
            if !arrived.is_empty() {
                return Err(StateError::WithinEpoch { part: pieces.part().to_owned() });
            }
            exported.extend(owner.export(pieces, groups.clone())?);
        }
        Ok(exported)
    }

    /// What is the same on every worker; none where there are no tables.
    ///
    /// # Errors
    /// As [`Owner::export`].
    pub fn export_passed(&self, pieces: &OwnerPieces) -> Result<Option<Piece>, StateError> {
        let first = self.tables.first();
        first.map(|table| table.owner.export_passed(&pieces.passed)).transpose()
    }

    /// Adds what a piece holds.
    ///
    /// # Errors
    /// If it is no piece of an owner of this job.
    pub fn import(&mut self, pieces: &OwnerPieces, piece: &Piece) -> Result<(), StateError> {
        if piece.part == pieces.passed.part() {
            let mut tables = self.tables.iter_mut();
            return tables.try_for_each(|table| table.owner.import_passed(&pieces.passed, piece));
        }
        for (windows, pieces) in self.windows.iter_mut().zip(&pieces.windows) {
            match (windows, pieces) {
                (Some(windows), Some(pieces)) if pieces.part() == piece.part => {
                    return windows.owner.import(pieces, piece);
                }
                _ => {}
            }
        }
        for (table, pieces) in self.tables.iter_mut().zip(&pieces.versions) {
            if pieces.part() == piece.part {
                return table.owner.import(pieces, piece);
            }
        }
        Err(StateError::UnknownPart { part: piece.part.clone() })
    }
}
