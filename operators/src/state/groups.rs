//! Rows and items by key group.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::error::ArrowError;

use crate::key_group::{KEY_GROUPS, worker_of_group};

/// The key groups that a worker owns: they follow each other.
pub fn groups_of_worker(worker: usize, workers: usize) -> Range<u64> {
    let first = |worker: usize| {
        let before = |group: &u64| worker_of_group(*group, workers) < worker;
        (0..KEY_GROUPS).take_while(before).count() as u64
    };
    first(worker)..first(worker + 1)
}

/// Items by their key group, of those in `groups`.
pub fn by_group<T>(
    items: impl IntoIterator<Item = (u64, T)>,
    groups: &Range<u64>,
) -> BTreeMap<u64, Vec<T>> {
    let mut by_group: BTreeMap<u64, Vec<T>> = BTreeMap::new();
    for (group, item) in items {
        if groups.contains(&group) {
            by_group.entry(group).or_default().push(item);
        }
    }
    by_group
}

/// The rows at some places of a batch.
///
/// # Errors
/// If they cannot be taken.
pub fn rows_at(batch: &RecordBatch, rows: Vec<u32>) -> Result<RecordBatch, ArrowError> {
    take_record_batch(batch, &UInt32Array::from(rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_of_all_workers_are_all_groups() {
        for workers in [1, 2, 3, 7, 255, 256, 300] {
            let mut owned = Vec::new();
            for worker in 0..workers {
                let groups = groups_of_worker(worker, workers);
                assert!(groups.clone().all(|group| worker_of_group(group, workers) == worker));
                owned.extend(groups);
            }
            assert_eq!(owned, Vec::from_iter(0..KEY_GROUPS), "{workers}");
        }
    }
}
