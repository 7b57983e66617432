//! The reference for drift: the job up to the scores, and all it saw as one window.

use driftline_operators::drift::baseline::{BaselineFormat, schema};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::sample::Mode;
use driftline_operators::drift::windows::{Revisions, Schedule};
use driftline_operators::score::{Scorer, Scoring};
use driftline_operators::sinks::{Outlet, Output, Sink, Tally};
use driftline_operators::watched::Watched;
use timely::dataflow::{ProbeHandle, Scope};

use crate::graph::{Behind, Drift, Events, graph};

/// One worker's sinks: the baseline, the predictions it rests on (counted, not kept), dead letters.
pub struct BaselineSinks {
    pub baseline: Box<dyn Sink>,
    pub predictions: Box<dyn Sink>,
    pub dead_letters: Box<dyn Sink>,
}

/// Builds the job in `scope`. It is done when `probe` is.
pub fn baseline(
    scope: Scope<'_, u64>,
    events: Events,
    scoring: Scoring,
    watched: Watched,
    sinks: BaselineSinks,
    probe: &ProbeHandle<u64>,
) {
    let run = events.run.clone();
    let format = BaselineFormat { names: watched.names.clone() };
    let schedule = Schedule { lengths: vec![WindowLength::All], revisions: Revisions::NONE };
    let drift = Drift::new(schedule, Mode::Exact, &watched, format, Output::Baseline, None);
    let outlets = vec![
        Outlet {
            output: Output::Baseline,
            schema: schema(),
            sink: sinks.baseline,
            tally: Tally::Nothing,
        },
        Outlet {
            output: Output::Predictions,
            schema: scoring.schema(),
            sink: sinks.predictions,
            tally: Tally::Rows(run.counters.clone()),
        },
        Outlet::dead_letters(sinks.dead_letters, &run),
    ];
    let work = Box::new(Scorer::new(scoring, watched, scope.index()));
    graph(scope, events, Behind { work, drift: Some(drift), gathered: None }, outlets, probe);
}
