//! Side trips: a row stays at its home, a narrow request goes to the owner of a key, and the answer
//! comes back to the row.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};
use timely::dataflow::operators::{Capability, Operator};

use crate::accounting::Counters;
use crate::exchange::{Route, RowDistributor};
use crate::failure::Failure;
use crate::features::plan::{FeaturePlan, Trip};
use crate::features::window::{KeyedWindows, answer, request};
use crate::gate::Order;
use crate::key_group::as_key;
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::run::Run;
use crate::sort::{OrderColumns, RowOrder};

type RowsBuilder = CapacityContainerBuilder<Rows>;

/// Position of the answers' columns: home, row, then one Float64 a window.
const ANSWER_ROW: usize = 1;
const ANSWER_VALUES: usize = 2;

fn request_schema(trip: &Trip, layout: &EventLayout) -> SchemaRef {
    let mut fields = vec![
        Field::new("key", trip.key_type.clone(), true),
        Field::new("time", DataType::Int64, false),
        Field::new("late", DataType::Boolean, false),
        Field::new("partition", DataType::UInt32, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("home", DataType::UInt32, false),
        Field::new("row", DataType::UInt64, false),
    ];
    fields.extend(layout.id.map(|id| layout.schema.field(id).clone().with_name("id")));
    fields.extend(
        (0..trip.windows.len()).map(|i| Field::new(format!("value_{i}"), DataType::Float64, true)),
    );
    Arc::new(Schema::new(fields))
}

fn answer_schema(windows: usize) -> SchemaRef {
    let mut fields = vec![
        Field::new("home", DataType::UInt32, false),
        Field::new("row", DataType::UInt64, false),
    ];
    fields.extend((0..windows).map(|i| Field::new(format!("window_{i}"), DataType::Float64, true)));
    Arc::new(Schema::new(fields))
}

fn build_request(
    trip: &Trip,
    layout: &EventLayout,
    schema: &SchemaRef,
    batch: &RecordBatch,
    home: u32,
    first_row: u64,
) -> Result<RecordBatch, ArrowError> {
    let rows = batch.num_rows();
    let mut columns = vec![
        as_key(&trip.key.evaluate(batch.columns(), rows)?)?,
        batch.column(layout.time).clone(),
        batch.column(layout.late).clone(),
        batch.column(layout.partition).clone(),
        batch.column(layout.offset).clone(),
        Arc::new(UInt32Array::from_value(home, rows)) as ArrayRef,
        Arc::new(UInt64Array::from_iter_values(first_row..first_row + rows as u64)),
    ];
    columns.extend(layout.id.map(|id| batch.column(id).clone()));
    for (value, _) in &trip.windows {
        columns.push(value.evaluate(batch.columns(), rows)?);
    }
    RecordBatch::try_new(schema.clone(), columns)
}

/// Sends the rows on every side trip of `plan` and appends the features, in the order they came.
///
/// In `arrival` order owners answer as requests come; otherwise an epoch's requests are answered in
/// order of (event time, id) once the epoch is complete at the owner. A batch goes on when all its
/// answers are back, by their number.
pub fn enrich<'scope>(
    rows: Stream<'scope, u64, Rows>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    order: Order,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let Run { counters, failure, faults } = run.clone();
    if plan.trips.is_empty() {
        return append_features(rows, plan, layout, failure);
    }
    let (numbered, requests) = request(rows, plan.clone(), layout.clone(), failure.clone());
    let answers: Vec<_> = requests
        .into_iter()
        .zip(&plan.trips)
        .map(|(requests, trip)| {
            let schema = request_schema(trip, &layout);
            let requests = faults.behind("requests", requests, schema, failure.clone());
            let answers =
                answer_trip(requests, trip, &layout, order, counters.clone(), failure.clone());
            let schema = answer_schema(trip.windows.len());
            faults.behind("answers", answers, schema, failure.clone())
        })
        .collect();
    rejoin(numbered, answers, plan, layout, counters, failure)
}

/// Features of rows that need no side trip.
fn append_features<'scope>(
    rows: Stream<'scope, u64, Rows>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let enriched = plan.enriched_schema(&layout);
    rows.unary::<RowsBuilder, _, _, _>(Pipeline, "Features", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, container| {
                let batch = container.take(&layout.schema);
                let batch = batch.and_then(|batch| plan.append(&batch, Vec::new(), &enriched));
                if let Some(batch) = failure.check(batch) {
                    output.session(&capability).give_container(&mut Rows::new(batch));
                }
            });
        }
    })
}

