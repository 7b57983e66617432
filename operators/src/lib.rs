//! The pure middle of Driftline: timely operators and the plain state machines inside them, over
//! Arrow columns.
//!
//! Nothing here opens a file, a socket or an environment variable, and nothing reads a clock except
//! through [`clock::Clock`]. What touches the world comes in through the seams [`ingest::Source`],
//! [`sinks::Sink`] and [`model::Model`].

pub mod accounting;
pub mod admit;
pub mod alert;
pub mod as_of;
pub mod batch_probe;
pub mod beside;
pub mod breaker;
pub mod chunk;
pub mod clock;
mod constant;
pub mod control;
pub mod core;
pub mod dead_letter;
pub mod drift;
pub mod exchange;
pub mod export;
pub mod failure;
pub mod fault;
pub mod features;
pub mod fine_time;
pub mod gate;
pub mod guarded;
pub mod holding;
pub mod ingest;
pub mod key_group;
pub mod key_map;
pub mod known;
pub mod latency;
pub mod lateness;
pub mod layout;
pub mod micro_batch;
pub mod model;
pub mod model_bank;
pub mod model_input;
mod not_finite;
pub mod numbers;
pub mod numeric;
pub mod parity;
pub mod partition_names;
pub mod patience;
pub mod prediction;
pub mod preprocess;
pub mod reasons;
pub mod reports;
pub mod routes;
pub mod rows;
pub mod run;
pub mod score;
pub mod settled;
pub mod sinks;
pub mod skipped;
pub mod sort;
pub mod stage_clock;
pub mod stages;
pub mod state;
mod status;
pub mod too_early;
pub mod turns;
pub mod validate;
pub mod wake;
pub mod warm_up;
pub mod watched;
pub mod watermark;
