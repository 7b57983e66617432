//! Events from Parquet files: footers make the schedule, workers read its row groups.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt64Array,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use driftline_operators::admit::{Chunk, event_times};
use driftline_operators::ingest::{Polled, Source, SourceError};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use super::columns::{normal_schema, normalise};
use super::files::InputFile;
use super::schedule::{Piece, RowGroup, schedule};
use super::{EventInput, Extent, failed};

struct FileFooter {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    hive: Vec<(String, String)>,
    /// All row groups, in order.
    groups: Vec<RowGroup>,
    partition: u32,
}

/// Parquet files with the same columns. A file with statistics of the event time is a partition of
/// its own; those without form one, in the order of their names.
pub struct ParquetInput {
    files: Arc<[FileFooter]>,
    partitions: Vec<(String, i64)>,
    /// All columns as they are stored, hive columns last.
    stored: Schema,
    schema: SchemaRef,
    projection: Vec<usize>,
    time: String,
    pieces: Arc<[Piece]>,
    empty: Vec<u32>,
}

impl ParquetInput {
    /// Reads the footers of `files`.
    ///
    /// # Errors
    /// If a file is no Parquet, or its columns are not those of the first.
    pub fn open(files: Vec<InputFile>, time: &str, extent: Extent) -> Result<Self, SourceError> {
        let mut footers = Vec::with_capacity(files.len());
        for file in files {
            footers.push(FileFooter::read(file, time)?);
        }
        let stored = footers[0].stored_schema();
        for footer in &footers[1..] {
            same_columns(footer, &stored)?;
        }
        let partitions = number_partitions(&mut footers);
        let wanted: Vec<Vec<(usize, RowGroup)>> =
            footers.iter().map(|footer| footer.wanted(extent)).collect();
        let pieces = schedule(&wanted, extent.epoch_rows_max, extent.limit);
        let read: Vec<usize> = pieces.iter().map(|piece| piece.file).collect();
        let empty = (0..partitions.len() as u32)
            .filter(|p| !read.iter().any(|&file| footers[file].partition == *p))
            .collect();
        let schema = normal_schema(&stored, time).map_err(|_| {
            let names: Vec<&str> = stored.fields().iter().map(|f| f.name().as_str()).collect();
            let message =
                format!("no column {time:?} (event.time); there are {}", names.join(", "));
            failed(footers[0].path.display(), message)
        })?;
        let projection = (0..schema.fields().len()).collect();
        Ok(ParquetInput {
            files: footers.into(),
            partitions,
            stored,
            schema,
            projection,
            time: time.to_owned(),
            pieces: pieces.into(),
            empty,
        })
    }
}

impl EventInput for ParquetInput {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn project(&mut self, columns: &[usize]) {
        self.projection = columns.iter().map(|&column| self.projection[column]).collect();
        let all = normal_schema(&self.stored, &self.time).expect("checked when opened");
        self.schema = Arc::new(all.project(&self.projection).expect("positions in the schema"));
    }

    fn partitions(&self) -> Vec<(String, i64)> {
        self.partitions.clone()
    }

    fn total_rows(&self) -> Option<u64> {
        Some(self.pieces.iter().map(|piece| piece.rows).sum())
    }

    fn keeps_raw(&self) -> bool {
        false
    }

    fn open(&self, worker: usize, workers: usize) -> Result<Box<dyn Source>, SourceError> {
        let mine = |piece: &&Piece| piece.group_number % workers == worker;
        let pieces: VecDeque<Piece> = self.pieces.iter().filter(mine).copied().collect();
        // Partitions without a row have nothing to wait for: the first piece of all says so.
        let last_of_partition = (0..self.partitions.len() as u32)
            .filter_map(|p| {
                let of_partition = |piece: &&Piece| self.files[piece.file].partition == p;
                self.pieces.iter().filter(of_partition).map(|piece| (piece.epoch, p)).next_back()
            })
            .chain(self.empty.iter().map(|&p| (1, p)))
            .collect();
        Ok(Box::new(ParquetSource {
            files: self.files.clone(),
            stored: self.stored.clone(),
            schema: self.schema.clone(),
            projection: self.projection.clone(),
            time: self.time.clone(),
            pieces,
            last_of_partition,
            open: None,
            highest: HashMap::new(),
        }))
    }
}

