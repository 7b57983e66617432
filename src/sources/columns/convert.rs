//! Columns of one type as columns of another: exactly, or null.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, PrimitiveArray,
    StringArray, StructArray, new_null_array,
};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{cast, nullif};
use arrow::datatypes::{
    DataType, Fields, Float16Type, Float32Type, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
};
use arrow::error::ArrowError;
use driftline_operators::admit::event_times;

use super::texts::times_of_texts;
use super::{in_utc, is_fraction, is_number, normal_time};

/// The values of a column as they are stored, without a dictionary.
fn plain(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values),
        _ => Ok(column.clone()),
    }
}

/// A column as one of type `to`, null where that does not hold the value; NaN is null.
pub(super) fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let column = plain(column)?;
    let from = column.data_type().clone();
    match (&from, to) {
        (DataType::Float64, DataType::Float64) => Ok(without_nan(column)),
        (from, to) if from == to && !from.is_nested() => Ok(column),
        (from, DataType::Float64) if is_number(from) => Ok(without_nan(cast(&column, to)?)),
        (from, DataType::Int64 | DataType::UInt64) if is_fraction(from) => whole(&column, to),
        (DataType::FixedSizeBinary(16), DataType::Utf8) => Ok(uuids(&column)),
        (DataType::Timestamp(..), DataType::Timestamp(unit, _)) => in_unit(&column, *unit),
        (DataType::Struct(_), DataType::Struct(to)) => members(column.as_struct(), to),
        _ => cast(&column, to),
    }
}

/// A structure with the members `to`: those that it does not have are null.
fn members(structure: &StructArray, to: &Fields) -> Result<ArrayRef, ArrowError> {
    let rows = structure.len();
    let columns = to.iter().map(|field| match structure.column_by_name(field.name()) {
        Some(member) => convert(member, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let nulls = structure.nulls().cloned();
    Ok(Arc::new(StructArray::try_new_with_length(to.clone(), columns, nulls, rows)?))
}

fn without_nan(column: ArrayRef) -> ArrayRef {
    let numbers = column.as_primitive::<Float64Type>();
    // All of them: nearly always there is none, and a loop without an exit takes several at a time.
    if !numbers.values().iter().fold(false, |found, value| found | value.is_nan()) {
        return column;
    }
    let values = numbers.iter().map(|value| value.filter(|value| !value.is_nan()));
    Arc::new(values.collect::<Float64Array>())
}

/// Where a column of floats is NaN; `None` of one that has none.
pub(super) fn nan_rows(column: &ArrayRef) -> Result<Option<BooleanArray>, ArrowError> {
    let column = plain(column)?;
    Ok(Some(match column.data_type() {
        DataType::Float16 => {
            BooleanArray::from_unary(column.as_primitive::<Float16Type>(), |v| v.is_nan())
        }
        DataType::Float32 => {
            BooleanArray::from_unary(column.as_primitive::<Float32Type>(), f32::is_nan)
        }
        DataType::Float64 => {
            BooleanArray::from_unary(column.as_primitive::<Float64Type>(), f64::is_nan)
        }
        _ => return Ok(None),
    }))
}

/// Numbers that may have fractions as integers: null where they have one.
fn whole(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let whole = cast(column, to)?;
    let back = cast(&whole, column.data_type())?;
    let same = eq(&back, column)?;
    let differs = same.iter().map(|same| Some(same != Some(true)));
    nullif(&whole, &differs.collect::<BooleanArray>())
}

/// Sixteen bytes as text: `123e4567-e89b-12d3-a456-426614174000`.
fn uuids(column: &ArrayRef) -> ArrayRef {
    let text = |bytes: &[u8]| {
        let mut text = String::with_capacity(36);
        for (at, byte) in bytes.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{byte:02x}"));
        }
        text
    };
    let bytes = column.as_fixed_size_binary().iter();
    Arc::new(bytes.map(|bytes| bytes.map(text)).collect::<StringArray>())
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Timestamps in another unit and in UTC, rounded down; null where they do not fit.
fn in_unit(column: &ArrayRef, to: TimeUnit) -> Result<ArrayRef, ArrowError> {
    let DataType::Timestamp(from, _) = column.data_type() else { return cast(column, &in_utc(to)) };
    let (from, per) = (per_second(*from), per_second(to));
    let ticks = cast(column, &DataType::Int64)?;
    stamps(scaled(ticks.as_primitive::<Int64Type>(), from, per)?, to)
}

/// Counts of `from` a second as counts of `to` a second.
fn scaled(
    ticks: &PrimitiveArray<Int64Type>,
    from: i64,
    to: i64,
) -> Result<PrimitiveArray<Int64Type>, ArrowError> {
    Ok(match to / from {
        0 => ticks.unary(|tick| tick.div_euclid(from / to)),
        1 => ticks.clone(),
        factor => ticks.unary_opt(|tick| tick.checked_mul(factor)),
    })
}

/// Counts of a unit since 1970 as timestamps in UTC.
fn stamps(ticks: PrimitiveArray<Int64Type>, unit: TimeUnit) -> Result<ArrayRef, ArrowError> {
    fn of<T: ArrowPrimitiveType<Native = i64>>(ticks: &PrimitiveArray<Int64Type>) -> ArrayRef {
        Arc::new(ticks.reinterpret_cast::<T>())
    }
    let naive = match unit {
        TimeUnit::Microsecond => of::<TimestampMicrosecondType>(&ticks),
        TimeUnit::Nanosecond => of::<TimestampNanosecondType>(&ticks),
        TimeUnit::Millisecond => of::<TimestampMillisecondType>(&ticks),
        TimeUnit::Second => {
            Arc::new(ticks.reinterpret_cast::<arrow::datatypes::TimestampSecondType>())
        }
    };
    let data = naive.to_data().into_builder().data_type(in_utc(unit)).build()?;
    Ok(arrow::array::make_array(data))
}

/// The times of rows in their normal form; see [`super::normal_times`].
pub(super) fn as_times(column: &ArrayRef, unit: Option<TimeUnit>) -> Result<ArrayRef, ArrowError> {
    let column = plain(column)?;
    let DataType::Timestamp(to, _) = normal_time(column.data_type(), unit) else {
        return Err(ArrowError::SchemaError("times are timestamps".to_owned()));
    };
    match column.data_type() {
        DataType::Timestamp(..) => in_unit(&column, to),
        DataType::Utf8 => Ok(Arc::new(times_of_texts(column.as_string()))),
        DataType::LargeUtf8 | DataType::Utf8View => cast(&column, &in_utc(to)),
        number if is_number(number) && is_fraction(number) => {
            let Some(unit) = unit else {
                return Err(ArrowError::SchemaError(format!(
                    "the event time must be a timestamp, an integer of milliseconds or RFC 3339 \
                     text, not {number}; say what its numbers count with time_unit = \"s\""
                )));
            };
            let per = per_second(to) as f64 / per_second(unit) as f64;
            let ticks = cast(&column, &DataType::Float64)?;
            let ticks = ticks.as_primitive::<Float64Type>();
            stamps(ticks.unary_opt(|tick| within((tick * per).round())), to)
        }
        number if is_number(number) => {
            let ticks = cast(&column, &DataType::Int64)?;
            let from = per_second(unit.unwrap_or(TimeUnit::Millisecond));
            stamps(scaled(ticks.as_primitive::<Int64Type>(), from, per_second(to))?, to)
        }
        _ => stamps(event_times(&column)?, to),
    }
}

/// A float as an integer, if it is in range.
fn within(value: f64) -> Option<i64> {
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    (-BOUND..BOUND).contains(&value).then_some(value as i64)
}
