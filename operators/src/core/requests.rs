//! What a row's home asks of the owners of keys: rows stay where they are, a narrow request for each
//! goes to every owner, and the answers come back by the number of the row.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::exchange::{Edge, Route};
use crate::features::trip::{Errand, Trip};
use crate::fine_time::ns_within_ms;
use crate::key_group::as_key_of;
use crate::layout::EventLayout;
use crate::sort::OrderColumns;

/// Columns of every request, by position.
pub const KEY: usize = 0;
pub const TIME: usize = 1;
pub const HOME: usize = 2;
pub const ROW: usize = 3;
pub const PARTITION: usize = 4;
pub const OFFSET: usize = 5;
/// Of requests to tables: the ns within the ms of the time, where events store times finer than ms.
pub const TIME_NS: usize = 6;
/// Of requests to windows: whether the row is late; then the request id where the job has one, then
/// the values.
pub const LATE: usize = 6;
pub const REST: usize = 7;

/// Columns of an answer, by position: the first is the worker it goes to.
pub const ANSWER_HOME: usize = 0;
pub const ANSWER_ROW: usize = 1;
pub const ANSWER_VALUES: usize = 2;

/// The schemas of what a trip sends.
#[derive(Clone)]
pub struct TripSchemas {
    pub request: SchemaRef,
    pub answer: SchemaRef,
    /// Whether requests to windows have the request id.
    pub has_id: bool,
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
        match &trip.errand {
            Errand::Windows(windows) => {
                request.push(Field::new("late", DataType::Boolean, false));
                request.extend(layout.id.map(|id| layout.schema.field(id).clone().with_name("id")));
                let values =
                    windows.iter().enumerate().filter(|(_, window)| window.value.is_some());
                request.extend(
                    values.map(|(i, _)| Field::new(format!("value_{i}"), DataType::Float64, true)),
                );
            }
            Errand::Lookups(_) => {
                let fine = layout.fine_time.is_some();
                request.extend(fine.then(|| Field::new("time_ns", DataType::UInt32, false)));
            }
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
            has_id: layout.id.is_some(),
        }
    }

    /// The way of requests to the owner of their key.
    pub fn to_owner(&self) -> Edge {
        let route = Route::KeyGroup { key: KEY, partition: PARTITION, offset: OFFSET };
        Edge { route, schema: self.request.clone() }
    }

    /// The way of answers back.
    pub fn to_home(&self) -> Edge {
        Edge { route: Route::Worker { column: ANSWER_HOME }, schema: self.answer.clone() }
    }
}

/// The columns that order requests to windows.
pub fn order_columns(schemas: &TripSchemas) -> OrderColumns {
    let id = schemas.has_id.then_some(REST);
    OrderColumns { time: TIME, id, partition: PARTITION, offset: OFFSET }
}

/// The requests of a trip for rows of this worker (`home`), which are numbered from `first_row` on.
///
/// # Errors
/// If a key or a value cannot be made.
pub fn build_request(
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
    match &trip.errand {
        Errand::Windows(windows) => {
            columns.push(batch.column(layout.late).clone());
            columns.extend(layout.id.map(|id| batch.column(id).clone()));
            for value in windows.iter().filter_map(|window| window.value.as_ref()) {
                columns.push(value.evaluate(batch.columns(), rows)?);
            }
        }
        Errand::Lookups(_) => {
            let stored = layout.fine_time.map(|at| ns_within_ms(batch.column(at)));
            columns.extend(stored.transpose()?);
        }
    }
    RecordBatch::try_new(schema.clone(), columns)
}