impl FileFooter {
    fn read(file: InputFile, time: &str) -> Result<Self, SourceError> {
        let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
        let handle = File::open(&file.path).map_err(|e| error(&e))?;
        let metadata = ArrowReaderMetadata::load(&handle, ArrowReaderOptions::new())
            .map_err(|e| error(&format!("not a readable Parquet file: {e}")))?;
        let times = event_time_ranges(&metadata, time);
        let mut groups = Vec::new();
        let (mut first_row, mut highest_before) = (0, i64::MIN);
        for (at, group) in metadata.metadata().row_groups().iter().enumerate() {
            let rows = group.num_rows() as u64;
            groups.push(RowGroup { rows, first_row, times: times[at], highest_before });
            first_row += rows;
            highest_before = times[at].map_or(highest_before, |(_, high)| highest_before.max(high));
        }
        Ok(FileFooter { path: file.path, metadata, hive: file.hive, groups, partition: 0 })
    }

    /// Columns of the file, then those that its folders stand for and the file does not have.
    fn stored_schema(&self) -> Schema {
        let mut fields: Vec<Field> =
            self.metadata.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        for (name, value) in &self.hive {
            if self.metadata.schema().index_of(name).is_err() {
                let numeric = value.parse::<i64>().is_ok();
                let data_type = if numeric { DataType::Int64 } else { DataType::Utf8 };
                fields.push(Field::new(name, data_type, true));
            }
        }
        Schema::new(fields)
    }

    fn has_times(&self) -> bool {
        self.groups.iter().all(|group| group.times.is_some())
    }

    /// The row groups that may hold rows of the extent.
    fn wanted(&self, extent: Extent) -> Vec<(usize, RowGroup)> {
        let inside = |group: &RowGroup| {
            group.times.is_none_or(|(low, high)| high >= extent.from && low < extent.to)
        };
        let groups = self.groups.iter().copied().enumerate();
        groups.filter(|(_, group)| group.rows > 0 && inside(group)).collect()
    }
}

fn same_columns(footer: &FileFooter, expected: &Schema) -> Result<(), SourceError> {
    let found = footer.stored_schema();
    let describe = |schema: &Schema| -> Vec<String> {
        schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
    };
    let (found, expected) = (describe(&found), describe(expected));
    if found == expected {
        return Ok(());
    }
    let differing = expected.iter().find(|column| !found.contains(column));
    let differing = differing.or_else(|| found.iter().find(|column| !expected.contains(column)));
    let message = match differing {
        Some(column) => format!("its columns are not those of the first file: {column}"),
        None => "its columns are in another order than those of the first file".to_owned(),
    };
    Err(failed(footer.path.display(), message))
}

/// Numbers the partitions of the files; their names and floors.
fn number_partitions(footers: &mut [FileFooter]) -> Vec<(String, i64)> {
    let mut partitions: Vec<(String, i64)> = Vec::new();
    let mut without_times: Option<u32> = None;
    for footer in footers {
        let next = partitions.len() as u32;
        if footer.has_times() {
            footer.partition = next;
            let floor =
                footer.groups.iter().filter_map(|group| group.times).map(|(low, _)| low).min();
            partitions.push((footer.path.display().to_string(), floor.unwrap_or(i64::MIN)));
            continue;
        }
        footer.partition = *without_times.get_or_insert(next);
        if footer.partition == next {
            partitions.push((footer.path.display().to_string(), i64::MIN));
        }
    }
    partitions
}

/// Lowest and highest event time (ms) of each row group, where the footer tells.
fn event_time_ranges(metadata: &ArrowReaderMetadata, time: &str) -> Vec<Option<(i64, i64)>> {
    let groups = metadata.metadata().row_groups();
    let none = vec![None; groups.len()];
    let schema = metadata.metadata().file_metadata().schema_descr();
    let Ok(converter) = StatisticsConverter::try_new(time, metadata.schema(), schema) else {
        return none;
    };
    let (Ok(low), Ok(high)) = (converter.row_group_mins(groups), converter.row_group_maxes(groups))
    else {
        return none;
    };
    let (Ok(low), Ok(high)) = (event_times(&low), event_times(&high)) else { return none };
    let valid = |column: &Int64Array, at: usize| column.is_valid(at).then(|| column.value(at));
    (0..groups.len()).map(|at| valid(&low, at).zip(valid(&high, at))).collect()
}

/// One worker's share of the schedule.
struct ParquetSource {
    files: Arc<[FileFooter]>,
    stored: Schema,
    schema: SchemaRef,
    projection: Vec<usize>,
    time: String,
    pieces: VecDeque<Piece>,
    /// Partitions and the epoch after which nothing of them comes.
    last_of_partition: Vec<(u64, u32)>,
    /// The reader of the row group that is being read.
    open: Option<(usize, usize, ParquetRecordBatchReader)>,
    /// The highest event time of each partition so far.
    highest: HashMap<u32, i64>,
}

