//! Results as CSV (RFC 4180, lines ended by a line feed): a file a worker, or standard output.

use std::fmt::Write;
use std::path::PathBuf;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use driftline_operators::layout::{Published, published_schema};
use driftline_operators::sinks::{Sink, SinkError};

use super::text_file::TextFile;
use crate::config::job::Compression;

/// Writes a header, and a record a row: null as nothing, an empty text as `""`, lists as JSON, bytes in
/// hexadecimal, times as RFC 3339, and numbers in as few digits as tell them from all others.
pub struct CsvSink {
    file: TextFile,
    published: Published,
}

impl CsvSink {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(
        path: PathBuf,
        schema: &SchemaRef,
        compression: Option<Compression>,
    ) -> Result<Self, SinkError> {
        CsvSink::to(TextFile::create(path, compression)?, schema)
    }

    /// # Errors
    /// If the header cannot be written.
    pub fn to(mut file: TextFile, schema: &SchemaRef) -> Result<Self, SinkError> {
        let schema = published_schema(schema);
        let mut header = String::new();
        for (at, field) in schema.fields().iter().enumerate() {
            header.push_str(if at > 0 { "," } else { "" });
            push_text(&mut header, field.name());
        }
        header.push('\n');
        file.write(header.as_bytes(), 0)?;
        Ok(CsvSink { file, published: Published::default() })
    }
}

impl Sink for CsvSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let records =
            to_records(&self.published.of(batch)).map_err(|error| self.file.error(error))?;
        self.file.write(records.as_bytes(), batch.num_rows() as u64)
    }

    fn durable_rows(&mut self) -> u64 {
        self.file.durable_rows()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.finish()
    }
}

/// The rows of a batch as records.
fn to_records(batch: &RecordBatch) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter();
    let formatters = columns.map(|column| ArrayFormatter::try_new(column.as_ref(), &options));
    let formatters = formatters.collect::<Result<Vec<_>, _>>()?;
    let mut records = String::new();
    for row in 0..batch.num_rows() {
        for (at, (column, formatter)) in batch.columns().iter().zip(&formatters).enumerate() {
            records.push_str(if at > 0 { "," } else { "" });
            if column.is_valid(row) {
                push_value(&mut records, column, row, formatter)?;
            }
        }
        records.push('\n');
    }
    Ok(records)
}

fn push_value(
    record: &mut String,
    column: &ArrayRef,
    row: usize,
    formatter: &ArrayFormatter,
) -> Result<(), ArrowError> {
    match column.data_type() {
        DataType::Float64 => push_number(record, column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => push_number(record, column.as_primitive::<Float32Type>().value(row)),
        DataType::Utf8 => push_text(record, column.as_string::<i32>().value(row)),
        DataType::List(_) => push_text(record, &list(&column.as_list::<i32>().value(row))?),
        _ => push_text(record, &formatter.value(row).try_to_string()?),
    }
    Ok(())
}

/// `{:?}` is the shortest text that is read as the same number.
fn push_number(record: &mut String, number: impl std::fmt::Debug) {
    write!(record, "{number:?}").expect("a String takes all");
}

fn push_text(record: &mut String, text: &str) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        record.push('"');
        record.push_str(&text.replace('"', "\"\""));
        record.push('"');
    } else {
        record.push_str(text);
    }
}

/// A list as JSON, which has no NaN and no infinities: they are null.
fn list(values: &ArrayRef) -> Result<String, ArrowError> {
    let mut text = String::from("[");
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(values.as_ref(), &options)?;
    for row in 0..values.len() {
        text.push_str(if row > 0 { "," } else { "" });
        let is_finite = match values.data_type() {
            DataType::Float64 => values.as_primitive::<Float64Type>().value(row).is_finite(),
            DataType::Float32 => values.as_primitive::<Float32Type>().value(row).is_finite(),
            _ => true,
        };
        match values.data_type() {
            _ if values.is_null(row) || !is_finite => text.push_str("null"),
            DataType::Float64 => {
                push_number(&mut text, values.as_primitive::<Float64Type>().value(row));
            }
            DataType::Float32 => {
                push_number(&mut text, values.as_primitive::<Float32Type>().value(row));
            }
            DataType::List(_) => text.push_str(&list(&values.as_list::<i32>().value(row))?),
            DataType::Utf8 => {
                let value = serde_json::to_string(values.as_string::<i32>().value(row));
                text.push_str(
                    &value.map_err(|error| ArrowError::from_external_error(error.into()))?,
                );
            }
            _ => text.push_str(&formatter.value(row).try_to_string()?),
        }
    }
    text.push(']');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Float32Array, Float64Array, Int64Array, ListArray, StringArray,
        TimestampMillisecondArray,
    };

    use super::*;

    #[test]
    fn values_are_written_so_that_they_can_be_read_again() {
        let list = vec![Some(vec![Some(0.1), None, Some(f32::NAN)]), None, Some(vec![])];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("s", Arc::new(StringArray::from(vec![Some("a,\"b\"\n"), None, Some("")]))),
            ("x", Arc::new(Float64Array::from(vec![Some(0.1 + 0.2), None, Some(1e300)]))),
            ("f", Arc::new(Float32Array::from(vec![0.1, f32::INFINITY, 1e-30]))),
            ("n", Arc::new(Int64Array::from(vec![i64::MIN, 0, 7]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
            (
                "t",
                Arc::new(
                    TimestampMillisecondArray::from(vec![0, 1_500, 1_356_998_400_000])
                        .with_timezone("UTC"),
                ),
            ),
            ("l", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(list))),
            ("raw", Arc::new(BinaryArray::from_vec(vec![b"\xff{", b"", b"a"]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let expected = [
            "\"a,\"\"b\"\"\n\",0.30000000000000004,0.1,-9223372036854775808,true,1970-01-01T00:00:00Z,\"[0.1,null,null]\",ff7b\n",
            ",,inf,0,false,1970-01-01T00:00:01.500Z,,\"\"\n",
            "\"\",1e300,1e-30,7,true,2013-01-01T00:00:00Z,[],61\n",
        ];
        assert_eq!(to_records(&batch).unwrap(), expected.concat());
    }
}
