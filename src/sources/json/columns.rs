//! JSON objects to columns, one object at a time: each value goes straight into its column. serde_json
//! reads what `read_clean` leaves to it. An object that does not fit leaves nothing behind.

use std::fmt;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::clean::read_clean;
use super::tokens::{Infinity, Mended, without_mark};
use crate::sources::growing::{Column, Columns};

/// Of what is told of an object that does not fit.
const WHY_CHARS_MAX: usize = 500;

/// Columns of Int64, Float64, Utf8, Boolean and structures of them, which grow by JSON objects. What an
/// object has beyond them is passed over, what it lacks is null, and of a key that it has twice the
/// last value counts. A byte order mark before the object is passed over; `NaN` is null, and
/// `Infinity` a number.
pub struct JsonColumns {
    schema: SchemaRef,
    columns: Columns,
    rows: usize,
    /// serde_json reads all of them.
    by_serde: bool,
}

impl JsonColumns {
    /// # Errors
    /// If a column has another type than those above.
    pub fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let columns = Columns::new(schema.fields(), "")?;
        Ok(JsonColumns { schema, columns, rows: 0, by_serde: false })
    }

    /// The same columns, slower: what they are tested against.
    #[must_use]
    pub fn by_serde(self) -> Self {
        JsonColumns { by_serde: true, ..self }
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
        self.push_of(json, &[])
    }

    /// Adds a row of a file whose folders stand for columns.
    ///
    /// # Errors
    /// As [`JsonColumns::push`].
    pub fn push_of(
        &mut self,
        json: &[u8],
        folders: &[(String, Option<String>)],
    ) -> Result<(), String> {
        let text = std::str::from_utf8(without_mark(json));
        let text = text.map_err(|error| format!("not UTF-8: {error}"));
        let read = text.and_then(|text| self.read(text));
        let read = read.and_then(|()| self.columns.fill_from_folders(self.rows, folders));
        match read {
            Ok(()) => self.columns.fill(self.rows),
            Err(_) => self.columns.truncate(self.rows),
        }
        self.rows += usize::from(read.is_ok());
        read.map_err(|why| why.chars().take(WHY_CHARS_MAX).collect())
    }

    fn read(&mut self, text: &str) -> Result<(), String> {
        if !self.by_serde {
            if read_clean(text, &mut self.columns, self.rows) {
                return Ok(());
            }
            self.columns.truncate(self.rows);
        }
        let Err(error) = self.read_json(text, None) else { return Ok(()) };
        // Only what is no JSON is looked at again.
        let mended = if error.is_data() { None } else { Mended::new(text) };
        let Some(mended) = mended else { return Err(reason(&error, error.column())) };
        self.columns.truncate(self.rows);
        let read = self.read_json(&mended.text, Some(&mended.infinity));
        read.map_err(|error| reason(&error, mended.original_column(error.column())))
    }

    fn read_json(&mut self, text: &str, infinity: Option<&Infinity>) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let row = Row { columns: &mut self.columns, row: self.rows };
        deserializer.deserialize_map(Reading { what: row, infinity })?;
        deserializer.end()
    }

    /// The rows since the last time.
    ///
    /// # Errors
    /// Never for what was pushed.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = self.columns.finish()?;
        let options =
            RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
    }
}

/// What is wrong, and at which column of the line (from 1).
fn reason(error: &serde_json::Error, column: usize) -> String {
    let why = error.to_string();
    let why = match why.split_once(" at line 1 column") {
        Some((why, _)) => format!("{why} at column {column}"),
        None => why,
    };
    if error.is_data() { why } else { format!("not JSON: {why}") }
}

/// What is read, and the text that stands for `Infinity`, if one does.
struct Reading<'i, T> {
    what: T,
    infinity: Option<&'i Infinity>,
}

/// The object that becomes a row.
struct Row<'c> {
    columns: &'c mut Columns,
    row: usize,
}

impl<'de> Visitor<'de> for Reading<'_, Row<'_>> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("exactly one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Reading { what: Row { columns, row }, infinity } = self;
        read_members(&mut map, columns, row, infinity)
    }
}

/// Reads the values of an object into the columns of their keys.
fn read_members<'de, A: MapAccess<'de>>(
    map: &mut A,
    columns: &mut Columns,
    row: usize,
    infinity: Option<&Infinity>,
) -> Result<(), A::Error> {
    let mut cursor = 0;
    while let Some(column) = map.next_key_seed(Key { columns, cursor: &mut cursor })? {
        read_value(map, column.map(|column| columns.get_mut(column)), row, infinity)?;
    }
    Ok(())
}

/// Reads the value of a key into its column, if it has one.
fn read_value<'de, A: MapAccess<'de>>(
    map: &mut A,
    column: Option<&mut Column>,
    row: usize,
    infinity: Option<&Infinity>,
) -> Result<(), A::Error> {
    match column {
        Some(column) => {
            column.truncate(row);
            map.next_value_seed(Reading { what: Cell(column), infinity })
        }
        None => map.next_value::<IgnoredAny>().map(|_| ()),
    }
}

