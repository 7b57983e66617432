//! What a window is.

use std::rc::Rc;

/// What a window says of its values. Null and NaN values are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// How many values, or how many rows where the window has no value expression; 0 without any.
    Count,
    /// The correctly rounded sum; null without values.
    Sum,
    /// The correctly rounded sum divided by the count (`math.fsum(v) / len(v)`); null without
    /// values.
    Mean,
    /// The least value in total order ([`f64::total_cmp`]: −0.0 is less than 0.0); null without
    /// values.
    Min,
    /// The greatest value in total order ([`f64::total_cmp`]: 0.0 is greater than −0.0); null
    /// without values.
    Max,
    /// The sample standard deviation √((n·Σx² − (Σx)²) / (n·(n − 1))), as pandas `std()` and
    /// `numpy.std(v, ddof=1)`; null below two values, 0 if all are equal.
    ///
    /// The difference is exact and rounded once, whatever the mean, while every value is 0 or has a
    /// magnitude from 1e-146 on, and n·Σx² is below `f64::MAX`. Smaller values, and deviations below
    /// 1e-150, bring an error of about 1e-161; with larger or infinite values the result is NaN.
    Std,
    /// Milliseconds since the key's previous row in the window, whatever the values; 0 if that has
    /// the same time, null if there is none. The row itself does not count.
    TimeSinceLast,
}

/// One window of a key: (t − length, t] in event time, of rows that come no later in (time, place)
/// order, the row itself included.
#[derive(Clone, Copy, Debug)]
pub struct WindowSpec {
    pub aggregate: Aggregate,
    pub length_ms: i64,
    /// How far behind the newest row a row may read: entries are kept that much longer.
    pub history_ms: i64,
}

impl WindowSpec {
    /// Whether `time`, which is no later than `now`, lies in the window of a row at `now`.
    // Saturation is harmless here: a difference beyond `i64::MAX` exceeds every length.
    pub(super) fn is_inside(&self, time: i64, now: i64) -> bool {
        now.saturating_sub(time) < self.length_ms
    }

    /// Whether a row at `time` is in no window that can still be read once `now` is the newest.
    pub(super) fn is_past(&self, time: i64, now: i64) -> bool {
        now.saturating_sub(time) >= self.reach_ms()
    }

    /// For how long a row can be read after it.
    pub(super) fn reach_ms(&self) -> i64 {
        self.length_ms.saturating_add(self.history_ms)
    }
}

/// Where a row stands among rows of the same time: its id, or its origin where there is none. Rows
/// without an id come first, as in [`RowOrder`](crate::sort::RowOrder).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Partition and offset.
    Origin(u32, u64),
    Number(i64),
    Text(Rc<str>),
}
