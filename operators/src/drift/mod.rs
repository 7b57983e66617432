//! Drift: what the model sees now, beside what it saw in training.

pub mod alarms;
pub mod baseline;
pub mod calendar;
mod cells;
pub mod columns;
mod counting;
pub mod coverage;
mod dictionary;
pub mod figures;
pub mod finals;
pub mod limits;
pub mod panes;
pub mod partials;
pub mod profile;
pub mod runs;
pub mod sample;
pub mod snapshot;
pub mod thinning;
pub mod versions;
pub mod windows;
