//! Rows of a stored table in order of time, in whichever order they are stored.

use arrow::array::RecordBatch;
use arrow::compute::interleave_record_batch;
use arrow::error::ArrowError;
use driftline_operators::fine_time::{FineTime, FineTimes};

/// Batches of rows, and the order of all of these by time. Rows of equal time stay in their order;
/// those without a time hold nothing up and come first.
pub struct SortedRows {
    batches: Vec<RecordBatch>,
    /// Batch, and row in it.
    order: Vec<(u32, u32)>,
}

impl SortedRows {
    /// `batches` with the times of their rows; and whether they were in order before.
    pub fn new(batches: Vec<(RecordBatch, FineTimes)>) -> (Self, bool) {
        let (batches, times): (Vec<RecordBatch>, Vec<FineTimes>) = batches.into_iter().unzip();
        let time = |&(batch, row): &(u32, u32)| times[batch as usize].get(row as usize);
        let rows = (0..).zip(&batches);
        let rows = rows.flat_map(|(at, batch)| (0..batch.num_rows() as u32).map(move |r| (at, r)));
        let mut order: Vec<(u32, u32)> = rows.collect();
        let in_order = is_sorted(order.iter().filter_map(time));
        order.sort_by_key(time);
        (SortedRows { batches, order }, in_order)
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// `rows` rows from `first` on, by their order.
    ///
    /// # Errors
    /// If the batches differ in their columns.
    pub fn slice(&self, first: usize, rows: usize) -> Result<RecordBatch, ArrowError> {
        let wanted = &self.order[first..first + rows];
        let mut used: Vec<u32> = wanted.iter().map(|(batch, _)| *batch).collect();
        used.sort_unstable();
        used.dedup();
        let place = |batch: &u32| used.binary_search(batch).expect("it is one of those used");
        let wanted = wanted.iter().map(|(batch, row)| (place(batch), *row as usize));
        let wanted: Vec<(usize, usize)> = wanted.collect();
        match used.as_slice() {
            [] => Ok(self.batches[0].slice(0, 0)),
            used => {
                let batches = used.iter().map(|&batch| &self.batches[batch as usize]);
                interleave_record_batch(&batches.collect::<Vec<_>>(), &wanted)
            }
        }
    }
}

fn is_sorted(times: impl Iterator<Item = FineTime>) -> bool {
    times.is_sorted()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow::datatypes::Int64Type;
    use driftline_operators::fine_time::fine_times;

    use super::*;

    /// Batches of rows at these times (µs), numbered in their order.
    fn batches(times: &[&[Option<i64>]]) -> Vec<(RecordBatch, FineTimes)> {
        let mut number = 0;
        let batch = |times: &&[Option<i64>]| {
            let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times.to_vec()));
            let numbers = Int64Array::from_iter_values(number..number + times.len() as i64);
            number += times.len() as i64;
            let texts = StringArray::from_iter_values(numbers.values().iter().map(i64::to_string));
            let columns: [(&str, ArrayRef); 2] =
                [("n", Arc::new(numbers)), ("text", Arc::new(texts))];
            (RecordBatch::try_from_iter(columns).unwrap(), fine_times(&column).unwrap())
        };
        times.iter().map(batch).collect()
    }

    fn numbers(rows: &RecordBatch) -> Vec<i64> {
        let numbers = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let texts = rows.column(1).as_string::<i32>().iter().flatten();
        assert!(texts.eq(numbers.iter().map(i64::to_string)));
        numbers
    }

    #[test]
    fn rows_are_in_order_of_time_and_then_of_their_places() {
        let given = batches(&[
            &[Some(2_600), None, Some(2_100)],
            &[],
            &[Some(2_100), Some(-1), Some(9_000)],
            &[Some(2_100), None],
        ]);
        let (sorted, in_order) = SortedRows::new(given);
        assert!(!in_order);
        assert_eq!(sorted.len(), 8);
        assert_eq!(numbers(&sorted.slice(0, 8).unwrap()), [1, 7, 4, 2, 3, 6, 0, 5]);
        for rows in [1, 3] {
            let pieces = (0..8usize)
                .step_by(rows)
                .map(|first| numbers(&sorted.slice(first, rows.min(8 - first)).unwrap()));
            assert_eq!(pieces.collect::<Vec<_>>().concat(), [1, 7, 4, 2, 3, 6, 0, 5]);
        }
        assert_eq!(sorted.slice(3, 0).unwrap().num_rows(), 0);
    }

    #[test]
    fn what_is_in_order_but_for_missing_times_is_in_order() {
        let (_, in_order) =
            SortedRows::new(batches(&[&[None, Some(1)], &[Some(1), None, Some(5)]]));
        assert!(in_order);
        let (_, in_order) = SortedRows::new(batches(&[&[Some(2)], &[Some(1)]]));
        assert!(!in_order);
    }
}
