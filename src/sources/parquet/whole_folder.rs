//! Parquet files that are read whole, together by name of column.

use std::fs::File;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::Result as Parquet;

use crate::sources::columns::{ColumnUses, Normalised};
use crate::sources::files::InputFile;
use crate::sources::parquet::folder::FolderColumns;
use crate::sources::parquet::footers::FileFooter;
use crate::sources::parquet::guard::guarded;
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::stream::Required;
use crate::sources::{SourceError, damaged, failed};

/// Rows that are read at a time.
const BATCH_ROWS: usize = 65_536;

/// All rows of some files.
pub struct WholeFolder {
    /// In the order of the files, without columns that cannot be read.
    pub rows: RecordBatch,
    /// Columns that cannot be read, and what is wrong.
    pub unreadable: Vec<(String, SourceError)>,
    /// Columns that are missing in some files, and what is to be said of it.
    pub notes: Vec<(String, String)>,
}

/// Reads the files, which hold no rows that have a time.
///
/// # Errors
/// If a file cannot be read, lacks a column that is required, or has a value that its column cannot
/// hold.
pub fn read(
    files: Vec<InputFile>,
    uses: ColumnUses,
    required: &[Required],
) -> Result<WholeFolder, SourceError> {
    let footers = files.into_iter().map(|file| FileFooter::read(file, "", None));
    let footers = footers.collect::<Result<Vec<_>, _>>()?;
    let mut columns = FolderColumns::new(&footers, uses, required)?;
    let unreadable: Vec<(String, SourceError)> =
        columns.unreadable().map(|(name, error)| (name.to_owned(), error)).collect();
    let fields = columns.schema().fields().iter().enumerate();
    let is_readable = |name: &String| unreadable.iter().all(|(other, _)| other != name);
    let readable = fields.filter(|(_, field)| is_readable(field.name())).map(|(at, _)| at);
    let readable: Vec<usize> = readable.collect();
    columns.project(&readable)?;
    let mut batches = Vec::new();
    for (at, file) in footers.iter().enumerate().filter(|(_, file)| file.rows() > 0) {
        let stored = guarded(|| stored_rows(file, &columns));
        let stored = stored.map_err(|error| failed(file.path.display(), damaged(&error)))?;
        let mut before = 0;
        for batch in stored {
            batches.push(in_form(&columns, &batch, at, file, before)?);
            before += batch.num_rows();
        }
    }
    let path = footers[0].path.display();
    let rows = concat_batches(columns.schema(), &batches).map_err(|error| failed(path, error))?;
    Ok(WholeFolder { rows, unreadable, notes: columns.notes_by_column() })
}

fn in_form(
    columns: &FolderColumns,
    batch: &RecordBatch,
    at: usize,
    file: &FileFooter,
    before: usize,
) -> Result<RecordBatch, SourceError> {
    let arranged = columns.arrange(batch, at, file);
    let Normalised { rows, refused } =
        arranged.map_err(|error| failed(file.path.display(), error))?;
    match refused.first() {
        Some((row, why)) => {
            Err(failed(file.path.display(), format!("row {}: {why}", before + row + 1)))
        }
        None => Ok(rows),
    }
}

fn stored_rows(file: &FileFooter, columns: &FolderColumns) -> Parquet<Vec<RecordBatch>> {
    let handle = WholeFile(File::open(&file.path)?);
    let schema = file.metadata.metadata().file_metadata().schema_descr();
    let mask = ProjectionMask::roots(schema, columns.in_file(file));
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, file.metadata.clone());
    let reader = reader.with_projection(mask).with_batch_size(BATCH_ROWS).build()?;
    Ok(reader.collect::<Result<Vec<_>, ArrowError>>()?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Float64Type, Int64Type};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::sources::files;

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None);
        writer.as_mut().unwrap().write(&batch).unwrap();
        writer.unwrap().close().unwrap();
    }

    fn uses() -> ColumnUses {
        ColumnUses { keys: ["k".to_owned()].into(), ..ColumnUses::default() }
    }

    fn integers(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    #[test]
    fn a_static_table_may_be_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![Some(3.0), None]));
        let first = folder.path().join("day=1/0.parquet");
        write(&first, vec![("k", integers(&[1, 2])), ("x", integers(&[5, 6])), ("odd", texts)]);
        let second = folder.path().join("day=02/0.parquet");
        write(&second, vec![("odd", integers(&[7, 8])), ("k", floats)]);
        let read = read(files::list(folder.path()).unwrap(), uses(), &[]).unwrap();
        let names: Vec<&str> =
            read.rows.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["k", "x", "day"]);
        let keys = read.rows.column(0).as_primitive::<Int64Type>();
        assert_eq!(keys, &Int64Array::from(vec![Some(1), Some(2), Some(3), None]));
        let x = read.rows.column(1).as_primitive::<Float64Type>();
        assert_eq!(x, &Float64Array::from(vec![Some(5.0), Some(6.0), None, None]));
        assert_eq!(*read.rows.column(2).data_type(), DataType::Utf8);
        let (name, why) = &read.unreadable[0];
        assert!(name == "odd" && why.message.contains("Int64") && why.message.contains("Utf8"));
        assert_eq!(read.notes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x"]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_named_with_its_row() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("1.parquet"), vec![("k", integers(&[1, 2]))]);
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![3.0, 3.5]));
        write(&folder.path().join("2.parquet"), vec![("k", floats)]);
        let error = read(files::list(folder.path()).unwrap(), uses(), &[]).err().unwrap();
        assert!(
            error.input.ends_with("2.parquet") && error.message.starts_with("row 2: "),
            "{error}"
        );
        let required = [Required::new("k", "tables.t.key")];
        write(&folder.path().join("2.parquet"), vec![("x", integers(&[1]))]);
        let error = read(files::list(folder.path()).unwrap(), uses(), &required).err().unwrap();
        assert!(error.message.contains("no column \"k\" (tables.t.key)"), "{error}");
    }
}
