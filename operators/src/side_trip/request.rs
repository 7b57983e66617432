//! The home's end of the trips out: rows are numbered, and a request for each goes to every owner.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};

use crate::exchange::Route;
use crate::failure::Failure;
use crate::features::plan::FeaturePlan;
use crate::features::trip::{Errand, Trip};
use crate::key_group::as_key_of;
use crate::layout::EventLayout;
use crate::rows::Rows;

/// Columns of every request, by position.
pub const KEY: usize = 0;
pub const TIME: usize = 1;
pub const HOME: usize = 2;
pub const ROW: usize = 3;
pub const PARTITION: usize = 4;
pub const OFFSET: usize = 5;
/// Of requests to windows: whether the row is late; then the request id where the job has one, then
/// the values.
pub const LATE: usize = 6;
pub const REST: usize = 7;

/// Columns of an answer, by position: the first is the worker it goes to.
pub const ANSWER_HOME: usize = 0;
pub const ANSWER_ROW: usize = 1;
pub const ANSWER_VALUES: usize = 2;

/// The schemas of a trip's two edges.
#[derive(Clone)]
pub struct TripSchemas {
    pub request: SchemaRef,
    pub answer: SchemaRef,
}

impl TripSchemas {
    pub fn new(trip: &Trip, layout: &EventLayout) -> Self {
        let mut request = vec![
            Field::new("key", trip.key_type.clone(), true),
            Field::new("time", DataType::Int64, false),
            Field::new("home", DataType::UInt32, false),
            Field::new("row", DataType::UInt64, false),
            Field::new("partition", DataType::UInt32, false),
            Field::new("offset", DataType::UInt64, false),
        ];
        if let Errand::Windows(windows) = &trip.errand {
            request.push(Field::new("late", DataType::Boolean, false));
            request.extend(layout.id.map(|id| layout.schema.field(id).clone().with_name("id")));
            let values = windows.iter().enumerate().filter(|(_, window)| window.value.is_some());
            request.extend(
                values.map(|(i, _)| Field::new(format!("value_{i}"), DataType::Float64, true)),
            );
        }
        let mut answer = vec![
            Field::new("home", DataType::UInt32, false),
            Field::new("row", DataType::UInt64, false),
        ];
        let answers = trip.answers.iter().enumerate();
        answer.extend(answers.map(|(i, t)| Field::new(format!("answer_{i}"), t.clone(), true)));
        TripSchemas {
            request: Arc::new(Schema::new(request)),
            answer: Arc::new(Schema::new(answer)),
        }
    }
}

/// The way to the owner of a request's key.
pub fn to_owner() -> Route {
    Route::KeyGroup { key: KEY, partition: PARTITION, offset: OFFSET }
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
        as_key_of(&trip.key.evaluate(batch.columns(), rows)?, &trip.key_type)?,
        batch.column(layout.time).clone(),
        Arc::new(UInt32Array::from_value(home, rows)) as ArrayRef,
        Arc::new(UInt64Array::from_iter_values(first_row..first_row + rows as u64)),
        batch.column(layout.partition).clone(),
        batch.column(layout.offset).clone(),
    ];
    if let Errand::Windows(windows) = &trip.errand {
        columns.push(batch.column(layout.late).clone());
        columns.extend(layout.id.map(|id| batch.column(id).clone()));
        for value in windows.iter().filter_map(|window| window.value.as_ref()) {
            columns.push(value.evaluate(batch.columns(), rows)?);
        }
    }
    RecordBatch::try_new(schema.clone(), columns)
}

/// Numbers the rows of this home and writes a request for each, per trip.
pub fn request<'scope>(
    rows: Stream<'scope, u64, Rows>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    failure: Failure,
) -> (Stream<'scope, u64, Rows>, Vec<Stream<'scope, u64, Rows>>) {
    let home = rows.scope().index() as u32;
    let mut builder = OperatorBuilder::new("SideTripRequests".to_owned(), rows.scope());
    let mut input = builder.new_input(rows, Pipeline);
    let (rows_out, numbered) = builder.new_output();
    let mut rows_out = OutputBuilder::<_, CapacityContainerBuilder<Rows>>::from(rows_out);
    let mut trips = Vec::new();
    let mut streams = Vec::new();
    for trip in &plan.trips {
        let (out, stream) = builder.new_output();
        let out = OutputBuilder::<_, CapacityContainerBuilder<Rows>>::from(out);
        trips.push((out, TripSchemas::new(trip, &layout).request));
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
