//! The home of rows from their answers on, in an operator of its own.

use std::rc::Rc;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;

use super::moving::Leaving;
use super::split::{Edges, Ticks, next_tick};
use super::{RowsOut, Standing, batch_of, builder, lower, lowest};
use crate::core::finish::{Finish, Out};
use crate::core::parts::Operator;
use crate::core::requests::TripSchemas;
use crate::core::waiting::{Waiting, lost};
use crate::drift::partials::PartialCodec;
use crate::exchange::{Edge, RowDistributor};
use crate::fault::{LoseRow, LostBehind};
use crate::features::plan::FeaturePlan;
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::run::Run;
use crate::warm_up::WarmUp;

/// The home of rows from their answers on.
pub(super) struct Finishing {
    pub finish: Finish,
    pub plan: Arc<FeaturePlan>,
    pub layout: EventLayout,
    pub warm_up: WarmUp,
    pub trips: Rc<[TripSchemas]>,
    pub drift: Option<(PartialCodec, Vec<u32>)>,
    pub ticks: Ticks,
    pub leaving: Leaving,
    pub run: Run,
}

impl Finishing {
    /// Outputs, and parts of panes for the owners of columns.
    pub fn build<'scope>(
        self,
        rows: Edges<'scope>,
        answers: Option<Edges<'scope>>,
    ) -> (Edges<'scope>, Edges<'scope>) {
        let (scope, worker) = (rows.scope(), rows.scope().index());
        let mut builder = builder(Operator::Finish, scope);
        let activator = scope.activator_for(builder.operator_info().address);
        let mut rows_in = builder.new_input(rows, Pipeline);
        let to_home: Vec<Edge> = self.trips.iter().map(TripSchemas::to_home).collect();
        let mut answers_in = answers.map(|answers| {
            builder.new_input(answers, RowDistributor::pact(to_home, &self.run.failure))
        });
        let (out, outputs) = builder.new_output();
        let (parts_out, parts) = builder.new_output();
        let mut out = RowsOut(OutputBuilder::from(out));
        let mut parts_out = RowsOut(OutputBuilder::from(parts_out));
        let mut leaving = self.leaving.clone();
        builder.build(move |capabilities| {
            let mut standing = Standing::new(capabilities);
            let mut under_way = UnderWay::new(self, worker);
            move |frontiers| {
                rows_in.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    under_way.arrive(epoch, container);
                });
                if let Some(answers_in) = &mut answers_in {
                    answers_in.for_each(|_capability, container| under_way.answered(container));
                }
                let received = under_way.enrich();
                let reached = lowest(frontiers);
                if under_way.owed_before(reached) {
                    return standing.go_on(None);
                }
                under_way.work_off(!received);
                let reached = lower(reached, under_way.lowest_epoch());
                if let Some(at) = standing.at.first() {
                    out.send_out(at, under_way.made.drain(..));
                }
                while let Some((epoch, closed)) = under_way.close(reached) {
                    if let (Some(closed), Some(at)) = (closed, standing.of(1, epoch)) {
                        parts_out.send(&at, Rows::new(closed));
                    }
                }
                leaving.at(reached, |moving| moving.finish(&mut under_way.finish));
                standing.go_on(reached);
                if under_way.finish.waits_for().is_some() {
                    activator.activate();
                }
            }
        });
        (outputs, parts)
    }
}

/// Rows at home, while they wait for answers and while they are worked off.
struct UnderWay {
    finish: Finish,
    waiting: Waiting,
    made: Vec<Out>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    enriched: SchemaRef,
    warm_up: WarmUp,
    trips: Rc<[TripSchemas]>,
    drift: Option<(PartialCodec, Vec<u32>)>,
    ticks: Ticks,
    faults: LoseRow,
    run: Run,
}

impl UnderWay {
    fn new(parts: Finishing, worker: usize) -> Self {
        let Finishing { finish, plan, layout, warm_up, trips, drift, ticks, run, .. } = parts;
        UnderWay {
            finish,
            waiting: Waiting::new(trips.len()),
            made: Vec::new(),
            enriched: plan.enriched_schema(&layout),
            plan,
            layout,
            warm_up,
            trips,
            drift,
            ticks,
            faults: run.faults.on(worker),
            run,
        }
    }

    /// Rows wait for their answers.
    fn arrive(&mut self, epoch: u64, container: &mut Rows) {
        let number = container.number();
        let Some(batch) = batch_of(container, &self.layout.schema, &self.run) else { return };
        self.run.counters.rows_held(self.warm_up.counted(&batch, &self.layout));
        self.waiting.insert(epoch, batch, number);
    }

    fn answered(&mut self, container: &mut Rows) {
        let trip = container.kind();
        let Some(answers) = batch_of(container, &self.trips[trip].answer, &self.run) else {
            return;
        };
        self.run.failure.check(self.waiting.answer(&answers, trip));
    }

    /// Rows that have their answers become features; whether there were any.
    fn enrich(&mut self) -> bool {
        let failure = &self.run.failure;
        let mut any = false;
        while let Some(answered) = failure.check(self.waiting.pop()).flatten() {
            any = true;
            self.run.counters.rows_held(-self.warm_up.counted(&answered.batch, &self.layout));
            let rows = self.plan.append(&answered.batch, answered.answers, &self.enriched);
            let taken = rows.and_then(|rows| {
                let rows = self.faults.behind(LostBehind::Features, rows);
                self.finish.take(answered.epoch, rows, &mut self.made)
            });
            failure.check(taken);
        }
        any
    }

    /// An epoch that is complete owes no answers any more: whether one does, which fails the run.
    fn owed_before(&self, reached: Option<u64>) -> bool {
        let owes = self
            .waiting
            .first_epoch()
            .is_some_and(|epoch| reached.is_none_or(|reached| epoch < reached));
        if owes {
            self.run.failure.report(lost_text(self.waiting.missing()));
        }
        owes
    }

    /// Rows are worked off, all of them where nothing else has come.
    fn work_off(&mut self, idle: bool) {
        if !self.run.failure.is_set() {
            self.run.failure.check(self.finish.step(idle, &mut self.made));
        }
    }

    /// The lowest epoch of which rows are not worked off.
    fn lowest_epoch(&self) -> Option<u64> {
        lower(self.waiting.lowest_epoch(), self.finish.waits_for())
    }

    /// The next epoch that is worked off, and the panes that it closes.
    fn close(&mut self, reached: Option<u64>) -> Option<(u64, Option<RecordBatch>)> {
        let tick = next_tick(&self.ticks, reached)?;
        let closed = self.finish.complete(&tick);
        let drift = self.drift.as_ref().filter(|_| !closed.is_empty());
        let batch = drift.map(|(codec, owners)| codec.encode(&closed, owners));
        Some((tick.epoch, batch.and_then(|batch| self.run.failure.check(batch))))
    }
}

/// As of [`lost`], without what Arrow puts before it.
fn lost_text(answers: usize) -> String {
    match lost(answers) {
        ArrowError::ComputeError(text) => text,
        other => other.to_string(),
    }
}
