//! Finds versions in the batches of an arrangement, without a look at those that are not asked for.
//!
//! Differential's own list of cursors seeks a value in all of its batches, also in those that are at
//! another key or have none left; here only those take part that hold the key.

use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::cursor::{Cursor, Navigable};
use timely::progress::Antichain;

use super::arrange::TableTrace;
use super::versions::{Key, Version};
use crate::fine_time::FineTime;

type Batch = <TableTrace as TraceReader>::Batch;

/// A cursor and the batch that it goes through.
struct At {
    cursor: <Batch as Navigable>::Cursor,
    batch: Batch,
}

/// The batches of an arrangement, read by ascending keys, and within a key backwards in time.
pub struct Seeker {
    batches: Vec<At>,
    /// Those that hold the key.
    with_key: Vec<usize>,
}

impl Seeker {
    /// What is in the trace by now.
    pub fn new(trace: Option<&mut TableTrace>) -> Self {
        let batches = trace.and_then(|trace| trace.batches_through(Antichain::new().borrow()));
        let at = |batch: Batch| At { cursor: batch.cursor(), batch };
        Seeker {
            batches: batches.unwrap_or_default().into_iter().map(at).collect(),
            with_key: Vec::new(),
        }
    }

    /// Goes on to `key`.
    pub fn seek_key(&mut self, key: &Key) {
        self.with_key.clear();
        for (number, At { cursor, batch }) in self.batches.iter_mut().enumerate() {
            cursor.seek_key(batch, key);
            if cursor.get_key(batch) == Some(key) {
                self.with_key.push(number);
            }
        }
    }

    /// The version of the key that is valid at `time` as of an epoch: the latest that is there and
    /// has begun. `time` must not rise from one call to the next of a key.
    pub fn valid_at(&mut self, time: FineTime, as_of: u64) -> Option<&Version> {
        let target = Version::first_at(time);
        for &number in &self.with_key {
            let At { cursor, batch } = &mut self.batches[number];
            cursor.seek_val(batch, &target);
        }
        while self.count(as_of)? <= 0 {
            self.step();
        }
        self.first()
    }

    /// The first of the versions that the cursors are at.
    fn first(&self) -> Option<&Version> {
        let versions = self.with_key.iter().filter_map(|&number| {
            let At { cursor, batch } = &self.batches[number];
            cursor.get_val(batch)
        });
        versions.min()
    }

    /// How often the first version is there as of an epoch; `None` if there is no version left.
    fn count(&mut self, as_of: u64) -> Option<isize> {
        let first = self.first()?.clone();
        let mut count = 0;
        for &number in &self.with_key {
            let At { cursor, batch } = &mut self.batches[number];
            if cursor.get_val(batch) == Some(&first) {
                cursor.map_times(batch, |epoch, diff| {
                    count += if *epoch <= as_of { *diff } else { 0 };
                });
            }
        }
        Some(count)
    }

    /// Passes the first version.
    fn step(&mut self) {
        let Some(first) = self.first().cloned() else { return };
        for &number in &self.with_key {
            let At { cursor, batch } = &mut self.batches[number];
            if cursor.get_val(batch) == Some(&first) {
                cursor.step_val(batch);
            }
        }
    }
}
