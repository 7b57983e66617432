//! What a worker knows of itself and of the others, for its own source to look at, and the messages by
//! which it comes to know it.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::settled::{Runs, Settled};

/// What an operator of one worker tells another worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Records that the other reads are acknowledged, with all that there is of them.
    Acknowledged(Runs),
}

/// The state of one worker, shared by its operators alone. It is behind what goes on by what is under
/// way: notices travel with epochs.
#[derive(Clone, Default)]
pub struct Known(Rc<Inner>);

#[derive(Default)]
struct Inner {
    settled: Settled,
}

impl Known {
    /// `settled`: the account of the records that the worker reads.
    pub fn new(settled: Settled) -> Self {
        Known(Rc::new(Inner { settled }))
    }

    /// The records that this worker reads.
    pub fn settled(&self) -> &Settled {
        &self.0.settled
    }

    pub fn hear(&self, notice: Notice) {
        match notice {
            Notice::Acknowledged(records) => self.0.settled.settle_runs(&records),
        }
    }
}
