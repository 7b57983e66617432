//! Micro-batching: rows are scored as soon as nothing more urgent is there, in batches that grow
//! under load.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

/// Bounds of a micro-batch; `realtime_ml.max_batch_size` and `realtime_ml.batch_timeout_ms`.
#[derive(Clone, Copy, Debug)]
pub struct BatchBounds {
    pub max_rows: usize,
    /// No row waits longer for others to join it.
    pub timeout: Duration,
}

/// Part of a batch that came in: `rows` rows from `start` on, with the tag it came with.
#[derive(Clone, Debug)]
pub struct Part<C> {
    pub tag: C,
    /// Counts the batches that came in; parts of the same one have the same number.
    pub source: u64,
    pub batch: RecordBatch,
    pub start: usize,
    pub rows: usize,
}

impl<C> Part<C> {
    pub fn slice(&self) -> RecordBatch {
        self.batch.slice(self.start, self.rows)
    }

    /// Some columns of the rows, which are those of `schema`.
    ///
    /// # Errors
    /// If they are not.
    pub fn project(
        &self,
        columns: &[usize],
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ArrowError> {
        let of_part = |&at: &usize| self.batch.column(at).slice(self.start, self.rows);
        RecordBatch::try_new(schema.clone(), columns.iter().map(of_part).collect())
    }

    /// Whether `next` goes on where this part ends.
    pub fn continues_in(&self, next: &Part<C>) -> bool {
        self.source == next.source && self.start + self.rows == next.start
    }
}

/// The first half of the rows of a micro-batch, and the others, in their order.
pub fn halves<C: Clone>(parts: Vec<Part<C>>) -> (Vec<Part<C>>, Vec<Part<C>>) {
    let mut left = parts.iter().map(|part| part.rows).sum::<usize>() / 2;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for part in parts {
        let taken = left.min(part.rows);
        left -= taken;
        if taken > 0 {
            first.push(Part { rows: taken, ..part.clone() });
        }
        if taken < part.rows {
            second.push(Part { start: part.start + taken, rows: part.rows - taken, ..part });
        }
    }
    (first, second)
}

/// The first part of what waits of a batch.
struct Queued<C> {
    rest: Part<C>,
    arrived: Duration,
}

/// Rows that wait to be scored, in the order they came.
pub struct MicroBatcher<C> {
    bounds: BatchBounds,
    queue: VecDeque<Queued<C>>,
    rows: usize,
    sources: u64,
}

impl<C: Clone> MicroBatcher<C> {
    pub fn new(bounds: BatchBounds) -> Self {
        MicroBatcher { bounds, queue: VecDeque::new(), rows: 0, sources: 0 }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The tag of the rows that are next.
    pub fn first(&self) -> Option<&C> {
        self.queue.front().map(|queued| &queued.rest.tag)
    }

    /// The next micro-batch has at most so many rows.
    pub fn bound(&mut self, max_rows: usize) {
        self.bounds.max_rows = max_rows;
    }

    pub fn push(&mut self, tag: C, batch: RecordBatch, now: Duration) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            let (source, rows) = (self.sources, batch.num_rows());
            self.sources += 1;
            let rest = Part { tag, source, batch, start: 0, rows };
            self.queue.push_back(Queued { rest, arrived: now });
        }
    }

    /// The tags of what waits.
    pub fn tags(&self) -> impl Iterator<Item = &C> {
        self.queue.iter().map(|queued| &queued.rest.tag)
    }

    /// How long the oldest row has waited.
    pub fn oldest_wait(&self, now: Duration) -> Duration {
        self.queue.front().map_or(Duration::ZERO, |first| now.saturating_sub(first.arrived))
    }

    /// The next micro-batch, of 1 to `max_rows` rows whose tags all `go_together`: one that is full, or
    /// whatever waits if the worker is `idle` or the oldest row has waited long enough.
    pub fn next(
        &mut self,
        idle: bool,
        now: Duration,
        go_together: impl Fn(&C, &C) -> bool,
    ) -> Option<Vec<Part<C>>> {
        let due = idle || self.oldest_wait(now) >= self.bounds.timeout;
        if self.rows == 0 || (self.rows < self.bounds.max_rows && !due) {
            return None;
        }
        let mut room = self.bounds.max_rows;
        let mut parts: Vec<Part<C>> = Vec::new();
        while let Some(first) = self.queue.front_mut().filter(|_| room > 0) {
            let apart = |part: &Part<C>| !go_together(&part.tag, &first.rest.tag);
            if parts.first().is_some_and(apart) {
                break;
            }
            let rows = room.min(first.rest.rows);
            parts.push(Part { rows, ..first.rest.clone() });
            first.rest.start += rows;
            first.rest.rows -= rows;
            room -= rows;
            self.rows -= rows;
            if first.rest.rows == 0 {
                self.queue.pop_front();
            }
        }
        Some(parts)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn rows(from: i64, to: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter_values(from..to)) as _)])
            .unwrap()
    }

    fn values(parts: &[Part<char>]) -> Vec<(char, Vec<i64>)> {
        let numbers =
            |p: &Part<char>| p.slice().column(0).as_primitive::<Int64Type>().values().to_vec();
        parts.iter().map(|part| (part.tag, numbers(part))).collect()
    }

    fn all(_: &char, _: &char) -> bool {
        true
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn full_batches_go_at_once_and_the_rest_when_idle() {
        let mut batcher = MicroBatcher::new(BatchBounds { max_rows: 4, timeout: 10 * MS });
        batcher.push('a', rows(0, 3), MS);
        assert!(batcher.next(false, MS, all).is_none());
        batcher.push('b', rows(3, 9), MS);
        let batch = batcher.next(false, MS, all).unwrap();
        assert_eq!(values(&batch), [('a', vec![0, 1, 2]), ('b', vec![3])]);
        assert_eq!(values(&batcher.next(false, MS, all).unwrap()), [('b', vec![4, 5, 6, 7])]);
        assert!(batcher.next(false, MS, all).is_none());
        assert_eq!(values(&batcher.next(true, MS, all).unwrap()), [('b', vec![8])]);
        assert!(batcher.next(true, MS, all).is_none());
        assert_eq!(batcher.rows(), 0);
    }

    #[test]
    fn no_row_waits_longer_than_the_timeout() {
        let mut batcher = MicroBatcher::new(BatchBounds { max_rows: 4, timeout: 10 * MS });
        batcher.push('a', rows(0, 1), 5 * MS);
        batcher.push('b', rows(1, 2), 14 * MS);
        assert!(batcher.next(false, 14 * MS, all).is_none());
        assert_eq!(batcher.next(false, 15 * MS, all).unwrap().len(), 2);
    }

    #[test]
    fn what_does_not_go_together_is_in_batches_of_its_own() {
        let mut batcher = MicroBatcher::new(BatchBounds { max_rows: 4, timeout: 10 * MS });
        for (tag, from, to) in [('a', 0, 2), ('a', 2, 3), ('b', 3, 9), ('a', 9, 10)] {
            batcher.push(tag, rows(from, to), MS);
        }
        let mut next = || values(&batcher.next(true, MS, |a, b| a == b).unwrap());
        assert_eq!(next(), [('a', vec![0, 1]), ('a', vec![2])]);
        assert_eq!(next(), [('b', vec![3, 4, 5, 6])]);
        assert_eq!(next(), [('b', vec![7, 8])]);
        assert_eq!(next(), [('a', vec![9])]);
    }
}
