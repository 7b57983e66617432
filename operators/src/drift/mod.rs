//! Drift: what the model sees now, beside what it saw in training.

pub mod baseline;
pub mod calendar;
pub mod collect;
pub mod figures;
pub mod runs;
pub mod snapshot;
