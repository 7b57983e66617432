//! What the operators of a worker go on from, and what they leave at the end of an input that was
//! stopped: that of which some partition is not at its end.

use std::ops::Range;
use std::rc::Rc;

use arrow::error::ArrowError;

use super::Parts;
use crate::core::drift::DriftOwner;
use crate::core::finish::Finish;
use crate::core::home::Home;
use crate::core::owner::Owner;
use crate::core::state::{JobPieces, Restored};
use crate::drift::columns::DriftColumns;
use crate::run::Run;
use crate::state::groups::groups_of_worker;
use crate::state::{Piece, StateError, StateStore};
use crate::watermark::Progress;

/// The home and the owner of a worker with these parts, which go on from what was saved if there is
/// anything, and what its operators leave. What does not go together is reported.
///
/// # Errors
/// If a table has values that cannot be kept.
pub(super) fn begin(
    parts: &mut Parts,
    (worker, workers): (usize, usize),
) -> Result<(Home, Owner, Leaving), ArrowError> {
    let Parts { intake, layout, plan, tables, retention, order, run, .. } = &*parts;
    let bounds = (workers, &intake.bounds);
    let mut home = Home::new(*order, layout, &intake.events.warm_up, bounds, run);
    let mut owner = Owner::new(plan, tables, *retention, *order, worker, run)?;
    let run = run.clone();
    if run.state.restore.is_none() && run.state.save.is_none() {
        return Ok((home, owner, Leaving { moving: None }));
    }
    let moving = Moving::of(parts, worker, workers);
    if let Some(store) = &run.state.restore {
        let drift = parts.drift.as_mut().map(|drift| &mut drift.owner);
        let restored =
            moving.restore(store.as_ref(), &mut home, &mut owner, &mut parts.finish, drift);
        run.failure.check(restored);
    }
    Ok((home, owner, Leaving { moving: Some(Rc::new(moving)) }))
}

/// The state of one worker, on its way in and out.
pub(super) struct Moving {
    pieces: JobPieces,
    progress: Progress,
    worker: usize,
    workers: usize,
    run: Run,
}

impl Moving {
    fn of(parts: &Parts, worker: usize, workers: usize) -> Self {
        let Parts { layout, plan, tables, order, home, intake, drift, run, .. } = parts;
        let progress = intake.gate.clone();
        let columns = drift.as_ref().map(|drift| drift.columns.clone());
        let watermarks = progress.watermarks().clone();
        let pieces = JobPieces::new(plan, tables, layout, (*order, home), &watermarks, columns);
        Moving { pieces, progress, worker, workers, run: run.clone() }
    }

    fn restore(
        &self,
        store: &dyn StateStore,
        home: &mut Home,
        owner: &mut Owner,
        finish: &mut Finish,
        drift: Option<&mut DriftOwner>,
    ) -> Result<(), StateError> {
        let restored = Restored::new(store, &self.pieces, (self.worker, self.workers))?;
        restored.clock(&self.progress)?;
        restored.home(home)?;
        restored.owner(owner)?;
        restored.finish(finish, &self.progress)?;
        drift.map_or(Ok(()), |drift| restored.drift(drift, &self.progress))?;
        restored.account(&self.run.counters)
    }

    fn groups(&self) -> Range<u64> {
        groups_of_worker(self.worker, self.workers)
    }

    /// A key group for what is of the worker and of no key.
    fn own_group(&self) -> u64 {
        own_group(self.worker, self.workers)
    }

    /// The rows that wait, and on the first worker the clock.
    pub fn home(&self, home: &Home) -> Result<Vec<Piece>, StateError> {
        let mut pieces = home.export(&self.pieces.gate, self.groups())?;
        if self.worker == 0 {
            pieces.push(self.progress.export(&self.pieces.clock)?);
        }
        Ok(pieces)
    }

    /// Windows and versions, and on the first worker what is the same on all.
    pub fn owner(&self, owner: &Owner) -> Result<Vec<Piece>, StateError> {
        let mut pieces = owner.export(&self.pieces.owner, self.groups())?;
        if self.worker == 0 {
            pieces.extend(owner.export_passed(&self.pieces.owner)?);
        }
        Ok(pieces)
    }

    /// Panes that have not been sent.
    pub fn finish(&self, finish: &mut Finish) -> Result<Vec<Piece>, StateError> {
        let columns = self.pieces.drift.as_ref();
        let export = |columns: &DriftColumns| finish.export_panes(columns, self.own_group());
        Ok(columns.map(export).transpose()?.flatten().into_iter().collect())
    }

    /// Windows of drift.
    pub fn drift(&self, drift: &DriftOwner) -> Result<Vec<Piece>, StateError> {
        let columns = self.pieces.drift.as_ref();
        columns.map_or(Ok(Vec::new()), |columns| drift.export(columns, self.groups()))
    }
}

/// A key group that a worker owns; one of others where it owns none.
pub(super) fn own_group(worker: usize, workers: usize) -> u64 {
    groups_of_worker(worker, workers).start.min(crate::key_group::KEY_GROUPS - 1)
}

/// What an operator leaves, once it has come to its end.
#[derive(Clone)]
pub(super) struct Leaving {
    moving: Option<Rc<Moving>>,
}

impl Leaving {
    /// The operator stands at `at`. At its end it leaves what `export` says, if the input was stopped
    /// and the run has not failed.
    pub fn at(
        &mut self,
        at: Option<u64>,
        export: impl FnOnce(&Moving) -> Result<Vec<Piece>, StateError>,
    ) {
        if at.is_some() {
            return;
        }
        let Some(moving) = self.moving.take() else { return };
        let Run { state, failure, .. } = &moving.run;
        let Some(save) = &state.save else { return };
        if failure.is_set() || !moving.progress.watermarks().is_open() {
            return;
        }
        let exported = export(&moving).and_then(|pieces| {
            save.stopped_at(moving.progress.epoch());
            save.add(pieces)
        });
        failure.check(exported);
    }
}
