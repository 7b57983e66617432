//! What all operators of a run share.

use std::sync::Arc;

use crate::accounting::Counters;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::fault::Faults;
use crate::holding::Holding;
use crate::reports::Reports;
use crate::settled::Beginning;
use crate::stage_clock::StageClock;
use crate::state::StateParts;
use crate::turns::Turns;

#[derive(Clone)]
pub struct Run {
    pub counters: Counters,
    pub failure: Failure,
    pub faults: Faults,
    pub clock: Arc<dyn Clock>,
    /// Of a live run; nobody asks a replay.
    pub reports: Reports,
    pub beginning: Beginning,
    pub holding: Holding,
    pub stages: StageClock,
    pub turns: Turns,
    /// What it goes on from, and where it leaves its state.
    pub state: StateParts,
}

impl Run {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Run {
            counters: Counters::default(),
            failure: Failure::default(),
            faults: Faults::default(),
            turns: Turns::of(clock.clone()),
            clock,
            reports: Reports::default(),
            beginning: Beginning::default(),
            holding: Holding::default(),
            stages: StageClock::default(),
            state: StateParts::default(),
        }
    }
}
