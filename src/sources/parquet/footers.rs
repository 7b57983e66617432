//! What the footers of Parquet files say: columns, row groups, and the event times of these.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;

use arrow::array::{Array, Int64Array};
use arrow::datatypes::{DataType, Field, TimeUnit};
use driftline_operators::admit::{END_OF_TIME, event_times};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::basic::Type;
use parquet::errors::{ParquetError, Result as Parquet};
use parquet::file::metadata::RowGroupMetaData;
use parquet::schema::types::ColumnDescPtr;

use crate::sources::columns::normal_times;
use crate::sources::files::InputFile;
use crate::sources::parquet::guard::{self, guarded};
use crate::sources::parquet::types::FileTypes;
use crate::sources::{SourceError, damaged, failed, unreadable};

/// A row group of more rows is taken for damage: they are planned one by one before any is read.
const ROW_GROUP_ROWS_MAX: u64 = 1 << 31;

/// What a number takes once it is decoded, and a text at least, however small they are in a dictionary.
const VALUE_BYTES: u64 = 8;

/// What the footer says of a row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowGroup {
    pub rows: u64,
    /// Position of its first row in the partition.
    pub first_row: u64,
    /// Lowest and highest event time (ms), `None` without statistics.
    pub times: Option<(i64, i64)>,
    /// The highest event time (ms) of the groups before it in the file, as far as statistics tell;
    /// [`i64::MIN`] for none.
    pub highest_before: i64,
}

pub struct FileFooter {
    pub path: PathBuf,
    pub metadata: ArrowReaderMetadata,
    /// Columns that cannot be read, and what type they are of.
    pub unsupported: Vec<(String, String)>,
    pub hive: Vec<(String, Option<String>)>,
    /// All row groups, in order; where the rows are sorted, as many parts of them in that order.
    pub groups: Vec<RowGroup>,
    /// The file is of a table and not in order of time: it is read whole, and its rows are sorted.
    pub is_sorted: bool,
}

impl FileFooter {
    /// # Errors
    /// If the file cannot be read, or is no Parquet.
    pub fn read(file: InputFile, time: &str, unit: Option<TimeUnit>) -> Result<Self, SourceError> {
        let error = |error: &dyn std::fmt::Display| failed(file.path.display(), error);
        let handle = File::open(&file.path).map_err(|e| unreadable(&file.path, &e))?;
        if handle.metadata().is_ok_and(|about| about.len() == 0) {
            return Err(error(&"it is empty, 0 bytes; remove it, or write it anew"));
        }
        let types = guard::types(&handle).map_err(|e| error(&damaged(&e)))?;
        let FileTypes { metadata, unsupported } = types;
        let times = guarded(|| Ok(event_time_ranges(&metadata, time, unit)));
        let times = times.map_err(|e| error(&damaged(&e)))?;
        let mut groups = Vec::new();
        let (mut first_row, mut highest_before) = (0, i64::MIN);
        for (group, times) in metadata.metadata().row_groups().iter().zip(times) {
            let rows = rows_of(group).map_err(|e| error(&damaged(&e)))?;
            groups.push(RowGroup { rows, first_row, times, highest_before });
            first_row += rows;
            highest_before = times.map_or(highest_before, |(_, high)| highest_before.max(high));
        }
        let (path, hive) = (file.path, file.hive);
        Ok(FileFooter { path, metadata, unsupported, hive, groups, is_sorted: false })
    }

    /// What the file itself has in a column: its field, or the type that cannot be read. `near` is
    /// where the column is looked for first.
    pub fn own(&self, column: &str, near: usize) -> Option<Result<&Field, &str>> {
        let unsupported = self.unsupported.iter().find(|(name, _)| name == column);
        if let Some((_, data_type)) = unsupported {
            return Some(Err(data_type));
        }
        let schema = self.metadata.schema();
        let near = schema.fields().get(near).filter(|field| field.name() == column);
        let field =
            near.map(|field| field.as_ref()).or_else(|| schema.field_with_name(column).ok());
        field.map(Ok)
    }

    /// What its folders say of a column; within, null is `None`.
    pub fn of_folders(&self, column: &str) -> Option<Option<&str>> {
        let value = self.hive.iter().find(|(name, _)| name == column);
        value.map(|(_, value)| value.as_deref())
    }

    pub fn rows(&self) -> u64 {
        self.groups.iter().map(|group| group.rows).sum()
    }

    /// Whether the event times of every row group are known.
    pub fn has_times(&self) -> bool {
        self.groups.iter().all(|group| group.rows == 0 || group.times.is_some())
    }

    /// About how many bytes of memory a row of a group takes, of some of its columns, by position. Of a
    /// file that is sorted the groups are parts of the whole.
    pub fn row_bytes(&self, group: usize, columns: &HashSet<usize>) -> u64 {
        let metadata = self.metadata.metadata();
        let of_whole = metadata.row_groups();
        let groups = if self.is_sorted { of_whole } else { &of_whole[group..=group] };
        let schema = metadata.file_metadata().schema_descr();
        let wanted: Vec<usize> = (0..schema.num_columns())
            .filter(|&leaf| columns.contains(&schema.get_column_root_idx(leaf)))
            .collect();
        let rows = groups.iter().map(|group| group.num_rows().max(0) as u64).sum::<u64>().max(1);
        let of_column = |leaf: &usize| match schema.column(*leaf).physical_type() {
            Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => {
                let sizes = groups.iter().map(|group| group.column(*leaf).uncompressed_size());
                (sizes.map(|size| size.max(0) as u64).sum::<u64>() / rows).max(VALUE_BYTES)
            }
            _ => VALUE_BYTES,
        };
        wanted.iter().map(of_column).fold(0, u64::saturating_add)
    }

