//! One form for the columns of a stream, whoever wrote them: what a job says the same of JSON lines,
//! Parquet and a program's own batches.
//!
//! | the column's use | what it becomes |
//! | --- | --- |
//! | event time | a timestamp in UTC: of ms where nothing finer is stored, else of µs or ns |
//! | id, key, part of a key, sequence | integers stay integers, whatever is text or a UUID is text |
//! | declared | as declared |
//! | anything else | numbers are Float64, times are of µs in UTC, dates are Date32 |
//!
//! NaN is null in all of them. A value that its column cannot hold is never replaced: its row is
//! refused.

mod convert;
mod texts;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array,
};
use arrow::compute::{and, filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use driftline_operators::chunk::Undecoded;
use driftline_operators::dead_letter::row_as_json;
use indexmap::{IndexMap, IndexSet};

use self::convert::{as_times, convert};
use crate::config::job::JsonType;

/// Of a value that is refused, as far as it is told.
const VALUE_CHARS_MAX: usize = 60;

/// The type of an event time that is stored in whole milliseconds, in UTC.
pub fn time_type() -> DataType {
    in_utc(TimeUnit::Millisecond)
}

fn in_utc(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

/// What a job does with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnUse {
    /// It is the time of rows.
    Time,
    /// Rows are told apart, grouped or found by it.
    Key,
    /// The job says what it is.
    Declared(JsonType),
    /// Its values are used.
    Value,
}

/// What a job does with the columns of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnUses {
    /// None of a static table.
    pub time: Option<String>,
    /// What integers of the time count since 1970; milliseconds where the job does not say.
    pub time_unit: Option<TimeUnit>,
    /// Columns that are ids and keys by themselves.
    pub keys: IndexSet<String>,
    /// Columns that expressions of keys are made of.
    pub key_parts: IndexSet<String>,
    pub declared: IndexMap<String, JsonType>,
    /// What messages call `declared`, such as `[event.columns]`.
    pub columns_key: String,
}

impl ColumnUses {
    pub fn of(&self, name: &str) -> ColumnUse {
        if self.time.as_deref() == Some(name) {
            return ColumnUse::Time;
        }
        match self.declared.get(name) {
            Some(declared) => ColumnUse::Declared(*declared),
            None if self.is_key(name) => ColumnUse::Key,
            None => ColumnUse::Value,
        }
    }

    /// Whether the column is a key or part of one, declared or not.
    pub fn is_key(&self, name: &str) -> bool {
        self.keys.contains(name) || self.key_parts.contains(name)
    }
}

/// The type that a declared column has.
pub fn declared_type(declared: JsonType) -> DataType {
    match declared {
        JsonType::Int64 => DataType::Int64,
        JsonType::Float64 => DataType::Float64,
        JsonType::Utf8 => DataType::Utf8,
        JsonType::Boolean => DataType::Boolean,
    }
}

/// What a column that is stored as `stored` becomes by its use.
pub fn normal_type(stored: &DataType, column_use: &ColumnUse) -> DataType {
    if let DataType::Dictionary(_, values) = stored {
        return normal_type(values, column_use);
    }
    match column_use {
        ColumnUse::Time => normal_time(stored, None),
        ColumnUse::Declared(declared) => declared_type(*declared),
        ColumnUse::Key => normal_key(stored),
        ColumnUse::Value => normal_value(stored),
    }
}

/// Text may be finer than milliseconds, and so may a number whose unit is named.
fn normal_time(stored: &DataType, unit: Option<TimeUnit>) -> DataType {
    match stored {
        DataType::Dictionary(_, values) => normal_time(values, unit),
        DataType::Timestamp(unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond), _) => {
            in_utc(*unit)
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => in_utc(TimeUnit::Microsecond),
        number if is_fraction(number) => in_utc(TimeUnit::Microsecond),
        number if is_number(number) => match unit {
            Some(fine @ (TimeUnit::Microsecond | TimeUnit::Nanosecond)) => in_utc(fine),
            _ => time_type(),
        },
        _ => time_type(),
    }
}

fn normal_key(stored: &DataType) -> DataType {
    match stored {
        DataType::UInt64 => DataType::UInt64,
        integer if integer.is_integer() => DataType::Int64,
        whole if is_number(whole) && !is_fraction(whole) => DataType::Int64,
        DataType::FixedSizeBinary(16) | DataType::Null => DataType::Utf8,
        DataType::Timestamp(unit, _) => in_utc(*unit),
        other => normal_value(other),
    }
}

