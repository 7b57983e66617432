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
use super::{RowsOut, Standing, batch_of, build, builder, lower, lowest};
use crate::control::Turn;
use crate::core::ROWS_PER_TURN;
use crate::core::finish::{Finish, Out};
use crate::core::parts::Operator;
use crate::core::requests::TripSchemas;
use crate::core::waiting::{Answered, Waiting, lost};
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
        let turns = self.run.turns.clone();
        let mut leaving = self.leaving.clone();
        build(builder, (Operator::Finish, turns), move |capabilities| {
            let mut standing = Standing::new(capabilities);
            let mut under_way = UnderWay::new(self, worker);
            move |frontiers| {
                rows_in.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let control = container.kind() as u64;
                    under_way.arrive(Turn { epoch, control }, container);
                });
                if let Some(answers_in) = &mut answers_in {
                    answers_in.for_each(|_capability, container| under_way.answered(container));
                }
                let enriched = under_way.enrich();
                let reached = lowest(frontiers);
                if enriched != Enriched::Some && under_way.owed_before(reached) {
                    return standing.go_on(None);
                }
                under_way.work_off(enriched == Enriched::Nothing);
                let reached = lower(reached, under_way.lowest_epoch());
                if let Some(at) = standing.at.first() {
                    out.send_out(at, under_way.made.drain(..));
                }
                while let Some((epoch, closed)) = under_way.close(reached) {
                    if let (Some(closed), Some(at)) = (closed, standing.of(1, epoch)) {
                        parts_out.send(&at, Rows::new(closed));
                    }
                }
                leaving.at(reached, |moving| moving.finish(&mut under_way.parts.finish));
                standing.go_on(reached);
                if enriched == Enriched::Some || under_way.parts.finish.waits_for().is_some() {
                    activator.activate();
                }
            }
        });
        (outputs, parts)
    }
}

/// How many of the rows that have their answers have become features.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Enriched {
    /// There were none.
    Nothing,
    /// Others are left for the next turn.
    Some,
    All,
}

/// Rows at home, while they wait for answers and while they are worked off.
struct UnderWay {
    parts: Finishing,
    waiting: Waiting,
    /// Rows that have their answers, as many as are left of them.
    answered: Option<Answered>,
    made: Vec<Out>,
    enriched: SchemaRef,
    faults: LoseRow,
}

impl UnderWay {
    fn new(parts: Finishing, worker: usize) -> Self {
        UnderWay {
            waiting: Waiting::new(parts.trips.len()),
            answered: None,
            made: Vec::new(),
            enriched: parts.plan.enriched_schema(&parts.layout),
            faults: parts.run.faults.on(worker),
            parts,
        }
    }

    /// Rows wait for their answers.
    fn arrive(&mut self, turn: Turn, container: &mut Rows) {
        let number = container.number();
        let Finishing { layout, warm_up, run, .. } = &self.parts;
        let Some(batch) = batch_of(container, &layout.schema, run) else { return };
        run.counters.rows_held(warm_up.counted(&batch, layout));
        self.waiting.insert(turn, batch, number);
    }

    fn answered(&mut self, container: &mut Rows) {
        let trip = container.kind();
        let Finishing { trips, run, .. } = &self.parts;
        let Some(answers) = batch_of(container, &trips[trip].answer, run) else { return };
        run.failure.check(self.waiting.answer(&answers, trip));
    }

    /// Rows that have their answers become features, up to [`ROWS_PER_TURN`] of them.
    fn enrich(&mut self) -> Enriched {
        let mut room = ROWS_PER_TURN;
        while let Some(next) = self.next_answered() {
            if room == 0 {
                self.answered = Some(next);
                return Enriched::Some;
            }
            let (now, rest) = next.split_at(room);
            room -= now.batch.num_rows();
            self.answered = rest;
            let Finishing { finish, plan, layout, warm_up, run, .. } = &mut self.parts;
            run.counters.rows_held(-warm_up.counted(&now.batch, layout));
            let rows = plan.append(&now.batch, now.answers, &self.enriched);
            let taken = rows.and_then(|rows| {
                let rows = self.faults.behind(LostBehind::Features, rows);
                finish.take(now.turn, rows, &mut self.made)
            });
            run.failure.check(taken);
        }
        if room == ROWS_PER_TURN { Enriched::Nothing } else { Enriched::All }
    }

    fn next_answered(&mut self) -> Option<Answered> {
        let next = self.answered.take();
        next.or_else(|| self.parts.run.failure.check(self.waiting.pop()).flatten())
    }

    /// An epoch that is complete owes no answers any more: whether one does, which fails the run.
    fn owed_before(&self, reached: Option<u64>) -> bool {
        let owes = self
            .waiting
            .first_epoch()
            .is_some_and(|epoch| reached.is_none_or(|reached| epoch < reached));
        if owes {
            self.parts.run.failure.report(lost_text(self.waiting.missing()));
        }
        owes
    }

    /// Rows are worked off, all of them where nothing else has come.
    fn work_off(&mut self, idle: bool) {
        let Finishing { finish, run, .. } = &mut self.parts;
        if !run.failure.is_set() {
            run.failure.check(finish.step(idle, &mut self.made));
        }
    }

    /// The lowest epoch of which rows are not worked off.
    fn lowest_epoch(&self) -> Option<u64> {
        let answered = self.answered.as_ref().map(|rows| rows.turn.epoch);
        let waiting = lower(answered, self.waiting.lowest_epoch());
        lower(waiting, self.parts.finish.waits_for())
    }

    /// The next epoch that is worked off, and the panes that it closes.
    fn close(&mut self, reached: Option<u64>) -> Option<(u64, Option<RecordBatch>)> {
        let Finishing { finish, drift, ticks, run, .. } = &mut self.parts;
        let tick = next_tick(ticks, reached)?;
        let closed = finish.complete(&tick);
        let drift = drift.as_ref().filter(|_| !closed.is_empty());
        let batch = drift.map(|(codec, owners)| codec.encode(&closed, owners));
        Some((tick.epoch, batch.and_then(|batch| run.failure.check(batch))))
    }
}

/// As of [`lost`], without what Arrow puts before it.
fn lost_text(answers: usize) -> String {
    match lost(answers) {
        ArrowError::ComputeError(text) => text,
        other => other.to_string(),
    }
}
