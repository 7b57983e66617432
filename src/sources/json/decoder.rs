//! JSON lines to columns: which columns there are, and what is no event.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use indexmap::IndexMap;

use crate::sources::columns::{ColumnUse, ColumnUses, declared_type, normal_schema, normalise};
use crate::sources::json::columns::JsonColumns;
use crate::sources::json::lines::{LINE_BYTES_MAX, Line};

/// How often each kind of value was seen in a column.
#[derive(Default)]
struct Seen {
    /// In the order of their first values.
    types: IndexMap<DataType, usize>,
    has_fractions: bool,
    has_negatives: bool,
    /// Integers beyond those of Int64.
    has_large: bool,
}

/// Columns of the sampled lines: as declared, else text, truth values, and numbers as Float64. Ids
/// and keys that are mostly integers stay integers, and parts of keys that are nothing else; an event
/// time that is a number is an integer, or of fractions if its unit is named.
pub fn infer(sample: &[Line], uses: &ColumnUses) -> Vec<Field> {
    use serde_json::Value;
    let mut columns: IndexMap<String, Seen> = IndexMap::new();
    for line in sample {
        let Ok(Value::Object(object)) = serde_json::from_slice(&line.bytes) else { continue };
        for (name, value) in object {
            let found = match &value {
                Value::Bool(_) => DataType::Boolean,
                Value::Number(number) if number.is_i64() || number.is_u64() => DataType::Int64,
                Value::Number(_) => DataType::Float64,
                Value::String(_) => DataType::Utf8,
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            let seen = columns.entry(name).or_default();
            seen.has_fractions |= found == DataType::Float64;
            seen.has_negatives |= value.as_i64().is_some_and(|number| number < 0);
            seen.has_large |= value.is_u64() && !value.is_i64();
            *seen.types.entry(found).or_default() += 1;
        }
    }
    let mut types: IndexMap<String, DataType> = columns
        .into_iter()
        .filter_map(|(name, seen)| {
            let found = seen.column_type(&name, uses)?;
            Some((name, found))
        })
        .collect();
    for (name, declared) in &uses.declared {
        types.insert(name.clone(), declared_type(*declared));
    }
    types.into_iter().map(|(name, found)| Field::new(name, found, true)).collect()
}

impl Seen {
    /// The most frequent type is the column's: what is otherwise is a bad record, not a bad column.
    fn column_type(self, name: &str, uses: &ColumnUses) -> Option<DataType> {
        let count = |of: &DataType| self.types.get(of).copied().unwrap_or_default();
        let (integers, fractions) = (count(&DataType::Int64), count(&DataType::Float64));
        let number = match uses.of(name) {
            ColumnUse::Time if uses.time_unit.is_some() && self.has_fractions => DataType::Float64,
            ColumnUse::Time => DataType::Int64,
            _ if uses.keys.contains(name) && integers > fractions => self.integer(),
            _ if uses.key_parts.contains(name) && !self.has_fractions => self.integer(),
            _ => DataType::Float64,
        };
        let as_column = |found: &DataType| match found {
            DataType::Int64 | DataType::Float64 => number.clone(),
            other => other.clone(),
        };
        let mut counts: IndexMap<DataType, usize> = IndexMap::new();
        for (found, count) in &self.types {
            *counts.entry(as_column(found)).or_default() += count;
        }
        counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(found, _)| found)
    }

    fn integer(&self) -> DataType {
        if self.has_large && !self.has_negatives { DataType::UInt64 } else { DataType::Int64 }
    }
}

/// The schema of events that are read as `read_as`.
///
/// # Errors
/// If none of these is the time.
pub fn event_schema(read_as: &[Field], uses: &ColumnUses) -> Result<SchemaRef, ArrowError> {
    normal_schema(&Schema::new(read_as.to_vec()), uses)
}

/// Lines to columns. A line that is no event of the schema is found out and does no harm to others.
pub struct LineDecoder {
    columns: JsonColumns,
    schema: SchemaRef,
    uses: ColumnUses,
}

pub struct Decoded {
    pub events: RecordBatch,
    /// The line of each row.
    pub rows: Vec<usize>,
    /// Lines that are no events, and why.
    pub bad: Vec<(usize, String)>,
}

impl LineDecoder {
    /// Reads lines as `read_as` and gives events of [`event_schema`].
    ///
    /// # Errors
    /// If a column has a type that JSON is not read as, or none is the time.
    pub fn new(read_as: &[Field], uses: ColumnUses) -> Result<Self, ArrowError> {
        let columns = JsonColumns::new(Arc::new(Schema::new(read_as.to_vec())))?;
        Ok(LineDecoder { columns, schema: event_schema(read_as, &uses)?, uses })
    }

