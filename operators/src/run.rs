//! What all operators of a run share.

use crate::accounting::Counters;
use crate::failure::Failure;
use crate::fault::Faults;

#[derive(Clone, Default)]
pub struct Run {
    pub counters: Counters,
    pub failure: Failure,
    pub faults: Faults,
}
