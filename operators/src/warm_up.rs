//! Rows that have come to feed windows, and go no further.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;

use crate::layout::EventLayout;

/// Which rows those are: what lies before an event time, or before an offset of its partition.
#[derive(Clone, Debug)]
pub struct WarmUp {
    /// Event time in ms.
    pub before: i64,
    pub first_offsets: FirstOffsets,
}

/// By partition, the offset of the first record that is scored; none has to be known.
#[derive(Clone, Debug)]
pub struct FirstOffsets {
    by_partition: Arc<[u64]>,
    /// From here on no partition has anything before its first.
    highest: u64,
}

impl<T: Into<Arc<[u64]>>> From<T> for FirstOffsets {
    fn from(by_partition: T) -> Self {
        let by_partition = by_partition.into();
        let highest = by_partition.iter().max().copied().unwrap_or(0);
        FirstOffsets { by_partition, highest }
    }
}

impl FirstOffsets {
    fn is_before(&self, partition: u32, offset: u64) -> bool {
        self.by_partition.get(partition as usize).is_some_and(|&first| offset < first)
    }

    /// Whether any row is before the first of its partition. Those are all read in the first seconds
    /// of a run, and every batch is asked for ever: mostly the lowest offset tells.
    fn any_before(&self, partitions: &[u32], offsets: &[u64]) -> bool {
        offsets.iter().fold(u64::MAX, |lowest, &offset| lowest.min(offset)) < self.highest
            && partitions.iter().zip(offsets).any(|(&p, &offset)| self.is_before(p, offset))
    }
}

impl WarmUp {
    /// No rows.
    pub fn none() -> Self {
        Self::before(i64::MIN)
    }

    /// Rows with an event time before `before` (ms).
    pub fn before(before: i64) -> Self {
        WarmUp { before, first_offsets: Vec::new().into() }
    }

    pub fn is_before_offset(&self, partition: u32, offset: u64) -> bool {
        self.first_offsets.is_before(partition, offset)
    }

    pub fn is_before_time(&self, time: i64) -> bool {
        time < self.before
    }

    /// The rows of a batch with the columns of `layout` that are not.
    ///
    /// # Errors
    /// If the batch cannot be filtered.
    pub fn without(
        &self,
        batch: RecordBatch,
        layout: &EventLayout,
    ) -> Result<RecordBatch, ArrowError> {
        match self.scored(&batch, layout) {
            Some(scored) if scored.true_count() < scored.len() => {
                filter_record_batch(&batch, &scored)
            }
            _ => Ok(batch),
        }
    }

    /// How many rows of a batch with the columns of `layout` are not: those that the account knows.
    pub fn counted(&self, batch: &RecordBatch, layout: &EventLayout) -> i64 {
        let scored = self.scored(batch, layout);
        scored.map_or(batch.num_rows(), |scored| scored.true_count()) as i64
    }

    /// Which rows of a batch are not; `None` where all are not.
    pub(crate) fn scored(&self, batch: &RecordBatch, layout: &EventLayout) -> Option<BooleanArray> {
        let times = layout.times(batch).values();
        let (partitions, offsets) =
            (layout.partitions(batch).values(), layout.offsets(batch).values());
        let in_time =
            self.before == i64::MIN || times.iter().all(|&time| !self.is_before_time(time));
        if in_time && !self.first_offsets.any_before(partitions, offsets) {
            return None;
        }
        let places = partitions.iter().zip(offsets);
        let rows = times.iter().zip(places).map(|(&time, (&partition, &offset))| {
            Some(!self.is_before_time(time) && !self.is_before_offset(partition, offset))
        });
        Some(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, UInt32Array, UInt64Array};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::layout::CameAs;

    fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    /// Batches behind a gate: rows of several partitions in any order, one row after the other
    /// against its own partition.
    #[test]
    fn exactly_the_rows_of_the_warm_up_go_no_further() {
        let layout = EventLayout::new(&Schema::empty(), None, None, CameAs::Columns);
        for seed in 1..400u64 {
            let mut next = numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let firsts: Vec<u64> = (0..next(4)).map(|_| next(12)).collect();
            let before = if next(2) == 0 { i64::MIN } else { next(12) as i64 };
            let warm_up = WarmUp { before, first_offsets: firsts.clone().into() };
            let rows = next(6) as usize;
            // Of a run that has gone on for long, too.
            let later = next(2) * 9;
            let mut column =
                |from: u64, below: u64| Vec::from_iter((0..rows).map(|_| from + next(below)));
            let (times, partitions, offsets) = (column(0, 20), column(0, 5), column(later, 12));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from_iter_values(times.iter().map(|&time| time as i64))),
                Arc::new(BooleanArray::from(vec![false; rows])),
                Arc::new(UInt32Array::from_iter_values(partitions.iter().map(|&p| p as u32))),
                Arc::new(UInt64Array::from(offsets.clone())),
                Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            ];
            let batch = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
            let goes_on = |row: &usize| {
                let first = firsts.get(partitions[*row] as usize).copied().unwrap_or(0);
                times[*row] as i64 >= before && offsets[*row] >= first
            };
            let wanted: Vec<i64> = (0..rows).filter(goes_on).map(|row| row as i64).collect();
            assert_eq!(warm_up.counted(&batch, &layout), wanted.len() as i64, "seed {seed}");
            let found = warm_up.without(batch, &layout).unwrap();
            assert_eq!(layout.read_at(&found).values(), wanted.as_slice(), "seed {seed}");
        }
    }
}
