//! The pieces of state that a job has, and those of one worker.

use std::ops::Range;

use super::drift::DriftOwner;
use super::finish::Finish;
use super::home::Home;
use super::owner::{Owner, OwnerPieces};
use super::parts::Part;
use crate::accounting::{Counters, state as account};
use crate::as_of::table::AsOfTable;
use crate::drift::columns::DriftColumns;
use crate::exchange::Route;
use crate::features::plan::FeaturePlan;
use crate::gate::{GatePieces, Order};
use crate::layout::EventLayout;
use crate::sinks::state as outputs;
use crate::state::groups::groups_of_worker;
use crate::state::{Piece, PieceKind, StateError, StateStore};
use crate::watermark::{Progress, Watermarks, clock_kind};

/// What pieces the parts of a job have.
#[derive(Clone)]
pub struct JobPieces {
    pub clock: PieceKind,
    pub gate: GatePieces,
    pub owner: OwnerPieces,
    pub drift: Option<DriftColumns>,
}

impl JobPieces {
    /// `home`: how a row finds its home. `watermarks`: of the streams of the job.
    pub fn new(
        plan: &FeaturePlan,
        tables: &[AsOfTable],
        layout: &EventLayout,
        (order, home): (Order, &Route),
        watermarks: &Watermarks,
        drift: Option<DriftColumns>,
    ) -> Self {
        JobPieces {
            clock: clock_kind(Part::Watermark.id(), watermarks),
            gate: GatePieces::new(Part::Gate.id(), layout, home),
            owner: OwnerPieces::new(plan, tables, layout, order),
            drift,
        }
    }

    /// The parts that the job has pieces of.
    fn parts(&self) -> Vec<&str> {
        let mut parts = vec![self.clock.part(), self.gate.part()];
        parts.extend(self.owner.parts());
        parts.extend(self.drift.iter().flat_map(DriftColumns::parts));
        parts
    }
}

/// Parts whose state no operator of the core goes on with.
const OF_THE_PROCESS: [&str; 2] = [account::PART, outputs::PART];

/// What one of `workers` workers takes out of a store to go on from.
pub struct Restored<'a> {
    store: &'a dyn StateStore,
    pieces: &'a JobPieces,
    groups: Range<u64>,
}

impl<'a> Restored<'a> {
    /// # Errors
    /// If there is state of parts that the job does not have.
    pub fn new(
        store: &'a dyn StateStore,
        pieces: &'a JobPieces,
        (worker, workers): (usize, usize),
    ) -> Result<Self, StateError> {
        let known = pieces.parts();
        let is_known = |part: &String| {
            known.contains(&part.as_str()) || OF_THE_PROCESS.contains(&part.as_str())
        };
        match store.parts()?.into_iter().find(|part| !is_known(part)) {
            Some(part) => Err(StateError::UnknownPart { part }),
            None => Ok(Restored { store, pieces, groups: groups_of_worker(worker, workers) }),
        }
    }

    fn pieces(&self, part: &str, groups: Range<u64>) -> Result<Vec<Piece>, StateError> {
        let mut pieces = Vec::new();
        for bytes in self.store.pieces(part, groups.clone())? {
            let piece = Piece::decode(&bytes)?;
            if piece.part != part {
                let (found, wanted) = (piece.part, part.to_owned());
                return Err(StateError::OtherPart { found, wanted });
            }
            if !groups.contains(&piece.group) {
                return Err(StateError::damaged("it is stored under another key group"));
            }
            pieces.push(piece);
        }
        Ok(pieces)
    }

    fn own(&self, part: &str) -> Result<Vec<Piece>, StateError> {
        self.pieces(part, self.groups.clone())
    }

    /// The clock first: what follows goes on from its watermark.
    ///
    /// # Errors
    /// If a piece is not one of this job, or there is state without a clock.
    pub fn clock(&self, progress: &Progress) -> Result<(), StateError> {
        let clock = &self.pieces.clock;
        let pieces = self.pieces(clock.part(), 0..1)?;
        if pieces.is_empty() && !self.store.parts()?.is_empty() {
            return Err(StateError::damaged("there is no clock beside it"));
        }
        pieces.iter().try_for_each(|piece| progress.import(clock, piece))
    }

    /// # Errors
    /// As [`Restored::clock`].
    pub fn home(&self, home: &mut Home) -> Result<(), StateError> {
        let gate = &self.pieces.gate;
        self.own(gate.part())?.iter().try_for_each(|piece| home.import(gate, piece))
    }

    /// # Errors
    /// As [`Restored::clock`].
    pub fn owner(&self, owner: &mut Owner) -> Result<(), StateError> {
        let pieces = &self.pieces.owner;
        for part in pieces.parts() {
            let found = match part == pieces.passed.part() {
                true => self.pieces(part, 0..1)?,
                false => self.own(part)?,
            };
            found.iter().try_for_each(|piece| owner.import(pieces, piece))?;
        }
        Ok(())
    }

    /// # Errors
    /// As [`Restored::clock`].
    pub fn finish(&self, finish: &mut Finish, clock: &Progress) -> Result<(), StateError> {
        let Some(columns) = &self.pieces.drift else { return Ok(()) };
        self.went_to(clock).into_iter().for_each(|watermark| finish.resume(watermark));
        let panes = self.own(columns.parts()[0])?;
        panes.iter().try_for_each(|piece| finish.import_panes(columns, piece))
    }

    /// # Errors
    /// As [`Restored::clock`].
    pub fn drift(&self, drift: &mut DriftOwner, clock: &Progress) -> Result<(), StateError> {
        let Some(columns) = &self.pieces.drift else { return Ok(()) };
        self.went_to(clock).into_iter().for_each(|watermark| drift.resume(watermark));
        for part in &columns.parts()[1..] {
            self.own(part)?.iter().try_for_each(|piece| drift.import(columns, piece))?;
        }
        Ok(())
    }

    /// What was counted before.
    ///
    /// # Errors
    /// As [`Restored::clock`].
    pub fn account(&self, counters: &Counters) -> Result<(), StateError> {
        self.own(account::PART)?.iter().try_for_each(|piece| account::import(counters, piece))
    }

    /// The watermark (ms) of the last epoch before; none where there was none.
    fn went_to(&self, clock: &Progress) -> Option<i64> {
        (clock.epoch() > 0).then(|| clock.watermarks().of_job())
    }
}
