//! JSON lines to columns: which columns there are, and what is no event.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use indexmap::IndexMap;
use serde::de::IgnoredAny;

use super::columns::{normalise, time_type};
use super::lines::{LINE_BYTES_MAX, Line};
use super::surrogates::without_pairs;
use crate::config::job::JsonType;

/// Objects and lists within each other; a line that is nested deeper is no event.
pub const NESTING_MAX: usize = 127;
/// Of what is told of a line that is no event.
const WHY_CHARS_MAX: usize = 500;

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
    for (name, json_type) in declared {
        let data_type = match json_type {
            JsonType::Int64 => DataType::Int64,
            JsonType::Float64 => DataType::Float64,
            JsonType::Utf8 => DataType::Utf8,
            JsonType::Boolean => DataType::Boolean,
        };
        columns.insert(name.clone(), data_type);
    }
    columns.into_iter().map(|(name, found)| Field::new(name, found, true)).collect()
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
    /// Integers are read as their text, so that `1.5` is an error and not 1.
    wire: SchemaRef,
    typed: SchemaRef,
    /// The columns of text, where reading integers as text lets numbers pass for text.
    texts: Option<SchemaRef>,
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
    pub fn new(read_as: &[Field], schema: SchemaRef) -> Self {
        let as_text = |field: &Field| match field.data_type() {
            DataType::Int64 => Field::new(field.name(), DataType::Utf8, true),
            _ => field.clone(),
        };
        let is_text = |field: &&Field| *field.data_type() == DataType::Utf8;
        let texts: Vec<Field> = read_as.iter().filter(is_text).cloned().collect();
        let integers = read_as.iter().any(|field| *field.data_type() == DataType::Int64);
        LineDecoder {
            texts: (integers && !texts.is_empty()).then(|| Arc::new(Schema::new(texts))),
            wire: Arc::new(Schema::new(read_as.iter().map(as_text).collect::<Vec<_>>())),
            typed: Arc::new(Schema::new(read_as.to_vec())),
            schema,
        }
    }

    /// Of the events that come out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn new_decoder(&self, rows: usize) -> Result<Decoder, arrow::error::ArrowError> {
        let integers = self.wire != self.typed;
        ReaderBuilder::new(self.wire.clone())
            .with_batch_size(rows.max(1))
            .with_coerce_primitive(integers)
            .build_decoder()
    }

    /// # Errors
    /// If a column of text has a number or a truth value in one of the lines that `batch` came from.
    fn check_texts<'a>(
        &self,
        batch: &RecordBatch,
        lines: impl ExactSizeIterator<Item = &'a Line>,
    ) -> Result<(), arrow::error::ArrowError> {
        let Some(texts) = &self.texts else { return Ok(()) };
        let mut columns =
            texts.fields().iter().filter_map(|text| batch.column_by_name(text.name()));
        if !columns.any(|column| column.as_string::<i32>().iter().flatten().any(may_be_no_text)) {
            return Ok(());
        }
        let size = lines.len() + 1;
        let mut decoder =
            ReaderBuilder::new(texts.clone()).with_batch_size(size).build_decoder()?;
        for line in lines {
            decoder.decode(&without_pairs(&line.bytes))?;
        }
        decoder.flush().map(|_| ())
    }

    /// # Errors
    /// Never for what lines hold; only if Arrow cannot build a decoder for the schema.
    pub fn decode(&self, lines: &[Line]) -> Result<Decoded, arrow::error::ArrowError> {
        if let Some(batch) = self.all_at_once(lines)? {
            let rows = (0..lines.len()).collect();
            return Ok(Decoded { events: batch, rows, bad: Vec::new() });
        }
        let (mut rows, mut bad, mut batches) = (Vec::new(), Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            match self.alone(line) {
                Ok(batch) => {
                    rows.push(at);
                    batches.push(batch);
                }
                // Arrow tells the value that does not fit, however long it is.
                Err(why) => bad.push((at, why.chars().take(WHY_CHARS_MAX).collect())),
            }
        }
        let events = arrow::compute::concat_batches(&self.schema, &batches)?;
        Ok(Decoded { events, rows, bad })
    }

    /// All lines with one decoder, or `None` if any of them is not exactly one event.
    fn all_at_once(&self, lines: &[Line]) -> Result<Option<RecordBatch>, arrow::error::ArrowError> {
        if lines.is_empty() {
            return Ok(Some(RecordBatch::new_empty(self.schema.clone())));
        }
        let mut decoder = self.new_decoder(lines.len() + 1)?;
        for (at, line) in lines.iter().enumerate() {
            if line.too_long || is_too_deep(&line.bytes) || !is_json(&line.bytes) {
                return Ok(None);
            }
            let text = without_pairs(&line.bytes);
            let read = decoder.decode(&text);
            let whole = read.is_ok_and(|read| read == text.len())
                && !decoder.has_partial_record()
                && decoder.len() == at + 1;
            if !whole {
                return Ok(None);
            }
        }
        let Ok(Some(batch)) = decoder.flush() else { return Ok(None) };
        if self.check_texts(&batch, lines.iter()).is_err() {
            return Ok(None);
        }
        Ok(self.typed(&batch).ok())
    }

    /// One line by itself; what is wrong with it otherwise.
    fn alone(&self, line: &Line) -> Result<RecordBatch, String> {
        if line.too_long {
            return Err(format!(
                "longer than {LINE_BYTES_MAX} bytes; the payload is its beginning"
            ));
        }
        if is_too_deep(&line.bytes) {
            return Err(format!("nested more than {NESTING_MAX} levels deep"));
        }
        let mut decoder = self.new_decoder(2).map_err(|error| error.to_string())?;
        let text = without_pairs(&line.bytes);
        let read = decoder.decode(&text).map_err(|error| error.to_string())?;
        if decoder.has_partial_record() || decoder.len() != 1 || read != text.len() {
            return Err("not exactly one JSON object".to_owned());
        }
        if let Err(error) = serde_json::from_slice::<IgnoredAny>(&line.bytes) {
            return Err(format!("not JSON: {error}"));
        }
        let batch = decoder.flush().map_err(|error| error.to_string())?.ok_or("no JSON object")?;
        let texts = self.check_texts(&batch, std::iter::once(line));
        texts.and_then(|()| self.typed(&batch)).map_err(|error| error.to_string())
    }

    /// Integers from their text, times from whatever they are.
    fn typed(&self, batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        let columns: Result<Vec<ArrayRef>, _> = batch
            .columns()
            .iter()
            .zip(self.typed.fields())
            .map(|(column, field)| match field.data_type() {
                DataType::Int64 => {
                    integers(column, field.name()).map(|column| Arc::new(column) as ArrayRef)
                }
                _ => Ok(column.clone()),
            })
            .collect();
        normalise(&RecordBatch::try_new(self.typed.clone(), columns?)?, &self.schema)
    }
}