/// Numbers the rows of this home and writes a request for each, per trip.
fn request<'scope>(
    rows: Stream<'scope, u64, Rows>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    failure: Failure,
) -> (Stream<'scope, u64, Rows>, Vec<Stream<'scope, u64, Rows>>) {
    let home = rows.scope().index() as u32;
    let mut builder = OperatorBuilder::new("SideTripRequests".to_owned(), rows.scope());
    let mut input = builder.new_input(rows, Pipeline);
    let (rows_out, numbered) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, RowsBuilder>::from(rows_out);
    let mut trips = Vec::new();
    let mut streams = Vec::new();
    for trip in &plan.trips {
        let (out, stream) = builder.new_output();
        trips.push((OutputBuilder::<_, RowsBuilder>::from(out), request_schema(trip, &layout)));
        streams.push(stream);
    }
    builder.build(move |_capabilities| {
        let mut next_row = 0u64;
        move |_frontiers| {
            input.for_each(|capability, container| {
                let Some(batch) = failure.check(container.take(&layout.schema)) else { return };
                let first_row = next_row;
                next_row += batch.num_rows() as u64;
                for ((out, schema), trip) in trips.iter_mut().zip(&plan.trips) {
                    let request = build_request(trip, &layout, schema, &batch, home, first_row);
                    if let Some(request) = failure.check(request) {
                        out.activate().session(&capability).give_container(&mut Rows::new(request));
                    }
                }
                let mut rows_out = rows_out.activate();
                rows_out.session(&capability).give_container(&mut Rows::numbered(batch, first_row));
            });
        }
    });
    (numbered, streams)
}

/// The owner's end of a trip: requests in, answers out, addressed to the homes.
fn answer_trip<'scope>(
    requests: Stream<'scope, u64, Rows>,
    trip: &Trip,
    layout: &EventLayout,
    order: Order,
    counters: Counters,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let worker = requests.scope().index();
    let key_name = trip.key_sql.clone();
    let schema = request_schema(trip, layout);
    let answers = answer_schema(trip.windows.len());
    let first_value = request::REST + usize::from(layout.id.is_some());
    let order_columns = OrderColumns {
        time: request::TIME,
        id: layout.id.map(|_| request::REST),
        partition: request::PARTITION,
        offset: request::OFFSET,
    };
    let route = Route::KeyGroup {
        key: request::KEY,
        partition: request::PARTITION,
        offset: request::OFFSET,
    };
    let mut windows = KeyedWindows::new(trip.windows.iter().map(|(_, spec)| *spec).collect());
    let pact = {
        let (schema, failure) = (schema.clone(), failure.clone());
        DistributorPact(move |peers| RowDistributor::new(route, schema, failure, peers))
    };
    let name = format!("Windows({})", trip.key_sql);
    requests.unary_frontier::<RowsBuilder, _, _, _>(pact, &name, move |_capability, _info| {
        let mut epochs: BTreeMap<u64, (Capability<u64>, Vec<RecordBatch>)> = BTreeMap::new();
        move |(input, frontier), output| {
            let mut reply =
                |capability: &Capability<u64>,
                 batches: Vec<RecordBatch>,
                 output: &mut timely::dataflow::operators::generic::OutputBuilderSession<
                    '_,
                    u64,
                    RowsBuilder,
                >| {
                    let answered = in_order(&schema, batches, order_columns).and_then(|requests| {
                        let values = answer(&mut windows, &requests, first_value)?;
                        counters.window_keys_held(&key_name, worker, windows.keys());
                        let mut columns = vec![
                            requests.column(request::HOME).clone(),
                            requests.column(request::ROW).clone(),
                        ];
                        columns.extend(values.into_iter().map(|value| Arc::new(value) as ArrayRef));
                        RecordBatch::try_new(answers.clone(), columns)
                    });
                    if let Some(batch) = failure.check(answered) {
                        output.session(capability).give_container(&mut Rows::new(batch));
                    }
                };
            input.for_each(|capability, container| {
                let Some(retained) = capability.retain_least(output.output_index()) else { return };
                let Some(batch) = failure.check(container.take(&schema)) else { return };
                if order == Order::Arrival {
                    reply(&retained, vec![batch], output);
                } else {
                    let epoch = *retained.time();
                    epochs.entry(epoch).or_insert_with(|| (retained, Vec::new())).1.push(batch);
                }
            });
            while let Some(entry) = epochs.first_entry().filter(|e| !frontier.less_equal(e.key())) {
                let (capability, batches) = entry.remove();
                reply(&capability, batches, output);
            }
        }
    })
}

/// One batch of the given ones, sorted if there is more than one home's worth or they are not.
fn in_order(
    schema: &SchemaRef,
    mut batches: Vec<RecordBatch>,
    columns: OrderColumns,
) -> Result<RecordBatch, ArrowError> {
    let batch =
        if batches.len() == 1 { batches.remove(0) } else { concat_batches(schema, &batches)? };
    let order = RowOrder::new(&batch, columns);
    if order.is_sorted() {
        return Ok(batch);
    }
    let rows = UInt32Array::from(order.sorted_rows());
    take_record_batch(&batch, &rows)
}

/// A batch that waits at its home for its answers.
struct Waiting<C> {
    capability: C,
    batch: RecordBatch,
    first_row: u64,
    /// Answers so far, one column a window over all trips, `[rows]`.
    answers: Vec<Vec<Option<f64>>>,
    missing: usize,
}

/// Batches in the order of their numbers, and the answers that have come for them.
struct Rejoin<C> {
    waiting: VecDeque<Waiting<C>>,
    windows: usize,
}

