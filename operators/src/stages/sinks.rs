//! The sink end of the graph.

use std::sync::Arc;
use std::time::{Duration, Instant};

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::dataflow::{Scope, Stream, StreamVec};

use super::alarm::Alarm;
use super::moving::own_group;
use super::post::NoticeFor;
use super::{build, builder, lowest};
use crate::core::parts::Operator;
use crate::known::{Known, Notice};
use crate::reports::Reporter;
use crate::rows::Rows;
use crate::run::Run;
use crate::sinks::state::{Durable, export};
use crate::sinks::{Outlets, Output, SinkError};
use crate::stage_clock::Stage;

/// How long after something was written it is looked whether it is acknowledged, unless more is
/// written meanwhile, and how often others are told while there is more to come. Who commits offsets
/// waits for it, who stops, and a reader that has too much under way.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Acknowledged records of which others are told at once: a reader may wait for them.
const TOLD_AT_ONCE: u64 = 1_024;

/// What others hear of the sinks of a worker.
pub struct Written<'scope> {
    /// Its frontier says how far sinks have taken rows over and acknowledged them.
    pub notices: StreamVec<'scope, u64, NoticeFor>,
    /// Carries nothing. Its frontier says of which epochs all results are durable that are of no record.
    pub durable: StreamVec<'scope, u64, ()>,
}

/// Writes all outputs of a worker, which come on any of the streams. A worker that is `alone` has
/// nobody to tell but itself.
pub fn sinks<'scope>(
    scope: Scope<'scope, u64>,
    outputs: Vec<Stream<'scope, u64, Rows>>,
    mut outlets: Outlets,
    alone: Option<(Known, Reporter)>,
    run: &Run,
) -> Written<'scope> {
    let timer = run.stages.timer(&run.clock);
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
    let (notices_out, notices) = builder.new_output();
    let mut notices_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<NoticeFor>>>::from(notices_out);
    let (durable_out, durable) = builder.new_output();
    let _durable_out = OutputBuilder::<_, CapacityContainerBuilder<Vec<()>>>::from(durable_out);
    let group = own_group(scope.index(), scope.peers());
    let mut at = AtSinks::new(outlets, alone, (scope.peers(), group), run);
    build(builder, (Operator::Sinks, run.turns.clone()), move |_capabilities| {
        move |frontiers| {
            let started = timer.start();
            for input in &mut inputs {
                input.for_each(|capability, container| at.take(&capability, container));
            }
            at.run.failure.check(at.outlets.tick());
            timer.stop(Stage::Write, started);
            let complete = lowest(frontiers);
            at.outlets.complete_before(complete);
            let (lowest, is_end) = (at.outlets.unacknowledged(), complete.is_none());
            let is_told = at.tell(is_end || lowest.is_none(), |capability, notices| {
                notices_out.activate().session(capability).give_iterator(notices);
            });
            if is_told {
                at.unacknowledged.go_on(lowest);
            }
            at.end(is_end);
            if let Some(delay) = at.next_look() {
                alarm.set(delay);
            }
        }
    });
    Written { notices, durable }
}

/// The sinks of a worker, and the epochs that are not over for them.
struct AtSinks {
    outlets: Outlets,
    alone: Option<(Known, Reporter)>,
    workers: usize,
    /// That of what this worker leaves.
    group: u64,
    run: Run,
    /// The lowest epoch of which something is not acknowledged, or nobody has been told of it.
    unacknowledged: Held,
    /// The lowest one with results that are of no record and not durable.
    undurable: Held,
    told_at: Option<Instant>,
}

/// The outputs of the operator.
const NOTICES: usize = 0;
const DURABLE: usize = 1;

impl AtSinks {
    fn new(
        outlets: Outlets,
        alone: Option<(Known, Reporter)>,
        (workers, group): (usize, u64),
        run: &Run,
    ) -> Self {
        let (unacknowledged, undurable) = (Held(None), Held(None));
        let (run, told_at) = (run.clone(), None);
        AtSinks { outlets, alone, workers, group, run, unacknowledged, undurable, told_at }
    }

