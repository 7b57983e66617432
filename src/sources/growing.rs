//! Columns that grow value by value, as text is read. What does not fit is told by the column's name.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, NullBufferBuilder, StringArray, StructArray,
    UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use arrow::error::ArrowError;

use super::csv::values::{integer, is_missing, number, truth};
use super::json::known_keys::KnownKeys;

/// Of a text that does not fit.
const TEXT_CHARS_MAX: usize = 60;

/// A column of Int64, UInt64, Float64, Utf8, Boolean, or a structure of such.
pub struct Column {
    name: String,
    values: Values,
    valid: NullBufferBuilder,
    rows: usize,
}

enum Values {
    Integers(Vec<i64>),
    /// Integers that are not negative.
    Counts(Vec<u64>),
    Floats(Vec<f64>),
    Truths(Vec<bool>),
    Texts {
        bytes: Vec<u8>,
        ends: Vec<i32>,
    },
    Members(Box<Columns>),
}

/// Columns of equal length, found by name.
pub struct Columns {
    fields: Fields,
    columns: Vec<Column>,
    by_name: HashMap<String, usize>,
    known: KnownKeys,
}

impl Columns {
    /// Columns of `fields`; messages put `path` before their names.
    ///
    /// # Errors
    /// If a column has another type than those above.
    pub fn new(fields: &Fields, path: &str) -> Result<Self, ArrowError> {
        let column = |field: &Arc<Field>| {
            let name = match path {
                "" => field.name().clone(),
                path => format!("{path}.{}", field.name()),
            };
            let values = Values::new(field.data_type(), &name)?;
            Ok(Column { name, values, valid: NullBufferBuilder::new(0), rows: 0 })
        };
        let columns = fields.iter().map(column).collect::<Result<_, ArrowError>>()?;
        let names = fields.iter().map(|field| field.name().clone());
        let (by_name, known) = (names.zip(0..).collect(), KnownKeys::default());
        Ok(Columns { fields: fields.clone(), columns, by_name, known })
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The column of a key of an object, if it is read. `cursor`: where the object has got to among the
    /// keys of those before it, from 0.
    pub fn of_key(&mut self, key: &str, cursor: &mut usize) -> Option<usize> {
        match self.known.find(key, cursor) {
            Some(column) => column,
            None => {
                let column = self.position(key);
                self.known.remember(key, column, cursor);
                column
            }
        }
    }

    /// See [`KnownKeys::expected`].
    pub fn of_expected_key(
        &self,
        json: &[u8],
        cursor: &mut usize,
    ) -> Option<(usize, Option<usize>)> {
        self.known.expected(json, cursor)
    }

    /// See [`KnownKeys::expect`].
    pub fn expect_key(
        &mut self,
        lead: &[u8],
        key: Range<usize>,
        column: Option<usize>,
        cursor: &mut usize,
    ) {
        self.known.expect(lead, key, column, cursor);
    }

    pub fn get_mut(&mut self, column: usize) -> &mut Column {
        &mut self.columns[column]
    }

    /// Gives the row after `rows` what the folders of its file stand for, in columns that the file does
    /// not have.
    ///
    /// # Errors
    /// If a value does not fit its column.
    pub fn fill_from_folders(
        &mut self,
        rows: usize,
        folders: &[(String, Option<String>)],
    ) -> Result<(), String> {
        for (name, value) in folders {
            let Some(at) = self.position(name) else { continue };
            let column = &mut self.columns[at];
            match value {
                _ if column.rows() != rows => {}
                None => column.push_null(),
                Some(value) => column.push_word(value)?,
            }
        }
        Ok(())
    }

    /// Makes null what has no value in the row after `rows`.
    pub fn fill(&mut self, rows: usize) {
        for column in &mut self.columns {
            if column.rows() == rows {
                column.push_null();
            }
        }
    }

    pub fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    /// Leaves the columns empty.
    ///
    /// # Errors
    /// Never for what was pushed.
    pub fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

impl Values {
    fn new(data_type: &DataType, name: &str) -> Result<Self, ArrowError> {
        match data_type {
            DataType::Int64 => Ok(Values::Integers(Vec::new())),
            DataType::UInt64 => Ok(Values::Counts(Vec::new())),
            DataType::Float64 => Ok(Values::Floats(Vec::new())),
            DataType::Boolean => Ok(Values::Truths(Vec::new())),
            DataType::Utf8 => Ok(Values::Texts { bytes: Vec::new(), ends: vec![0] }),
            DataType::Struct(fields) => {
                Columns::new(fields, name).map(|members| Values::Members(Box::new(members)))
            }
            other => Err(ArrowError::SchemaError(format!("no text is read as {other}"))),
        }
    }

    fn described(&self) -> &'static str {
        match self {
            Values::Integers(_) => "integer",
            Values::Counts(_) => "integer of at least 0",
            Values::Floats(_) => "number",
            Values::Truths(_) => "truth value",
            Values::Texts { .. } => "text",
            Values::Members(_) => "object",
        }
    }
}

impl Column {
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What was appended to the values is the value of the next row.
    fn end_row(&mut self) {
        self.valid.append_non_null();
        self.rows += 1;
    }