impl<C> Rejoin<C> {
    fn insert(&mut self, capability: C, batch: RecordBatch, first_row: u64, trips: usize) {
        let rows = batch.num_rows();
        let answers = vec![vec![None; rows]; self.windows];
        self.waiting.push_back(Waiting {
            capability,
            batch,
            first_row,
            answers,
            missing: rows * trips,
        });
    }

    /// Puts answers of one trip in their places; `first_window` is the trip's first column.
    ///
    /// # Errors
    /// If an answer is for a row that does not wait here.
    fn answer(&mut self, answers: &RecordBatch, first_window: usize) -> Result<(), ArrowError> {
        let rows = answers.column(ANSWER_ROW).as_primitive::<UInt64Type>();
        let values: Vec<&Float64Array> = answers.columns()[ANSWER_VALUES..]
            .iter()
            .map(|column| column.as_primitive::<Float64Type>())
            .collect();
        let mut at = 0;
        for (position, &row) in rows.values().iter().enumerate() {
            let inside = |w: &Waiting<C>| {
                row >= w.first_row && row < w.first_row + w.batch.num_rows() as u64
            };
            if !self.waiting.get(at).is_some_and(inside) {
                at = self.waiting.partition_point(|w| w.first_row <= row).wrapping_sub(1);
            }
            let Some(waiting) = self.waiting.get_mut(at).filter(|w| inside(w)) else {
                return Err(ArrowError::ComputeError(format!(
                    "an answer for row {row}, which does not wait"
                )));
            };
            let place = (row - waiting.first_row) as usize;
            for (window, column) in values.iter().enumerate() {
                waiting.answers[first_window + window][place] =
                    column.is_valid(position).then(|| column.value(position));
            }
            waiting.missing -= 1;
        }
        Ok(())
    }

    /// The next batch whose answers are all there, and the answers as columns.
    fn pop(&mut self) -> Option<(C, RecordBatch, Vec<ArrayRef>)> {
        self.waiting.front().filter(|waiting| waiting.missing == 0)?;
        let done = self.waiting.pop_front()?;
        let columns = done
            .answers
            .into_iter()
            .map(|values| {
                let mut column = Float64Builder::with_capacity(values.len());
                values.into_iter().for_each(|value| column.append_option(value));
                Arc::new(column.finish()) as ArrayRef
            })
            .collect();
        Some((done.capability, done.batch, columns))
    }
}

/// Holds each batch until the answers of all trips are there, then appends its features.
fn rejoin<'scope>(
    rows: Stream<'scope, u64, Rows>,
    answers: Vec<Stream<'scope, u64, Rows>>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    counters: Counters,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let mut builder = OperatorBuilder::new("Rejoin".to_owned(), rows.scope());
    let mut rows_in = builder.new_input(rows, Pipeline);
    let mut trips_in = Vec::new();
    let mut first_window = 0;
    for (stream, trip) in answers.into_iter().zip(&plan.trips) {
        let schema = answer_schema(trip.windows.len());
        let (edge, failure) = (schema.clone(), failure.clone());
        let pact = DistributorPact(move |peers| {
            RowDistributor::new(Route::Worker { column: 0 }, edge, failure, peers)
        });
        trips_in.push((builder.new_input(stream, pact), schema, first_window));
        first_window += trip.windows.len();
    }
    let (out, enriched_rows) = builder.new_output();
    let mut out = OutputBuilder::<_, RowsBuilder>::from(out);
    let enriched = plan.enriched_schema(&layout);
    builder.build(move |_capabilities| {
        let mut rejoin = Rejoin { waiting: VecDeque::new(), windows: first_window };
        move |frontiers| {
            rows_in.for_each(|capability, container| {
                let number = container.number();
                let Some(retained) = capability.retain_least(0) else { return };
                let Some(batch) = failure.check(container.take(&layout.schema)) else { return };
                counters.rows_held(batch.num_rows() as i64);
                rejoin.insert(retained, batch, number, plan.trips.len());
            });
            for (input, schema, first_window) in &mut trips_in {
                input.for_each(|_capability, container| {
                    let answers = container.take(schema);
                    failure.check(answers.and_then(|batch| rejoin.answer(&batch, *first_window)));
                });
            }
            let mut out = out.activate();
            while let Some((capability, batch, answers)) = rejoin.pop() {
                counters.rows_held(-(batch.num_rows() as i64));
                if let Some(batch) = failure.check(plan.append(&batch, answers, &enriched)) {
                    out.session(&capability).give_container(&mut Rows::new(batch));
                }
            }
            // An epoch that is complete on every trip owes nothing any more.
            if let Some(waiting) = rejoin.waiting.front() {
                let epoch = waiting.capability.time();
                if frontiers.iter().all(|frontier| !frontier.less_equal(epoch)) {
                    failure.report(format!("{} answers of side trips are lost", waiting.missing));
                    rejoin.waiting.clear();
                }
            }
        }
    });
    enriched_rows
}
