//! JSON objects to columns, one object at a time: serde_json reads, and each value goes straight into
//! its column. An object that does not fit leaves nothing behind.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, NullBufferBuilder, RecordBatch,
    RecordBatchOptions, StringArray, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Of what is told of an object that does not fit, and of a text within it.
const WHY_CHARS_MAX: usize = 500;
const TEXT_CHARS_MAX: usize = 60;
/// Keys of an object whose places are remembered for the next one, and the bytes of each.
const PLACES_MAX: usize = 256;
const PLACE_BYTES_MAX: usize = 128;

/// Columns of Int64, UInt64, Float64, Utf8 and Boolean that grow by JSON objects. What an object has beyond
/// them is passed over, what it lacks is null, and of a key that it has twice the last value counts.
pub struct JsonColumns {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
    places: Vec<Place>,
}

/// The key that came at this position of the object before, and its column if it is read.
struct Place {
    key: String,
    column: Option<usize>,
}

struct Column {
    name: String,
    values: Values,
    valid: NullBufferBuilder,
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
}

impl JsonColumns {
    /// # Errors
    /// If a column has another type than those above.
    pub fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let columns = schema.fields().iter().map(|field| {
            let values = Values::new(field.data_type())?;
            Ok(Column { name: field.name().clone(), values, valid: NullBufferBuilder::new(0) })
        });
        let columns = columns.collect::<Result<_, ArrowError>>()?;
        Ok(JsonColumns { schema, columns, rows: 0, places: Vec::new() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds a row.
    ///
    /// # Errors
    /// Why `json` is not exactly one object whose values fit their columns: numbers are no texts, texts
    /// are no numbers, and `1.0` is no integer.
    pub fn push(&mut self, json: &[u8]) -> Result<(), String> {
        let read = self.read(json);
        for column in &mut self.columns {
            match read {
                Ok(()) if column.valid.len() == self.rows => column.push_null(),
                Ok(()) => {}
                Err(_) => column.truncate(self.rows),
            }
        }
        self.rows += usize::from(read.is_ok());
        read.map_err(|why| why.chars().take(WHY_CHARS_MAX).collect())
    }

    fn read(&mut self, json: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(json).map_err(|error| format!("not UTF-8: {error}"))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let row = Row { columns: &mut self.columns, places: &mut self.places, row: self.rows };
        let read = deserializer.deserialize_map(row).and_then(|()| deserializer.end());
        read.map_err(|error| {
            let why = error.to_string();
            let why = match why.split_once(" at line 1 column") {
                Some((why, at)) => format!("{why} at column{at}"),
                None => why,
            };
            if error.is_data() { why } else { format!("not JSON: {why}") }
        })
    }

    /// The rows since the last time.
    ///
    /// # Errors
    /// Never for what was pushed.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<_, _>>()?;
        let options =
            RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

impl Values {
    fn new(data_type: &DataType) -> Result<Self, ArrowError> {
        match data_type {
            DataType::Int64 => Ok(Values::Integers(Vec::new())),
            DataType::UInt64 => Ok(Values::Counts(Vec::new())),
            DataType::Float64 => Ok(Values::Floats(Vec::new())),
            DataType::Boolean => Ok(Values::Truths(Vec::new())),
            DataType::Utf8 => Ok(Values::Texts { bytes: Vec::new(), ends: vec![0] }),
            other => Err(ArrowError::JsonError(format!("no JSON values are read as {other}"))),
        }
    }

    fn described(&self) -> &'static str {
        match self {
            Values::Integers(_) => "integer",
            Values::Counts(_) => "integer of at least 0",
            Values::Floats(_) => "number",
            Values::Truths(_) => "truth value",
            Values::Texts { .. } => "text",
        }
    }
}

impl Column {
    fn push_null(&mut self) {
        match &mut self.values {
            Values::Integers(values) => values.push(0),
            Values::Counts(values) => values.push(0),
            Values::Floats(values) => values.push(0.0),
            Values::Truths(values) => values.push(false),
            Values::Texts { ends, .. } => ends.push(ends[ends.len() - 1]),
        }
        self.valid.append_null();
    }

    fn truncate(&mut self, rows: usize) {
        if self.valid.len() == rows {
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
        }
        self.valid.truncate(rows);
    }

    /// Leaves the column empty, with room for as many rows again.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
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
        })
    }
}

/// The object that becomes a row.
struct Row<'c> {
    columns: &'c mut [Column],
    places: &'c mut Vec<Place>,
    row: usize,
}

impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("exactly one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut position = 0;
        loop {
            let key = Key { columns: self.columns, places: self.places, position };
            let Some(column) = map.next_key_seed(key)? else { return Ok(()) };
            match column {
                Some(column) => {
                    let column = &mut self.columns[column];
                    column.truncate(self.row);
                    map.next_value_seed(Cell(column))?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            position += 1;
        }
    }
}

/// The key at a position, to its column.
struct Key<'c> {
    columns: &'c [Column],
    places: &'c mut Vec<Place>,
    position: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        let known = self.places.get(self.position);
        if let Some(place) = known.filter(|place| place.key == key) {
            return Ok(place.column);
        }
        let column = self.columns.iter().position(|column| column.name == key);
        if key.len() <= PLACE_BYTES_MAX {
            let place = Place { key: key.to_owned(), column };
            match self.places.get_mut(self.position) {
                Some(other) => *other = place,
                None if self.position < PLACES_MAX => self.places.push(place),
                None => {}
            }
        }
        Ok(column)
    }
}

/// The value of a column in the row that is being read.
struct Cell<'c>(&'c mut Column);

