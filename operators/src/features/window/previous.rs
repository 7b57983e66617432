//! The time since the previous row.

use std::collections::VecDeque;

use super::room::trim_queue;
use super::{Place, WindowSpec};

/// The rows of one key that may be the previous row of one still to come.
///
/// A row sees of each time only whether one of its rows comes no later, so the lowest place of each
/// time is enough; and of the times that every admissible row is later than, the last one is. Without
/// history that makes two rows.
pub(super) struct PreviousRow {
    spec: WindowSpec,
    /// By time, one a time: its lowest place. The last one is the newest row's.
    rows: VecDeque<(i64, Place)>,
}

impl PreviousRow {
    pub(super) fn new(spec: WindowSpec) -> Self {
        PreviousRow { spec, rows: VecDeque::new() }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.rows.back().map(|&(time, _)| time)
    }

    pub(super) fn add(&mut self, time: i64, place: &Place) -> Option<f64> {
        let since = self.read(time, place);
        self.insert(time, place);
        self.forget();
        since
    }

    /// Milliseconds since the last row no later than this one.
    pub(super) fn read(&self, time: i64, place: &Place) -> Option<f64> {
        let is_up_to = |row: &(i64, Place)| (row.0, &row.1) <= (time, place);
        let up_to = match self.rows.back() {
            Some(last) if !is_up_to(last) => self.rows.partition_point(is_up_to),
            _ => self.rows.len(),
        };
        let (previous, _) = self.rows.get(up_to.checked_sub(1)?)?;
        self.spec.is_inside(*previous, time).then(|| (time - previous) as f64)
    }

    fn insert(&mut self, time: i64, place: &Place) {
        if self.newest().is_none_or(|newest| newest < time) {
            return self.rows.push_back((time, place.clone()));
        }
        let at = self.rows.partition_point(|row| row.0 < time);
        match &mut self.rows[at] {
            (same, lowest) if *same == time => {
                if *place < *lowest {
                    *lowest = place.clone();
                }
            }
            _ => self.rows.insert(at, (time, place.clone())),
        }
    }

    /// Lets go of rows that can be no one's previous row.
    fn forget(&mut self) {
        let Some(newest) = self.newest() else { return };
        while self.rows.len() > 1 {
            let is_hidden = newest.saturating_sub(self.rows[1].0) > self.spec.history_ms;
            if !is_hidden && !self.spec.is_past(self.rows[0].0, newest) {
                break;
            }
            self.rows.pop_front();
        }
        trim_queue(&mut self.rows);
    }
}
