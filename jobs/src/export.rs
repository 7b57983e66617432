//! Feature rows for training: the graph up to the features, and a sink.

use driftline_operators::deliver::{Delivery, Sink, Tally, deliver};
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
    let run = events.run.clone();
    let schema = format.schema.clone();
    let Enriched { rows, dead_letters: letters, .. } = enriched(scope, events, probe.clone());
    let rows = export_rows(rows, format, run.failure.clone());
    let tally = Tally::Rows(run.counters.clone());
    let features = Delivery { name: "Export", schema, sink: features, tally };
    deliver(rows, features, run.failure.clone()).probe_with(probe);
    let dead_letters = Delivery::dead_letters(dead_letters, &run);
    deliver(letters, dead_letters, run.failure).probe_with(probe);
}
