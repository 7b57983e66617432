//! The order of events: (event time, request id, origin).

use std::cmp::Ordering;

use arrow::array::{
    Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

/// The columns that order rows, by position in a batch.
#[derive(Clone, Copy, Debug)]
pub struct OrderColumns {
    pub time: usize,
    pub id: Option<usize>,
    pub partition: usize,
    pub offset: usize,
}

enum Ids<'a> {
    None,
    Text(&'a StringArray),
    Number(&'a Int64Array),
    Count(&'a UInt64Array),
}

/// The ordering columns of one batch. Null ids come before all others and are equal to each other.
pub struct RowOrder<'a> {
    times: &'a [i64],
    ids: Ids<'a>,
    partitions: &'a UInt32Array,
    offsets: &'a UInt64Array,
}

impl<'a> RowOrder<'a> {
    pub fn new(batch: &'a RecordBatch, columns: OrderColumns) -> Self {
        let ids = match columns.id.map(|id| batch.column(id)) {
            Some(ids) if *ids.data_type() == DataType::Utf8 => Ids::Text(ids.as_string::<i32>()),
            Some(ids) if *ids.data_type() == DataType::Int64 => {
                Ids::Number(ids.as_primitive::<Int64Type>())
            }
            Some(ids) if *ids.data_type() == DataType::UInt64 => {
                Ids::Count(ids.as_primitive::<UInt64Type>())
            }
            _ => Ids::None,
        };
        RowOrder {
            times: batch.column(columns.time).as_primitive::<Int64Type>().values(),
            ids,
            partitions: batch.column(columns.partition).as_primitive::<UInt32Type>(),
            offsets: batch.column(columns.offset).as_primitive::<UInt64Type>(),
        }
    }

    pub fn times(&self) -> &'a [i64] {
        self.times
    }

    /// How row `a` of this batch compares with row `b` of `other`.
    pub fn compare(&self, a: usize, other: &RowOrder, b: usize) -> Ordering {
        self.times[a].cmp(&other.times[b]).then_with(|| self.compare_ids(a, other, b)).then_with(
            || {
                let mine = (self.partitions.value(a), self.offsets.value(a));
                mine.cmp(&(other.partitions.value(b), other.offsets.value(b)))
            },
        )
    }

    fn compare_ids(&self, a: usize, other: &RowOrder, b: usize) -> Ordering {
        match (&self.ids, &other.ids) {
            (Ids::Text(x), Ids::Text(y)) => valid(*x, a, x.value(a)).cmp(&valid(*y, b, y.value(b))),
            (Ids::Number(x), Ids::Number(y)) => {
                valid(*x, a, x.value(a)).cmp(&valid(*y, b, y.value(b)))
            }
            (Ids::Count(x), Ids::Count(y)) => {
                valid(*x, a, x.value(a)).cmp(&valid(*y, b, y.value(b)))
            }
            _ => Ordering::Equal,
        }
    }

    pub fn is_sorted(&self) -> bool {
        (1..self.times.len()).all(|row| self.compare(row - 1, self, row) != Ordering::Greater)
    }

    /// The permutation that sorts the batch, `[rows]`.
    pub fn sorted_rows(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..self.times.len() as u32).collect();
        // Stable, as that is quick with what is sorted in parts.
        rows.sort_by(|&a, &b| self.compare(a as usize, self, b as usize));
        rows
    }
}

/// One batch, in order, of batches of one schema.
///
/// # Errors
/// If they are not of `schema`.
pub fn sorted(
    batches: &[RecordBatch],
    schema: &SchemaRef,
    columns: OrderColumns,
) -> Result<RecordBatch, ArrowError> {
    let joined = match batches {
        [one] => one.clone(),
        many => concat_batches(schema, many)?,
    };
    match RowOrder::new(&joined, columns) {
        order if order.is_sorted() => Ok(joined.clone()),
        order => take_record_batch(&joined, &UInt32Array::from(order.sorted_rows())),
    }
}

fn valid<V>(column: &impl Array, row: usize, value: V) -> Option<V> {
    column.is_valid(row).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::ArrayRef;
    use arrow::buffer::NullBuffer;

    use super::*;

    const COLUMNS: OrderColumns = OrderColumns { time: 0, id: Some(1), partition: 2, offset: 3 };

    /// The order of rows of one time.
    fn order_of(ids: ArrayRef, partitions: Vec<u32>, offsets: Vec<u64>) -> Vec<u32> {
        let columns: [(&str, ArrayRef); 4] = [
            ("time", Arc::new(Int64Array::from_value(5, ids.len()))),
            ("id", ids),
            ("partition", Arc::new(UInt32Array::from(partitions))),
            ("offset", Arc::new(UInt64Array::from(offsets))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        RowOrder::new(&batch, COLUMNS).sorted_rows()
    }

    fn order_of_ids(ids: ArrayRef) -> Vec<u32> {
        let rows = ids.len();
        order_of(ids, vec![0; rows], (0..rows as u64).collect())
    }

    #[test]
    fn integers_go_by_value_texts_by_bytes_and_null_comes_first() {
        // Whatever lies beneath a null.
        let nulls = NullBuffer::from(vec![true, false, true, false, true]);
        let numbers = Int64Array::new(vec![10, 7, -3, -9, 9].into(), Some(nulls));
        assert_eq!(order_of_ids(Arc::new(numbers)), [1, 3, 2, 4, 0]);
        let counts = UInt64Array::from(vec![Some(1 << 63), None, Some(5), Some(u64::MAX), Some(9)]);
        assert_eq!(order_of_ids(Arc::new(counts)), [1, 2, 4, 0, 3]);
        let texts = StringArray::from(vec![Some("9"), None, Some("Z"), Some("a"), Some("10")]);
        assert_eq!(order_of_ids(Arc::new(texts)), [1, 4, 0, 2, 3]);
    }

    #[test]
    fn equal_ids_go_by_partition_and_then_by_offset() {
        let ids = Arc::new(Int64Array::from_value(1, 4));
        assert_eq!(order_of(ids, vec![1, 0, 1, 0], vec![0, 9, 3, 8]), [3, 1, 0, 2]);
    }
}