/// A key of an object, to its column.
struct Key<'c> {
    columns: &'c mut Columns,
    cursor: &'c mut usize,
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
        Ok(self.columns.of_key(key, self.cursor))
    }
}

/// The value of a column in the row that is being read.
struct Cell<'c>(&'c mut Column);

impl<'de> DeserializeSeed<'de> for Reading<'_, Cell<'_>> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_, Cell<'_>> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.what.0.described())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.what.0.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.what.0.push_truth(value).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.what.0.push_integer(value).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.what.0.push_unsigned(value).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.what.0.push_float(value).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let Cell(column) = self.what;
        let read = match self.infinity.and_then(|infinity| infinity.of(value)) {
            Some(infinite) => column.push_infinity(infinite),
            None => column.push_text(value),
        };
        read.map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom(self.what.0.refusal("a list")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Reading { what: Cell(column), infinity } = self;
        let Some((members, row)) = column.begin_members() else {
            return Err(A::Error::custom(column.refusal("an object")));
        };
        read_members(&mut map, members, row, infinity)?;
        column.end_members();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};

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

    #[test]
    fn words_of_python_are_null_and_infinite_numbers() {
        let mut columns = columns();
        let inner = r#"{"deep": [{"x": -Infinity}, NaN], "b": "NaN"}"#;
        let line = format!(r#"{{"other": {inner}, "x": Infinity, "i": NaN, "s": NaN, "b": NaN}}"#);
        columns.push(line.as_bytes()).unwrap();
        columns.push(b"\xef\xbb\xbf{\"x\": -Infinity, \"s\": \"Infinity\"}").unwrap();
        columns.push(br#"{"x": NaN, "i": 1}"#).unwrap();
        for (line, why) in [
            (r#"{"i": Infinity}"#, r#""i" is Infinity, which is no integer at column 14"#),
            (r#"{"s": -Infinity}"#, r#""s" is -Infinity, which is no text at column 15"#),
            (r#"{"b": NaN, "s": 1}"#, r#""s" is 1, which is no text at column 17"#),
            (r#"{"x": 1e400}"#, "not JSON: number out of range at column 1"),
            (r#"{"x": NaN, "b": tru}"#, "not JSON: expected ident at column 2"),
        ] {
            let error = columns.push(line.as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{line}: {error}");
        }
        let batch = columns.finish().unwrap();
        let floats: Vec<_> = batch.column(1).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(floats, [Some(f64::INFINITY), Some(f64::NEG_INFINITY), None]);
        assert_eq!(batch.column(0).null_count(), 2);
        assert_eq!(batch.column(2).as_string::<i32>().value(1), "Infinity");
        assert_eq!(batch.column(3).null_count(), 3);
    }

    #[test]
    fn objects_within_objects_are_structures() {
        let field = |name: &str, to| Field::new(name, to, true);
        let account = vec![field("age", DataType::Float64), field("name", DataType::Utf8)];
        let account = DataType::Struct(account.into());
        let payload = DataType::Struct(vec![field("account", account)].into());
        let schema = Schema::new(vec![field("p", payload), field("i", DataType::Int64)]);
        let mut columns = JsonColumns::new(Arc::new(schema)).unwrap();
        columns.push(br#"{"p": {"account": {"name": "a", "age": 1.5, "more": {}}}}"#).unwrap();
        for (line, why) in [
            (
                r#"{"p": {"account": {"name": "b", "age": "1"}}}"#,
                r#""p.account.age" is "1", which is no number at column 42"#,
            ),
            (
                r#"{"p": {"account": {"name": "b"}}, "i": "x"}"#,
                r#""i" is "x", which is no integer at column 42"#,
            ),
            (r#"{"p": 7}"#, r#""p" is 7, which is no object at column 7"#),
            (
                r#"{"p": {"account": []}}"#,
                r#""p.account" is a list, which is no object at column 20"#,
            ),
        ] {
            assert_eq!(columns.push(line.as_bytes()).unwrap_err(), why, "{line}");
        }
        for line in [
            r#"{"p": null}"#,
            "{}",
            r#"{"p": {}, "i": 3}"#,
            r#"{"p": {"account": {"age": 9}}, "p": {"account": {"age": NaN, "age": 2, "name": "c"}}}"#,
        ] {
            columns.push(line.as_bytes()).unwrap();
        }
        let batch = columns.finish().unwrap();
        let payload = batch.column(0).as_struct();
        let nulls = |array: &dyn Array| (0..5).map(|row| array.is_null(row)).collect::<Vec<_>>();
        assert_eq!(nulls(payload), [false, true, true, false, false]);
        let account = payload.column(0).as_struct();
        assert_eq!(nulls(account), [false, true, true, true, false]);
        let ages: Vec<_> = account.column(0).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(ages, [Some(1.5), None, None, None, Some(2.0)]);
        let names: Vec<_> = account.column(1).as_string::<i32>().iter().collect();
        assert_eq!(names, [Some("a"), None, None, None, Some("c")]);
    }
}
