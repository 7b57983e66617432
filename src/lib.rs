//! Driftline: a streaming dataflow job that scores events with ML models and watches them for drift.
//!
//! This crate is the rim: configuration, sources, sinks, models and the command line. The graphs are
//! in `driftline-jobs`, the operators in `driftline-operators`.

pub mod cli;
pub mod config;
pub mod models;
pub mod run;
pub mod sinks;
pub mod sources;
