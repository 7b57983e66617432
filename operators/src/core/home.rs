//! A row's home: where it waits until its turn has come.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::accounting::Counters;
use crate::gate::{GateRows, GateTally, Order, OrderGate};
use crate::holding::Holding;
use crate::ingest::FlowBounds;
use crate::layout::EventLayout;
use crate::run::Run;
use crate::warm_up::WarmUp;
use crate::watermark::{Tick, Watermarks};

/// The rows that one worker is the home of, until they may be enriched.
pub struct Home {
    order: Order,
    layout: EventLayout,
    /// Rows that are in no account.
    warm_up: WarmUp,
    /// Of epochs that are not complete.
    arrived: BTreeMap<u64, Vec<RecordBatch>>,
    gate: OrderGate,
    tally: GateTally,
    counters: Counters,
    holding: Holding,
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
            tally: GateTally::new(workers, bounds),
            counters: run.counters.clone(),
            holding: run.holding.clone(),
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

    /// The rows whose turn has come with the completion of an epoch, in order.
    ///
    /// # Errors
    /// If they are not of the layout.
    pub fn complete(
        &mut self,
        tick: &Tick,
        watermarks: &Watermarks,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        if let Some(arrived) = self.arrived.remove(&tick.epoch) {
            let rows: usize = arrived.iter().map(RecordBatch::num_rows).sum();
            let counted = arrived.iter().map(|batch| self.warm_up.counted(batch, &self.layout));
            self.counters.gate_rows_added(rows as i64, counted.sum());
            arrived.iter().for_each(|batch| self.tally.add(batch, &self.warm_up, &self.layout));
            self.gate.insert(&arrived)?;
        }
        let released = self.gate.release(tick.watermark)?;
        if let Some(rows) = &released {
            let counted = self.warm_up.counted(rows, &self.layout);
            self.counters.rows_held(-counted);
            self.counters.gate_rows_added(-(rows.num_rows() as i64), -counted);
            self.tally.remove(rows, &self.warm_up, &self.layout);
            self.note_event_time(rows);
        }
        self.holding.note(tick.epoch, watermarks, self.counters.gate_rows());
        Ok(released)
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
