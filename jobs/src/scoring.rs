//! The main job: events in, predictions, drift snapshots and dead letters out.

use driftline_operators::alert;
use driftline_operators::drift::snapshot::{SnapshotFormat, schema as snapshot_schema};
use driftline_operators::drift::windows::Schedule;
use driftline_operators::latency::Latencies;
use driftline_operators::run::Run;
use driftline_operators::score::{Scorer, Scoring};
use driftline_operators::sinks::{Outlet, Output, Sink, Tally};
use driftline_operators::skipped;
use driftline_operators::watched::Watched;
use timely::dataflow::{ProbeHandle, Scope};

use crate::graph::{Behind, Drift, Events, graph};

/// One worker's parts of the job behind the features.
pub struct Outputs {
    pub scoring: Scoring,
    pub watched: Watched,
    /// Drift snapshots, if the job watches drift.
    pub drift: Option<(Schedule, SnapshotFormat, Box<dyn Sink>)>,
    pub predictions: Box<dyn Sink>,
    pub dead_letters: Box<dyn Sink>,
    /// What exceeds a threshold of `scoring.alerts`, if somebody wants to know.
    pub alerts: Option<Box<dyn Sink>>,
    /// From being read to being handed over to the sink, of all workers.
    pub latencies: Latencies,
}

/// Builds the job in `scope`. It is done when `probe` is.
pub fn scoring(scope: Scope<'_, u64>, events: Events, outputs: Outputs, probe: &ProbeHandle<u64>) {
    let run = events.run.clone();
    let Run { counters, clock, .. } = run.clone();
    let Outputs { scoring, watched, drift, predictions, dead_letters, alerts, latencies } = outputs;
    let mut outlets = vec![
        Outlet {
            output: Output::Predictions,
            schema: scoring.schema(),
            sink: predictions,
            tally: Tally::Predictions { counters, latencies, clock },
        },
        Outlet::dead_letters(dead_letters, &run),
    ];
    let nothing = |output, schema, sink| Outlet { output, schema, sink, tally: Tally::Nothing };
    outlets.extend(alerts.map(|sink| nothing(Output::Alerts, alert::SCHEMA.clone(), sink)));
    if scoring.routes.is_some() && run.reports.are_kept() {
        outlets.push(skipped::outlet());
    }
    let drift = drift.map(|(schedule, format, sink)| {
        outlets.push(nothing(Output::Drift, snapshot_schema(), sink));
        let (mode, rules) = (format.mode(), scoring.alerts.clone());
        Drift::new(schedule, mode, &watched, format, Output::Drift, rules)
    });
    let scorer = Scorer::new(scoring, watched, scope.index());
    let work = Box::new(if drift.is_some() { scorer } else { scorer.unwatched() });
    graph(scope, events, Behind { work, drift, gathered: None }, outlets, probe);
}