    /// Of the events that come out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// # Errors
    /// Never for what lines hold.
    pub fn decode(&mut self, lines: &[Line]) -> Result<Decoded, ArrowError> {
        let (mut rows, mut bad) = (Vec::with_capacity(lines.len()), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            let read = match line.too_long {
                true => {
                    Err(format!("longer than {LINE_BYTES_MAX} bytes; the payload is its beginning"))
                }
                false => self.columns.push(&line.bytes),
            };
            match read {
                Ok(()) => rows.push(at),
                Err(why) => bad.push((at, why)),
            }
        }
        // What does not fit its column was found out above.
        let events = normalise(&self.columns.finish()?, &self.schema, &self.uses)?.rows;
        Ok(Decoded { events, rows, bad })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::job::JsonType;

    fn line(text: &str) -> Line {
        let bytes = text.as_bytes().to_vec();
        Line { bytes, too_long: false, position: 0, file: "f".into(), number: 1 }
    }

    fn decoder() -> LineDecoder {
        let fields = [
            Field::new("t", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
        ];
        LineDecoder::new(&fields, uses(&[])).unwrap()
    }

    fn uses(keys: &[&str]) -> ColumnUses {
        let keys = keys.iter().map(|&name| name.to_owned()).collect();
        ColumnUses { time: Some("t".to_owned()), keys, ..ColumnUses::default() }
    }

    const GOOD: &str = r#"{"t": 5, "x": 1.5, "s": "a", "more": [1]}"#;

    #[test]
    fn a_bad_line_in_any_place_harms_no_other() {
        let bad_lines = [
            "{\"t\": 1",
            "{\"t\": 1}{\"t\": 2}",
            "1}",
            "[]",
            "{\"t\": 1.5}",
            "{\"t\": 1, \"x\": \"one\"}",
            "{\"t\": 1, \"s\": 12}",
            "{\"t\": 1, \"s\": true}",
            "{\"t\": 1, \"x\": 1e}",
            "\u{0}",
            "{\"s\": \"\\ud800\"}",
            "{\"t\": 1,}",
            "{\"t\": 1 \"x\": 2}",
            "{\"t\": 1, \"unread\": 1e}",
            "{\"t\": \"1\"}",
            "{\"t\": 1, \"unread\": \"\t\"}",
        ];
        for bad in bad_lines {
            for place in 0..4 {
                let mut lines: Vec<Line> = (0..3).map(|_| line(GOOD)).collect();
                lines.insert(place, line(bad));
                let decoded = decoder().decode(&lines).unwrap();
                assert_eq!(decoded.events.num_rows(), 3, "{bad} at {place}");
                assert_eq!(decoded.bad.len(), 1, "{bad}");
                assert_eq!(decoded.bad[0].0, place, "{bad}");
            }
        }
    }

    #[test]
    fn two_mistakes_do_not_make_a_right() {
        let lines =
            [line(GOOD), line("{\"t\": 1}{\"t\": 2}"), line("{\"t\":"), line("1}"), line(GOOD)];
        let decoded = decoder().decode(&lines).unwrap();
        assert_eq!(decoded.rows, [0, 4]);
        assert_eq!(decoded.bad.len(), 3);
    }

    #[test]
    fn the_most_frequent_type_is_the_column_s() {
        let sample = [line(r#"{"t": 1, "x": "one"}"#), line(GOOD), line(GOOD)];
        let fields = infer(&sample, &uses(&[]));
        assert_eq!(fields[1], Field::new("x", DataType::Float64, true));
    }

    #[test]
    fn columns_are_learned_and_declarations_win() {
        let sample = [line(GOOD), line(r#"{"t": 6, "x": 2, "k": 7, "b": true, "s": null}"#)];
        let declared = IndexMap::from([("x".to_owned(), JsonType::Utf8)]);
        let fields = infer(&sample, &ColumnUses { declared, ..uses(&["k"]) });
        let of =
            |name: &str| fields.iter().find(|f| f.name() == name).map(|f| f.data_type().clone());
        assert_eq!(of("t"), Some(DataType::Int64));
        assert_eq!(of("k"), Some(DataType::Int64));
        assert_eq!(of("x"), Some(DataType::Utf8));
        assert_eq!(of("b"), Some(DataType::Boolean));
        assert_eq!(of("more"), None);
    }
}
