//! Static tables: read whole, before workers start.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use driftline_operators::features::table::{StaticTable, TableError};
use indexmap::IndexMap;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::config::job::{Format, Table};
use crate::sources::columns::ColumnUses;
use crate::sources::files::{self, InputFile};
use crate::sources::json::chunk::LineChunk;
use crate::sources::json::decoder::{Decoded, LineDecoder};
use crate::sources::json::{CHUNK_BYTES_MAX, Looked};
use crate::sources::parquet::guard::{self, guarded};
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::parquet::whole_folder::{self, WholeFolder};
use crate::sources::stream::Required;
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
    /// What is to be said of a column, and of which.
    pub notes: Vec<(String, String)>,
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
    let (rows, untyped, notes): (_, IndexMap<String, String>, _) = match format {
        Format::Parquet => {
            let key = Required::new(&table.key, format!("tables.{name}.key"));
            let read = whole_folder::read(listed, uses(name, table), &[key]);
            let WholeFolder { rows, unreadable, notes } = read.with_context(in_job)?;
            let unreadable = unreadable.into_iter().map(|(name, error)| (name, error.to_string()));
            (rows, unreadable.collect(), notes)
        }
        Format::Json | Format::Csv => {
            let (rows, untyped) = read_text(listed, format, name, table).with_context(in_job)?;
            (rows, untyped, Vec::new())
        }
    };
    let columns = rows.schema();
    let loaded = StaticTable::new(rows, &table.key);
    let loaded = loaded.map_err(|error| match (&error, untyped.get(&table.key)) {
        (TableError::NoColumn(_), Some(why)) => anyhow::anyhow!("{error}: {why}"),
        _ => error.into(),
    });
    let loaded = loaded.with_context(|| format!("tables.{name} ({})", path.display()))?;
    Ok(LoadedTable { table: loaded, columns, format, files, untyped, notes })
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
    let Looked { mut lines, fields, untyped, sampled, .. } = Looked::at(files, format, &uses)?;
    if fields.is_empty() && sampled > 0 && format == Format::Json {
        let message = format!("not JSON lines: none of its first lines ({sampled}) is an object");
        return Err(failed(table.file().display(), message));
    }
    let mut decoder = LineDecoder::new(format, &fields, uses).map_err(said)?;
    let schema = decoder.schema().clone();
    let mut batches = Vec::new();
    loop {
        let mut chunk = LineChunk::default();
        while chunk.len() < CHUNK_ROWS_MAX
            && chunk.bytes() < CHUNK_BYTES_MAX
            && lines.next_into(&mut chunk)?
        {}
        if chunk.is_empty() {
            break;
        }
        let Decoded { events, bad, .. } = decoder.decode(&chunk).map_err(said)?;
        if let Some((at, why)) = bad.first() {
            let (file, number) = (chunk.file(*at), chunk.line(*at).number);
            return Err(failed(&file.name, format!("line {number}: {why}")));
        }
        batches.push(events);
    }
    Ok((concat_batches(&schema, &batches).map_err(said)?, untyped))
}

/// All rows of one Parquet file.
///
/// # Errors
/// If it cannot be read.
pub fn read_parquet(path: &Path) -> Result<RecordBatch> {
    let batches = parquet_batches(path)?;
    let schema = batches.schema.clone();
    let batches = batches.collect::<Result<Vec<_>>>()?;
    concat_batches(&schema, &batches).with_context(|| path.display().to_string())
}

/// The rows of one Parquet file, some at a time.
///
/// # Errors
/// If it cannot be read; so may be each of the batches.
pub fn parquet_batches(path: &Path) -> Result<ParquetBatches> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let open = || {
        let metadata = guard::footer(&file)?;
        let file = WholeFile(file);
        ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata).build()
    };
    let reader = guarded(open).map_err(|error| failed(path.display(), damaged(&error)))?;
    Ok(ParquetBatches { path: path.to_owned(), schema: reader.schema(), reader })
}

/// As [`parquet_batches`] gives them.
pub struct ParquetBatches {
    path: PathBuf,
    pub schema: SchemaRef,
    reader: ParquetRecordBatchReader,
}

impl Iterator for ParquetBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let Self { path, reader, .. } = self;
        let next = guarded(|| Ok(reader.next().transpose()?));
        let next = next.map_err(|error| failed(path.display(), damaged(&error)));
        next.map_err(anyhow::Error::from).transpose()
    }
}
