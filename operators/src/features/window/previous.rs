//! The time since the previous row.

use super::WindowSpec;
use super::rows::KeyRows;

/// How many of the key's rows, the last ones, may be the previous row of one still to come.
///
/// Of the times that every admissible row is later than, the last one is enough. Without history that
/// makes two times.
#[derive(Default)]
pub(super) struct PreviousRow {
    seen: usize,
}

impl PreviousRow {
    pub(super) fn of(seen: usize) -> Self {
        PreviousRow { seen }
    }

    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    /// The last of `rows` is new. Milliseconds since the one before it.
    pub(super) fn push(&mut self, spec: &WindowSpec, rows: &KeyRows) -> Option<f64> {
        self.seen += 1;
        let since = self.read(spec, rows, (rows.time(rows.len() - 1), rows.len() - 1));
        self.forget(spec, rows);
        since
    }

    /// Milliseconds since the last row no later than one at `time`, which is behind `up_to` of `rows`.
    pub(super) fn read(
        &self,
        spec: &WindowSpec,
        rows: &KeyRows,
        (time, up_to): (i64, usize),
    ) -> Option<f64> {
        let previous = up_to.checked_sub(1).filter(|&at| at + self.seen >= rows.len())?;
        let previous = rows.time(previous);
        spec.is_inside(previous, time).then(|| (time - previous) as f64)
    }

    /// The row at `at` of `rows` has come behind others.
    pub(super) fn insert(&mut self, spec: &WindowSpec, rows: &KeyRows, at: usize) {
        // One that comes before those seen has been let go of already.
        if at + self.seen + 1 >= rows.len() {
            self.seen += 1;
            self.forget(spec, rows);
        }
    }

    /// Lets go of rows that can be no one's previous row.
    fn forget(&mut self, spec: &WindowSpec, rows: &KeyRows) {
        let newest = rows.time(rows.len() - 1);
        loop {
            let first = rows.time(rows.len() - self.seen);
            if first == newest {
                return;
            }
            // Rows of one time go together.
            let mut next = rows.len() - self.seen + 1;
            if rows.time(next) == first {
                next = rows.before(|time| time <= first);
            }
            let is_hidden = newest.saturating_sub(rows.time(next)) > spec.history_ms;
            if !is_hidden && !spec.is_past(first, newest) {
                return;
            }
            self.seen = rows.len() - next;
        }
    }
}
