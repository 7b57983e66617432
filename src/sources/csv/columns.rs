//! Records of CSV to columns, one record at a time. One that does not fit leaves nothing behind.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;

use super::record::Record;
use super::values::{integer, is_missing, number, truth};
use crate::sources::growing::{Column, Columns};
use crate::sources::json::chunk::TextFile;

/// Columns of Int64, UInt64, Float64, Utf8 and Boolean that grow by records. An empty field is null, quoted
/// or not, and so is `NaN` where it is no text; blanks around what is no text are passed over.
pub struct CsvColumns {
    schema: SchemaRef,
    columns: Columns,
    types: Vec<DataType>,
    rows: usize,
    fields: Fields,
}

/// How the records of a file are read.
struct Fields {
    file: Arc<TextFile>,
    record: Record,
    /// By field, its column if it is read.
    columns: Vec<Option<usize>>,
}

impl CsvColumns {
    /// # Errors
    /// If a column has another type than those above.
    pub fn new(schema: SchemaRef) -> Result<Self, ArrowError> {
        let columns = Columns::new(schema.fields(), "")?;
        let types = schema.fields().iter().map(|field| field.data_type().clone()).collect();
        let fields = Fields::of(Arc::default(), &columns);
        Ok(CsvColumns { schema, columns, types, rows: 0, fields })
    }

    /// Adds a row, by the header of the file that it is of.
    ///
    /// # Errors
    /// Why `bytes` is not a record whose fields fit the header and their columns.
    pub fn push(&mut self, bytes: &[u8], file: &Arc<TextFile>) -> Result<(), String> {
        if !Arc::ptr_eq(file, &self.fields.file) {
            self.fields = Fields::of(file.clone(), &self.columns);
        }
        let read = self.read(bytes);
        let read = read.and_then(|()| self.columns.fill_from_folders(self.rows, &file.folders));
        match read {
            Ok(()) => self.columns.fill(self.rows),
            Err(_) => self.columns.truncate(self.rows),
        }
        self.rows += usize::from(read.is_ok());
        read
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Fields { record, columns, .. } = &mut self.fields;
        record.split(bytes)?;
        if record.width() != columns.len() {
            return Err(format!(
                "{} fields where the header has {}",
                record.width(),
                columns.len()
            ));
        }
        for (text, column) in record.iter().zip(columns) {
            let Some(column) = *column else { continue };
            push(self.columns.get_mut(column), &self.types[column], text)?;
        }
        Ok(())
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

impl Fields {
    fn of(file: Arc<TextFile>, columns: &Columns) -> Self {
        let names = file.header.names.iter();
        let columns = names.map(|name| columns.position(name)).collect();
        Fields { record: Record::new(file.header.delimiter), columns, file }
    }
}

/// The value that `text` says, into its column.
fn push(column: &mut Column, data_type: &DataType, text: &str) -> Result<(), String> {
    if text.is_empty() {
        column.push_null();
        return Ok(());
    }
    if *data_type == DataType::Utf8 {
        return column.push_text(text);
    }
    let word = text.trim_matches([' ', '\t']);
    if is_missing(word) {
        column.push_null();
        return Ok(());
    }
    let pushed = match data_type {
        DataType::Int64 => integer(word).map(|value| column.push_integer(value)),
        DataType::UInt64 => match word.parse() {
            Ok(count) => Some(column.push_unsigned(count)),
            Err(_) => integer(word).map(|value| column.push_integer(value)),
        },
        DataType::Float64 => number(word).map(|value| column.push_float(value)),
        _ => truth(word).map(|value| column.push_truth(value)),
    };
    pushed.unwrap_or_else(|| Err(column.refusal_of_text(text)))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Field, Float64Type, Int64Type, Schema};

    use super::*;
    use crate::sources::csv::header::Header;

    fn file(header: &str) -> Arc<TextFile> {
        let header = Header::new(header.as_bytes(), b',').unwrap();
        Arc::new(TextFile { name: "a.csv".to_owned(), header, ..TextFile::default() })
    }

    fn columns() -> CsvColumns {
        let fields = [
            ("i", DataType::Int64),
            ("x", DataType::Float64),
            ("s", DataType::Utf8),
            ("b", DataType::Boolean),
        ];
        let fields = fields.map(|(name, to)| Field::new(name, to, true));
        CsvColumns::new(Arc::new(Schema::new(fields.to_vec()))).unwrap()
    }

    #[test]
    fn fields_go_to_the_columns_of_their_names_and_empty_ones_are_null() {
        let mut columns = columns();
        let (one, other) = (file("s,other,i,x,b"), file("b,x"));
        columns.push(b"\"a,\r\n\"\"b\",z,7.0, 1.5 ,True", &one).unwrap();
        columns.push(b"\"\",,\"\",,\"\"", &one).unwrap();
        columns.push(b"false,-inf", &other).unwrap();
        columns.push(b"nan,NaN,nan,NaN,NaN", &one).unwrap();
        let batch = columns.finish().unwrap();
        let integers: Vec<_> = batch.column(0).as_primitive::<Int64Type>().iter().collect();
        assert_eq!(integers, [Some(7), None, None, None]);
        let floats: Vec<_> = batch.column(1).as_primitive::<Float64Type>().iter().collect();
        assert_eq!(floats, [Some(1.5), None, Some(f64::NEG_INFINITY), None]);
        let texts: Vec<_> = batch.column(2).as_string::<i32>().iter().collect();
        assert_eq!(texts, [Some("a,\r\n\"b"), None, None, Some("nan")]);
        let truths: Vec<_> = batch.column(3).as_boolean().iter().collect();
        assert_eq!(truths, [Some(true), None, Some(false), None]);
    }

    #[test]
    fn what_does_not_fit_is_told_and_leaves_nothing_behind() {
        let (mut columns, file) = (columns(), file("i,x,s,b"));
        for (text, why) in [
            ("1,2,3", "3 fields where the header has 4"),
            ("1,2,3,true,", "5 fields where the header has 4"),
            ("1.5,2,a,true", "\"i\" is \"1.5\", which is no integer"),
            ("1,NA,a,true", "\"x\" is \"NA\", which is no number"),
            ("1,1e400,a,true", "\"x\" is \"1e400\", which is no number"),
            ("1,2,a,1", "\"b\" is \"1\", which is no truth value"),
            ("1,2,\"a,true", "a quote is not closed"),
        ] {
            columns.push(b"1,2,a,true", &file).unwrap();
            assert_eq!(columns.push(text.as_bytes(), &file).unwrap_err(), why);
        }
        let batch = columns.finish().unwrap();
        assert_eq!(batch.num_rows(), 7);
        assert_eq!(batch.column(2).as_string::<i32>().iter().flatten().count(), 7);
    }
}
