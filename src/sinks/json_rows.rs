//! Rows as JSON, a line each: the text is that of arrow's writer with explicit nulls, at a fraction of
//! its time for the types that predictions have.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{
    DataType, FieldRef, Float32Type, Float64Type, Int64Type, SchemaRef, TimeUnit,
    TimestampMillisecondType, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, NullableEncoder, make_encoder};
use driftline_operators::layout::Published;
use lexical_core::{FormattedSize, ToLexical};

use crate::instant::{Fraction, write_instant};

/// Writes rows; works out once what is the same for all batches of a schema.
#[derive(Default)]
pub struct JsonRows {
    schema: Option<SchemaRef>,
    /// What stands before the value of each column.
    names: Vec<Vec<u8>>,
    options: EncoderOptions,
}

impl JsonRows {
    /// Appends a line for each row; says where each ends, behind its line feed.
    ///
    /// # Errors
    /// If a column has no JSON form.
    pub fn write(
        &mut self,
        rows: &RecordBatch,
        to: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) -> Result<(), ArrowError> {
        self.name_columns(rows.schema_ref());
        let schema = rows.schema();
        let fields = schema.fields().iter().zip(rows.columns());
        let columns = fields.map(|(field, column)| Column::of(field, column, &self.options));
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        ends.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            for (name, column) in self.names.iter().zip(&mut columns) {
                to.extend_from_slice(name);
                column.write(row, to);
            }
            to.extend_from_slice(if columns.is_empty() { b"{}\n" } else { b"}\n" });
            ends.push(to.len());
        }
        Ok(())
    }

    fn name_columns(&mut self, schema: &SchemaRef) {
        if self.schema.as_ref().is_some_and(|known| Arc::ptr_eq(known, schema)) {
            return;
        }
        self.names.clear();
        for (at, field) in schema.fields().iter().enumerate() {
            let mut name = vec![if at == 0 { b'{' } else { b',' }];
            text(field.name(), &mut name);
            name.push(b':');
            self.names.push(name);
        }
        self.options = EncoderOptions::default().with_explicit_nulls(true);
        self.schema = Some(schema.clone());
    }
}

