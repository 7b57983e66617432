//! The time since the previous row.

use std::collections::VecDeque;

use super::WindowSpec;
use super::places::{Places, RowPlace};
use super::room::trim_queue;

/// The rows of one key that may be the previous row of one still to come.
///
/// A row sees of each time only whether one of its rows comes no later, so the lowest place of each
/// time is enough; and of the times that every admissible row is later than, the last one is. Without
/// history that makes two rows.
pub(super) struct PreviousRow {
    spec: WindowSpec,
    /// The times, one each. The last one is the newest row's.
    times: VecDeque<i64>,
    /// The lowest place of each time.
    lowest: Places,
}

impl PreviousRow {
    pub(super) fn new(spec: WindowSpec) -> Self {
        PreviousRow { spec, times: VecDeque::new(), lowest: Places::default() }
    }

    pub(super) fn rows(&self) -> usize {
        self.times.len()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.times.back().copied()
    }

    pub(super) fn add(&mut self, time: i64, place: RowPlace) -> Option<f64> {
        let since = self.read(time, place);
        self.insert(time, place);
        self.forget();
        since
    }

    /// Milliseconds since the last row no later than this one.
    pub(super) fn read(&self, time: i64, place: RowPlace) -> Option<f64> {
        let before = self.before(time);
        let is_same = self.times.get(before) == Some(&time) && self.lowest.get(before) <= place;
        let up_to = before + usize::from(is_same);
        let previous = *self.times.get(up_to.checked_sub(1)?)?;
        self.spec.is_inside(previous, time).then(|| (time - previous) as f64)
    }

    /// How many times are before this one.
    fn before(&self, time: i64) -> usize {
        match self.times.back() {
            Some(&last) if last >= time => self.times.partition_point(|&other| other < time),
            _ => self.times.len(),
        }
    }

    fn insert(&mut self, time: i64, place: RowPlace) {
        if self.newest().is_none_or(|newest| newest < time) {
            self.lowest.push(place);
            return self.times.push_back(time);
        }
        let at = self.before(time);
        if self.times[at] != time {
            self.lowest.insert(at, place);
            self.times.insert(at, time);
        } else if place < self.lowest.get(at) {
            self.lowest.replace(at, place);
        }
    }

    /// Lets go of rows that can be no one's previous row.
    fn forget(&mut self) {
        let Some(newest) = self.newest() else { return };
        while self.times.len() > 1 {
            let is_hidden = newest.saturating_sub(self.times[1]) > self.spec.history_ms;
            if !is_hidden && !self.spec.is_past(self.times[0], newest) {
                break;
            }
            self.lowest.pop_front();
            self.times.pop_front();
        }
        trim_queue(&mut self.times);
    }
}
