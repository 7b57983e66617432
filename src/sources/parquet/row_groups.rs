//! Reads the pieces of a schedule: parts of row groups, those of several groups in turn.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, RecordBatchReader, UInt64Array};
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use driftline_operators::admit::{event_times, highest};
use driftline_operators::chunk::Chunk;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

use crate::sources::columns::Sound;
use crate::sources::feed::Taken;
use crate::sources::parquet::ParquetStream;
use crate::sources::parquet::folder::FolderColumns;
use crate::sources::parquet::footers::FileFooter;
use crate::sources::parquet::guard::guarded;
use crate::sources::parquet::schedule::Piece;
use crate::sources::parquet::time_order;
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::sorted_rows::SortedRows;
use crate::sources::stream::Future;
use crate::sources::{SourceError, damaged, failed};

/// Row groups of a stream that are open at a time; the one that was not read for longest is closed,
/// and opened again where it is gone on with.
const GROUPS_OPEN_MAX: usize = 64;

/// Reads the pieces of one stream, those of a row group in order.
pub struct PieceReader {
    files: Arc<[FileFooter]>,
    columns: FolderColumns,
    groups_open_max: usize,
    /// By file and position in the file.
    open: HashMap<(usize, usize), OpenGroup>,
    /// Files of a table whose rows are sorted, until all of them are read.
    sorted: HashMap<usize, SortedRows>,
    /// Counts pieces, to know which group was not read for longest.
    pieces_read: u64,
    future: Option<Future>,
    /// The highest event time (ms) of each partition so far.
    highest: HashMap<u32, i64>,
}

struct OpenGroup {
    reader: ParquetRecordBatchReader,
    /// Rows that the reader gave beyond the pieces so far.
    rest: Option<RecordBatch>,
    last_read: u64,
}

impl PieceReader {
    pub fn new(stream: &ParquetStream) -> Self {
        PieceReader {
            files: stream.files.clone(),
            columns: stream.columns.clone(),
            future: stream.future.clone(),
            groups_open_max: GROUPS_OPEN_MAX,
            open: HashMap::new(),
            sorted: HashMap::new(),
            pieces_read: 0,
            highest: HashMap::new(),
        }
    }

    /// # Errors
    /// If the file cannot be read, or is not what its footer says.
    pub fn read(&mut self, piece: &Piece) -> Result<Taken, SourceError> {
        let files = self.files.clone();
        let file = &files[piece.file];
        let group = &file.groups[piece.group];
        let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
        let first = group.first_row + piece.skip;
        let (stored, offsets) = if file.is_sorted {
            self.sorted_rows(file, piece)?
        } else {
            let stored = guarded(|| self.stored_rows(file, piece));
            let stored = stored.map_err(|e| error(&damaged(&e)))?;
            (stored, UInt64Array::from_iter_values(first..first + piece.rows))
        };
        if stored.num_rows() as u64 != piece.rows {
            return Err(error(&"a row group holds fewer rows than its footer says"));
        }
        let arranged = self.columns.arrange(&stored, piece.file, file).map_err(|e| error(&e))?;
        let time_column = self.columns.time_column().map_err(|e| error(&e))?;
        // Of all rows: that one is refused does not make those after it less late.
        let times = event_times(arranged.rows.column(time_column));
        let times = times.and_then(|times| self.counted(times, &arranged.rows));
        let times = times.map_err(|e| error(&e))?;
        let known = self.highest.get(&piece.partition).copied().unwrap_or(i64::MIN);
        // The groups before may be another worker's; the footer knows.
        let starts = piece.skip == 0 && group.times.is_some() && !file.is_sorted;
        let highest_before = if starts { group.highest_before } else { known };
        let highest = highest_before.max(highest(&times).unwrap_or(i64::MIN));
        self.highest.insert(piece.partition, highest);
        let sound = arranged.sound(&stored, offsets).map_err(|e| error(&e))?;
        let Sound { rows, offsets, undecoded } = sound;
        let chunk = Chunk {
            undecoded,
            highest_before,
            finished: piece.last_of_partition.then_some(piece.partition).into_iter().collect(),
            ..Chunk::new(piece.epoch, piece.stream, piece.partition, rows, offsets)
        };
        Ok(Taken { chunk, highest })
    }

    /// The times of rows without those that are too early.
    fn counted(&self, times: Int64Array, rows: &RecordBatch) -> Result<Int64Array, ArrowError> {
        let Some(future) = &self.future else { return Ok(times) };
        let horizon = future.in_columns(rows.schema_ref())?;
        Ok(horizon.counted(&times, &horizon.sent(rows, None)?))
    }

