//! One form for the columns of events, whoever wrote them.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use driftline_operators::admit::event_times;

/// The type of the event time column: milliseconds in UTC.
pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// The form of a column of type `from`: every kind of text is Utf8, dictionaries are their values,
/// halves and decimals are Float64; other types stay.
fn normal_type(from: &DataType) -> DataType {
    match from {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => normal_type(value),
        DataType::Float16
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..) => DataType::Float64,
        other => other.clone(),
    }
}

/// The schema of events with columns of `from`, whose event time is called `time`.
///
/// # Errors
/// If there is no such column.
pub fn normal_schema(from: &Schema, time: &str) -> Result<SchemaRef, ArrowError> {
    from.index_of(time)?;
    let fields: Vec<Field> = from
        .fields()
        .iter()
        .map(|field| {
            let to =
                if field.name() == time { time_type() } else { normal_type(field.data_type()) };
            Field::new(field.name(), to, true)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// A batch in the form of `schema`, column by column.
///
/// # Errors
/// If a column cannot take that form.
pub fn normalise(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns: Result<Vec<ArrayRef>, ArrowError> = columns
        .map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(column.clone())
            } else if *field.data_type() == time_type() {
                let times: TimestampMillisecondArray = event_times(column)?.reinterpret_cast();
                Ok(Arc::new(times.with_timezone("UTC")) as ArrayRef)
            } else {
                cast(column, field.data_type())
            }
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns?, &options)
}