fn normal_value(stored: &DataType) -> DataType {
    match stored {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(..) => in_utc(TimeUnit::Microsecond),
        DataType::Date64 => DataType::Date32,
        DataType::Struct(members) => {
            let member = |member: &Arc<Field>| {
                let normal = normal_type(member.data_type(), &ColumnUse::Value);
                Field::new(member.name(), normal, true)
            };
            DataType::Struct(members.iter().map(member).collect())
        }
        number if is_number(number) => DataType::Float64,
        other => other.clone(),
    }
}

fn is_number(stored: &DataType) -> bool {
    stored.is_numeric()
}

/// Whether numbers of the type may have a fractional part.
fn is_fraction(stored: &DataType) -> bool {
    match stored {
        DataType::Decimal32(_, scale)
        | DataType::Decimal64(_, scale)
        | DataType::Decimal128(_, scale)
        | DataType::Decimal256(_, scale) => *scale > 0,
        other => other.is_floating(),
    }
}

/// Whether a column that is stored as `stored` can be read as it is declared: a number as a number,
/// text as text.
pub fn fits(stored: &DataType, declared: JsonType) -> bool {
    match (stored, declared) {
        (DataType::Dictionary(_, values), _) => fits(values, declared),
        (DataType::Null, _) => true,
        (stored, JsonType::Int64 | JsonType::Float64) => is_number(stored),
        (stored, JsonType::Boolean) => *stored == DataType::Boolean,
        (
            DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::FixedSizeBinary(16),
            JsonType::Utf8,
        ) => true,
        _ => false,
    }
}

/// The type of a structure called `path`, whose members are what is declared by their paths (`a.b`).
///
/// # Errors
/// If one cannot be read as that.
pub fn with_declared_members(
    of: DataType,
    path: &str,
    uses: &ColumnUses,
) -> Result<DataType, ArrowError> {
    let DataType::Struct(members) = of else { return Ok(of) };
    let member = |member: &Arc<Field>| -> Result<Field, ArrowError> {
        let path = format!("{path}.{}", member.name());
        let found = member.data_type();
        let to = match uses.declared.get(&path) {
            Some(declared) if fits(found, *declared) => declared_type(*declared),
            Some(declared) => return Err(misdeclared(&path, found, *declared, uses)),
            None => with_declared_members(found.clone(), &path, uses)?,
        };
        Ok(Field::new(member.name(), to, true))
    };
    Ok(DataType::Struct(members.iter().map(member).collect::<Result<_, _>>()?))
}

fn misdeclared(name: &str, found: &DataType, declared: JsonType, uses: &ColumnUses) -> ArrowError {
    let (key, declared) = (&uses.columns_key, declared_type(declared));
    ArrowError::SchemaError(format!(
        "column {name:?} is {found}, and {key} declares it {declared}; declare what it is, or leave \
         it out"
    ))
}

/// The schema of a stream with columns of `from`.
///
/// # Errors
/// If there is no column of its time, or one is declared as what it cannot be read as.
pub fn normal_schema(from: &Schema, uses: &ColumnUses) -> Result<SchemaRef, ArrowError> {
    if let Some(time) = &uses.time {
        from.index_of(time)?;
    }
    let field = |field: &Arc<Field>| -> Result<Field, ArrowError> {
        let (name, stored) = (field.name(), field.data_type());
        let column_use = uses.of(name);
        if let ColumnUse::Declared(declared) = column_use
            && !fits(stored, declared)
        {
            return Err(misdeclared(name, stored, declared, uses));
        }
        let to = match column_use {
            ColumnUse::Time => normal_time(stored, uses.time_unit),
            column_use => normal_type(stored, &column_use),
        };
        Ok(Field::new(name, with_declared_members(to, name, uses)?, true))
    };
    Ok(Arc::new(Schema::new(from.fields().iter().map(field).collect::<Result<Vec<_>, _>>()?)))
}

/// Whether a column of a type can be the time of rows.
///
/// # Errors
/// If it cannot, and what can.
pub fn check_time(stored: &DataType, unit: Option<TimeUnit>) -> Result<(), ArrowError> {
    as_times(&arrow::array::new_empty_array(stored), unit).map(|_| ())
}

/// A column of the times of rows in its normal form; what is no time, or out of range, is null.
///
/// # Errors
/// If a column of its type cannot be one of times.
pub fn normal_times(column: &ArrayRef, unit: Option<TimeUnit>) -> Result<ArrayRef, ArrowError> {
    as_times(column, unit)
}

/// A batch in its normal form.
pub struct Normalised {
    /// All rows; what a column cannot hold is null there.
    pub rows: RecordBatch,
    /// Rows with a value that its column cannot hold, ascending, and what is wrong with them.
    pub refused: Vec<(usize, String)>,
}

