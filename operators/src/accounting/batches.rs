//! What is counted of micro-batches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::apart::Apart;
use crate::latency::Distribution;

/// How many micro-batches had how many rows.
#[derive(Clone, Debug, Default)]
pub struct BatchSizes(BTreeMap<usize, u64>);

impl BatchSizes {
    pub(super) fn record(&mut self, rows: usize) {
        *self.0.entry(rows).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &BatchSizes) {
        for (&rows, &count) in &other.0 {
            *self.0.entry(rows).or_default() += count;
        }
    }

    pub fn batches(&self) -> u64 {
        self.0.values().sum()
    }

    /// The median number of rows of a batch; 0 without batches.
    pub fn median(&self) -> usize {
        let half = self.batches().div_ceil(2);
        let mut seen = 0;
        for (&rows, &count) in &self.0 {
            seen += count;
            if seen >= half {
                return rows;
            }
        }
        0
    }
}

/// What one worker counts of its micro-batches: made once, and shared with those who read it.
#[derive(Clone, Default)]
pub struct BatchGauge(Arc<Apart<Mutex<Batches>>>);

#[derive(Default)]
pub(super) struct Batches {
    pub sizes: BatchSizes,
    pub rows: u64,
    pub wait: Distribution,
    pub inference: Distribution,
    pub longest_wait: Duration,
    pub inference_time: Duration,
}

impl BatchGauge {
    /// A micro-batch was scored; its oldest row had waited `wait`.
    pub fn scored(&self, rows: usize, wait: Duration, inference: Duration) {
        let mut batches = self.lock();
        batches.sizes.record(rows);
        batches.rows += rows as u64;
        batches.wait.record(wait.as_micros() as u64, 1);
        batches.inference.record(inference.as_micros() as u64, 1);
        batches.longest_wait = batches.longest_wait.max(wait);
        batches.inference_time += inference;
    }

    /// Nobody else asks for it but who reads all of them.
    pub(super) fn lock(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_batches() {
        let mut sizes = BatchSizes::default();
        assert_eq!(sizes.median(), 0);
        for rows in [1, 1024, 1024, 7, 1024] {
            sizes.record(rows);
        }
        assert_eq!((sizes.median(), sizes.batches()), (1024, 5));
        let mut others = BatchSizes::default();
        [7, 7, 7, 7, 7].into_iter().for_each(|rows| others.record(rows));
        sizes.merge(&others);
        assert_eq!((sizes.median(), sizes.batches()), (7, 10));
    }
}
