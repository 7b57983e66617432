//! Feature rows for training: the graph up to the features, and a sink.

use driftline_operators::deliver::deliver;
use driftline_operators::export::{ExportFormat, export_rows};
use driftline_operators::gather::gather;
use driftline_operators::sinks::{Outlet, Outlets, Output, Sink, Tally};
use timely::dataflow::operators::Probe;
use timely::dataflow::{ProbeHandle, Scope};

use crate::enriched::{Enriched, Events, enriched};

/// One worker's parts of the job behind the features.
pub struct Outputs {
    pub format: ExportFormat,
    pub features: Box<dyn Sink>,
    /// Whether the features of all workers go to the sink of the first, as those of one would.
    pub gathered: bool,
    pub dead_letters: Box<dyn Sink>,
}

/// Builds the job in `scope`. It is done when `probe` is. Exported rows take the place of
/// predictions in the account.
pub fn export<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    outputs: Outputs,
    probe: &ProbeHandle<u64>,
) {
    let Outputs { format, features, gathered, dead_letters } = outputs;
    let run = events.run.clone();
    let (columns, enriched_schema) =
        (events.layout.order_columns(), events.plan.enriched_schema(&events.layout));
    let Enriched { rows, dead_letters: letters, .. } = enriched(scope, events, probe.clone());
    // Where there is one worker, it would only make epochs wait for their end.
    let rows = if gathered && scope.peers() > 1 {
        gather(rows, enriched_schema, columns, run.failure.clone())
    } else {
        rows
    };
    let schema = format.schema.clone();
    let rows = export_rows(rows, format, run.failure.clone());
    let (output, tally) = (Output::Features, Tally::Rows(run.counters.clone()));
    let outlets = vec![
        Outlet { output, schema, sink: features, tally },
        Outlet::dead_letters(dead_letters, &run),
    ];
    let streams = vec![(output, rows), (Output::DeadLetters, letters)];
    deliver(scope, streams, Outlets::new(outlets, &run), run.failure).probe_with(probe);
}
