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
    /// What the gap is going to be at least.
    least_gap: u64,
    /// Whether one unit is more than rounding can make up for, so that only points as far apart as
    /// any before can matter.
    units_decide: bool,
}

/// Quotients of at most 1 and their difference are rounded by at most 3·2⁻⁵⁴, so two differences that
/// are 2⁻⁵¹ apart stay in order.
const UNITS_DECIDE_BELOW: u64 = 1 << 51;

impl KsDistance {
    /// Samples of `n` and `m` values; `None` if one is empty, or if n·m reaches 2⁶⁴.
    pub fn new(n: u64, m: u64) -> Option<Self> {
        let pairs = n.checked_mul(m)?;
        let units_decide = pairs < UNITS_DECIDE_BELOW;
        let start =
            KsDistance { n, m, lowest: 0.0, highest: 0.0, gap: 0, least_gap: 0, units_decide };
        (pairs > 0).then_some(start)
    }

    /// A point at which the functions are `first`/n and `second`/m.
    #[inline]
    pub fn compare(&mut self, first: u64, second: u64) {
        let gap = (first * self.m).abs_diff(second * self.n);
        if gap < self.least_gap && self.units_decide {
            return;
        }
        let difference = first as f64 / self.n as f64 - second as f64 / self.m as f64;
        self.lowest = self.lowest.min(difference);
        self.highest = self.highest.max(difference);
        self.gap = self.gap.max(gap);
        self.least_gap = self.least_gap.max(gap);
    }

    /// A stretch in which the functions rise from the first of these counts to the second: points at
    /// both of its ends and between will be compared, if they may be the furthest apart.
    pub fn expect(&mut self, first: (u64, u64), second: (u64, u64)) {
        let above = (first.1 * self.m).saturating_sub(second.1 * self.n);
        let below = (second.0 * self.n).saturating_sub(first.0 * self.m);
        self.least_gap = self.least_gap.max(above).max(below);
    }

    /// Whether a point of such a stretch may be the furthest apart.
    pub fn may_grow(&self, first: (u64, u64), second: (u64, u64)) -> bool {
        let above = (first.1 * self.m).saturating_sub(second.0 * self.n);
        let below = (second.1 * self.n).saturating_sub(first.0 * self.m);
        !self.units_decide || above.max(below) >= self.least_gap
    }

    pub fn finish(self) -> KsStatistic {
        let KsDistance { n, m, lowest, highest, gap, .. } = self;
        let d = if -lowest > highest { -lowest } else { highest };
        KsStatistic { n, m, d, h: gap / greatest_common_divisor(n, m) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points whose distances are a few units apart, so that rounding could change their order.
    #[test]
    fn no_point_that_is_left_out_is_the_furthest() {
        for (n, m) in [(7, 9), (1_000, 27_004), (1 << 25, (1 << 25) - 1), (1 << 31, (1 << 31) - 1)]
        {
            let mut distance = KsDistance::new(n, m).unwrap();
            let (mut lowest, mut highest) = (0.0f64, 0.0f64);
            let mut state = n ^ m << 7;
            for _ in 0..2_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let first = n / 2 + (state >> 33) % 3;
                let second = m / 3 + (state >> 40) % 3;
                distance.compare(first, second);
                let difference = first as f64 / n as f64 - second as f64 / m as f64;
                (lowest, highest) = (lowest.min(difference), highest.max(difference));
            }
            assert_eq!(distance.finish().d, highest.max(-lowest), "{n} and {m}");
        }
    }
}