    fn take(&mut self, capability: &InputCapability<u64>, container: &mut Rows) {
        let Some(&epoch) = capability.least() else { return };
        if self.run.failure.is_set() {
            return;
        }
        let written = write(&mut self.outlets, epoch, container);
        if self.run.failure.check(written).is_none() {
            return;
        }
        self.unacknowledged.hold(epoch, capability, NOTICES);
        if self.alone.is_none() && self.outlets.holds_commits().is_some() {
            self.undurable.hold(epoch, capability, DURABLE);
        }
    }

    /// Tells the readers of records which of them are acknowledged, by `send` where these are others; not
    /// each time, unless that `is_all` for now. Whether there is nothing that is yet to be told.
    fn tell(
        &mut self,
        is_all: bool,
        send: impl FnOnce(&Capability<u64>, &mut dyn Iterator<Item = NoticeFor>),
    ) -> bool {
        let Some(acknowledged) = self.outlets.acknowledged() else { return true };
        if let Some((known, _)) = &self.alone {
            acknowledged.take(1).for_each(|(_, runs)| known.settled().settle_runs(&runs));
            return true;
        }
        let is_due = self.told_at.is_none_or(|told| told.elapsed() >= LOOK_AGAIN);
        if !is_all && !is_due && acknowledged.rows() < TOLD_AT_ONCE {
            return false;
        }
        let Some(capability) = &self.unacknowledged.0 else { return true };
        let of = |(worker, runs)| (worker as u64, Notice::Acknowledged(runs));
        send(capability, &mut acknowledged.take(self.workers).map(of));
        self.told_at = Some(Instant::now());
        true
    }

    /// Makes everything durable where it `is_end`, and lets go of the epochs of which all is.
    fn end(&mut self, is_end: bool) {
        if is_end && self.unacknowledged.0.is_none() && !self.run.failure.is_set() {
            let durable = self.run.failure.check(self.outlets.finish());
            self.leave(durable.unwrap_or_default());
        }
        self.undurable.go_on(self.outlets.holds_commits());
    }

    /// Leaves what has become durable, where the input was stopped.
    fn leave(&self, durable: Vec<(Output, u64)>) {
        let Run { state, failure, .. } = &self.run;
        let Some(save) = &state.save else { return };
        let Some(up_to_epoch) = save.last_epoch().filter(|_| !durable.is_empty()) else { return };
        let of = |(output, rows)| Durable { output, rows, up_to_epoch };
        let durable: Vec<Durable> = durable.into_iter().map(of).collect();
        failure.check(export(&durable, self.group).and_then(|piece| save.add([piece])));
    }

    /// After how long there is something to be done though nothing comes.
    fn next_look(&mut self) -> Option<Duration> {
        let report = self.alone.as_mut().and_then(|(_, reporter)| {
            reporter.durable_before(Some(self.outlets.durable_before()));
            reporter.tell()
        });
        // Who looks again tells then, too: one alarm is enough.
        self.unacknowledged.0.is_some().then_some(LOOK_AGAIN).or(report)
    }
}

/// An epoch that is not over, and with it all later ones.
struct Held(Option<Capability<u64>>);

impl Held {
    /// `epoch`, which something of an input has come with, is not over.
    fn hold(&mut self, epoch: u64, of_input: &InputCapability<u64>, output: usize) {
        if self.0.as_ref().is_none_or(|held| epoch < *held.time()) {
            self.0 = of_input.retain_least(output);
        }
    }

    /// Those before `epoch` are over; all are if there is none.
    fn go_on(&mut self, epoch: Option<u64>) {
        match (&mut self.0, epoch) {
            (Some(held), Some(epoch)) if *held.time() < epoch => held.downgrade(&epoch),
            (_, Some(_)) => {}
            (held, None) => *held = None,
        }
    }
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
