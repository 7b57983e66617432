//! The main job: events in, predictions, drift snapshots and dead letters out.
//!
//! ```text
//! events ─ enriched ─▶ validate ─ micro-batch ─ model ─┬─▶ predictions
//!              │           │                           ├─▶ panes ─▶ owner: windows ─▶ drift
//!              └───────────┴─▶ dead letters              └─▶ alerts ◀─────────┘
//! ```

use arrow::datatypes::SchemaRef;
use driftline_operators::alert::{self, snapshot_alerts};
use driftline_operators::dead_letter;
use driftline_operators::deliver::deliver;
use driftline_operators::drift::collect::{DriftWindows, collect_windows};
use driftline_operators::drift::snapshot::{SnapshotFormat, schema as snapshot_schema};
use driftline_operators::drift::windows::Schedule;
use driftline_operators::latency::Latencies;
use driftline_operators::run::Run;
use driftline_operators::score::{Scored, Scoring, score};
use driftline_operators::sinks::{Outlet, Outlets, Output, Sink, Tally};
use driftline_operators::watched::Watched;
use timely::dataflow::operators::{Concat, Probe};
use timely::dataflow::{ProbeHandle, Scope};

use crate::enriched::{Enriched, Events, enriched};

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

/// The stages behind which a row can be lost on purpose: every edge of the job.
pub const STAGES: [&str; 9] = [
    "ingest",
    "order",
    "requests",
    "answers",
    "features",
    "score",
    "watched",
    "panes",
    "dead_letters",
];

/// Builds the job in `scope`. It is done when `probe` is.
pub fn scoring<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    outputs: Outputs,
    probe: &ProbeHandle<u64>,
) {
    let run = events.run.clone();
    let Run { counters, failure, faults, clock, .. } = run.clone();
    let watermarks = events.watermarks.clone();
    let prediction_schema: SchemaRef = outputs.scoring.format.schema.clone();
    let rules = outputs.scoring.alerts.clone();

    let Enriched { rows, dead_letters, marks } = enriched(scope, events, probe.clone());
    let Scored { predictions, watched, alerts, dead_letters: refused } =
        score(rows, outputs.scoring, outputs.watched.clone());

    let predictions =
        faults.behind("score", predictions, prediction_schema.clone(), failure.clone());
    let letters = dead_letters.concat(refused);
    let letters =
        faults.behind("dead_letters", letters, dead_letter::SCHEMA.clone(), failure.clone());
    let mut streams = vec![(Output::Predictions, predictions), (Output::DeadLetters, letters)];
    let mut outlets = vec![
        Outlet {
            output: Output::Predictions,
            schema: prediction_schema,
            sink: outputs.predictions,
            tally: Tally::Predictions { counters, latencies: outputs.latencies, clock },
        },
        Outlet::dead_letters(outputs.dead_letters, &run),
    ];

    let mut alerts = alerts;
    if let Some((schedule, format, sink)) = outputs.drift {
        let windows =
            DriftWindows { schedule, mode: format.mode(), watched: outputs.watched, watermarks };
        let snapshots = collect_windows(watched, marks, windows, format, &run);
        let schema = snapshot_schema();
        if let Some(rules) = rules {
            let (snapshots, schema) = (snapshots.clone(), schema.clone());
            let raised = snapshot_alerts(snapshots, schema, rules, failure.clone());
            alerts = alerts.concat(raised);
        }
        streams.push((Output::Drift, snapshots));
        outlets.push(Outlet { output: Output::Drift, schema, sink, tally: Tally::Nothing });
    }
    if let Some(sink) = outputs.alerts {
        let (output, schema, tally) = (Output::Alerts, alert::SCHEMA.clone(), Tally::Nothing);
        streams.push((output, alerts));
        outlets.push(Outlet { output, schema, sink, tally });
    }
    deliver(scope, streams, Outlets::new(outlets, &run), failure).probe_with(probe);
}
