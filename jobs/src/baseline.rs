//! The reference for drift: the job up to the scores, and all it saw as one window.

use driftline_operators::deliver::deliver;
use driftline_operators::drift::baseline::{BaselineFormat, schema};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::collect::{DriftWindows, collect_windows};
use driftline_operators::drift::sample::Mode;
use driftline_operators::drift::windows::{Revisions, Schedule};
use driftline_operators::score::{Scored, Scoring, score};
use driftline_operators::sinks::{Outlet, Outlets, Output, Sink, Tally};
use driftline_operators::watched::Watched;
use timely::dataflow::operators::{Concat, Probe};
use timely::dataflow::{ProbeHandle, Scope};

use crate::enriched::{Enriched, Events, enriched};

/// One worker's sinks: the baseline, the predictions it rests on (counted, not kept), dead letters.
pub struct BaselineSinks {
    pub baseline: Box<dyn Sink>,
    pub predictions: Box<dyn Sink>,
    pub dead_letters: Box<dyn Sink>,
}

/// Builds the job in `scope`. It is done when `probe` is.
pub fn baseline<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    scoring: Scoring,
    columns: Watched,
    sinks: BaselineSinks,
    probe: &ProbeHandle<u64>,
) {
    let run = events.run.clone();
    let watermarks = events.watermarks.clone();
    let prediction_schema = scoring.format.schema.clone();
    let Enriched { rows, dead_letters, marks } = enriched(scope, events, probe.clone());
    let Scored { predictions, watched, dead_letters: refused, .. } =
        score(rows, scoring, columns.clone());

    let format = BaselineFormat { names: columns.names.clone() };
    let schedule = Schedule { lengths: vec![WindowLength::All], revisions: Revisions::NONE };
    let windows = DriftWindows { schedule, mode: Mode::Exact, watched: columns, watermarks };
    let references = collect_windows(watched, marks, windows, format, &run);
    let outlets = vec![
        Outlet {
            output: Output::Baseline,
            schema: schema(),
            sink: sinks.baseline,
            tally: Tally::Nothing,
        },
        Outlet {
            output: Output::Predictions,
            schema: prediction_schema,
            sink: sinks.predictions,
            tally: Tally::Rows(run.counters.clone()),
        },
        Outlet::dead_letters(sinks.dead_letters, &run),
    ];
    let streams = vec![
        (Output::Baseline, references),
        (Output::Predictions, predictions),
        (Output::DeadLetters, dead_letters.concat(refused)),
    ];
    deliver(scope, streams, Outlets::new(outlets, &run), run.failure).probe_with(probe);
}