impl Cell<'_> {
    fn refuse<E: Error>(&self, found: impl fmt::Display) -> E {
        let Column { name, values, .. } = &*self.0;
        E::custom(format_args!("{name:?} is {found}, which is no {}", values.described()))
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.0.values.described())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Values::Truths(truths) = &mut self.0.values else { return Err(self.refuse(value)) };
        truths.push(value);
        self.0.valid.append_non_null();
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match (&mut self.0.values, u64::try_from(value)) {
            (Values::Integers(values), _) => values.push(value),
            (Values::Counts(values), Ok(count)) => values.push(count),
            (Values::Floats(values), _) => values.push(value as f64),
            _ => return Err(self.refuse(value)),
        }
        self.0.valid.append_non_null();
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), &mut self.0.values) {
            (Ok(value), Values::Integers(values)) => values.push(value),
            (_, Values::Counts(values)) => values.push(value),
            (_, Values::Floats(values)) => values.push(value as f64),
            _ => return Err(self.refuse(value)),
        }
        self.0.valid.append_non_null();
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match &mut self.0.values {
            Values::Floats(values) => values.push(value),
            // serde_json takes "-0" for a float.
            Values::Integers(values) if value == 0.0 && value.is_sign_negative() => values.push(0),
            Values::Counts(values) if value == 0.0 && value.is_sign_negative() => values.push(0),
            _ => return Err(self.refuse(format_args!("{value:?}"))),
        }
        self.0.valid.append_non_null();
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let Values::Texts { bytes, ends } = &mut self.0.values else {
            let beginning: String = value.chars().take(TEXT_CHARS_MAX).collect();
            return Err(self.refuse(format_args!("{beginning:?}")));
        };
        let end = i32::try_from(bytes.len() + value.len());
        let end = end.map_err(|_| E::custom("too much text in one chunk"))?;
        bytes.extend_from_slice(value.as_bytes());
        ends.push(end);
        self.0.valid.append_non_null();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.refuse("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.refuse("an object"))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Field, Float64Type, Int64Type, Schema};

    use super::*;

    fn columns() -> JsonColumns {
        let fields = [
            ("i", DataType::Int64),
            ("x", DataType::Float64),
            ("s", DataType::Utf8),
            ("b", DataType::Boolean),
        ];
        let fields = fields.map(|(name, to)| Field::new(name, to, true));
        JsonColumns::new(Arc::new(Schema::new(fields.to_vec()))).unwrap()
    }

    fn check_refused(json: &str, why: &str) {
        let mut columns = columns();
        columns.push(br#"{"i": 1, "x": 0.5, "s": "a", "b": true}"#).unwrap();
        assert_eq!(columns.push(json.as_bytes()).unwrap_err(), why);
        columns.push(b"{}").unwrap();
        columns.push(br#"{"b": false, "s": "b", "x": 1.5, "i": 2}"#).unwrap();
        let batch = columns.finish().unwrap();
        assert!(batch.columns().iter().all(|column| column.null_count() == 1), "{json}");
        let integers: Vec<_> =
            batch.column(0).as_primitive::<Int64Type>().iter().flatten().collect();
        assert_eq!(integers, [1, 2]);
        let floats: Vec<_> =
            batch.column(1).as_primitive::<Float64Type>().iter().flatten().collect();
        assert_eq!(floats, [0.5, 1.5]);
        let texts: Vec<_> = batch.column(2).as_string::<i32>().iter().flatten().collect();
        assert_eq!(texts, ["a", "b"]);
        let truths: Vec<_> = batch.column(3).as_boolean().iter().flatten().collect();
        assert_eq!(truths, [true, false]);
    }

    #[test]
    fn what_does_not_fit_is_told_and_leaves_nothing_behind() {
        for (json, why) in [
            (r#"{"s": "lost", "i": 1.5}"#, r#""i" is 1.5, which is no integer at column 22"#),
            (r#"{"i": "7"}"#, r#""i" is "7", which is no integer at column 9"#),
            (
                r#"{"i": 9223372036854775808}"#,
                "\"i\" is 9223372036854775808, which is no integer at column 25",
            ),
            (r#"{"x": "one"}"#, r#""x" is "one", which is no number at column 11"#),
            (r#"{"s": 12}"#, r#""s" is 12, which is no text at column 8"#),
            (r#"{"b": 0, "i": 1}"#, r#""b" is 0, which is no truth value at column 7"#),
            (r#"{"i": 3, "s": [1]}"#, r#""s" is a list, which is no text at column 15"#),
            (r#"{"x": {}}"#, r#""x" is an object, which is no number at column 8"#),
            (r#"{"i": 3"#, "not JSON: EOF while parsing an object at column 7"),
            (r#"{"i": 3} {}"#, "not JSON: trailing characters at column 10"),
            ("[]", "invalid type: sequence, expected exactly one JSON object at column 0"),
        ] {
            check_refused(json, why);
        }
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_what_is_missing_is_null() {
        let mut columns = columns();
        columns
            .push(br#"{"s": "one", "i": 1, "s": "two", "i": null, "other": [{"s": 3}]}"#)
            .unwrap();
        columns.push(b"{}").unwrap();
        let batch = columns.finish().unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.column(2).as_string::<i32>().value(0), "two");
        assert_eq!(batch.columns().iter().map(|column| column.null_count()).sum::<usize>(), 7);
        assert_eq!(columns.finish().unwrap().num_rows(), 0);
    }

    #[test]
    fn numbers_are_the_nearest_ones() {
        let mut columns = columns();
        for text in ["1.2345678901234567e22", "9007199254740993", "2.2250738585072011e-308"] {
            columns.push(format!("{{\"x\": {text}}}").as_bytes()).unwrap();
            let batch = columns.finish().unwrap();
            let expected: f64 = text.parse().unwrap();
            assert_eq!(batch.column(1).as_primitive::<Float64Type>().value(0), expected);
        }
    }
}
