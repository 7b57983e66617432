//! Driftline: a streaming dataflow job that scores events with ML models and watches them for drift.
//!
//! The program `driftline` runs job files; this library is the same engine for programs. A
//! [`Pipeline`] runs a [`Job`], made from a file or in code, on files or on a program's own
//! [events](OwnEvents), with results to files or to its own [sinks](Sink), and with features that
//! call its own [functions](SqlFunction). A [`Predictor`] scores batches on request.
//!
//! This crate is the rim: configuration, sources, sinks, models and the command line. The graphs are
//! in `driftline-jobs`, the operators in `driftline-operators`.

#[macro_use]
mod say;

pub mod cli;
pub mod config;
mod instant;
pub mod interrupt;
pub mod kafka;
pub mod models;
pub mod pipeline;
pub mod predict;
pub mod registry;
pub mod run;
pub mod service;
pub mod sinks;
pub mod sources;
mod text;

pub use config::{Feature, Job, JobBuilder, Model, Window};
pub use driftline_operators::control::Since;
pub use driftline_operators::features::functions::SqlFunction;
pub use driftline_operators::features::validity::OnFail;
pub use driftline_operators::features::window::WindowFunction;
pub use driftline_operators::model;
pub use driftline_operators::sinks::{Sink, SinkError};
pub use driftline_operators::wake::Wake;
pub use pipeline::Pipeline;
pub use predict::{PredictError, Predicted, Predictor};
pub use run::summary::Summary;
pub use run::switching::{ModelControl, ModelSwitched, RouteChange, RouteChanged, RouteWeights};
pub use sinks::function::FunctionSink;
pub use sources::own::{EventSource, Next, OwnEvents};
