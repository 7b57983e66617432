//! Where a worker hears of the others: of what became of the records that it reads, and of how full
//! their gates are.
//!
//! Messages flow forward only. What a worker comes to know is looked at by its source, which is in
//! front; whoever sends cannot tell when that is, and need not.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::progress::Antichain;

use super::alarm::Alarm;
use super::builder;
use crate::core::parts::Operator;
use crate::known::{Known, Notice};
use crate::reports::Reporter;

/// A notice, and the worker that it is for.
pub type NoticeFor = (u64, Notice);

/// What is durable is later than what is acknowledged by more than there are epochs: it holds nothing
/// up but the end.
const LATER: u64 = 1 << 63;

/// Takes in what others tell this worker, and hands on what it knows to whoever is outside of the
/// graph.
///
/// The frontier of `durable`, if there is one, says of which epochs all results are durable that are of
/// no record. The stream that is returned carries nothing; its frontier is that of `notices`, and there
/// is none once everything has been delivered and is durable.
pub fn post<'scope>(
    scope: Scope<'scope, u64>,
    notices: Vec<StreamVec<'scope, u64, NoticeFor>>,
    durable: Option<StreamVec<'scope, u64, ()>>,
    known: Known,
    mut reporter: Reporter,
) -> StreamVec<'scope, u64, ()> {
    let mut builder = builder(Operator::Post, scope);
    let mut alarm = Alarm::new(scope.activator_for(builder.operator_info().address));
    let (out, delivered) = builder.new_output();
    let _out = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(out);
    let later = || [(0, Antichain::from_elem(LATER))];
    let durable_in =
        durable.map(|durable| builder.new_input_connection(durable, Pipeline, later()));
    let notices = notices.into_iter().map(|notices| {
        builder.new_input(notices, Exchange::new(|(worker, _): &NoticeFor| *worker))
    });
    let mut notices_in: Vec<_> = notices.collect();
    builder.build(move |_capabilities| {
        move |frontiers| {
            for notices_in in &mut notices_in {
                notices_in.for_each(|_capability, container| {
                    container.drain(..).for_each(|(_, notice)| known.hear(notice));
                });
            }
            if durable_in.is_some() {
                reporter.durable_before(frontiers[0].frontier().first().copied());
            }
            if let Some(rest) = reporter.tell() {
                alarm.set(rest);
            }
        }
    });
    delivered
}
