//! What a worker knows of itself and of the others, for its own source to look at, and the messages by
//! which it comes to know it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::gate::GateRows;
use crate::settled::{Runs, Settled};

/// What an operator of one worker tells another worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Records that the other reads are acknowledged, with all that there is of them.
    Acknowledged(Runs),
    /// What waits in the order gate of a home.
    Gate { home: u32, rows: GateRows },
}

impl Notice {
    pub fn of_gate(home: usize, rows: GateRows) -> Self {
        Notice::Gate { home: home as u32, rows }
    }
}

/// The state of one worker, shared by its operators alone. It is behind what goes on by what is under
/// way: notices travel with epochs.
#[derive(Clone, Default)]
pub struct Known(Rc<Inner>);

#[derive(Default)]
struct Inner {
    settled: Settled,
    /// By home, and of all of them.
    gates: RefCell<Vec<GateRows>>,
    gate_rows: Cell<GateRows>,
    /// The highest epoch that any worker has read under, as far as is known.
    epoch_seen: Cell<u64>,
    reader: RefCell<Option<WaitingReader>>,
}

/// The source of the worker, where it goes by the epochs of others.
struct WaitingReader {
    wake: Box<dyn Fn()>,
    /// The epoch that it is to read under next.
    stands_at: u64,
}

impl Known {
    /// `settled`: the account of the records that the worker reads.
    pub fn new(settled: Settled) -> Self {
        Known(Rc::new(Inner { settled, ..Inner::default() }))
    }

    /// The records that this worker reads.
    pub fn settled(&self) -> &Settled {
        &self.0.settled
    }

    /// What waits in the order gates of all homes, as far as they have told.
    pub fn gate_rows(&self) -> GateRows {
        self.0.gate_rows.get()
    }

    /// From now on the operator that reads has a turn when others have come to where it stands.
    pub fn follow_with(&self, wake: Box<dyn Fn()>) {
        *self.0.reader.borrow_mut() = Some(WaitingReader { wake, stands_at: 0 });
    }

    /// The operator that reads has come to `epoch`.
    pub fn stand_at(&self, epoch: u64) {
        if let Some(reader) = self.0.reader.borrow_mut().as_mut() {
            reader.stands_at = epoch;
        }
    }

    /// Some worker, maybe this one, has read under `epoch`. Whoever stands there holds up what is behind:
    /// it has a turn, and goes on.
    pub fn epoch_seen(&self, epoch: u64) {
        if epoch <= self.0.epoch_seen.get() {
            return;
        }
        self.0.epoch_seen.set(epoch);
        if let Some(reader) = self.0.reader.borrow().as_ref().filter(|r| r.stands_at <= epoch) {
            (reader.wake)();
        }
    }

    /// The highest epoch that any worker has read under, as far as is known.
    pub fn highest_epoch(&self) -> u64 {
        self.0.epoch_seen.get()
    }

    pub fn hear(&self, notice: Notice) {
        match notice {
            Notice::Acknowledged(records) => self.0.settled.settle_runs(&records),
            Notice::Gate { home, rows } => self.gate(home as usize, rows),
        }
    }

    fn gate(&self, home: usize, rows: GateRows) {
        let mut gates = self.0.gates.borrow_mut();
        if gates.len() <= home {
            gates.resize(home + 1, GateRows::default());
        }
        gates[home] = rows;
        self.0.gate_rows.set(GateRows {
            rows: gates.iter().map(|gate| gate.rows).sum(),
            yours: gates.iter().map(|gate| gate.yours).sum(),
            bytes: gates.iter().map(|gate| gate.bytes).sum(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_each_home_counts() {
        let known = Known::default();
        let gate = |home, rows, yours| {
            let bytes = rows * 100;
            known.hear(Notice::of_gate(home, GateRows { rows, yours, bytes }));
        };
        gate(2, 10, 4);
        gate(0, 5, 1);
        gate(2, 7, 3);
        assert_eq!(known.gate_rows(), GateRows { rows: 12, yours: 4, bytes: 1_200 });
    }

    #[test]
    fn a_reader_has_a_turn_when_others_have_come_to_where_it_stands() {
        let (known, turns) = (Known::default(), Rc::new(Cell::new(0)));
        known.epoch_seen(1);
        let counted = turns.clone();
        known.follow_with(Box::new(move || counted.set(counted.get() + 1)));
        known.stand_at(3);
        // What this worker has read itself, an old story, and where it stands.
        for (epoch, highest, wanted) in [(2, 2, 0), (1, 2, 0), (3, 3, 1), (3, 3, 1), (5, 5, 2)] {
            known.epoch_seen(epoch);
            assert_eq!((known.highest_epoch(), turns.get()), (highest, wanted), "{epoch}");
        }
    }

    #[test]
    fn records_are_settled_as_they_are_heard_of() {
        let settled = Settled::of([(0, 3)]);
        let known = Known::new(settled.clone());
        known.hear(Notice::Acknowledged([(0, 3), (0, 4)].into_iter().collect()));
        assert_eq!((known.settled().unsettled(), settled.offsets()), (0, vec![(0, 3)]));
    }
}
