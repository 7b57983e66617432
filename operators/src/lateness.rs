//! How late rows were, and behind which rows: what a user needs to know to have them in time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Rows that others may turn out to be late behind, of which is known where they are: one a chunk.
const AHEAD_MAX: usize = 65_536;
/// Rows behind which others were late.
const BEHIND_MAX: usize = 4_096;

/// A row that was ahead of all before it in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    pub offset: u64,
    /// How far (ms) it was ahead of them; `None` of the first one.
    pub jump_ms: Option<i64>,
}

/// The late rows of a chunk, or of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateRows {
    /// Whatever became of them, those that were too late among them.
    pub rows: u64,
    /// How far (ms) they were behind the highest time before them at most: the lateness that would have
    /// them all in time.
    pub behind_ms_most: i64,
    /// By partition and event time (ms) what is known of rows that were ahead.
    ahead: BTreeMap<(u32, i64), Ahead>,
    /// How many rows were late behind the row that had taken its partition to a time.
    behind: BTreeMap<(u32, i64), u64>,
}

/// The row behind which most rows were late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Culprit {
    pub partition: u32,
    pub time: i64,
    pub ahead: Ahead,
    /// Rows that were late behind it.
    pub rows: u64,
}

impl LateRows {
    /// So many rows, behind whichever.
    pub fn of(rows: u64, behind_ms_most: i64) -> Self {
        LateRows { rows, behind_ms_most, ..LateRows::default() }
    }

    /// A row was `behind_ms` behind. `reached`: the partition, and the time to which its own rows had
    /// taken it, if it was those that made the row late.
    pub fn late(&mut self, behind_ms: i64, reached: Option<(u32, i64)>) {
        self.rows += 1;
        self.behind_ms_most = self.behind_ms_most.max(behind_ms);
        if let Some(reached) = reached {
            *self.behind.entry(reached).or_default() += 1;
        }
    }

    /// A row took its partition to a time.
    pub fn ahead(&mut self, partition: u32, time: i64, ahead: Ahead) {
        self.ahead.insert((partition, time), ahead);
    }

    fn is_empty(&self) -> bool {
        self.rows == 0 && self.ahead.is_empty()
    }

    fn merge(&mut self, chunk: LateRows) {
        self.rows += chunk.rows;
        self.behind_ms_most = self.behind_ms_most.max(chunk.behind_ms_most);
        self.ahead.extend(chunk.ahead);
        for (reached, rows) in chunk.behind {
            *self.behind.entry(reached).or_default() += rows;
        }
        if self.behind.len() > BEHIND_MAX {
            let mut counts: Vec<u64> = self.behind.values().copied().collect();
            let median = *counts.select_nth_unstable(BEHIND_MAX / 2).1;
            self.behind.retain(|_, rows| *rows > median);
        }
        if self.ahead.len() > AHEAD_MAX {
            self.forget();
        }
    }

    /// What is behind all that is read has nothing late behind it any more.
    fn forget(&mut self) {
        let mut newest: BTreeMap<u32, i64> = BTreeMap::new();
        self.ahead.keys().for_each(|&(partition, time)| {
            newest.insert(partition, time);
        });
        let LateRows { ahead, behind, .. } = self;
        ahead.retain(|reached, _| {
            behind.contains_key(reached) || newest.get(&reached.0) == Some(&reached.1)
        });
    }

    pub fn culprit(&self) -> Option<Culprit> {
        let known = self.behind.iter().filter_map(|(&(partition, time), &rows)| {
            let ahead = *self.ahead.get(&(partition, time))?;
            Some(Culprit { partition, time, ahead, rows })
        });
        known.max_by_key(|found| (found.rows, std::cmp::Reverse((found.partition, found.time))))
    }
}

/// The late rows of a run, from all its workers.
#[derive(Default)]
pub struct Lateness(Mutex<LateRows>);

impl Lateness {
    pub fn add(&self, chunk: LateRows) {
        if !chunk.is_empty() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).merge(chunk);
        }
    }

    pub fn so_far(&self) -> LateRows {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(offset: u64) -> Ahead {
        Ahead { offset, jump_ms: Some(1) }
    }

    #[test]
    fn chunks_may_come_in_any_order() {
        let mut first = LateRows::default();
        first.ahead(0, 50, ahead(3));
        first.ahead(0, 90, ahead(4));
        let mut second = LateRows::default();
        second.late(40, Some((0, 90)));
        second.late(70, Some((0, 90)));
        second.late(99, None);
        second.late(10, Some((0, 95)));
        let culprit = Culprit { partition: 0, time: 90, ahead: ahead(4), rows: 2 };
        for chunks in [[first.clone(), second.clone()], [second, first]] {
            let lateness = Lateness::default();
            chunks.into_iter().for_each(|chunk| lateness.add(chunk));
            let found = lateness.so_far();
            assert_eq!((found.rows, found.behind_ms_most), (4, 99));
            assert_eq!(found.culprit(), Some(culprit));
        }
        assert_eq!(Lateness::default().so_far().culprit(), None);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_worst_stays() {
        let lateness = Lateness::default();
        for at in 0..200_000 {
            let mut chunk = LateRows::default();
            chunk.ahead(7, at, ahead(at as u64));
            if at > 1_000 {
                chunk.late(1, Some((7, at)));
                chunk.late(1, Some((7, 1_000)));
            }
            lateness.add(chunk);
        }
        let found = lateness.so_far();
        assert!(found.ahead.len() <= AHEAD_MAX && found.behind.len() <= BEHIND_MAX);
        assert_eq!(
            found.culprit().map(|culprit| (culprit.time, culprit.rows)),
            Some((1_000, 198_999))
        );
    }
}
