//! Bytes that lie beside rows: what an event came as, and what came around that.
//!
//! Hardly anybody looks at them (dead letters, and sinks that pass headers on), but they are most of what
//! a row is. So a batch has views of them, 16 bytes a row into the memory of the chunk that was read:
//! what sorts, shares out, merges and filters rows moves these alone. Where views hold on to much more
//! than is theirs, or to many chunks, the bytes are copied together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch};
use arrow::datatypes::DataType;

/// Chunks whose memory a column of views refers to before the bytes are copied together.
const CHUNKS_MAX: usize = 16;
/// Bytes that may be held on to without use.
const UNUSED_BYTES_MAX: usize = 64 << 10;

/// A column of views.
pub const BESIDE: DataType = DataType::BinaryView;

/// Views of a column of bytes, which are not copied.
pub fn views_of(bytes: &ArrayRef) -> ArrayRef {
    Arc::new(BinaryViewArray::from(bytes.as_binary::<i32>()))
}

/// The value of a row.
pub fn bytes_at(column: &ArrayRef, row: usize) -> Option<&[u8]> {
    let column = column.as_binary_view();
    column.is_valid(row).then(|| column.value(row))
}

/// Bytes beside the rows of a column.
pub fn bytes_beside(column: &ArrayRef) -> usize {
    column.as_binary_view_opt().map_or(0, BinaryViewArray::total_buffer_bytes_used)
}

/// The same rows; bytes beside them are copied where they hold on to much that is not theirs.
#[must_use]
pub fn packed(rows: RecordBatch) -> RecordBatch {
    packed_where(rows, |views| {
        let held: usize = views.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
        views.data_buffers().len() > CHUNKS_MAX
            || held > UNUSED_BYTES_MAX + 2 * views.total_buffer_bytes_used()
    })
}

/// The same rows; bytes beside them are copied.
#[must_use]
pub fn copied(rows: RecordBatch) -> RecordBatch {
    packed_where(rows, |_| true)
}

fn packed_where(rows: RecordBatch, is_packed: impl Fn(&BinaryViewArray) -> bool) -> RecordBatch {
    let views = |column: &ArrayRef| -> Option<ArrayRef> {
        let views = column.as_binary_view_opt().filter(|&views| is_packed(views));
        views.map(|views| Arc::new(views.gc()) as ArrayRef)
    };
    // Nearly always there are none: then nothing is to be done for a column.
    let changed: Vec<(usize, ArrayRef)> = rows
        .columns()
        .iter()
        .enumerate()
        .filter_map(|(at, column)| Some((at, views(column)?)))
        .collect();
    if changed.is_empty() {
        return rows;
    }
    let mut columns = rows.columns().to_vec();
    changed.into_iter().for_each(|(at, column)| columns[at] = column);
    RecordBatch::try_new(rows.schema(), columns).expect("the columns are as they were")
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, UInt32Array};
    use arrow::compute::{concat_batches, take_record_batch};

    use super::*;

    /// Rows of 1,000 bytes, of a chunk.
    fn chunk(first: usize, rows: usize) -> RecordBatch {
        let values = (first..first + rows).map(|n| format!("{n:01000}").into_bytes());
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(values));
        RecordBatch::try_from_iter([("bytes", views_of(&bytes))]).unwrap()
    }

    fn held(rows: &RecordBatch) -> usize {
        rows.get_array_memory_size()
    }

    #[test]
    fn rows_that_are_moved_copy_no_bytes_until_they_hold_on_to_too_many() {
        let rows = chunk(0, 1_000);
        let memory =
            |rows: &RecordBatch| rows.column(0).as_binary_view().data_buffers()[0].as_ptr();
        let of_rows = |count: u32| {
            let taken = UInt32Array::from_iter_values((0..count).rev());
            take_record_batch(&rows, &taken).unwrap()
        };
        for (count, is_copied) in [(1_000, false), (600, false), (300, true), (1, true)] {
            let taken = packed(of_rows(count));
            assert_eq!(memory(&taken) != memory(&rows), is_copied, "{count} rows");
            assert!(held(&taken) < 2 * 1_100 * count as usize + (80 << 10));
            let bytes = bytes_at(taken.column(0), count as usize - 1);
            assert_eq!(bytes, Some(format!("{:01000}", 0).as_bytes()));
            assert_eq!(bytes_beside(taken.column(0)), 1_000 * count as usize);
        }
    }

    #[test]
    fn rows_of_many_chunks_come_to_be_of_one() {
        let mut rows = chunk(0, 10);
        let mut most = 0;
        for n in 1..200 {
            rows = concat_batches(rows.schema_ref(), [&rows, &chunk(10 * n, 10)]).unwrap();
            rows = packed(rows);
            most = most.max(rows.column(0).as_binary_view().data_buffers().len());
        }
        assert_eq!(most, CHUNKS_MAX);
        let column = rows.column(0);
        (0..2_000).for_each(|n| {
            assert_eq!(bytes_at(column, n), Some(format!("{n:01000}").as_bytes()));
        });
        assert_eq!(copied(rows).column(0).as_binary_view().data_buffers().len(), 1);
    }
}