    /// The stored columns of a piece of a file that is sorted, and where the rows stand in the file.
    fn sorted_rows(
        &mut self,
        file: &FileFooter,
        piece: &Piece,
    ) -> Result<(RecordBatch, UInt64Array), SourceError> {
        let rows = match self.sorted.remove(&piece.file) {
            Some(rows) => rows,
            None => time_order::load(file, piece.file, &self.columns)?,
        };
        let first = file.groups[piece.group].first_row + piece.skip;
        let slice = time_order::slice(&rows, first as usize, piece.rows as usize);
        if !piece.last_of_partition {
            self.sorted.insert(piece.file, rows);
        }
        slice.map_err(|error| failed(file.path.display(), error))
    }

    /// The stored columns of a piece that are wanted; fewer rows if the group ends before.
    fn stored_rows(
        &mut self,
        file: &FileFooter,
        piece: &Piece,
    ) -> Result<RecordBatch, ParquetError> {
        self.pieces_read += 1;
        let key = (piece.file, piece.group);
        let mut group = match self.open.remove(&key) {
            Some(group) => group,
            None => {
                self.make_room();
                OpenGroup { reader: self.open_group(file, piece)?, rest: None, last_read: 0 }
            }
        };
        let rows = group.next_rows(piece.rows as usize)?;
        group.last_read = self.pieces_read;
        if piece.skip + piece.rows < file.groups[piece.group].rows {
            self.open.insert(key, group);
        }
        Ok(rows)
    }

    fn make_room(&mut self) {
        if self.open.len() >= self.groups_open_max
            && let Some((&oldest, _)) = self.open.iter().min_by_key(|(_, group)| group.last_read)
        {
            self.open.remove(&oldest);
        }
    }

    /// Opens a row group at the first row of a piece.
    fn open_group(
        &self,
        file: &FileFooter,
        piece: &Piece,
    ) -> Result<ParquetRecordBatchReader, ParquetError> {
        let handle = File::open(&file.path)?;
        let metadata = file.metadata.metadata();
        let own = self.columns.in_file(file);
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), own);
        let left = file.groups[piece.group].rows - piece.skip;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(
            WholeFile(handle),
            file.metadata.clone(),
        )
        .with_projection(mask)
        .with_row_groups(vec![piece.group])
        .with_batch_size(piece.rows_at_once.min(left) as usize);
        // Even an offset of 0 would make the reader select rows rather than read them all.
        match piece.skip {
            0 => reader.build(),
            skip => reader.with_offset(skip as usize).build(),
        }
    }
}

impl OpenGroup {
    /// The next `wanted` rows, or as many as there are.
    fn next_rows(&mut self, wanted: usize) -> Result<RecordBatch, ParquetError> {
        let mut batches: Vec<RecordBatch> = self.rest.take().into_iter().collect();
        let mut rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        while rows < wanted
            && let Some(batch) = self.reader.next().transpose()?
        {
            rows += batch.num_rows();
            batches.push(batch);
        }
        let batch = match batches.as_slice() {
            [one] => one.clone(),
            many => concat_batches(&self.reader.schema(), many)?,
        };
        if rows <= wanted {
            return Ok(batch);
        }
        self.rest = Some(batch.slice(wanted, rows - wanted));
        Ok(batch.slice(0, wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::files;
    use crate::sources::parquet::schedule::schedule;
    use crate::sources::testing::{Folder, numbers, spec};

    #[test]
    fn groups_that_were_closed_are_gone_on_with() {
        let folder = Folder::new();
        for file in 0..5 {
            let row = |row: i64| (file * 100 + row, Some(row * 10));
            let groups = [(0..20).map(row).collect(), (20..37).map(row).collect()];
            folder.parquet(&format!("{file}.parquet"), &groups, true);
        }
        let files = files::list(folder.path()).unwrap();
        let stream = ParquetStream::open(files, &spec(folder.path()), 0, 0).unwrap();
        let pieces = schedule(&stream.lanes, 3, None);
        let read = |groups_open_max: usize| -> Vec<(u64, Vec<i64>, i64)> {
            let mut reader = PieceReader { groups_open_max, ..PieceReader::new(&stream) };
            let chunks = pieces.iter().map(|piece| {
                let chunk = reader.read(piece).unwrap().chunk;
                assert!(reader.open.len() <= groups_open_max);
                (chunk.epoch, numbers(&chunk), chunk.highest_before)
            });
            let chunks = chunks.collect();
            assert!(reader.open.is_empty());
            chunks
        };
        let all = read(GROUPS_OPEN_MAX);
        assert_eq!(read(1), all);
        assert_eq!(read(2), all);
        assert_eq!(all.iter().map(|(_, rows, _)| rows.len()).sum::<usize>(), 5 * 37);
    }
}