/// Whether a number or a truth value of JSON could have become this text.
fn may_be_no_text(text: &str) -> bool {
    matches!(text, "true" | "false") || text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Arrow tells of a value that does not fit by recursion into it, which ends the stack if it is nested
/// deep enough. serde_json reads no deeper either.
fn is_too_deep(line: &[u8]) -> bool {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    if line.iter().filter(|byte| opens(byte)).count() <= NESTING_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            byte if opens(byte) && !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}

/// Arrow's decoder does not mind commas that are missing or too many, nor what stands where a number
/// is not read: whether a line is an event would depend on which columns the job reads.
fn is_json(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_ok()
}

fn integers(text: &ArrayRef, name: &str) -> Result<Int64Array, arrow::error::ArrowError> {
    let text = text.as_string::<i32>();
    let mut values = arrow::array::PrimitiveBuilder::<Int64Type>::with_capacity(text.len());
    for value in text {
        let parsed = value.map(|value| {
            value.parse::<i64>().map_err(|_| {
                arrow::error::ArrowError::JsonError(format!(
                    "{name:?} is {value}, which is no integer"
                ))
            })
        });
        values.append_option(parsed.transpose()?);
    }
    Ok(values.finish())
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
        LineDecoder::new(&fields, event_schema(&fields, "t"))
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
