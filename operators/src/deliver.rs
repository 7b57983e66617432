//! The sink end of the graph.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};
use timely::dataflow::{Scope, Stream, StreamVec};

use crate::failure::Failure;
use crate::rows::Rows;
use crate::sinks::{Outlets, Output};
pub use crate::sinks::{Sink, SinkError};

/// Writes all outputs of a worker. The stream it returns carries nothing; its frontier says how far
/// sinks have taken rows over and acknowledged them.
pub fn deliver<'scope>(
    scope: Scope<'scope, u64>,
    outputs: Vec<(Output, Stream<'scope, u64, Rows>)>,
    mut outlets: Outlets,
    failure: Failure,
) -> StreamVec<'scope, u64, ()> {
    let mut builder = OperatorBuilder::new("Sinks".to_owned(), scope);
    let activator = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    // A worker that has left has nothing to be woken for.
    outlets.wake_with(Arc::new(move || {
        let _ = activator.activate();
    }));
    let inputs = outputs.into_iter().filter_map(|(output, rows)| {
        let schema = outlets.schema(output)?.clone();
        Some((output, schema, builder.new_input(rows, Pipeline)))
    });
    let mut inputs: Vec<_> = inputs.collect();
    let (out, acknowledged) = builder.new_output();
    let _out = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(out);
    builder.build(move |_capabilities| {
        let mut held: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |frontiers| {
            for (output, schema, input) in &mut inputs {
                input.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let Some(batch) = failure.check(container.take(schema)) else { return };
                    if !failure.is_set()
                        && failure.check(outlets.write(epoch, *output, &batch)).is_some()
                        && let Some(capability) = capability.retain_least(0)
                    {
                        held.entry(epoch).or_insert(capability);
                    }
                });
            }
            failure.check(outlets.tick());
            let complete = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min();
            outlets.complete_before(complete);
            held = match outlets.unacknowledged() {
                Some(epoch) => held.split_off(&epoch),
                None => BTreeMap::new(),
            };
            if complete.is_none() && held.is_empty() && !failure.is_set() {
                failure.check(outlets.finish());
            }
        }
    });
    acknowledged
}
