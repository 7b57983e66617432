//! Static tables: read whole, before workers start.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{
    ArrayRef, RecordBatch, RecordBatchOptions, RecordBatchReader, StringArray, new_null_array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use driftline_operators::features::table::{StaticTable, TableError};
use indexmap::IndexMap;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::config::job::{Format, Table};
use crate::sinks::without_prefixes;
use crate::sources::columns::{ColumnUses, Normalised, normal_schema, normalise};
use crate::sources::files::{self, InputFile};
use crate::sources::json::decoder::{Decoded, LineDecoder};
use crate::sources::json::lines::Line;
use crate::sources::json::{CHUNK_BYTES_MAX, Looked};
use crate::sources::parquet::guard::{self, guarded};
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::{SourceError, damaged, failed, unreadable};

/// Rows that are decoded at once.
const CHUNK_ROWS_MAX: usize = 65_536;

/// A static table, and what it was read from.
pub struct LoadedTable {
    pub table: StaticTable,
    pub columns: SchemaRef,
    pub format: Format,
    pub files: usize,
    /// By name, what is to be said of what is there and is no column.
    pub untyped: IndexMap<String, String>,
}

/// Reads the static tables, whole.
///
/// # Errors
/// If one cannot be read, or is no table by its key.
pub fn load(tables: &IndexMap<String, Table>) -> Result<IndexMap<String, LoadedTable>> {
    let of_job = tables.iter().filter(|(_, table)| table.versions.is_none());
    of_job.map(|(name, table)| Ok((name.clone(), load_one(name, table)?))).collect()
}

fn load_one(name: &str, table: &Table) -> Result<LoadedTable> {
    let path = table.file();
    let in_job = || format!("tables.{name}.path");
    if path.as_os_str() == "-" {
        bail!("{}: a table without time is read from files, not from standard input", in_job());
    }
    let listed = files::list(path).with_context(in_job)?;
    let format = files::format(&listed, table.format()).with_context(in_job)?;
    let files = listed.len();
    let (rows, untyped) = match format {
        Format::Parquet => {
            (read_files(&listed, &uses(name, table)).with_context(in_job)?, IndexMap::new())
        }
        Format::Json | Format::Csv => {
            read_text(listed, format, name, table).with_context(in_job)?
        }
    };
    let columns = rows.schema();
    let loaded = StaticTable::new(rows, &table.key);
    let loaded = loaded.map_err(|error| match (&error, untyped.get(&table.key)) {
        (TableError::NoColumn(_), Some(why)) => anyhow::anyhow!("{error}: {why}"),
        _ => error.into(),
    });
    let loaded = loaded.with_context(|| format!("tables.{name} ({})", path.display()))?;
    Ok(LoadedTable { table: loaded, columns, format, files, untyped })
}

/// What is done with the columns of a static table.
fn uses(name: &str, table: &Table) -> ColumnUses {
    ColumnUses {
        keys: std::iter::once(table.key.clone()).collect(),
        declared: table.columns.clone(),
        columns_key: format!("[tables.{name}.columns]"),
        ..ColumnUses::default()
    }
}

/// All rows of files of text. A line that is no row is an error: a table with holes would give other
/// features.
fn read_text(
    files: Vec<InputFile>,
    format: Format,
    name: &str,
    table: &Table,
) -> Result<(RecordBatch, IndexMap<String, String>), SourceError> {
    let uses = uses(name, table);
    let said = |error: ArrowError| failed(table.file().display(), error);
    let Looked { mut lines, fields, untyped, sampled } = Looked::at(files, format, &uses)?;
    if fields.is_empty() && sampled > 0 && format == Format::Json {
        let message = format!("not JSON lines: none of its first lines ({sampled}) is an object");
        return Err(failed(table.file().display(), message));
    }
    let mut decoder = LineDecoder::new(format, &fields, uses).map_err(said)?;
    let schema = decoder.schema().clone();
    let mut batches = Vec::new();
    loop {
        let (mut chunk, mut bytes): (Vec<Line>, usize) = (Vec::new(), 0);
        while chunk.len() < CHUNK_ROWS_MAX
            && bytes < CHUNK_BYTES_MAX
            && let Some(line) = lines.next_line()?
        {
            bytes += line.bytes.len();
            chunk.push(line);
        }
        if chunk.is_empty() {
            break;
        }
        let Decoded { events, bad, .. } = decoder.decode(&chunk).map_err(said)?;
        if let Some((at, why)) = bad.first() {
            let Line { file, number, .. } = &chunk[*at];
            return Err(failed(&file.name, format!("line {number}: {why}")));
        }
        batches.push(events);
    }
    Ok((concat_batches(&schema, &batches).map_err(said)?, untyped))
}

