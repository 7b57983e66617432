//! The parts of the core in an operator each, with rows and requests that travel between workers:
//! where there are several.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{ProbeHandle, Scope, Stream, StreamVec};

use super::finishing::Finishing;
use super::moving::{Leaving, begin};
use super::post::NoticeFor;
use super::reader::{Next, Reader};
use super::{DriftParts, Parts, RowsOut, Standing, batch_of, build, builder, lower, lowest};
use crate::as_of::table::{self, AsOfTable};
use crate::control::{ControlFeed, Turn};
use crate::core::home::Home;
use crate::core::owner::Owner;
use crate::core::parts::{Form, Operator};
use crate::core::requests::{TripSchemas, build_request};
use crate::exchange::{Edge, Route, RowDistributor};
use crate::fault::LostBehind;
use crate::features::plan::FeaturePlan;
use crate::gate::Order;
use crate::ingest::Intake;
use crate::known::{Known, Notice};
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::run::Run;
use crate::watermark::{EVENTS, EpochClock, Mark, Tick};

/// Ticks that an operator of this worker has yet to follow.
pub(super) type Ticks = Rc<RefCell<VecDeque<Tick>>>;

/// What is told, and the worker that it is for.
type TidingFor = (u64, Tiding);

/// What a source worker tells of an epoch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Tiding {
    Mark(Mark),
    /// To a state of control.
    Switch(u64),
}

pub(super) type Edges<'scope> = Stream<'scope, u64, Rows>;

/// What comes out of a split core.
pub struct Split<'scope> {
    /// Rows of all outputs, by [`Output`](crate::sinks::Output): what was refused on the way in, what
    /// became of rows, and drift.
    pub outputs: Vec<Edges<'scope>>,
    /// What workers are to hear of homes.
    pub notices: StreamVec<'scope, u64, NoticeFor>,
}

/// The core of a worker that is one of several.
///
/// # Errors
/// If a table has values that cannot be kept.
pub fn split<'scope>(
    scope: Scope<'scope, u64>,
    mut parts: Parts,
    probe: ProbeHandle<u64>,
) -> Result<Split<'scope>, ArrowError> {
    let (home, owner, leaving) = begin(&mut parts, (scope.index(), scope.peers()))?;
    let Parts {
        shape, intake, layout, plan, order, home: route, tables, finish, drift, run, ..
    } = parts;
    let operators = shape.operators(Form::Split { workers: scope.peers() });
    let has_owner = operators.contains(&Operator::Owner);
    let drift = drift.filter(|_| operators.contains(&Operator::DriftOwner));
    let warm_up = intake.events.warm_up.clone();
    let (progress, controls) = (intake.gate.clone(), intake.controls(order));
    let feed = intake.control.feed.clone();
    let trips: Rc<[TripSchemas]> =
        plan.trips.iter().map(|trip| TripSchemas::new(trip, &layout)).collect();
    let (to_owner, to_finish, to_drift) = (Ticks::default(), Ticks::default(), Ticks::default());
    let mut follow = vec![to_finish.clone()];
    follow.extend(has_owner.then(|| to_owner.clone()));
    follow.extend(drift.is_some().then(|| to_drift.clone()));
    let known = intake.known.clone();

    let Ingested { dead_letters, rows, versions, marks } = ingest(scope, intake, probe, &run);
    let at_home = AtHome {
        home,
        clock: EpochClock::new(progress, controls),
        feed: (scope.index() == 0).then_some(feed),
        follow,
        to_home: Edge { route, schema: layout.schema.clone() },
        plan: plan.clone(),
        layout: layout.clone(),
        trips: trips.clone(),
        leaving: leaving.clone(),
        known,
        run: run.clone(),
    };
    let Homes { rows, requests, notices } = at_home.build(rows, marks);
    let answers = has_owner.then(|| {
        let at_owner = AtOwner {
            owner,
            plan: plan.clone(),
            order,
            trips: trips.clone(),
            tables,
            ticks: to_owner,
            leaving: leaving.clone(),
            run: run.clone(),
        };
        at_owner.build(requests, versions)
    });
    let (drift, drift_home) = match drift {
        Some(DriftParts { columns, owner }) => {
            let owners = columns.owners(scope.peers());
            (Some((columns.codec.clone(), owner)), Some((columns.codec, owners)))
        }
        None => (None, None),
    };
    let finishing = Finishing {
        finish,
        plan,
        layout,
        warm_up,
        trips,
        drift: drift_home,
        ticks: to_finish,
        leaving: leaving.clone(),
        run: run.clone(),
    };
    let (outputs, parts) = finishing.build(rows, answers);
    let mut all = vec![dead_letters, outputs];
    if let Some((codec, owner)) = drift {
        all.push(drift_owner(parts, codec, owner, (to_drift, leaving), &run));
    }
    Ok(Split { outputs: all, notices })
}

