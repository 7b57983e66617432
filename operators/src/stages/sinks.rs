//! The sink end of the graph.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{Scope, Stream, StreamVec};

use super::alarm::Alarm;
use super::moving::own_group;
use super::{build, builder, lowest};
use crate::core::parts::Operator;
use crate::rows::Rows;
use crate::run::Run;
use crate::sinks::state::{Durable, export};
use crate::sinks::{Outlets, Output, SinkError};
use crate::stage_clock::Stage;

/// How long after something was written it is looked whether it is acknowledged, unless more is
/// written meanwhile. Who commits offsets waits for it, who stops, and a reader that has too much under
/// way.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Writes all outputs of a worker, which come on any of the streams. The stream it returns carries
/// nothing; its frontier says how far sinks have taken rows over and acknowledged them.
pub fn sinks<'scope>(
    scope: Scope<'scope, u64>,
    outputs: Vec<Stream<'scope, u64, Rows>>,
    mut outlets: Outlets,
    run: &Run,
) -> StreamVec<'scope, u64, ()> {
    let (failure, timer) = (run.failure.clone(), run.stages.timer(&run.clock));
    let (save, group) = (run.state.save.clone(), own_group(scope.index(), scope.peers()));
    let mut builder = builder(Operator::Sinks, scope);
    let address = builder.operator_info().address;
    let activator = scope.worker().sync_activator_for(address.to_vec());
    let mut alarm = Alarm::new(scope.activator_for(address));
    // A worker that has left has nothing to be woken for.
    outlets.wake_with(Arc::new(move || {
        let _ = activator.activate();
    }));
    let inputs = outputs.into_iter().map(|rows| builder.new_input(rows, Pipeline));
    let mut inputs: Vec<_> = inputs.collect();
    let (out, acknowledged) = builder.new_output();
    let _out = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(out);
    build(builder, (Operator::Sinks, run.turns.clone()), move |_capabilities| {
        let mut held: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |frontiers| {
            let started = timer.start();
            for input in &mut inputs {
                input.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    if !failure.is_set()
                        && failure.check(write(&mut outlets, epoch, container)).is_some()
                        && !held.contains_key(&epoch)
                        && let Some(capability) = capability.retain_least(0)
                    {
                        held.insert(epoch, capability);
                    }
                });
            }
            failure.check(outlets.tick());
            timer.stop(Stage::Write, started);
            let complete = lowest(frontiers);
            outlets.complete_before(complete);
            held = match outlets.unacknowledged() {
                Some(epoch) => {
                    alarm.set(LOOK_AGAIN);
                    held.split_off(&epoch)
                }
                None => BTreeMap::new(),
            };
            if complete.is_none() && held.is_empty() && !failure.is_set() {
                let durable = failure.check(outlets.finish()).unwrap_or_default();
                let stopped = save.as_ref().and_then(|save| Some((save, save.last_epoch()?)));
                if let Some((save, up_to_epoch)) = stopped.filter(|_| !durable.is_empty()) {
                    let of = |(output, rows)| Durable { output, rows, up_to_epoch };
                    let durable: Vec<Durable> = durable.into_iter().map(of).collect();
                    failure.check(export(&durable, group).and_then(|piece| save.add([piece])));
                }
            }
        }
    });
    acknowledged
}

/// Rows of an output that nobody wants are left out.
fn write(outlets: &mut Outlets, epoch: u64, rows: &mut Rows) -> Result<(), SinkError> {
    let failed = |message: String| SinkError { output: "rows of a worker".to_owned(), message };
    let output = u8::try_from(rows.kind()).ok().and_then(|kind| Output::try_from(kind).ok());
    let output = output.ok_or_else(|| failed(format!("output {} is none", rows.kind())))?;
    let Some(schema) = outlets.schema(output).cloned() else { return Ok(()) };
    let batch = rows.take(&schema).map_err(|error| failed(error.to_string()))?;
    outlets.write(epoch, output, &batch)
}
