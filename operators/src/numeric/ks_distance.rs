//! The distance of two distribution functions, gathered from points where both are known.

use super::ks_statistic::{KsStatistic, greatest_common_divisor};

/// The largest distance so far of two empirical distribution functions.
///
/// Quotients and their difference are rounded as SciPy does. Rounding keeps order: over a subset of
/// the points the distance is at most that over all of them, in [`KsStatistic::d`] and in
/// [`KsStatistic::h`].
#[derive(Clone, Copy, Debug)]
pub struct KsDistance {
    n: u64,
    m: u64,
    lowest: f64,
    highest: f64,
    /// |seen·m − reference·n|, the distance in units of 1/(n·m).
    gap: u64,
}

impl KsDistance {
    /// Samples of `n` and `m` values; `None` if one is empty, or if n·m reaches 2⁶⁴.
    pub fn new(n: u64, m: u64) -> Option<Self> {
        (n.checked_mul(m)? > 0).then_some(KsDistance { n, m, lowest: 0.0, highest: 0.0, gap: 0 })
    }

    /// A point at which the functions are `first`/n and `second`/m.
    #[inline]
    pub fn compare(&mut self, first: u64, second: u64) {
        let difference = first as f64 / self.n as f64 - second as f64 / self.m as f64;
        self.lowest = self.lowest.min(difference);
        self.highest = self.highest.max(difference);
        self.gap = self.gap.max((first * self.m).abs_diff(second * self.n));
    }

    pub fn finish(self) -> KsStatistic {
        let KsDistance { n, m, lowest, highest, gap } = self;
        let d = if -lowest > highest { -lowest } else { highest };
        KsStatistic { n, m, d, h: gap / greatest_common_divisor(n, m) }
    }
}
