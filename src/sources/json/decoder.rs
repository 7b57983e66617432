//! Lines of text to columns, and what is no event.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::config::job::Format;
use crate::sources::columns::{ColumnUses, normal_schema, normalise};
use crate::sources::csv::columns::CsvColumns;
use crate::sources::json::chunk::LineChunk;
use crate::sources::json::columns::JsonColumns;
use crate::sources::json::lines::LINE_BYTES_MAX;

/// The schema of events that are read as `read_as`.
///
/// # Errors
/// If none of these is the time.
pub fn event_schema(read_as: &[Field], uses: &ColumnUses) -> Result<SchemaRef, ArrowError> {
    normal_schema(&Schema::new(read_as.to_vec()), uses)
}

/// Lines to columns. A line that is no event of the schema is found out and does no harm to others.
pub struct LineDecoder {
    columns: Columns,
    schema: SchemaRef,
    uses: ColumnUses,
}

enum Columns {
    Json(JsonColumns),
    Csv(Box<CsvColumns>),
}

#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub events: RecordBatch,
    /// The line of each row.
    pub rows: Vec<usize>,
    /// Lines that are no events, and why.
    pub bad: Vec<(usize, String)>,
}

impl LineDecoder {
    /// Reads lines of a format as `read_as` and gives events of [`event_schema`].
    ///
    /// # Errors
    /// If a column has a type that text is not read as, or none is the time.
    pub fn new(format: Format, read_as: &[Field], uses: ColumnUses) -> Result<Self, ArrowError> {
        let columns = Arc::new(Schema::new(read_as.to_vec()));
        let columns = match format {
            Format::Csv => Columns::Csv(Box::new(CsvColumns::new(columns)?)),
            Format::Json | Format::Parquet => Columns::Json(JsonColumns::new(columns)?),
        };
        Ok(LineDecoder { columns, schema: event_schema(read_as, &uses)?, uses })
    }

    /// The same, but serde_json reads all JSON, clean or not.
    #[must_use]
    pub fn by_serde(self) -> Self {
        let columns = match self.columns {
            Columns::Json(columns) => Columns::Json(columns.by_serde()),
            csv @ Columns::Csv(_) => csv,
        };
        LineDecoder { columns, ..self }
    }

    /// Of the events that come out.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// # Errors
    /// Never for what lines hold.
    pub fn decode(&mut self, lines: &LineChunk) -> Result<Decoded, ArrowError> {
        let (mut rows, mut bad) = (Vec::with_capacity(lines.len()), Vec::new());
        for at in 0..lines.len() {
            let (text, file) = (lines.text(at), lines.file(at));
            let read = match (&mut self.columns, lines.line(at).too_long) {
                (Columns::Json(_), true) => {
                    Err(format!("longer than {LINE_BYTES_MAX} bytes; the payload is its beginning"))
                }
                (Columns::Csv(_), true) => Err(format!(
                    "longer than {LINE_BYTES_MAX} bytes, such as where a quote is not closed; the payload is its beginning"
                )),
                (Columns::Json(columns), false) => columns.push_of(text, &file.folders),
                (Columns::Csv(columns), false) => columns.push(text, file),
            };
            match read {
                Ok(()) => rows.push(at),
                Err(why) => bad.push((at, why)),
            }
        }
        let read = match &mut self.columns {
            Columns::Json(columns) => columns.finish()?,
            Columns::Csv(columns) => columns.finish()?,
        };
        // What does not fit its column was found out above.
        let events = normalise(read.columns(), read.num_rows(), &self.schema, &self.uses)?.rows;
        Ok(Decoded { events, rows, bad })
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;

    use super::*;

    fn decoded(lines: &[&str]) -> Decoded {
        decoder().decode(&LineChunk::of_texts(lines, &Arc::default())).unwrap()
    }

    fn decoder() -> LineDecoder {
        let fields = [
            Field::new("t", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
        ];
        let uses = ColumnUses { time: Some("t".to_owned()), ..ColumnUses::default() };
        LineDecoder::new(Format::Json, &fields, uses).unwrap()
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
                let mut lines = vec![GOOD; 3];
                lines.insert(place, bad);
                let decoded = decoded(&lines);
                assert_eq!(decoded.events.num_rows(), 3, "{bad} at {place}");
                assert_eq!(decoded.bad.len(), 1, "{bad}");
                assert_eq!(decoded.bad[0].0, place, "{bad}");
            }
        }
    }

    #[test]
    fn two_mistakes_do_not_make_a_right() {
        let decoded = decoded(&[GOOD, "{\"t\": 1}{\"t\": 2}", "{\"t\":", "1}", GOOD]);
        assert_eq!(decoded.rows, [0, 4]);
        assert_eq!(decoded.bad.len(), 3);
    }
}
