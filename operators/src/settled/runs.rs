//! Records by their places, as sinks tell whoever has read them.

use std::collections::HashMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use serde::{Deserialize, Serialize};

use super::reader_of;
use crate::layout::{OFFSET, PARTITION};

/// Records of a partition, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRun {
    pub partition: u32,
    pub first: u64,
    pub count: u64,
}

impl OffsetRun {
    pub fn offsets(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

/// Records in the order in which they were told of, neighbours together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs(Vec<OffsetRun>);

impl Runs {
    pub fn push(&mut self, partition: u32, offset: u64) {
        match self.0.last_mut() {
            Some(run) if run.partition == partition && run.offsets().end == offset => {
                run.count += 1;
            }
            _ => self.0.push(OffsetRun { partition, first: offset, count: 1 }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &OffsetRun> {
        self.0.iter()
    }
}

impl FromIterator<(u32, u64)> for Runs {
    fn from_iter<T: IntoIterator<Item = (u32, u64)>>(origins: T) -> Self {
        let mut runs = Runs::default();
        origins.into_iter().for_each(|(partition, offset)| runs.push(partition, offset));
        runs
    }
}

/// The partitions and offsets of the records that rows of a batch came from: of its columns
/// [`PARTITION`] and [`OFFSET`], null where a row is of no record. None if it lacks them.
pub fn origins(batch: &RecordBatch) -> impl Iterator<Item = (u32, u64)> {
    let columns = (batch.column_by_name(PARTITION), batch.column_by_name(OFFSET));
    let columns = match columns {
        (Some(partitions), Some(offsets)) => Some((
            partitions.as_primitive::<UInt32Type>(),
            offsets.as_primitive::<UInt64Type>().values(),
        )),
        _ => None,
    };
    columns.into_iter().flat_map(|(partitions, offsets)| {
        let of_records = (0..offsets.len()).filter(|&row| partitions.is_valid(row));
        of_records.map(|row| (partitions.value(row), offsets[row]))
    })
}

/// Records whose results the sinks of a worker have acknowledged, all that there are of each.
///
/// The results of a record, its prediction and its alerts, are written by the same worker, alerts
/// before what they are of.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// How many more acknowledgements than one a record needs.
    held: HashMap<(u32, u64), u32>,
    /// Of which nobody has been told.
    untold: Runs,
    /// How many those are.
    rows: u64,
}

impl Acknowledged {
    /// The records that rows of a batch came from are not acknowledged before they have been called so
    /// once more for each of these rows.
    pub fn hold(&mut self, batch: &RecordBatch) {
        origins(batch).for_each(|origin| *self.held.entry(origin).or_default() += 1);
    }

    /// Rows of a batch are acknowledged.
    pub fn add(&mut self, batch: &RecordBatch) {
        for (partition, offset) in origins(batch) {
            if !self.is_held(partition, offset) {
                self.untold.push(partition, offset);
                self.rows += 1;
            }
        }
    }

    /// Whether a record that is called acknowledged is not yet so.
    fn is_held(&mut self, partition: u32, offset: u64) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let Some(more) = self.held.get_mut(&(partition, offset)) else { return false };
        *more -= 1;
        if *more == 0 {
            self.held.remove(&(partition, offset));
        }
        true
    }

    /// Records of which nobody has been told.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Those records, by which of so many workers reads them, where there are any.
    pub fn take(&mut self, workers: usize) -> impl Iterator<Item = (usize, Runs)> + use<> {
        self.rows = 0;
        let mut of_readers = vec![Runs::default(); workers];
        for run in std::mem::take(&mut self.untold).0 {
            of_readers[reader_of(run.partition, workers)].0.push(run);
        }
        of_readers.into_iter().enumerate().filter(|(_, runs)| !runs.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, UInt32Array, UInt64Array};

    use super::*;

    fn rows(origins: &[Option<(u32, u64)>]) -> RecordBatch {
        let partitions = origins.iter().map(|origin| origin.map(|(partition, _)| partition));
        let offsets = origins.iter().map(|origin| origin.map_or(0, |(_, offset)| offset));
        let partitions: ArrayRef = Arc::new(partitions.collect::<UInt32Array>());
        let offsets: ArrayRef = Arc::new(UInt64Array::from_iter_values(offsets));
        RecordBatch::try_from_iter([(PARTITION, partitions), (OFFSET, offsets)]).unwrap()
    }

    /// By worker, all offsets that are told.
    fn told(acknowledged: &mut Acknowledged, workers: usize) -> Vec<(usize, Vec<(u32, u64)>)> {
        let of_run = |run: &OffsetRun| {
            let partition = run.partition;
            run.offsets().map(move |offset| (partition, offset)).collect::<Vec<_>>()
        };
        let told = acknowledged.take(workers);
        told.map(|(worker, runs)| (worker, runs.iter().flat_map(of_run).collect())).collect()
    }

    #[test]
    fn neighbours_are_a_run_and_doubles_are_two() {
        let runs: Runs = [(0, 3), (0, 4), (1, 5), (0, 5), (0, 5), (0, 6)].into_iter().collect();
        let run = |partition, first, count| OffsetRun { partition, first, count };
        let wanted = [run(0, 3, 2), run(1, 5, 1), run(0, 5, 1), run(0, 5, 2)];
        assert_eq!(runs.iter().copied().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn rows_of_no_record_acknowledge_nothing() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.hold(&rows(&[None, Some((0, 1))]));
        acknowledged.add(&rows(&[None, Some((0, 0))]));
        assert_eq!(told(&mut acknowledged, 1), [(0, vec![(0, 0)])]);
        acknowledged.add(&rows(&[None, Some((0, 1))]));
        assert_eq!((acknowledged.rows(), told(&mut acknowledged, 1)), (0, vec![]));
        acknowledged.add(&rows(&[None, Some((0, 1))]));
        assert_eq!(acknowledged.rows(), 1);
        assert_eq!(told(&mut acknowledged, 1), [(0, vec![(0, 1)])]);
        let number: ArrayRef = Arc::new(UInt32Array::from(vec![1]));
        acknowledged.add(&RecordBatch::try_from_iter([("n", number)]).unwrap());
        assert_eq!(acknowledged.rows(), 0);
    }

    /// Each record with one prediction and up to three alerts, acknowledged in any order.
    #[test]
    fn as_a_list_of_all_results_would_have_it() {
        const WORKERS: usize = 3;
        for seed in 0..100u64 {
            let mut state = seed;
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let mut acknowledged = Acknowledged::default();
            // Of each record the results that are not acknowledged.
            let mut open: Vec<((u32, u64), u64)> = Vec::new();
            let mut wanted: Vec<(u32, u64)> = Vec::new();
            let mut unread = 0;
            for step in 0..200 {
                match next(3) {
                    0 => {
                        for _ in 0..next(20) {
                            let (origin, alerts) = ((next(5) as u32, unread), next(4));
                            unread += 1;
                            let raised = vec![Some(origin); alerts as usize];
                            acknowledged.hold(&rows(&raised));
                            open.push((origin, 1 + alerts));
                        }
                    }
                    1 => {
                        for _ in 0..next(30).min(open.len() as u64) {
                            let which = next(open.len() as u64) as usize;
                            let (origin, left) = &mut open[which];
                            acknowledged.add(&rows(&[Some(*origin)]));
                            *left -= 1;
                            if *left == 0 {
                                wanted.push(*origin);
                                open.remove(which);
                            }
                        }
                    }
                    _ => {
                        assert_eq!(acknowledged.rows(), wanted.len() as u64);
                        for (worker, records) in told(&mut acknowledged, WORKERS) {
                            let of = |(partition, _): &&(u32, u64)| {
                                *partition as usize % WORKERS == worker
                            };
                            let mine: Vec<_> = wanted.iter().filter(of).copied().collect();
                            assert_eq!(records, mine, "seed {seed}, step {step}");
                            wanted.retain(|origin| !mine.contains(origin));
                        }
                        assert!(wanted.is_empty(), "seed {seed}, step {step}: {wanted:?}");
                    }
                }
            }
        }
    }
}