/// What is published of batches as JSON lines, in memory that is kept.
#[derive(Default)]
pub struct PublishedLines {
    published: Published,
    rows: JsonRows,
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl PublishedLines {
    /// Without some columns, by name.
    pub fn without(left_out: Arc<[String]>) -> Self {
        PublishedLines { published: Published::without(left_out), ..PublishedLines::default() }
    }

    /// The lines of a batch, and where each ends.
    ///
    /// # Errors
    /// If a column has no JSON form.
    pub fn of(&mut self, batch: &RecordBatch) -> Result<(&[u8], &[usize]), ArrowError> {
        self.text.clear();
        self.ends.clear();
        self.rows.write(&self.published.of(batch), &mut self.text, &mut self.ends)?;
        Ok((&self.text, &self.ends))
    }
}

/// A column, and how its values are written.
enum Column<'a> {
    Text(&'a StringArray),
    Int64(&'a Int64Array),
    UInt64(&'a UInt64Array),
    UInt32(&'a UInt32Array),
    Float32(&'a Float32Array),
    Float64(&'a Float64Array),
    Instant(&'a TimestampMillisecondArray),
    /// Of numbers, none of which is null.
    Vectors(&'a ListArray, &'a [f32]),
    DoubleVectors(&'a ListArray, &'a [f64]),
    Other(NullableEncoder<'a>),
}

impl<'a> Column<'a> {
    fn of(
        field: &'a FieldRef,
        column: &'a ArrayRef,
        options: &'a EncoderOptions,
    ) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Utf8 => Column::Text(column.as_string()),
            DataType::Int64 => Column::Int64(column.as_primitive::<Int64Type>()),
            DataType::UInt64 => Column::UInt64(column.as_primitive::<UInt64Type>()),
            DataType::UInt32 => Column::UInt32(column.as_primitive::<UInt32Type>()),
            DataType::Float32 => Column::Float32(column.as_primitive::<Float32Type>()),
            DataType::Float64 => Column::Float64(column.as_primitive::<Float64Type>()),
            DataType::Timestamp(TimeUnit::Millisecond, Some(zone)) if zone.as_ref() == "UTC" => {
                Column::Instant(column.as_primitive::<TimestampMillisecondType>())
            }
            DataType::List(item) => {
                let lists = column.as_list::<i32>();
                let values = lists.values();
                match item.data_type() {
                    DataType::Float32 if values.null_count() == 0 => {
                        Column::Vectors(lists, values.as_primitive::<Float32Type>().values())
                    }
                    DataType::Float64 if values.null_count() == 0 => {
                        Column::DoubleVectors(lists, values.as_primitive::<Float64Type>().values())
                    }
                    _ => Column::Other(make_encoder(field, column, options)?),
                }
            }
            _ => Column::Other(make_encoder(field, column, options)?),
        })
    }

    fn write(&mut self, row: usize, to: &mut Vec<u8>) {
        if self.is_null(row) {
            return to.extend_from_slice(b"null");
        }
        match self {
            Column::Text(column) => text(column.value(row), to),
            Column::Int64(column) => number(column.value(row), to),
            Column::UInt64(column) => number(column.value(row), to),
            Column::UInt32(column) => number(column.value(row), to),
            Column::Float32(column) => float(column.value(row), to),
            Column::Float64(column) => float(column.value(row), to),
            Column::Instant(column) => {
                to.push(b'"');
                write_instant(column.value(row), Fraction::AsNeeded, to);
                to.push(b'"');
            }
            Column::Vectors(lists, values) => vector(lists, values, row, to),
            Column::DoubleVectors(lists, values) => vector(lists, values, row, to),
            Column::Other(column) => column.encode(row, to),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Text(column) => column.is_null(row),
            Column::Int64(column) => column.is_null(row),
            Column::UInt64(column) => column.is_null(row),
            Column::UInt32(column) => column.is_null(row),
            Column::Float32(column) => column.is_null(row),
            Column::Float64(column) => column.is_null(row),
            Column::Instant(column) => column.is_null(row),
            Column::Vectors(lists, _) | Column::DoubleVectors(lists, _) => lists.is_null(row),
            Column::Other(column) => column.is_null(row),
        }
    }
}

/// A text in quotes.
fn text(value: &str, to: &mut Vec<u8>) {
    // All bytes are looked at: it takes a few instructions for many.
    let is_escaped = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if value.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
        let written = serde_json::to_writer(to, value);
        return debug_assert!(written.is_ok(), "nothing fails to be written to memory");
    }
    to.push(b'"');
    to.extend_from_slice(value.as_bytes());
    to.push(b'"');
}

/// A list of numbers.
fn vector<F: Float>(lists: &ListArray, values: &[F], row: usize, to: &mut Vec<u8>) {
    let offsets = lists.value_offsets();
    to.push(b'[');
    let values = &values[offsets[row] as usize..offsets[row + 1] as usize];
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            to.push(b',');
        }
        float(*value, to);
    }
    to.push(b']');
}

/// A number of either width; JSON has none that is not finite.
fn float<F: Float>(value: F, to: &mut Vec<u8>) {
    match Into::<f64>::into(value).is_finite() {
        true => number(value, to),
        false => to.extend_from_slice(b"null"),
    }
}

trait Float: ToLexical + FormattedSize + Into<f64> + Copy {}

impl Float for f32 {}
impl Float for f64 {}

fn number<N: ToLexical + FormattedSize>(value: N, to: &mut Vec<u8>) {
    // Enough for every number of 64 bits.
    let mut digits = [0; 64];
    debug_assert!(N::FORMATTED_SIZE <= digits.len());
    to.extend_from_slice(lexical_core::write(value, &mut digits));
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Int32Array, TimestampMicrosecondArray, UInt64Builder, new_empty_array,
    };
    use arrow::datatypes::{Field, Schema};
    use arrow::json::writer::{LineDelimited, WriterBuilder};

    use super::*;

    fn as_arrow_writes(rows: &RecordBatch) -> String {
        let mut writer =
            WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(rows).unwrap();
        writer.finish().unwrap();
        String::from_utf8(writer.into_inner()).unwrap()
    }

    #[track_caller]
    fn check(rows: &RecordBatch) {
        let (mut found, mut ends) = (Vec::new(), Vec::new());
        JsonRows::default().write(rows, &mut found, &mut ends).unwrap();
        assert_eq!(String::from_utf8(found.clone()).unwrap(), as_arrow_writes(rows));
        let lines = found.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        assert_eq!(ends, lines.map(|(at, _)| at + 1).collect::<Vec<_>>());
    }

    /// Any values of the types that are written here, some null.
    fn drawn(random: &mut fastrand::Rng, rows: usize) -> RecordBatch {
        let texts = ["", "a", "é\u{1F600}", "\"", "\\", "\n\t\u{1}\u{7f}", "a/b", "\u{2028}"];
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        macro_rules! add {
            ($array:ty, $value:expr) => {{
                let values = (0..rows).map(|_| (random.u8(..) > 40).then(|| $value));
                let column: $array = values.collect();
                columns.push((format!("c\"{}", columns.len()), Arc::new(column)));
            }};
        }
        add!(StringArray, *random.choice(&texts).unwrap());
        add!(Int64Array, random.i64(..) >> random.u8(0..64));
        add!(UInt64Array, random.u64(..) >> random.u8(0..64));
        add!(UInt32Array, random.u32(..) >> random.u8(0..32));
        add!(Float32Array, f32::from_bits(random.u32(..)));
        add!(Float32Array, random.i32(-1_000_000..1_000_000) as f32 / 1_000.0);
        add!(Float64Array, f64::from_bits(random.u64(..)));
        add!(Float64Array, random.i32(-1_000_000..1_000_000) as f64 / 1_000.0);
        add!(BooleanArray, random.bool());
        add!(Int32Array, random.i32(..));
        add!(TimestampMicrosecondArray, random.i64(..1 << 50));
        let millis = || {
            TimestampMillisecondArray::from_iter((0..rows).map(|at| {
                (at % 5 > 0).then(|| (fastrand::Rng::with_seed(at as u64).i64(..) >> 20) - 500)
            }))
        };
        columns.push(("utc".to_owned(), Arc::new(millis().with_timezone("UTC"))));
        columns.push(("zone".to_owned(), Arc::new(millis().with_timezone("+01:00"))));
        let lists = (0..rows).map(|at| {
            let list = (0..at % 4).map(|item| Some(item as f32 / 3.0 - at as f32));
            (at % 7 > 0).then(|| list.collect::<Vec<_>>())
        });
        let lists: Vec<Option<Vec<Option<f32>>>> = lists.collect();
        let list = |lists| ListArray::from_iter_primitive::<Float32Type, _, _>(lists);
        columns.push(("list".to_owned(), Arc::new(list(lists.clone()))));
        let with_null = lists.into_iter().chain([Some(vec![None])]).skip(1);
        columns.push(("nulls".to_owned(), Arc::new(list(with_null.collect::<Vec<_>>()))));
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn lines_are_those_of_arrow() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let rows = drawn(&mut random, 1 + seed as usize * 3);
            check(&rows);
            check(&rows.slice(rows.num_rows() / 2, rows.num_rows() / 2));
        }
    }

    #[test]
    fn batches_without_rows_or_columns_are_written() {
        let field = Field::new("a", DataType::UInt64, true);
        let schema = Arc::new(Schema::new(vec![field]));
        check(&RecordBatch::new_empty(schema.clone()));
        check(&RecordBatch::try_new(schema, vec![new_empty_array(&DataType::UInt64)]).unwrap());
        let none =
            RecordBatch::try_from_iter([("a", Arc::new(UInt64Builder::new().finish()) as _)]);
        check(&none.unwrap().project(&[]).unwrap());
    }

    #[test]
    fn batches_of_another_schema_have_other_names() {
        let rows = |name: &str| {
            let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
            RecordBatch::try_from_iter([(name, column)]).unwrap()
        };
        let (mut json, mut text, mut ends) = (JsonRows::default(), Vec::new(), Vec::new());
        for name in ["a", "b", "a"] {
            json.write(&rows(name), &mut text, &mut ends).unwrap();
        }
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.replace('\n', ""), r#"{"a":1}{"a":2}{"b":1}{"b":2}{"a":1}{"a":2}"#);
    }
}