impl Source for ParquetSource {
    fn next_epoch(&self) -> Option<u64> {
        self.pieces.front().map(|piece| piece.epoch)
    }

    fn poll(&mut self) -> Result<Polled, SourceError> {
        let Some(piece) = self.pieces.pop_front() else { return Ok(Polled::End) };
        let files = self.files.clone();
        let file = &files[piece.file];
        let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
        let stored = self.read(file, piece)?;
        let events = normalise(&stored, &self.schema).map_err(|e| error(&e))?;
        let group = &file.groups[piece.group];
        let highest_before = self.highest.get(&file.partition).copied().unwrap_or(i64::MIN);
        let highest = highest_before.max(self.highest_of(&events).map_err(|e| error(&e))?);
        self.highest.insert(file.partition, highest);
        let first = group.first_row + piece.skip;
        let finished = self.last_of_partition.iter().filter(|(epoch, _)| *epoch == piece.epoch);
        Ok(Polled::Chunk(Box::new(Chunk {
            epoch: piece.epoch,
            partition: file.partition,
            offsets: UInt64Array::from_iter_values(first..first + events.num_rows() as u64),
            events,
            raw: None,
            undecoded: Vec::new(),
            highest_before,
            finished: finished.map(|(_, partition)| *partition).collect(),
        })))
    }
}

impl ParquetSource {
    fn highest_of(&self, events: &RecordBatch) -> Result<i64, arrow::error::ArrowError> {
        let times = event_times(events.column(events.schema().index_of(&self.time)?))?;
        Ok(arrow::compute::max(&times).unwrap_or(i64::MIN))
    }

    /// The stored columns of a piece that the job wants.
    fn read(&mut self, file: &FileFooter, piece: Piece) -> Result<RecordBatch, SourceError> {
        let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
        let own_columns = file.metadata.schema().fields().len();
        if self.open.as_ref().is_none_or(|(f, g, _)| (*f, *g) != (piece.file, piece.group)) {
            let handle = File::open(&file.path).map_err(|e| error(&e))?;
            let own = self.projection.iter().copied().filter(|&column| column < own_columns);
            let schema = file.metadata.metadata().file_metadata().schema_descr();
            let reader =
                ParquetRecordBatchReaderBuilder::new_with_metadata(handle, file.metadata.clone())
                    .with_projection(ProjectionMask::roots(schema, own))
                    .with_row_groups(vec![piece.group])
                    .with_batch_size(piece.rows as usize)
                    .build()
                    .map_err(|e| error(&e))?;
            self.open = Some((piece.file, piece.group, reader));
            if file.has_times() {
                // The groups before may be another worker's; the footer knows.
                self.highest.insert(file.partition, file.groups[piece.group].highest_before);
            }
        }
        let (_, _, reader) = self.open.as_mut().expect("opened above");
        let mut batches = Vec::new();
        let mut rows = 0;
        while rows < piece.rows {
            let Some(batch) = reader.next().transpose().map_err(|e| error(&e))? else { break };
            rows += batch.num_rows() as u64;
            batches.push(batch);
        }
        if rows < piece.rows {
            return Err(error(&format!(
                "a row group holds {} rows less than its footer says",
                piece.rows - rows
            )));
        }
        let batch = match batches.as_slice() {
            [one] => one.clone(),
            many => concat_batches(&many[0].schema(), many).map_err(|e| error(&e))?,
        }
        .slice(0, piece.rows as usize);
        self.arrange(file, &batch).map_err(|e| error(&e))
    }

    /// The wanted columns in their order, those of the folders among them.
    fn arrange(
        &self,
        file: &FileFooter,
        batch: &RecordBatch,
    ) -> Result<RecordBatch, arrow::error::ArrowError> {
        let rows = batch.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.projection.len());
        for &column in &self.projection {
            let field = self.stored.field(column);
            columns.push(match batch.column_by_name(field.name()) {
                Some(stored) => stored.clone(),
                None => hive_column(file, field, rows),
            });
        }
        let schema = Arc::new(self.stored.project(&self.projection)?);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // Nullability differs between files; it plays no part here.
        let fields: Vec<Field> = schema
            .fields()
            .iter()
            .zip(&columns)
            .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
            .collect();
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
    }
}

fn hive_column(file: &FileFooter, field: &Field, rows: usize) -> ArrayRef {
    let value =
        file.hive.iter().find(|(name, _)| name == field.name()).map_or("", |(_, value)| value);
    if *field.data_type() == DataType::Int64 {
        Arc::new(Int64Array::from(vec![value.parse::<i64>().ok(); rows]))
    } else {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
    }
}