/// The rows that were not refused, where they stand, and the others.
pub struct Sound {
    pub rows: RecordBatch,
    pub offsets: UInt64Array,
    pub undecoded: Vec<Undecoded>,
}

impl Normalised {
    /// `offsets`: where each row stands in its partition. `stored`: the rows as they were.
    ///
    /// # Errors
    /// If a column of a refused row has no JSON form.
    pub fn sound(self, stored: &RecordBatch, offsets: UInt64Array) -> Result<Sound, ArrowError> {
        let Normalised { rows, refused } = self;
        if refused.is_empty() {
            return Ok(Sound { rows, offsets, undecoded: Vec::new() });
        }
        let mut is_sound = vec![true; rows.num_rows()];
        refused.iter().for_each(|(row, _)| is_sound[*row] = false);
        let undecoded = refused.into_iter().map(|(row, why)| {
            let row_as_stored = stored.slice(row, 1);
            // What JSON has no form for leaves the letter without a payload, not the run without an end.
            let bytes = row_as_json(&row_as_stored, stored.num_columns()).ok();
            Undecoded { offset: offsets.value(row), why, bytes, envelope: None }
        });
        let undecoded = undecoded.collect();
        let is_sound = BooleanArray::from(is_sound);
        let kept = filter(&offsets, &is_sound)?;
        Ok(Sound {
            rows: filter_record_batch(&rows, &is_sound)?,
            offsets: UInt64Array::from(kept.to_data()),
            undecoded,
        })
    }
}

/// Columns of so many rows in the form of `schema`, which [`normal_schema`] made of them and their uses.
///
/// # Errors
/// If a column cannot take that form whatever its values are.
pub fn normalise(
    columns: &[ArrayRef],
    rows: usize,
    schema: &SchemaRef,
    uses: &ColumnUses,
) -> Result<Normalised, ArrowError> {
    let mut refused: Vec<(usize, String)> = Vec::new();
    let columns = columns.iter().zip(schema.fields()).map(|(column, field)| {
        if uses.of(field.name()) == ColumnUse::Time {
            return as_times(column, uses.time_unit);
        }
        let converted = convert(column, field.data_type())?;
        refused.extend(refusals(column, &converted, field, uses)?);
        Ok(converted)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    refused.sort_by_key(|(row, _)| *row);
    refused.dedup_by_key(|(row, _)| *row);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
    Ok(Normalised { rows, refused })
}

/// Rows whose value is there in `from`, and not in `to`. NaN is no value.
fn refusals(
    from: &ArrayRef,
    to: &ArrayRef,
    field: &Field,
    uses: &ColumnUses,
) -> Result<Vec<(usize, String)>, ArrowError> {
    if let DataType::Struct(members) = field.data_type() {
        return refusals_of_members(from, to, members, field, uses);
    }
    if to.null_count() == from.logical_null_count() {
        return Ok(Vec::new());
    }
    let lost = and(&arrow::compute::is_not_null(from)?, &arrow::compute::is_null(to)?)?;
    let is_nan = convert::nan_rows(from)?;
    let name = field.name();
    let refusal = |row: usize| {
        let value = array_value_to_string(from, row)?;
        let value: String = value.chars().take(VALUE_CHARS_MAX).collect();
        let (to, advice) = (field.data_type(), advice(name, field.data_type(), uses));
        Ok((row, format!("column {name:?} is {value}, which is no {to}{advice}")))
    };
    let rows = (0..from.len()).filter(|&row| {
        lost.value(row) && !is_nan.as_ref().is_some_and(|nan| nan.is_valid(row) && nan.value(row))
    });
    rows.map(refusal).collect()
}

fn refusals_of_members(
    from: &ArrayRef,
    to: &ArrayRef,
    members: &Fields,
    field: &Field,
    uses: &ColumnUses,
) -> Result<Vec<(usize, String)>, ArrowError> {
    let (Some(from), Some(to)) = (from.as_struct_opt(), to.as_struct_opt()) else {
        return Ok(Vec::new());
    };
    let mut refused = Vec::new();
    for (member, converted) in members.iter().zip(to.columns()) {
        let Some(stored) = from.column_by_name(member.name()) else { continue };
        let path = format!("{}.{}", field.name(), member.name());
        let member = Field::new(path, member.data_type().clone(), true);
        refused.extend(refusals(stored, converted, &member, uses)?);
    }
    // What stands behind a null is no value.
    refused.retain(|(row, _)| from.is_valid(*row));
    Ok(refused)
}

fn advice(name: &str, to: &DataType, uses: &ColumnUses) -> String {
    match (to, uses.of(name)) {
        (DataType::Int64, ColumnUse::Key) => {
            "; a key that large can be text, with a CAST to VARCHAR where it is written".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
