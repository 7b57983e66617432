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
    /// By partition, the offset of the first record that is scored; none has to be known.
    pub first_offsets: Arc<[u64]>,
}

impl WarmUp {
    /// No rows.
    pub fn none() -> Self {
        Self::before(i64::MIN)
    }

    /// Rows with an event time before `before` (ms).
    pub fn before(before: i64) -> Self {
        WarmUp { before, first_offsets: Arc::from([]) }
    }

    pub fn is_before_offset(&self, partition: u32, offset: u64) -> bool {
        self.first_offsets.get(partition as usize).is_some_and(|&first| offset < first)
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
    fn scored(&self, batch: &RecordBatch, layout: &EventLayout) -> Option<BooleanArray> {
        let times = layout.times(batch).values();
        let in_time = times.iter().all(|&time| !self.is_before_time(time));
        if in_time && self.first_offsets.is_empty() {
            return None;
        }
        let partitions = layout.partitions(batch).values().iter();
        let places = partitions.zip(layout.offsets(batch).values());
        let rows = times.iter().zip(places).map(|(&time, (&partition, &offset))| {
            Some(!self.is_before_time(time) && !self.is_before_offset(partition, offset))
        });
        Some(rows.collect())
    }
}
