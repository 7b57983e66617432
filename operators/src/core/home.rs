//! A row's home: where it waits until its turn has come.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::accounting::Counters;
use crate::clock::Clock;
use crate::gate::{GatePieces, GateRows, GateTally, Order, OrderGate};
use crate::holding::Holding;
use crate::ingest::FlowBounds;
use crate::layout::EventLayout;
use crate::run::Run;
use crate::state::{Piece, StateError};
use crate::warm_up::WarmUp;
use crate::watermark::{EpochClock, Tick};

/// The rows that one worker is the home of, until they may be enriched.
pub struct Home {
    order: Order,
    layout: EventLayout,
    /// Rows that are in no account.
    warm_up: WarmUp,
    /// Of epochs that are not complete.
    arrived: BTreeMap<u64, Vec<RecordBatch>>,
    gate: OrderGate,
    /// Bytes of the gate, as they have been told.
    gate_bytes: usize,
    tally: GateTally,
    counters: Counters,
    holding: Holding,
    clock: Arc<dyn Clock>,
}

impl Home {
    /// That of one of `workers`, each of which has `bounds`.
    pub fn new(
        order: Order,
        layout: &EventLayout,
        warm_up: &WarmUp,
        (workers, bounds): (usize, &FlowBounds),
        run: &Run,
    ) -> Self {
        Home {
            order,
            layout: layout.clone(),
            warm_up: warm_up.clone(),
            arrived: BTreeMap::new(),
            gate: OrderGate::new(order, layout.order_columns(), layout.schema.clone()),
            gate_bytes: 0,
            tally: GateTally::new(workers, bounds),
            counters: run.counters.clone(),
            holding: run.holding.clone(),
            clock: run.clock.clone(),
        }
    }

    /// Takes rows of an epoch; in arrival order they may go on at once.
    pub fn arrive(&mut self, epoch: u64, rows: RecordBatch) -> Option<RecordBatch> {
        if self.order == Order::Arrival {
            self.note_event_time(&rows);
            return Some(rows);
        }
        self.counters.rows_held(self.warm_up.counted(&rows, &self.layout));
        self.arrived.entry(epoch).or_default().push(rows);
        None
    }

    /// The rows whose turn has come with the completion of an epoch, which is the last that `clock`
    /// has told of, in order; and the state of control that holds for them.
    ///
    /// # Errors
    /// If they are not of the layout.
    pub fn complete(
        &mut self,
        tick: &Tick,
        clock: &EpochClock,
    ) -> Result<Vec<(u64, RecordBatch)>, ArrowError> {
        if let Some(arrived) = self.arrived.remove(&tick.epoch) {
            let rows: usize = arrived.iter().map(RecordBatch::num_rows).sum();
            self.counters.gate_rows_added(rows as i64);
            arrived.iter().for_each(|batch| self.tally.add(batch, &self.warm_up, &self.layout));
            self.gate.insert(&arrived)?;
        }
        let mut parts = Vec::new();
        if let Some(rows) = &self.gate.release(tick.watermark)? {
            let counted = self.warm_up.counted(rows, &self.layout);
            self.counters.rows_held(-counted);
            self.counters.gate_rows_added(-(rows.num_rows() as i64));
            self.tally.remove(rows, &self.warm_up, &self.layout);
            self.note_event_time(rows);
            let of_part = |(control, part): (u64, Range<usize>)| {
                (control, rows.slice(part.start, part.len()))
            };
            let states = clock.controls.of_released(self.layout.times(rows).values());
            parts.extend(states.into_iter().map(of_part));
        }
        let bytes = self.gate.bytes();
        if bytes != self.gate_bytes {
            self.counters.gate_bytes_added(bytes as i64 - self.gate_bytes as i64);
            self.tally.set_bytes(bytes as u64);
            self.gate_bytes = bytes;
        }
        self.holding.note(tick.epoch, &clock.watermarks(), self.counters.gate_rows());
        Ok(parts)
    }

    /// The rows that wait, of the homes of some key groups; between epochs.
    ///
    /// # Errors
    /// If rows have come of an epoch that is not complete.
    pub fn export(
        &self,
        pieces: &GatePieces,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        if !self.arrived.is_empty() {
            return Err(StateError::WithinEpoch { part: pieces.part().to_owned() });
        }
        self.gate.export(pieces, groups)
    }

    /// Has the rows of a piece wait here, and counts them.
    ///
    /// # Errors
    /// If it is no piece of a gate of this job.
    pub fn import(&mut self, pieces: &GatePieces, piece: &Piece) -> Result<(), StateError> {
        let now = self.clock.now().as_micros() as i64;
        let rows = self.gate.import(pieces, piece, now)?;
        self.tally.add(&piece.rows, &self.warm_up, &self.layout);
        let counted = self.warm_up.counted(&piece.rows, &self.layout);
        self.counters.rows_held(counted);
        self.counters.gate_rows_added(rows as i64);
        Ok(())
    }

    /// By worker, what it is to hear of the rows that wait here.
    pub fn news(&mut self) -> impl Iterator<Item = (usize, GateRows)> {
        self.tally.news()
    }

    fn note_event_time(&self, rows: &RecordBatch) {
        if let Some(&last) = self.layout.times(rows).values().last() {
            self.counters.event_time_reached(last);
        }
    }
}
