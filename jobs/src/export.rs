//! Feature rows for training: the core up to the features, and a sink.

use driftline_operators::export::{ExportFormat, Exporter};
use driftline_operators::sinks::{Outlet, Output, Sink, Tally};
use driftline_operators::validate::Validator;
use timely::dataflow::{ProbeHandle, Scope};

use crate::graph::{Behind, Events, Gathered, graph};

/// One worker's parts of the job behind the features.
pub struct Outputs {
    pub format: ExportFormat,
    pub features: Box<dyn Sink>,
    pub dead_letters: Box<dyn Sink>,
}

/// Builds the job in `scope`. It is done when `probe` is. Exported rows take the place of
/// predictions in the account.
pub fn export(scope: Scope<'_, u64>, events: Events, outputs: Outputs, probe: &ProbeHandle<u64>) {
    let Outputs { format, features, dead_letters } = outputs;
    let (output, schema) = (Output::Features, format.schema.clone());
    let tally = Tally::Rows(events.run.counters.clone());
    let outlets = vec![
        Outlet { output, schema: schema.clone(), sink: features, tally },
        Outlet::dead_letters(dead_letters, &events.run),
    ];
    let gathered = format.gathered_by.map(|by| Gathered { output, schema, by });
    let validator = Validator {
        layout: events.layout.clone(),
        partition_names: events.intake.events.partition_names.clone(),
        rules: events.plan.rules.clone(),
        counters: events.run.counters.clone(),
    };
    let work = Box::new(Exporter::new(format, validator));
    let behind = Behind { work, drift: None, gathered };
    graph(scope, events, behind, outlets, probe);
}
