//! What a window is.

use std::fmt::{self, Debug, Formatter};

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
    /// Whatever a program's own function says.
    Own(OwnAggregate),
}

impl Aggregate {
    /// As a job file has it; of a program's own, the name it has there.
    pub fn name(&self) -> &str {
        match self {
            Aggregate::Count => "count",
            Aggregate::Sum => "sum",
            Aggregate::Mean => "mean",
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Std => "std",
            Aggregate::TimeSinceLast => "time_since_last",
            Aggregate::Own(own) => own.name(),
        }
    }
}

/// An aggregate in Rust.
///
/// It must be pure: what it gives may depend on the rows and on nothing else, or results depend on
/// how often and where it runs.
pub trait WindowFunction: Send + Sync {
    /// The aggregate of the rows (event time in ms, value) of a window, the oldest first; the row
    /// that it is for comes last, if it has a value. Null and NaN values are not among them. `None`
    /// is null.
    ///
    /// It is called once for each row of the events: the cost is that of a look at the window.
    fn evaluate(&self, rows: &mut dyn Iterator<Item = (i64, f64)>) -> Option<f64>;
}

impl<F> WindowFunction for F
where
    F: Fn(&mut dyn Iterator<Item = (i64, f64)>) -> Option<f64> + Send + Sync,
{
    fn evaluate(&self, rows: &mut dyn Iterator<Item = (i64, f64)>) -> Option<f64> {
        self(rows)
    }
}

/// A [`WindowFunction`] and what jobs call it.
///
/// It stays for as long as the program does, so that the state of each key can be small.
#[derive(Clone, Copy)]
pub struct OwnAggregate(&'static Named);

struct Named {
    name: String,
    function: Box<dyn WindowFunction>,
}

impl OwnAggregate {
    pub fn new(name: impl Into<String>, function: impl WindowFunction + 'static) -> Self {
        OwnAggregate(Box::leak(Box::new(Named { name: name.into(), function: Box::new(function) })))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn evaluate(&self, rows: &mut dyn Iterator<Item = (i64, f64)>) -> Option<f64> {
        self.0.function.evaluate(rows)
    }
}

impl Debug for OwnAggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnAggregate").field(&self.name()).finish()
    }
}

impl PartialEq for OwnAggregate {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for OwnAggregate {}

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
    /// The length (ms) of a window that looks back for ever.
    pub const EVER: i64 = i64::MAX;

    /// Whether it looks back for ever: no row leaves it by its age.
    pub fn is_ever(&self) -> bool {
        self.length_ms == Self::EVER
    }

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