    pub fn described(&self) -> &'static str {
        self.values.described()
    }

    /// Why `found` is no value of the column.
    pub fn refusal(&self, found: impl Display) -> String {
        format!("{:?} is {found}, which is no {}", self.name, self.described())
    }

    /// As [`Column::refusal`], of a text, cut to what is worth reading.
    pub fn refusal_of_text(&self, text: &str) -> String {
        let beginning: String = text.chars().take(TEXT_CHARS_MAX).collect();
        self.refusal(format_args!("{beginning:?}"))
    }

    pub fn push_null(&mut self) {
        match &mut self.values {
            Values::Integers(values) => values.push(0),
            Values::Counts(values) => values.push(0),
            Values::Floats(values) => values.push(0.0),
            Values::Truths(values) => values.push(false),
            Values::Texts { ends, .. } => ends.push(ends[ends.len() - 1]),
            Values::Members(members) => members.fill(self.rows),
        }
        self.valid.append_null();
        self.rows += 1;
    }

    /// # Errors
    /// If it does not fit.
    pub fn push_truth(&mut self, value: bool) -> Result<(), String> {
        let Values::Truths(truths) = &mut self.values else { return Err(self.refusal(value)) };
        truths.push(value);
        self.end_row();
        Ok(())
    }

    /// # Errors
    /// If it does not fit.
    pub fn push_integer(&mut self, value: i64) -> Result<(), String> {
        match (&mut self.values, u64::try_from(value)) {
            (Values::Integers(values), _) => values.push(value),
            (Values::Counts(values), Ok(count)) => values.push(count),
            (Values::Floats(values), _) => values.push(value as f64),
            _ => return Err(self.refusal(value)),
        }
        self.end_row();
        Ok(())
    }