/// All rows of Parquet files, with the columns that their folders stand for.
fn read_files(files: &[InputFile], uses: &ColumnUses) -> Result<RecordBatch> {
    let mut batches = Vec::new();
    let mut fields: IndexMap<String, (Field, &Path)> = IndexMap::new();
    for file in files {
        let rows = in_normal_form(with_hive(read_parquet(&file.path)?, &file.hive)?, uses)
            .map_err(|error| failed(file.path.display(), without_prefixes(&error.to_string())))?;
        for field in rows.schema().fields() {
            let known = (field.as_ref().clone().with_nullable(true), file.path.as_path());
            let (of, first) = fields.entry(field.name().clone()).or_insert(known);
            if of.data_type() != field.data_type() {
                let (name, here) = (field.name(), field.data_type());
                let there = of.data_type();
                let message =
                    format!("column {name:?} is {here}, and in {} {there}", first.display());
                return Err(failed(file.path.display(), message).into());
            }
        }
        batches.push(rows);
    }
    if let [whole] = batches.as_slice() {
        return Ok(whole.clone());
    }
    let fields: Vec<Field> = fields.into_values().map(|(field, _)| field).collect();
    let schema = Arc::new(Schema::new(fields));
    let batches: Vec<RecordBatch> =
        batches.iter().map(|batch| arranged(batch, &schema)).collect::<Result<_>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

/// A value that its column cannot hold is an error, as a line of text that is no row.
fn in_normal_form(rows: RecordBatch, uses: &ColumnUses) -> Result<RecordBatch, ArrowError> {
    let schema = normal_schema(&rows.schema(), uses)?;
    let Normalised { rows, refused } = normalise(&rows, &schema, uses)?;
    match refused.first() {
        Some((row, why)) => Err(ArrowError::SchemaError(format!("row {}: {why}", row + 1))),
        None => Ok(rows),
    }
}

/// The columns of `schema`, null where the batch has none.
fn arranged(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let column = |field: &Arc<Field>| match batch.column_by_name(field.name()) {
        Some(column) => column.clone(),
        None => new_null_array(field.data_type(), rows),
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

fn with_hive(batch: RecordBatch, hive: &[(String, String)]) -> Result<RecordBatch> {
    let schema = batch.schema();
    let missing = hive.iter().filter(|(name, _)| schema.index_of(name).is_err());
    let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    for (name, value) in missing {
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
        let values = std::iter::repeat_n(value.as_str(), batch.num_rows());
        columns.push(Arc::new(StringArray::from_iter_values(values)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// All rows of one Parquet file.
///
/// # Errors
/// If it cannot be read.
pub fn read_parquet(path: &Path) -> Result<RecordBatch> {
    let name = || path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let read = || {
        let metadata = guard::footer(&file)?;
        let file = WholeFile(file);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).build()?;
        let schema = reader.schema();
        Ok((schema, reader.collect::<Result<Vec<_>, _>>()?))
    };
    let (schema, batches) =
        guarded(read).map_err(|error| failed(path.display(), damaged(&error)))?;
    concat_batches(&schema, &batches).with_context(name)
}