struct Ingested<'scope> {
    dead_letters: Edges<'scope>,
    rows: Edges<'scope>,
    /// By table.
    versions: Edges<'scope>,
    marks: StreamVec<'scope, u64, TidingFor>,
}

/// Reads the source of this worker, and tells all of them how far it is.
fn ingest<'scope>(
    scope: Scope<'scope, u64>,
    intake: Intake,
    probe: ProbeHandle<u64>,
    run: &Run,
) -> Ingested<'scope> {
    let run = run.clone();
    let mut builder = builder(Operator::Ingest, scope);
    let address = builder.operator_info().address;
    let mut reader = Reader::new(intake, scope, address, probe, &run);
    let (dead_out, dead_letters) = builder.new_output();
    let (rows_out, rows) = builder.new_output();
    let (versions_out, versions) = builder.new_output();
    let (marks_out, marks) = builder.new_output();
    let [mut dead_out, mut rows_out, mut versions_out] =
        [dead_out, rows_out, versions_out].map(|out| RowsOut(OutputBuilder::from(out)));
    let mut marks_out =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<TidingFor>>>::from(marks_out);
    let workers = scope.peers() as u64;
    let mut faults = run.faults.on(scope.index());
    build(builder, (Operator::Ingest, run.turns.clone()), move |capabilities| {
        let mut standing = Standing::new(capabilities);
        move |_frontiers| {
            if standing.at.is_empty() {
                return;
            }
            standing.go_on(reader.next_epoch());
            let Some((taken, next)) = run.failure.check(reader.gather()) else {
                return standing.go_on(None);
            };
            if let Some((epoch, taken)) = taken {
                let at = [0, 1, 2, 3].map(|port| standing.of(port, epoch));
                let [Some(dead), Some(rows), Some(versions), Some(marks)] = at else { return };
                let of_all = |tiding: Tiding| (0..workers).map(move |worker| (worker, tiding));
                let told = taken.marks.into_iter().map(Tiding::Mark);
                let told = told.chain(taken.switches.into_iter().map(Tiding::Switch));
                marks_out.activate().session(&marks).give_iterator(told.flat_map(of_all));
                for letters in taken.dead_letters {
                    let letters = faults.behind(LostBehind::DeadLetters, letters);
                    let output = crate::sinks::Output::DeadLetters;
                    dead_out.send(&dead, Rows::of_kind(u8::from(output).into(), letters));
                }
                for (stream, batch) in taken.rows {
                    match stream {
                        EVENTS => rows_out
                            .send(&rows, Rows::new(faults.behind(LostBehind::Ingest, batch))),
                        table => versions_out.send(&versions, Rows::of_kind(table - 1, batch)),
                    }
                }
            }
            match next {
                Next::End => standing.go_on(None),
                Next::Later(delay) => {
                    standing.go_on(reader.next_epoch());
                    reader.come_back(delay);
                }
            }
        }
    });
    Ingested { dead_letters, rows, versions, marks }
}

