//! The stages of a job, as `driftline_jobs` puts them together.

mod features;
mod inputs;
mod order;
mod scores;

use driftline_operators::gate::Order;

use super::graph::{Graph, Line};
use super::words;
use crate::run::numbers::thousands;
use crate::run::options::RunOptions;
use crate::run::prepare::Prepared;

/// Ids of stages that others name.
mod ids {
    pub const EVENTS: &str = "events";
    pub const ADMIT: &str = "admit";
    pub const WATERMARK: &str = "watermark";
    pub const GATE: &str = "gate";
    pub const REJOIN: &str = "rejoin";
    pub const FEATURES: &str = "features";
    pub const DEAD_LETTERS: &str = "dead_letters";

    /// The source of a table, by its position among the tables of the job.
    pub fn table(position: usize) -> String {
        format!("table_{position}")
    }

    /// The versions of an as-of table, by its position among those.
    pub fn versions(position: usize) -> String {
        format!("versions_{position}")
    }

    pub fn trip(position: usize) -> String {
        format!("trip_{position}")
    }
}

/// The graph that a replay of the job runs, or an export if it has no model.
pub fn graph(prepared: &Prepared, options: &RunOptions) -> Graph {
    let job = &prepared.job;
    let order = match job.order {
        Order::EventTime => "in order of event time",
        Order::Epoch => "in order within each epoch",
        Order::Arrival => "as they arrive",
    };
    let mut graph = Graph {
        title: format!("plan of job {}: rows {order} (order = {:?})", job.name, job.order.name()),
        ..Graph::default()
    };
    inputs::add(&mut graph, prepared, options);
    order::add(&mut graph, prepared);
    features::add(&mut graph, prepared);
    scores::add(&mut graph, prepared);
    graph.bounds = bounds(prepared);
    graph
}

fn bounds(prepared: &Prepared) -> Vec<Line> {
    let job = &prepared.job;
    let flow = job.bounds;
    let skew = flow.partition_skew_max_ms.map_or_else(|| "not set".to_owned(), words::length);
    vec![
        Line::new("epoch_rows_max", format!("{} rows", thousands(job.epoch_rows_max as u64))),
        Line::new("epochs_in_flight_max", format!("{} epochs", flow.epochs_in_flight_max)),
        Line::new("gate_rows_max", format!("{} rows", thousands(flow.gate_rows_max))),
        Line::new("partition_skew_max_ms", skew),
        Line::new("late_horizon_ms", words::length(job.event.late_horizon_ms)),
    ]
}
