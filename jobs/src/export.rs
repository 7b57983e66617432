//! Feature rows for training: the graph up to the features, and a sink.

use driftline_operators::dead_letter;
use driftline_operators::deliver::{Sink, deliver};
use driftline_operators::export::{ExportFormat, export_rows};
use timely::dataflow::operators::Probe;
use timely::dataflow::{ProbeHandle, Scope};

use crate::enriched::{Enriched, Events, enriched};

/// Builds the job in `scope`. It is done when `probe` is. Exported rows take the place of
/// predictions in the account.
pub fn export<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    format: ExportFormat,
    features: Box<dyn Sink>,
    dead_letters: Box<dyn Sink>,
    probe: &ProbeHandle<u64>,
) {
    let (counters, failure) = (events.run.counters.clone(), events.run.failure.clone());
    let schema = format.schema.clone();
    let Enriched { rows, dead_letters: letters, .. } = enriched(scope, events, probe.clone());
    let rows = export_rows(rows, format, failure.clone());
    let count = counters.clone();
    deliver(
        rows,
        "Export",
        schema,
        features,
        move |rows| count.predictions_durable(rows),
        failure.clone(),
    )
    .probe_with(probe);
    deliver(
        letters,
        "DeadLetters",
        dead_letter::SCHEMA.clone(),
        dead_letters,
        move |rows| counters.dead_letters_durable(rows),
        failure,
    )
    .probe_with(probe);
}