/// The home of rows up to what it asks of owners.
struct AtHome {
    home: Home,
    clock: EpochClock,
    /// Who wants to know what has been decided, where this worker is to tell.
    feed: Option<ControlFeed>,
    /// Of the operators behind.
    follow: Vec<Ticks>,
    to_home: Edge,
    plan: std::sync::Arc<FeaturePlan>,
    layout: EventLayout,
    trips: Rc<[TripSchemas]>,
    leaving: Leaving,
    known: Known,
    run: Run,
}

/// What comes from homes.
struct Homes<'scope> {
    /// Numbered.
    rows: Edges<'scope>,
    /// By trip.
    requests: Edges<'scope>,
    notices: StreamVec<'scope, u64, NoticeFor>,
}

impl AtHome {
    fn build<'scope>(
        self,
        rows: Edges<'scope>,
        marks: StreamVec<'scope, u64, TidingFor>,
    ) -> Homes<'scope> {
        let AtHome { mut home, mut clock, feed, follow, to_home, plan, layout, trips, .. } = self;
        let (mut leaving, known, run) = (self.leaving, self.known, self.run);
        let worker = rows.scope().index();
        let mut builder = builder(Operator::Home, rows.scope());
        let mut rows_in =
            builder.new_input(rows, RowDistributor::pact(vec![to_home], &run.failure));
        let mut marks_in =
            builder.new_input(marks, Exchange::new(|(worker, _): &TidingFor| *worker));
        let (rows_out, numbered) = builder.new_output();
        let (requests_out, requests) = builder.new_output();
        let (notices_out, notices) = builder.new_output();
        let mut notices_out =
            OutputBuilder::<_, CapacityContainerBuilder<Vec<NoticeFor>>>::from(notices_out);
        let mut rows_out = RowsOut(OutputBuilder::from(rows_out));
        let mut requests_out = RowsOut(OutputBuilder::from(requests_out));
        let mut faults = run.faults.on(worker);
        let mut lost_of_trip = vec![run.faults.on(worker); plan.trips.len()];
        build(builder, (Operator::Home, run.turns.clone()), move |capabilities| {
            let mut standing = Standing::new(capabilities);
            let mut next_row = 0;
            move |frontiers| {
                let mut free: Vec<(Turn, RecordBatch)> = Vec::new();
                rows_in.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let Some(batch) = batch_of(container, &layout.schema, &run) else { return };
                    let control = clock.controls.of_epoch(epoch);
                    let turn = Turn { epoch, control };
                    free.extend(home.arrive(epoch, batch).map(|batch| (turn, batch)));
                });
                marks_in.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    for (_, tiding) in container.drain(..) {
                        match tiding {
                            Tiding::Mark(mark) => clock.mark(epoch, [mark]),
                            Tiding::Switch(control) => clock.switch(epoch, [control]),
                        }
                    }
                    known.epoch_seen(epoch);
                });
                let reached = lowest(frontiers);
                let complete = |epoch| reached.is_none_or(|reached| epoch < reached);
                while let Some(tick) = clock.next(complete) {
                    let released = home.complete(&tick, &clock);
                    let released = run.failure.check(released).unwrap_or_default();
                    let turn = |control| Turn { epoch: tick.epoch, control };
                    free.extend(released.into_iter().map(|(control, rows)| (turn(control), rows)));
                    let mut news = home.news().peekable();
                    if let Some(at) = news.peek().and_then(|_| standing.of(2, tick.epoch)) {
                        let news =
                            news.map(|(to, rows)| (to as u64, Notice::of_gate(worker, rows)));
                        notices_out.activate().session(&at).give_iterator(news);
                    }
                    follow.iter().for_each(|ticks| ticks.borrow_mut().push_back(tick));
                }
                if let Some(feed) = &feed {
                    feed.note(clock.controls.decided());
                }
                for (Turn { epoch, control }, batch) in free {
                    let at = (standing.of(0, epoch), standing.of(1, epoch));
                    let (Some(at_rows), Some(at_requests)) = at else { return };
                    let batch = faults.behind(LostBehind::Order, batch);
                    let first_row = next_row;
                    next_row += batch.num_rows() as u64;
                    for (number, (trip, schemas)) in plan.trips.iter().zip(trips.iter()).enumerate()
                    {
                        let request = build_request(
                            trip,
                            &layout,
                            &schemas.request,
                            &batch,
                            worker as u32,
                            first_row,
                        );
                        let Some(request) = run.failure.check(request) else { return };
                        let request = lost_of_trip[number].behind(LostBehind::Requests, request);
                        requests_out.send(&at_requests, Rows::of_kind(number, request));
                    }
                    // Rows on this edge are of one kind for each state of control.
                    let rows = Rows::of_kind(control as usize, batch).with_number(first_row);
                    rows_out.send(&at_rows, rows);
                }
                leaving.at(reached, |moving| moving.home(&home));
                standing.go_on(reached);
            }
        });
        Homes { rows: numbered, requests, notices }
    }
}