    /// The lowest event time (ms) that the file can hold; [`i64::MIN`] if that is not known.
    pub fn floor(&self) -> i64 {
        let lows = self.groups.iter().filter_map(|group| group.times).map(|(low, _)| low);
        lows.min().filter(|_| self.has_times()).unwrap_or(i64::MIN)
    }

    /// Makes the file the continuation of others, which have `rows_before`, in a partition whose
    /// event times are not known.
    pub fn follow(&mut self, rows_before: u64) {
        for group in &mut self.groups {
            group.times = None;
            group.first_row += rows_before;
        }
    }
}

/// The rows of a group. All that is done follows from them, so they are not taken on trust: columns
/// that are not nested have a value for each row.
fn rows_of(group: &RowGroupMetaData) -> Parquet<u64> {
    let rows = group.num_rows();
    let flat = group.columns().iter().filter(|column| column.column_descr().max_rep_level() == 0);
    if let Some(column) = flat.into_iter().find(|column| column.num_values() != rows) {
        let (name, values) = (column.column_path(), column.num_values());
        return Err(ParquetError::General(format!(
            "a row group of {rows} rows has {values} values of {name}"
        )));
    }
    match u64::try_from(rows) {
        Ok(rows) if rows <= ROW_GROUP_ROWS_MAX => Ok(rows),
        _ => Err(ParquetError::General(format!(
            "a row group of {rows} rows; {ROW_GROUP_ROWS_MAX} are the most"
        ))),
    }
}

/// Whether values of a type are in order of the times that they stand for, all of them.
fn is_in_order(stored: &DataType) -> bool {
    match stored {
        DataType::Dictionary(_, values) => is_in_order(values),
        // Some statistics leave out NaN.
        other => !other.is_string() && !other.is_floating(),
    }
}

/// Lowest and highest event time (ms) of each row group, where the footer tells. Text is in order of
/// its letters, not of its times: that of text tells nothing. Nor does that of INT96, which has no
/// defined order, nor the end of time, where no row can be.
fn event_time_ranges(
    metadata: &ArrowReaderMetadata,
    time: &str,
    unit: Option<TimeUnit>,
) -> Vec<Option<(i64, i64)>> {
    let groups = metadata.metadata().row_groups();
    let none = vec![None; groups.len()];
    if metadata.schema().field_with_name(time).is_ok_and(|field| !is_in_order(field.data_type())) {
        return none;
    }
    let schema = metadata.metadata().file_metadata().schema_descr();
    let is_time = |column: &&ColumnDescPtr| column.path().parts() == [time];
    if schema.columns().iter().find(is_time).is_some_and(|c| c.physical_type() == Type::INT96) {
        return none;
    }
    let Ok(converter) = StatisticsConverter::try_new(time, metadata.schema(), schema) else {
        return none;
    };
    let (Ok(low), Ok(high)) = (converter.row_group_mins(groups), converter.row_group_maxes(groups))
    else {
        return none;
    };
    let millis = |times| event_times(&normal_times(times, unit)?);
    let (Ok(low), Ok(high)) = (millis(&low), millis(&high)) else { return none };
    let valid = |column: &Int64Array, at: usize| column.is_valid(at).then(|| column.value(at));
    let high = |at: usize| valid(&high, at).filter(|&time| time != END_OF_TIME);
    (0..groups.len()).map(|at| valid(&low, at).zip(high(at))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ColumnChunkMetaData;
    use parquet::schema::parser::parse_message_type;
    use parquet::schema::types::SchemaDescriptor;

    use super::*;

    #[test]
    fn rows_are_as_wide_as_what_is_read_of_them() {
        let rows = 2_000;
        let texts = (0..rows).map(|row| format!("{row:0>500}"));
        let columns: [(&str, ArrayRef); 3] = [
            ("few", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 2)))),
            ("text", Arc::new(StringArray::from_iter_values(texts))),
            ("time", Arc::new(TimestampMillisecondArray::from_iter_values(0..rows))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let footer = FileFooter::read(InputFile { path, hive: Vec::new() }, "time", None).unwrap();
        let row_bytes = |columns: &[usize]| footer.row_bytes(0, &columns.iter().copied().collect());
        assert_eq!((row_bytes(&[0]), row_bytes(&[0, 2]), row_bytes(&[])), (8, 16, 0));
        assert!((500..530).contains(&row_bytes(&[1])), "{}", row_bytes(&[1]));
    }

    #[test]
    fn rows_of_a_group_are_those_of_its_columns() {
        let text = "message m { optional int64 x; optional group l (LIST) { repeated group list { \
                    optional int64 item; } } }";
        let schema = Arc::new(SchemaDescriptor::new(Arc::new(parse_message_type(text).unwrap())));
        let rows = |rows: i64, values: [i64; 2]| {
            let column = |(at, values): (usize, i64)| {
                let column = ColumnChunkMetaData::builder(schema.column(at)).set_num_values(values);
                column.build().unwrap()
            };
            let columns = values.into_iter().enumerate().map(column).collect();
            let group = RowGroupMetaData::builder(schema.clone()).set_num_rows(rows);
            rows_of(&group.set_column_metadata(columns).build().unwrap()).ok()
        };
        assert_eq!(rows(9, [9, 30]), Some(9));
        assert_eq!(rows(9, [8, 9]), None);
        assert_eq!(rows(-1, [-1, -1]), None);
        assert_eq!(rows(i64::MAX, [i64::MAX, 1]), None);
    }
}
