//! Files of a table whose rows are not in order of time. The file is all there: it is read in order,
//! so that no version comes late.
//!
//! Statistics tell the order of row groups at most, so the time column of each file is read when it is
//! opened, and nothing but that. A file that is in order goes on being read group by group.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::error::ArrowError;
use driftline_operators::admit::{END_OF_TIME, event_times};
use driftline_operators::fine_time::fine_times;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::Result as Parquet;

use crate::sources::parquet::folder::FolderColumns;
use crate::sources::parquet::footers::{FileFooter, RowGroup};
use crate::sources::parquet::guard::guarded;
use crate::sources::parquet::whole_file::WholeFile;
use crate::sources::sorted_rows::SortedRows;
use crate::sources::{SourceError, damaged, failed};

/// Rows that are read at a time.
const BATCH_ROWS: usize = 65_536;

/// Looks at the times of all rows of file `at`: the groups of `footer` then say what is true, in the
/// order in which rows are to be read.
///
/// # Errors
/// If the column cannot be read, or a group does not hold the rows that its footer says.
pub fn look_at(
    footer: &mut FileFooter,
    at: usize,
    columns: &FolderColumns,
) -> Result<(), SourceError> {
    let times_of = only_times(footer, columns)?;
    let mut seen = Seen::default();
    let mut ranges = Vec::new();
    for group in 0..footer.groups.len() {
        let mut of_group = Range::default();
        for times in times_of_group(footer, at, &times_of, group)? {
            seen.add(&times);
            of_group.add(&times);
        }
        ranges.push(of_group.0);
    }
    let Some((low, _)) = seen.range.0 else {
        // Not a row has a time.
        return Ok(());
    };
    if seen.in_order {
        set_times(&mut footer.groups, &ranges, low);
    } else {
        let mut times = Vec::new();
        for group in 0..footer.groups.len() {
            let of_group = times_of_group(footer, at, &times_of, group)?;
            times.extend(of_group.iter().flat_map(|times| times.iter()));
        }
        times.sort_unstable();
        footer.is_sorted = true;
        let parts = ranges_of_parts(&footer.groups, &times);
        set_times(&mut footer.groups, &parts, low);
    }
    Ok(())
}

/// All rows of file `at` in order of time: the columns that are wanted as they are stored, and behind
/// them the position of each row in the file.
///
/// # Errors
/// If the file cannot be read, or is not what its footer says.
pub fn load(
    file: &FileFooter,
    at: usize,
    columns: &FolderColumns,
) -> Result<SortedRows, SourceError> {
    let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
    let times_of = only_times(file, columns)?;
    let stored = guarded(|| {
        let groups = (0..file.metadata.metadata().num_row_groups()).collect();
        read_groups(file, columns, groups)
    });
    let stored = stored.map_err(|e| error(&damaged(&e)))?;
    let mut first = 0;
    let batches = stored.into_iter().map(|batch| {
        let arranged = times_of.arrange(&batch, at, file)?;
        let times = fine_times(arranged.rows.column(0))?;
        let batch = with_positions(&batch, first)?;
        first += batch.num_rows() as u64;
        Ok((batch, times))
    });
    let batches = batches.collect::<Result<Vec<_>, ArrowError>>().map_err(|e| error(&e))?;
    let (rows, _) = SortedRows::new(batches);
    if rows.len() as u64 != file.rows() {
        return Err(error(&FEWER_ROWS));
    }
    Ok(rows)
}

/// Rows of [`load`], and their positions in the file.
///
/// # Errors
/// Never for what a file holds.
pub fn slice(
    rows: &SortedRows,
    first: usize,
    count: usize,
) -> Result<(RecordBatch, UInt64Array), ArrowError> {
    let batch = rows.slice(first, count)?;
    let own = batch.num_columns() - 1;
    let positions = batch.column(own).as_primitive::<UInt64Type>().clone();
    Ok((batch.project(&(0..own).collect::<Vec<_>>())?, positions))
}

const FEWER_ROWS: &str = "a row group holds fewer rows than its footer says";

/// The times of a file's rows that were seen so far.
struct Seen {
    in_order: bool,
    range: Range,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { in_order: true, range: Range::default() }
    }
}

impl Seen {
    fn add(&mut self, times: &Int64Array) {
        let highest = self.range.0.map_or(i64::MIN, |(_, high)| high);
        let mut before = highest;
        for time in times.iter().flatten().filter(|&time| time != END_OF_TIME) {
            self.in_order &= time >= before;
            before = before.max(time);
        }
        self.range.add(times);
    }
}

/// Lowest and highest time (ms), if there is any.
#[derive(Default)]
pub(super) struct Range(pub(super) Option<(i64, i64)>);

impl Range {
    pub(super) fn add(&mut self, times: &Int64Array) {
        for time in times.iter().flatten().filter(|&time| time != END_OF_TIME) {
            let (low, high) = self.0.unwrap_or((time, time));
            self.0 = Some((low.min(time), high.max(time)));
        }
    }
}

/// Says in `groups` what their times are. One without any holds nothing up: it is where the one
/// before it ends, or at `low`, where the file begins.
pub(super) fn set_times(groups: &mut [RowGroup], ranges: &[Option<(i64, i64)>], low: i64) {
    let mut highest = None;
    for (group, range) in groups.iter_mut().zip(ranges) {
        let at = highest.unwrap_or(low);
        group.highest_before = highest.unwrap_or(i64::MIN);
        group.times = range.or(Some((at, at)));
        highest = range.map(|(_, high)| high.max(at)).or(highest);
    }
}

