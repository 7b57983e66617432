//! What becomes of enriched rows at their home: they are worked off, and drift gathers what it watches
//! of them into panes.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::accounting::Counters;
use crate::control::Turn;
use crate::drift::columns::DriftColumns;
use crate::drift::panes::OpenPanes;
use crate::drift::partials::Partial;
use crate::fault::{LoseRow, LostBehind};
use crate::run::Run;
use crate::sinks::Output;
use crate::state::{Piece, StateError};
use crate::watched::Seen;
use crate::watermark::Tick;

/// Rows of an output, and the epoch that they belong to.
pub struct Out {
    pub epoch: u64,
    pub output: Output,
    pub rows: RecordBatch,
}

/// What a job does with enriched rows: it scores them, or gives them out as they are.
///
/// Rows may wait in it, so that some of several epochs go together, but each leaves at its own epoch.
pub trait Work {
    /// Takes enriched rows.
    ///
    /// # Errors
    /// If they are not what the job makes of its input.
    fn take(&mut self, turn: Turn, rows: RecordBatch, out: &mut Vec<Out>)
    -> Result<(), ArrowError>;

    /// Works off some of the rows that wait; all there are where it is said to be `idle`: nothing else
    /// is on its way. What drift watches of them is added to `watched`, with its epoch. Nothing, where
    /// rows do not wait.
    ///
    /// # Errors
    /// As [`Work::take`].
    fn step(
        &mut self,
        _idle: bool,
        _out: &mut Vec<Out>,
        _watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        Ok(())
    }

    /// The lowest epoch of which rows wait.
    fn waits_for(&self) -> Option<u64> {
        None
    }

    /// All rows whose state of control is below `control` are worked off, and no more of them come.
    fn worked_off_below(&mut self, _control: u64) {}
}

/// A worker's work, and the first phase of drift.
pub struct Finish {
    work: Box<dyn Work>,
    panes: Option<OpenPanes>,
    /// What has been watched, by epoch: a late row of a later epoch must not slip into a pane that an
    /// earlier one closes.
    watched: BTreeMap<u64, Vec<Seen>>,
    seen: Vec<Seen>,
    /// The least state of control that rows to come can have.
    control: u64,
    counters: Counters,
    faults: LoseRow,
}

impl Finish {
    pub fn new(work: Box<dyn Work>, panes: Option<OpenPanes>, worker: usize, run: &Run) -> Self {
        Finish {
            work,
            panes,
            watched: BTreeMap::new(),
            seen: Vec::new(),
            control: 0,
            counters: run.counters.clone(),
            faults: run.faults.on(worker),
        }
    }

    /// As [`Work::take`].
    ///
    /// # Errors
    /// As it.
    pub fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let before = out.len();
        self.work.take(turn, rows, out)?;
        self.lose(&mut out[before..]);
        Ok(())
    }

    /// As [`Work::step`].
    ///
    /// # Errors
    /// As it.
    pub fn step(&mut self, idle: bool, out: &mut Vec<Out>) -> Result<(), ArrowError> {
        let before = out.len();
        self.work.step(idle, out, &mut self.seen)?;
        for seen in self.seen.drain(..) {
            if self.panes.is_some() {
                let rows = self.faults.behind(LostBehind::Watched, seen.rows);
                self.watched.entry(seen.epoch).or_default().push(Seen { rows, ..seen });
            }
        }
        self.lose(&mut out[before..]);
        Ok(())
    }

    fn lose(&mut self, out: &mut [Out]) {
        for Out { output, rows, .. } in out {
            let edge = match output {
                Output::Predictions => LostBehind::Score,
                Output::DeadLetters => LostBehind::DeadLetters,
                _ => continue,
            };
            if self.faults.loses(edge, rows.num_rows()) {
                *rows = rows.slice(1, rows.num_rows() - 1);
            }
        }
    }

    /// The lowest epoch of which rows wait.
    pub fn waits_for(&self) -> Option<u64> {
        self.work.waits_for()
    }

    /// What has not been sent of panes, under a key group of this worker; between epochs.
    ///
    /// # Errors
    /// If rows wait.
    pub fn export_panes(
        &mut self,
        columns: &DriftColumns,
        group: u64,
    ) -> Result<Option<Piece>, StateError> {
        if self.waits_for().is_some() || !self.watched.is_empty() {
            return Err(StateError::WithinEpoch { part: columns.parts()[0].to_owned() });
        }
        self.panes.as_mut().map_or(Ok(None), |panes| panes.export(columns, group))
    }

    /// Adds what had not been sent of panes.
    ///
    /// # Errors
    /// If it is a piece of other panes.
    pub fn import_panes(
        &mut self,
        columns: &DriftColumns,
        piece: &Piece,
    ) -> Result<(), StateError> {
        self.panes.as_mut().map_or(Ok(()), |panes| panes.import(columns, piece))
    }

    /// Goes on from the watermark (ms) of the last epoch.
    pub fn resume(&mut self, watermark: i64) {
        self.panes.iter_mut().for_each(|panes| panes.resume(watermark));
    }

    /// All rows of an epoch have been worked off: the panes that its watermark closes.
    pub fn complete(&mut self, tick: &Tick) -> Vec<Partial> {
        if tick.control > self.control {
            self.control = tick.control;
            self.work.worked_off_below(tick.control);
        }
        let Some(panes) = &mut self.panes else { return Vec::new() };
        for seen in self.watched.remove(&tick.epoch).unwrap_or_default() {
            self.counters.rows_late_for_drift(&panes.add(&seen));
        }
        let mut closed = panes.close(tick.watermark);
        if self.faults.loses(LostBehind::Panes, closed.len()) {
            closed.remove(0);
        }
        closed
    }
}
