//! Where partitions have nothing to read: markers of transactions, and what was aborted or removed.
//! What is settled up to there is settled up to what comes behind.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of the partitions of the events, by number; shared by those who read them and those who tell how
/// far they are.
#[derive(Clone, Default)]
pub struct Passed(Arc<Mutex<BTreeMap<u32, Partition>>>);

#[derive(Default)]
struct Partition {
    /// The last stretch of offsets that is known to hold no message.
    empty: Range<u64>,
    /// How far the partition was settled when last somebody asked: it does not go back.
    reached: u64,
}

impl Passed {
    fn partitions(&self) -> MutexGuard<'_, BTreeMap<u32, Partition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is no message in `stretch`, which ends where the partition does.
    pub fn add(&self, number: u32, stretch: Range<u64>) {
        if !stretch.is_empty() {
            self.partitions().entry(number).or_default().empty = stretch;
        }
    }

    /// How far a partition is settled whose messages before `offset` are.
    pub fn over(&self, number: u32, offset: u64) -> u64 {
        let mut partitions = self.partitions();
        let partition = partitions.entry(number).or_default();
        let reached = match partition.empty.contains(&offset) {
            true => partition.empty.end,
            false => offset,
        };
        partition.reached = reached.max(partition.reached);
        partition.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_nothing_but_markers_is_at_the_end() {
        let passed = Passed::default();
        assert_eq!(passed.over(0, 3), 3);
        passed.add(0, 5..7);
        assert_eq!(passed.over(0, 4), 4);
        assert_eq!(passed.over(0, 5), 7);
        assert_eq!(passed.over(1, 5), 5);
    }

    #[test]
    fn a_run_that_begins_among_markers_is_at_the_end_and_what_was_said_stays() {
        let passed = Passed::default();
        passed.add(0, 5..9);
        assert_eq!(passed.over(0, 7), 9);
        // The messages of offsets 9 to 11 are read, and none of them is settled.
        passed.add(0, 12..14);
        assert_eq!(passed.over(0, 7), 9);
        assert_eq!(passed.over(0, 11), 11);
        assert_eq!(passed.over(0, 12), 14);
        passed.add(0, 15..15);
        assert_eq!(passed.over(0, 13), 14);
    }
}
