//! JSON lines to columns: which columns there are, and what is no event.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use indexmap::IndexMap;

use crate::config::job::JsonType;
use crate::sources::columns::{normalise, time_type};
use crate::sources::json::columns::JsonColumns;
use crate::sources::json::lines::{LINE_BYTES_MAX, Line};

/// Columns of the sampled lines: as declared, else text, truth values, and numbers as Float64. Ids
/// and keys that are mostly integers stay integers; an event time that is a number is one.
pub fn infer(
    sample: &[Line],
    time: &str,
    declared: &IndexMap<String, JsonType>,
    text_or_integer: &[&str],
) -> Vec<Field> {
    use serde_json::Value;
    // How often each type was seen, by column, in the order of their first values.
    let mut seen: IndexMap<String, IndexMap<DataType, usize>> = IndexMap::new();
    for line in sample {
        let Ok(Value::Object(object)) = serde_json::from_slice(&line.bytes) else { continue };
        for (name, value) in object {
            let integer_column = text_or_integer.contains(&name.as_str());
            let found = match value {
                Value::Bool(_) => DataType::Boolean,
                Value::Number(_) if name == time => DataType::Int64,
                Value::Number(number) if integer_column && number.is_i64() => DataType::Int64,
                Value::Number(_) => DataType::Float64,
                Value::String(_) => DataType::Utf8,
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            *seen.entry(name).or_default().entry(found).or_default() += 1;
        }
    }
    // The most frequent type is the column's: what is otherwise is a bad record, not a bad column.
    let most = |types: IndexMap<DataType, usize>| {
        types.into_iter().rev().max_by_key(|(_, count)| *count).map(|(found, _)| found)
    };
    let typed = seen.into_iter().filter_map(|(name, types)| Some((name, most(types)?)));
    let mut columns: IndexMap<String, DataType> = typed.collect();
    for (name, declared_as) in declared {
        columns.insert(name.clone(), json_type(*declared_as));
    }
    columns.into_iter().map(|(name, found)| Field::new(name, found, true)).collect()
}

/// What a declared column is read as.
pub fn json_type(declared: JsonType) -> DataType {
    match declared {
        JsonType::Int64 => DataType::Int64,
        JsonType::Float64 => DataType::Float64,
        JsonType::Utf8 => DataType::Utf8,
        JsonType::Boolean => DataType::Boolean,
    }
}

/// The schema of events that are read as `read_as`.
pub fn event_schema(read_as: &[Field], time: &str) -> SchemaRef {
    let fields: Vec<Field> = read_as
        .iter()
        .map(|field| match field.name() == time {
            true => Field::new(time, time_type(), true),
            false => field.clone(),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Lines to columns. A line that is no event of the schema is found out and does no harm to others.
pub struct LineDecoder {
    columns: JsonColumns,
    schema: SchemaRef,
}

pub struct Decoded {
    pub events: RecordBatch,
    /// The line of each row.
    pub rows: Vec<usize>,
    /// Lines that are no events, and why.
    pub bad: Vec<(usize, String)>,
}

impl LineDecoder {
    /// Reads lines as `read_as` and gives events of `schema`, which [`event_schema`] made of it.
    ///
    /// # Errors
    /// If a column has a type that JSON is not read as.
    pub fn new(read_as: &[Field], schema: SchemaRef) -> Result<Self, ArrowError> {
        let columns = JsonColumns::new(Arc::new(Schema::new(read_as.to_vec())))?;
        Ok(LineDecoder { columns, schema })
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
        let events = normalise(&self.columns.finish()?, &self.schema)?;
        Ok(Decoded { events, rows, bad })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        LineDecoder::new(&fields, event_schema(&fields, "t")).unwrap()
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
        let fields = infer(&sample, "t", &IndexMap::new(), &[]);
        assert_eq!(fields[1], Field::new("x", DataType::Float64, true));
    }

    #[test]
    fn columns_are_learned_and_declarations_win() {
        let sample = [line(GOOD), line(r#"{"t": 6, "x": 2, "k": 7, "b": true, "s": null}"#)];
        let declared = IndexMap::from([("x".to_owned(), JsonType::Utf8)]);
        let fields = infer(&sample, "t", &declared, &["k"]);
        let of =
            |name: &str| fields.iter().find(|f| f.name() == name).map(|f| f.data_type().clone());
        assert_eq!(of("t"), Some(DataType::Int64));
        assert_eq!(of("k"), Some(DataType::Int64));
        assert_eq!(of("x"), Some(DataType::Utf8));
        assert_eq!(of("b"), Some(DataType::Boolean));
        assert_eq!(of("more"), None);
    }
}