/// Requests that are answered before others have their turn, unless one trip of an epoch has more.
const REQUESTS_PER_TURN: usize = 4_096;

/// The owner of keys.
struct AtOwner {
    owner: Owner,
    plan: std::sync::Arc<FeaturePlan>,
    order: Order,
    trips: Rc<[TripSchemas]>,
    tables: Vec<AsOfTable>,
    ticks: Ticks,
    leaving: Leaving,
    run: Run,
}

impl AtOwner {
    /// Answers by trip. In `arrival` order requests are answered as they come; otherwise an epoch's in
    /// order of (event time, id) once it is complete here.
    fn build<'scope>(self, requests: Edges<'scope>, versions: Edges<'scope>) -> Edges<'scope> {
        let AtOwner { mut owner, plan, order, trips, tables, ticks, mut leaving, run } = self;
        let worker = requests.scope().index();
        let mut builder = builder(Operator::Owner, requests.scope());
        let activator = requests.scope().activator_for(builder.operator_info().address);
        let to_owner = trips.iter().map(TripSchemas::to_owner).collect();
        let mut requests_in =
            builder.new_input(requests, RowDistributor::pact(to_owner, &run.failure));
        let tables: Vec<Edge> = tables.iter().map(to_owner_of_version).collect();
        let mut versions_in =
            builder.new_input(versions, RowDistributor::pact(tables.clone(), &run.failure));
        let (out, answers) = builder.new_output();
        let mut out = RowsOut(OutputBuilder::from(out));
        let mut lost_of_trip = vec![run.faults.on(worker); trips.len()];
        build(builder, (Operator::Owner, run.turns.clone()), move |capabilities| {
            let mut standing = Standing::new(capabilities);
            // By epoch and trip.
            let mut asked: BTreeMap<(u64, usize), Vec<RecordBatch>> = BTreeMap::new();
            // An epoch some of whose requests are left for the next turn.
            let mut begun: Option<Tick> = None;
            move |frontiers| {
                let mut answer = |epoch, number: usize, batches, owner: &mut Owner| {
                    let answers =
                        owner.answer_requests(number, &plan.trips[number], &trips[number], batches);
                    let (Some(answers), Some(at)) =
                        (run.failure.check(answers), standing.of(0, epoch))
                    else {
                        return;
                    };
                    let answers = lost_of_trip[number].behind(LostBehind::Answers, answers);
                    out.send(&at, Rows::of_kind(number, answers));
                };
                versions_in.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let table = container.kind();
                    let Some(batch) = batch_of(container, &tables[table].schema, &run) else {
                        return;
                    };
                    owner.versions(epoch, table, batch);
                });
                requests_in.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let number = container.kind();
                    let Some(batch) = batch_of(container, &trips[number].request, &run) else {
                        return;
                    };
                    if order == Order::Arrival {
                        answer(epoch, number, vec![batch], &mut owner);
                    } else {
                        asked.entry((epoch, number)).or_default().push(batch);
                    }
                });
                let reached = lowest(frontiers);
                let mut rows = 0;
                while let Some(tick) = begun.take().or_else(|| {
                    let tick = next_tick(&ticks, reached)?;
                    run.failure.check(owner.begin(&tick));
                    Some(tick)
                }) {
                    while let Some(entry) = asked
                        .first_entry()
                        .filter(|entry| entry.key().0 <= tick.epoch && rows < REQUESTS_PER_TURN)
                    {
                        let ((epoch, number), batches) = entry.remove_entry();
                        rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>();
                        answer(epoch, number, batches, &mut owner);
                    }
                    if asked.first_key_value().is_some_and(|((epoch, _), _)| *epoch <= tick.epoch) {
                        begun = Some(tick);
                        break;
                    }
                    owner.end(&tick);
                }
                let stands_at = lower(reached, begun.map(|tick| tick.epoch));
                leaving.at(stands_at, |moving| moving.owner(&owner));
                standing.go_on(stands_at);
                if begun.is_some() {
                    activator.activate();
                }
            }
        });
        answers
    }
}

