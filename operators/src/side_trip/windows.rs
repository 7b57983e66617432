//! The owner's end of a trip to windows: requests in, aggregates out, addressed to the homes.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::{Capability, Operator};
use timely::dataflow::{Stream, StreamVec};

use super::request::{HOME, KEY, LATE, OFFSET, PARTITION, REST, ROW, TIME, TripSchemas, to_owner};
use crate::exchange::RowDistributor;
use crate::features::trip::KeyedWindow;
use crate::features::window::{KeyedWindows, Place};
use crate::gate::Order;
use crate::rows::Rows;
use crate::run::Run;
use crate::sort::{OrderColumns, RowOrder};
use crate::watermark::{CompleteEpochs, Mark, Watermarks};

/// The windows over one key, as their owners need them.
pub struct WindowTrip<'a> {
    pub key_sql: &'a str,
    pub windows: &'a [KeyedWindow],
    pub schemas: TripSchemas,
    pub has_id: bool,
    pub order: Order,
}

/// Answers requests from the windows of their keys. An epoch's requests are answered in order of
/// (event time, id) once the epoch is complete; in `arrival` order each as it comes. Keys that no
/// row can read any more, by the watermark of the job, are forgotten.
pub fn answer_windows<'scope>(
    requests: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    trip: WindowTrip,
    watermarks: Watermarks,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let Run { counters, failure, .. } = run.clone();
    let worker = requests.scope().index();
    let keys_max = trip.windows.first().and_then(|window| window.keys_max);
    let key_sql = match keys_max {
        Some(_) => format!("{}, ever", trip.key_sql),
        None => trip.key_sql.to_owned(),
    };
    let order = trip.order;
    let mut owner = WindowOwner::new(&trip);
    let schema = trip.schemas.request.clone();
    let pact = {
        let (schema, failure) = (schema.clone(), failure.clone());
        DistributorPact(move |peers| RowDistributor::new(to_owner(), schema, failure, peers))
    };
    let name = format!("Windows({key_sql})");
    requests.binary_frontier::<_, CapacityContainerBuilder<Rows>, _, _, _, _>(
        marks,
        pact,
        Pipeline,
        &name,
        move |_capability, _info| {
            let mut arrived: BTreeMap<u64, (Capability<u64>, Vec<RecordBatch>)> = BTreeMap::new();
            let mut epochs = CompleteEpochs::new(watermarks);
            move |(requests, request_frontier), (marks, mark_frontier), output| {
                // 1. In arrival order a request is answered at once, else it waits for its epoch.
                requests.for_each(|capability, container| {
                    let Some(retained) = capability.retain_least(output.output_index()) else {
                        return;
                    };
                    let Some(batch) = failure.check(container.take(&schema)) else { return };
                    if order == Order::Arrival {
                        if let Some(batch) = failure.check(owner.answer(vec![batch])) {
                            output.session(&retained).give_container(&mut Rows::new(batch));
                        }
                    } else {
                        let epoch = *retained.time();
                        arrived
                            .entry(epoch)
                            .or_insert_with(|| (retained, Vec::new()))
                            .1
                            .push(batch);
                    }
                });
                epochs.read(marks, output.output_index());
                // 2. Requests of complete epochs are answered, in order.
                while let Some(entry) =
                    arrived.first_entry().filter(|e| !request_frontier.less_equal(e.key()))
                {
                    let (capability, batches) = entry.remove();
                    if let Some(batch) = failure.check(owner.answer(batches)) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                }
                // 3. What no row of a later epoch can read is forgotten.
                let complete = |epoch: &u64| {
                    !request_frontier.less_equal(epoch) && !mark_frontier.less_equal(epoch)
                };
                while epochs.next(complete).is_some() {
                    let (keys, rows) = (owner.windows.keys(), owner.windows.rows());
                    counters.windows_held(&key_sql, worker, keys, rows);
                    counters.keys_forgotten(&key_sql, worker, owner.windows.forgotten());
                    owner.windows.forget(epochs.watermarks().of_job());
                }
            }
        },
    )
}

/// The windows of the keys that one worker owns, and how requests read.
struct WindowOwner {
    windows: KeyedWindows,
    /// Whether each window has a value in the requests.
    has_value: Vec<bool>,
    has_id: bool,
    schemas: TripSchemas,
}

impl WindowOwner {
    fn new(trip: &WindowTrip) -> Self {
        WindowOwner {
            windows: KeyedWindows::new(trip.windows.iter().map(|window| window.spec).collect())
                .with_keys_max(trip.windows.first().and_then(|window| window.keys_max)),
            has_value: trip.windows.iter().map(|window| window.value.is_some()).collect(),
            has_id: trip.has_id,
            schemas: trip.schemas.clone(),
        }
    }

    /// The aggregates as of each request, addressed to its home.
    fn answer(&mut self, batches: Vec<RecordBatch>) -> Result<RecordBatch, ArrowError> {
        let order = OrderColumns {
            time: TIME,
            id: self.has_id.then_some(REST),
            partition: PARTITION,
            offset: OFFSET,
        };
        let requests = in_order(&self.schemas.request, batches, order)?;
        let mut given = requests.columns()[REST + usize::from(self.has_id)..].iter().cloned();
        let values: Vec<Option<ArrayRef>> =
            self.has_value.iter().map(|has| if *has { given.next() } else { None }).collect();
        let aggregates = self.windows.apply(
            requests.column(KEY),
            requests.column(TIME),
            requests.column(LATE),
            places(&requests, self.has_id),
            &values,
        )?;
        let mut columns = vec![requests.column(HOME).clone(), requests.column(ROW).clone()];
        columns.extend(aggregates.into_iter().map(|aggregate| Arc::new(aggregate) as ArrayRef));
        RecordBatch::try_new(self.schemas.answer.clone(), columns)
    }
}

/// One batch of the given ones, sorted if they are not in order.
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

/// What tells each request apart from others of the same time.
fn places(requests: &RecordBatch, has_id: bool) -> impl Fn(usize) -> Place + '_ {
    let id = has_id.then(|| requests.column(REST));
    let partitions = requests.column(PARTITION).as_primitive::<UInt32Type>();
    let offsets = requests.column(OFFSET).as_primitive::<UInt64Type>();
    move |row| match id.filter(|id| id.is_valid(row)) {
        Some(id) if *id.data_type() == DataType::Utf8 => {
            Place::Text(Rc::from(id.as_string::<i32>().value(row)))
        }
        Some(id) if *id.data_type() == DataType::UInt64 => {
            Place::Count(id.as_primitive::<UInt64Type>().value(row))
        }
        Some(id) => Place::Number(id.as_primitive::<Int64Type>().value(row)),
        None => Place::Origin(partitions.value(row), offsets.value(row)),
    }
}