    /// An integer of more than 63 bits is a number, if need be the nearest one.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn push_unsigned(&mut self, value: u64) -> Result<(), String> {
        match (i64::try_from(value), &mut self.values) {
            (Ok(value), Values::Integers(values)) => values.push(value),
            (_, Values::Counts(values)) => values.push(value),
            (_, Values::Floats(values)) => values.push(value as f64),
            _ => return Err(self.refusal(value)),
        }
        self.end_row();
        Ok(())
    }

    /// # Errors
    /// If it does not fit.
    pub fn push_float(&mut self, value: f64) -> Result<(), String> {
        match &mut self.values {
            Values::Floats(values) => values.push(value),
            // serde_json takes "-0" for a float.
            Values::Integers(values) if value == 0.0 && value.is_sign_negative() => values.push(0),
            Values::Counts(values) if value == 0.0 && value.is_sign_negative() => values.push(0),
            _ => return Err(self.refusal(format_args!("{value:?}"))),
        }
        self.end_row();
        Ok(())
    }

    /// # Errors
    /// If the column is not of numbers with a point.
    pub fn push_infinity(&mut self, value: f64) -> Result<(), String> {
        let sign = if value < 0.0 { "-" } else { "" };
        match self.values {
            Values::Floats(_) => self.push_float(value),
            _ => Err(self.refusal(format_args!("{sign}Infinity"))),
        }
    }

    /// # Errors
    /// If it does not fit.
    pub fn push_text(&mut self, value: &str) -> Result<(), String> {
        let Values::Texts { bytes, ends } = &mut self.values else {
            return Err(self.refusal_of_text(value));
        };
        let end = i32::try_from(bytes.len() + value.len());
        ends.push(end.map_err(|_| "too much text in one chunk".to_owned())?);
        bytes.extend_from_slice(value.as_bytes());
        self.end_row();
        Ok(())
    }

    /// A text that says a value of the column's type.
    ///
    /// # Errors
    /// If it says none.
    fn push_word(&mut self, word: &str) -> Result<(), String> {
        let pushed = match self.values {
            Values::Texts { .. } => Some(self.push_text(word)),
            Values::Integers(_) => integer(word).map(|value| self.push_integer(value)),
            Values::Counts(_) => word.parse().ok().map(|value| self.push_unsigned(value)),
            Values::Floats(_) if is_missing(word) => {
                self.push_null();
                Some(Ok(()))
            }
            Values::Floats(_) => number(word).map(|value| self.push_float(value)),
            Values::Truths(_) => truth(word).map(|value| self.push_truth(value)),
            Values::Members(_) => None,
        };
        pushed.unwrap_or_else(|| Err(self.refusal_of_text(word)))
    }

    /// Begins a value with members, which go into the row of the position that is given with them;
    /// [`Column::end_members`] ends it.
    pub fn begin_members(&mut self) -> Option<(&mut Columns, usize)> {
        let Values::Members(members) = &mut self.values else { return None };
        let row = self.rows;
        self.valid.append_non_null();
        self.rows += 1;
        Some((members, row))
    }

    pub fn end_members(&mut self) {
        if let Values::Members(members) = &mut self.values {
            members.fill(self.rows - 1);
        }
    }

    /// Takes back what is behind the first `rows`.
    pub fn truncate(&mut self, rows: usize) {
        if self.rows <= rows {
            return;
        }
        match &mut self.values {
            Values::Integers(values) => values.truncate(rows),
            Values::Counts(values) => values.truncate(rows),
            Values::Floats(values) => values.truncate(rows),
            Values::Truths(values) => values.truncate(rows),
            Values::Texts { bytes, ends } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends[rows] as usize);
            }
            Values::Members(members) => members.truncate(rows),
        }
        self.valid.truncate(rows);
        self.rows = rows;
    }

    /// Leaves the column empty, with room for as many rows again.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let nulls = self.valid.finish();
        Ok(match &mut self.values {
            Values::Integers(values) => {
                let room = Vec::with_capacity(values.len());
                Arc::new(Int64Array::new(std::mem::replace(values, room).into(), nulls))
            }
            Values::Counts(values) => {
                let room = Vec::with_capacity(values.len());
                Arc::new(UInt64Array::new(std::mem::replace(values, room).into(), nulls))
            }
            Values::Floats(values) => {
                let room = Vec::with_capacity(values.len());
                Arc::new(Float64Array::new(std::mem::replace(values, room).into(), nulls))
            }
            Values::Truths(values) => {
                let truths = BooleanArray::new(values.as_slice().into(), nulls);
                values.clear();
                Arc::new(truths)
            }
            Values::Texts { bytes, ends } => {
                let mut room = Vec::with_capacity(ends.len());
                room.push(0);
                let ends = OffsetBuffer::new(std::mem::replace(ends, room).into());
                let room = Vec::with_capacity(bytes.len());
                let bytes = Buffer::from_vec(std::mem::replace(bytes, room));
                Arc::new(StringArray::try_new(ends, bytes, nulls)?)
            }
            Values::Members(members) => {
                let arrays = members.finish()?;
                let fields = members.fields.clone();
                Arc::new(StructArray::try_new_with_length(fields, arrays, nulls, rows)?)
            }
        })
    }
}