/// The times of as many parts of the sorted rows as there are groups. Rows without time are the first
/// of `times`, which are sorted.
fn ranges_of_parts(groups: &[RowGroup], times: &[Option<i64>]) -> Vec<Option<(i64, i64)>> {
    let part = |group: &RowGroup| {
        let rows = &times[group.first_row as usize..(group.first_row + group.rows) as usize];
        let mut known = rows.iter().flatten().copied().filter(|&time| time != END_OF_TIME);
        let low = known.next()?;
        Some((low, known.next_back().unwrap_or(low)))
    };
    groups.iter().map(part).collect()
}

/// Of the wanted columns the time alone.
fn only_times(file: &FileFooter, columns: &FolderColumns) -> Result<FolderColumns, SourceError> {
    let time = columns.time_column().map_err(|error| failed(file.path.display(), error))?;
    let mut times = columns.clone();
    times.project(&[time])?;
    Ok(times)
}

/// The times (ms) of a row group, `[rows]` in all.
fn times_of_group(
    file: &FileFooter,
    at: usize,
    times_of: &FolderColumns,
    group: usize,
) -> Result<Vec<Int64Array>, SourceError> {
    let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
    let stored = guarded(|| read_groups(file, times_of, vec![group]));
    let stored = stored.map_err(|e| error(&damaged(&e)))?;
    let times = stored.iter().map(|batch| {
        let arranged = times_of.arrange(batch, at, file)?;
        event_times(arranged.rows.column(0))
    });
    let times = times.collect::<Result<Vec<_>, ArrowError>>().map_err(|e| error(&e))?;
    let rows: usize = times.iter().map(Int64Array::len).sum();
    if rows as u64 != file.groups[group].rows {
        return Err(error(&FEWER_ROWS));
    }
    Ok(times)
}

/// What row groups hold in the wanted columns, as it is stored.
pub(super) fn read_groups(
    file: &FileFooter,
    columns: &FolderColumns,
    groups: Vec<usize>,
) -> Parquet<Vec<RecordBatch>> {
    let handle = WholeFile(File::open(&file.path)?);
    let own = columns.in_file(file);
    let schema = file.metadata.metadata().file_metadata().schema_descr();
    let mask = ProjectionMask::roots(schema, own);
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, file.metadata.clone())
        .with_projection(mask)
        .with_row_groups(groups)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    Ok(reader.collect::<Result<Vec<_>, ArrowError>>()?)
}

fn with_positions(batch: &RecordBatch, first: u64) -> Result<RecordBatch, ArrowError> {
    let mut fields: Vec<Field> =
        batch.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Field::new("position", DataType::UInt64, false));
    let mut columns = batch.columns().to_vec();
    let positions = first..first + batch.num_rows() as u64;
    columns.push(Arc::new(UInt64Array::from_iter_values(positions)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::files;
    use crate::sources::parquet::ParquetStream;
    use crate::sources::parquet::row_groups::PieceReader;
    use crate::sources::parquet::schedule::schedule;
    use crate::sources::testing::{Folder, Row, numbers, spec, times};

    /// What a table of one file gives, (number, position, time), and the ranges that its parts have.
    fn read(groups: &[Vec<Row>], statistics: bool, rows_max: usize) -> (Vec<Row>, bool) {
        let folder = Folder::new();
        let path = folder.parquet("t.parquet", groups, statistics);
        let stream = ParquetStream::open(files::list(&path).unwrap(), &spec(&path), 1, 0).unwrap();
        let mut reader = PieceReader::new(&stream);
        let (mut found, mut highest) = (Vec::new(), i64::MIN);
        for piece in schedule(&stream.lanes, rows_max, None) {
            let chunk = reader.read(&piece).unwrap().chunk;
            assert_eq!(chunk.highest_before, highest);
            let positions = chunk.offsets.values().iter().map(|&at| at as i64);
            assert!(positions.eq(numbers(&chunk)), "each row keeps its position");
            let (low, high) = stream.files[0].groups[piece.group].times.unwrap();
            for (number, time) in numbers(&chunk).into_iter().zip(times(&chunk)) {
                assert!(
                    time.is_none_or(|time| time == END_OF_TIME || (low..=high).contains(&time))
                );
                highest = time.filter(|&time| time != END_OF_TIME).unwrap_or(highest).max(highest);
                found.push((number, time));
            }
        }
        (found, stream.sorted().len() == 1)
    }

    fn numbered(times: &[&[Option<i64>]]) -> Vec<Vec<Row>> {
        let mut number = 0;
        let group = |times: &&[Option<i64>]| {
            let rows = times.iter().map(|&time| {
                number += 1;
                (number - 1, time)
            });
            rows.collect()
        };
        times.iter().map(group).collect()
    }

    #[test]
    fn a_table_is_read_in_order_of_time_whatever_the_pieces() {
        let rows: &[&[Option<i64>]] = &[
            &[Some(50), Some(60), None],
            &[Some(10), Some(60)],
            &[Some(10), Some(END_OF_TIME), Some(-5), Some(55)],
        ];
        let wanted = [2, 7, 3, 5, 0, 8, 1, 4, 6];
        for statistics in [true, false] {
            for rows_max in [1, 2, 7, 100] {
                let (found, was_sorted) = read(&numbered(rows), statistics, rows_max);
                assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), wanted);
                assert!(was_sorted);
            }
        }
    }

    #[test]
    fn a_table_in_order_is_read_as_it_is() {
        let rows: &[&[Option<i64>]] =
            &[&[None, None], &[Some(1), None, Some(1)], &[None], &[Some(4)], &[None]];
        for statistics in [true, false] {
            let (found, was_sorted) = read(&numbered(rows), statistics, 2);
            assert_eq!(found.iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
            assert!(!was_sorted);
        }
    }
}