fn to_owner_of_version(described: &AsOfTable) -> Edge {
    let (key, partition, offset) = (table::KEY, table::PARTITION, table::OFFSET);
    Edge { route: Route::KeyGroup { key, partition, offset }, schema: described.schema() }
}

/// The next epoch that is complete on an operator's inputs, which have reached `reached`.
pub(super) fn next_tick(ticks: &Ticks, reached: Option<u64>) -> Option<Tick> {
    let mut ticks = ticks.borrow_mut();
    ticks.pop_front_if(|tick| reached.is_none_or(|reached| tick.epoch < reached))
}

/// The owner of columns of drift.
fn drift_owner<'scope>(
    parts: Edges<'scope>,
    codec: crate::drift::partials::PartialCodec,
    mut owner: crate::core::drift::DriftOwner,
    (ticks, mut leaving): (Ticks, Leaving),
    run: &Run,
) -> Edges<'scope> {
    let (run, scope) = (run.clone(), parts.scope());
    let mut builder = builder(Operator::DriftOwner, scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let route = Route::Worker { column: crate::drift::partials::OWNER };
    let edge = Edge { route, schema: codec.schema.clone() };
    let mut parts_in = builder.new_input(parts, RowDistributor::pact(vec![edge], &run.failure));
    let (out, outputs) = builder.new_output();
    let mut out = RowsOut(OutputBuilder::from(out));
    build(builder, (Operator::DriftOwner, run.turns.clone()), move |capabilities| {
        let mut standing = Standing::new(capabilities);
        let mut made = Vec::new();
        move |frontiers| {
            parts_in.for_each(|capability, container| {
                let Some(&epoch) = capability.least() else { return };
                let decoded = container.take(&codec.schema).and_then(|rows| codec.decode(&rows));
                if let Some(parts) = run.failure.check(decoded) {
                    owner.arrive(epoch, parts);
                }
            });
            let reached = lowest(frontiers);
            // What has been begun goes on at its own epoch, when others have had their turn.
            loop {
                if owner.closing().is_none() {
                    let Some(tick) = next_tick(&ticks, reached) else { break };
                    owner.complete(&tick);
                }
                let done = run.failure.check(owner.step(&mut made));
                if done.is_none() || owner.closing().is_some() {
                    break;
                }
            }
            if let Some(at) = standing.at.first() {
                out.send_out(at, made.drain(..));
            }
            leaving.at(lower(reached, owner.closing()), |moving| moving.drift(&owner));
            standing.go_on(lower(reached, owner.closing()));
            if owner.closing().is_some() {
                activator.activate();
            }
        }
    });
    outputs
}
