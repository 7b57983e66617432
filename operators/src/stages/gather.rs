//! The rows of all workers on the first one, in the order in which one worker alone would have them.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::operators::Operator;

use crate::core::parts;
use crate::dead_letter;
use crate::exchange::{Edge, Route, RowDistributor};
use crate::failure::Failure;
use crate::rows::Rows;
use crate::sinks::Output;
use crate::sort::{OrderColumns, sorted};

/// Brings rows of `output`, which have this `schema`, to the first worker, the epochs one after the other, the rows of each in
/// order of (event time, id, origin).
///
/// That is how the order gate of one worker lets rows out, and no operator behind it changes their
/// order. What is held are the rows of epochs that are not complete, of which a run has few. Dead letters, which
/// have no order, go on as they come.
pub fn gather<'scope>(
    rows: Stream<'scope, u64, Rows>,
    output: Output,
    schema: SchemaRef,
    columns: OrderColumns,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let [kind, letters] = [output, Output::DeadLetters].map(|output| usize::from(u8::from(output)));
    // Of the kinds of outputs these two come.
    let mut edges =
        vec![Edge { route: Route::First, schema: schema.clone() }; kind.max(letters) + 1];
    edges[letters].schema = dead_letter::SCHEMA.clone();
    let pact = RowDistributor::pact(edges, &failure);
    rows.unary_frontier::<CapacityContainerBuilder<Rows>, _, _, _>(
        pact,
        parts::Operator::Gather.name(),
        move |_capability, _info| {
            let mut held = BTreeMap::new();
            move |(input, frontier), output| {
                input.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let Some(kept) = capability.retain_least(output.output_index()) else { return };
                    let kind = container.kind();
                    let schema = if kind == letters { &dead_letter::SCHEMA } else { &schema };
                    let Some(batch) = failure.check(container.take(schema)) else { return };
                    if kind == letters {
                        output.session(&kept).give_container(&mut Rows::of_kind(kind, batch));
                        return;
                    }
                    let (_, batches) = held.entry(epoch).or_insert((kept, Vec::new()));
                    batches.push(batch);
                });
                while let Some(epoch) =
                    held.first_entry().filter(|epoch| !frontier.less_equal(epoch.key()))
                {
                    let (capability, batches): (_, Vec<RecordBatch>) = epoch.remove();
                    if let Some(batch) = failure.check(sorted(&batches, &schema, columns)) {
                        output.session(&capability).give_container(&mut Rows::of_kind(kind, batch));
                    }
                }
            }
        },
    )
}
