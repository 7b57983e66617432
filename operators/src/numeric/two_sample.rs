//! The two-sample, two-sided Kolmogorov–Smirnov test, as `scipy.stats.ks_2samp` (SciPy 1.17)
//! computes it.
//!
//! # The statistic
//! D is the largest distance between the two empirical distribution functions. One ulp of D moves
//! the p-value by up to 2e-6 of itself, so [`ks_statistic`] rounds where SciPy does (two quotients
//! and their difference), and also gives D as a whole number h of steps of 1/lcm(n, m), from which
//! the exact p-value follows without any rounding.
//!
//! # The exact p-value
//! Under the null hypothesis all ways to interleave n and m values are equally likely. An
//! interleaving is a lattice path from (0, 0) to (n, m), and D ≥ d exactly if it leaves the band
//! |i/n − j/m| < d. SciPy carries the share of paths that left the band from column to column
//! (Hodges 1958; Viehmann, arXiv 2102.08037). Here a walker goes right with probability n/(n+m) and
//! up otherwise, and `exit_probability` sums, over the edges of the band, the probability to leave
//! there for the first time and still to end in (n, m). The walker's probabilities need no division
//! and no rescaling, and one antidiagonal follows from the previous one in a loop without
//! dependencies.

use super::binomial;
use super::kolmogorov::kolmogorov_sf;
use super::ks_distance::KsDistance;
use super::ks_statistic::{KsMethod, KsStatistic, greatest_common_divisor};

/// SciPy's bound for the exact p-value: samples of at most this many values.
pub const EXACT_SIZE_MAX: u64 = 10_000;

/// Cells with less than this probability are left out: together they contribute less than 1e-296
/// (at most a few at each end of 20,000 antidiagonals, and paths end where they should at least
/// every 500th time).
const CELL_MIN: f64 = 1e-303;

/// A sample in ascending order, equal values counted: `values[k]` occurs `counts[k]` times.
#[derive(Clone, Copy, Debug)]
pub struct Runs<'a> {
    /// Ascending, without NaN; −0.0 and 0.0 are equal. Neighbours may be equal.
    pub values: &'a [f64],
    /// As many as values.
    pub counts: &'a [u64],
}

/// What `ks_2samp` returns, and by which method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KsPValue {
    /// D as SciPy reports it with this method.
    pub statistic: f64,
    /// P(D ≥ `statistic`) for samples from one distribution.
    pub p_value: f64,
    pub method: KsMethod,
}

impl Runs<'_> {
    /// Sample size, in values.
    pub fn size(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Drops the leading runs up to `value` and returns how many values they held.
    fn take_until(&mut self, value: f64) -> u64 {
        let runs = self.values.iter().take_while(|&&x| x <= value).count();
        let passed = self.counts[..runs].iter().sum();
        self.values = &self.values[runs..];
        self.counts = &self.counts[runs..];
        passed
    }
}

/// The distance of two samples, in one pass over their runs.
///
/// `None` if a sample is empty or holds a NaN (SciPy raises, or returns NaN), or if n·m reaches
/// 2⁶⁴.
pub fn ks_statistic(a: Runs<'_>, b: Runs<'_>) -> Option<KsStatistic> {
    let (n, m) = (a.size(), b.size());
    let has_nan = |runs: Runs<'_>| runs.values.iter().any(|value| value.is_nan());
    if has_nan(a) || has_nan(b) {
        return None;
    }
    let mut distance = KsDistance::new(n, m)?;
    let (mut rest_a, mut rest_b) = (a, b);
    let (mut seen_a, mut seen_b) = (0, 0);
    // When one sample ends, the distance only falls from there on.
    while let (Some(&x), Some(&y)) = (rest_a.values.first(), rest_b.values.first()) {
        let value = if x <= y { x } else { y };
        seen_a += rest_a.take_until(value);
        seen_b += rest_b.take_until(value);
        distance.compare(seen_a, seen_b);
    }
    Some(distance.finish())
}

/// P(D ≥ `d`) for samples of `n` and `m` values from one distribution, by the one-sample
/// distribution at the effective size nm/(n+m), rounded half to even: equal to `ks_2samp(...,
/// method='asymp').pvalue`.
///
/// NaN for n = m = 1 (as in SciPy: the effective size rounds to 0), for NaN, and if a size is 0.
pub fn ks_p_value_asymptotic(d: f64, n: u64, m: u64) -> f64 {
    let (larger, smaller) = (n.max(m) as f64, n.min(m) as f64);
    let effective = (larger * smaller / (larger + smaller)).round_ties_even();
    kolmogorov_sf(d, effective as u64)
}

/// P(D ≥ `h`/lcm(n, m)) over all interleavings of `n` and `m` values: equal to `ks_2samp(...,
/// method='exact').pvalue`.
///
/// Relative difference from SciPy below 1e-12 where the value is at least 1e-290; below 1e-296 the
/// result may be 0. Both sizes may be swapped without changing a bit.
///
/// `None` if a size is 0 or above [`EXACT_SIZE_MAX`], where `auto` is asymptotic. Where rounding
/// makes SciPy's sum exceed 1 it warns and falls back to the asymptotic p-value (n = m with a tiny
/// h, for some n); this function stays exact there.
///
/// Takes 2·d·n·m steps of about a quarter of a ns, at most 12 ms; O(n) for n = m.
pub fn ks_p_value_exact(h: u64, n: u64, m: u64) -> Option<f64> {
    let (n, m) = (n.max(m), n.min(m));
    if m == 0 || n > EXACT_SIZE_MAX {
        return None;
    }
    let gap = h.checked_mul(greatest_common_divisor(n, m)).filter(|&gap| gap <= n * m);
    let Some(gap) = gap else { return Some(0.0) };
    if h <= 1 {
        // The first step of any path is at least that large.
        return Some(1.0);
    }
    Some(if n == m { exit_probability_of_square(h, n) } else { exit_probability(gap, n, m) })
}

/// The p-value by SciPy's rule `method='auto'`: exact while both sizes are at most
/// [`EXACT_SIZE_MAX`], else asymptotic.
pub fn ks_p_value_auto(statistic: &KsStatistic) -> KsPValue {
    let KsStatistic { n, m, d, h } = *statistic;
    match ks_p_value_exact(h, n, m) {
        Some(p_value) => {
            KsPValue { statistic: statistic.d_exact(), p_value, method: KsMethod::Exact }
        }
        None => KsPValue {
            statistic: d,
            p_value: ks_p_value_asymptotic(d, n, m),
            method: KsMethod::Asymptotic,
        },
    }
}

/// n = m: by reflection at both edges (Gnedenko and Korolyuk 1951), with rₖ = C(2n, n − kh) / C(2n,
/// n), p = 2 (r₁ − r₂ + r₃ − …).
fn exit_probability_of_square(h: u64, n: u64) -> f64 {
    let size = n as f64;
    let mut ratio = 1.0;
    let mut sum = 0.0;
    let mut sign = 1.0;
    for step in 1..=n {
        ratio *= (size - step as f64 + 1.0) / (size + step as f64);
        if step % h == 0 {
            sum += sign * ratio;
            sign = -sign;
        }
    }
    (2.0 * sum).min(1.0)
}

/// n > m: the probability to reach |i·m − j·n| ≥ `gap` on the way, among the paths that end in (n,
/// m).
fn exit_probability(gap: u64, n: u64, m: u64) -> f64 {
    let mut band = Band::new(gap, n, m);
    let mut left = 0.0;
    while band.step < n + m {
        if !band.advance(&mut left) {
            return 1.0;
        }
    }
    let arrival = binomial::probability(n as f64, m as f64, 0.0);
    let inside = band.current[m as usize + 1] / arrival;
    // The smaller of the two is the one that is precise.
    if inside < 0.5 { 1.0 - inside } else { left / arrival }
}

/// The walk on one antidiagonal i + j = `step`, restricted to the band.
struct Band {
    n: u64,
    m: u64,
    /// The band's half width: cells with |i·m − j·n| ≥ `gap` are outside.
    gap: u64,
    /// Steps taken so far, i + j.
    step: u64,
    /// P(the walk is in (step − j, j) and never left the band) at index j + 1; zero around the
    /// cells in use.
    current: Vec<f64>,
    /// The antidiagonal before, in the same form.
    previous: Vec<f64>,
    /// The first and last j in use: all others hold less than `CELL_MIN`, or lie outside the band.
    low: u64,
    high: u64,
}

impl Band {
    fn new(gap: u64, n: u64, m: u64) -> Self {
        let mut current = vec![0.0; m as usize + 3];
        current[1] = 1.0;
        let previous = vec![0.0; m as usize + 3];
        Self { n, m, gap, step: 0, current, previous, low: 0, high: 0 }
    }

    /// Takes one step, adds to `left` what leaves the band by it and will still end in (n, m), and
    /// returns whether anything remains inside.
    fn advance(&mut self, left: &mut f64) -> bool {
        let (low_before, high_before) = (self.low, self.high);
        self.step += 1;
        std::mem::swap(&mut self.current, &mut self.previous);
        let (low, high) = self.inside();
        let total = (self.n + self.m) as f64;
        let (right, up) = (self.n as f64 / total, self.m as f64 / total);

        if low_before < low && self.step - low_before <= self.n {
            self.leave(low_before, right * self.previous[low_before as usize + 1], left);
        }
        if high_before + 1 > high && high_before < self.m {
            self.leave(high_before + 1, up * self.previous[high_before as usize + 1], left);
        }

        self.low = low.max(low_before);
        self.high = high.min(high_before + 1);
        if self.low > self.high {
            return false;
        }
        let (first, last) = (self.low as usize + 1, self.high as usize + 1);
        let stayed = &self.previous[first..=last];
        let rose = &self.previous[first - 1..last];
        for ((cell, stayed), rose) in self.current[first..=last].iter_mut().zip(stayed).zip(rose) {
            *cell = right * stayed + up * rose;
        }
        self.current[first - 1] = 0.0;
        self.current[last + 1] = 0.0;
        self.trim()
    }

    /// The least and largest j of this antidiagonal inside the grid and strictly inside the band.
    /// May cross.
    fn inside(&self) -> (u64, u64) {
        // i·m − j·n = step·m − j·(n + m), which falls as j grows.
        let (n, m, step) = (self.n, self.m, self.step);
        let below = (step * m).checked_sub(self.gap).map_or(0, |excess| excess / (n + m) + 1);
        let above = (step * m + self.gap).div_ceil(n + m) - 1;
        (below.max(step.saturating_sub(n)), above.min(step).min(m))
    }

    /// Counts a walk that leaves into cell j of this antidiagonal with `probability`.
    fn leave(&self, j: u64, probability: f64, left: &mut f64) {
        // Most walks that leave do so near the middle; the rest need not be continued.
        if probability < 1e-20 * *left {
            return;
        }
        let i = self.step - j;
        let excess = (i * self.m) as f64 - (j * self.n) as f64;
        *left += probability
            * binomial::probability(
                (self.n - i) as f64,
                (self.m - j) as f64,
                excess / (self.n + self.m) as f64,
            );
    }

    /// Gives up cells at both ends that no longer matter: in the range of subnormals they would
    /// cost far more than others.
    fn trim(&mut self) -> bool {
        while self.low <= self.high && self.current[self.low as usize + 1] < CELL_MIN {
            self.current[self.low as usize + 1] = 0.0;
            self.low += 1;
        }
        while self.high > self.low && self.current[self.high as usize + 1] < CELL_MIN {
            self.current[self.high as usize + 1] = 0.0;
            self.high -= 1;
        }
        self.low <= self.high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/numeric/ks_2samp_golden.txt"));
    const EXACT: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/numeric/ks_exact_golden.txt"));

    const SCIPY_FAILS: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/numeric/ks_scipy_fails.txt"));

    fn lines(golden: &str) -> impl Iterator<Item = Vec<&str>> {
        golden.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
    }

    fn from_bits(hex: &str) -> f64 {
        f64::from_bits(u64::from_str_radix(hex, 16).unwrap())
    }

    #[track_caller]
    fn assert_close(actual: f64, expected: f64, context: &str) {
        if expected.is_nan() {
            assert!(actual.is_nan(), "{context}: {actual:e} instead of NaN");
        } else if expected < 1e-290 {
            assert!((0.0..1e-289).contains(&actual), "{context}: {actual:e} for {expected:e}");
        } else {
            let error = (actual / expected - 1.0).abs();
            assert!(error < 1e-10, "{context}: {actual:e}, SciPy {expected:e}, off by {error:e}");
        }
    }

    /// `value:count` pairs, separated by commas.
    fn parse_runs(text: &str) -> (Vec<f64>, Vec<u64>) {
        let pairs = text.split(',').map(|pair| pair.split_once(':').unwrap());
        pairs
            .map(|(value, count)| (value.parse::<f64>().unwrap(), count.parse::<u64>().unwrap()))
            .unzip()
    }

    #[test]
    fn samples_equal_scipy() {
        let mut cases = 0;
        for fields in lines(SAMPLES) {
            let [d_asymptotic, p_asymptotic, d_exact, p_exact, a, b] = fields[..] else {
                panic!("six fields expected: {fields:?}")
            };
            let ((values_a, counts_a), (values_b, counts_b)) = (parse_runs(a), parse_runs(b));
            let a = Runs { values: &values_a, counts: &counts_a };
            let b = Runs { values: &values_b, counts: &counts_b };
            let statistic = ks_statistic(a, b).unwrap();
            let context = format!("{fields:?}");
            assert_eq!(statistic.d.to_bits(), from_bits(d_asymptotic).to_bits(), "{context}");
            let p = ks_p_value_asymptotic(statistic.d, a.size(), b.size());
            assert_close(p, from_bits(p_asymptotic), &context);

            let auto = ks_p_value_auto(&statistic);
            if d_exact == "-" {
                assert_eq!(auto.method, KsMethod::Asymptotic);
                assert_eq!((auto.statistic, auto.p_value), (statistic.d, p));
            } else {
                assert_eq!(auto.method, KsMethod::Exact);
                assert_eq!(auto.statistic.to_bits(), from_bits(d_exact).to_bits(), "{context}");
                assert_close(auto.p_value, from_bits(p_exact), &context);
            }
            let mirrored = ks_statistic(b, a).unwrap();
            assert_eq!(mirrored.h, statistic.h);
            assert_eq!(ks_p_value_auto(&mirrored).p_value, auto.p_value);
            cases += 1;
        }
        assert!(cases > 300, "only {cases} golden cases");
    }

    #[test]
    fn exact_p_values_equal_scipy() {
        let mut cases = 0;
        for fields in lines(EXACT) {
            let [h, n, m] = [0, 1, 2].map(|k| fields[k].parse().unwrap());
            let context = format!("h = {h}, n = {n}, m = {m}");
            let actual = ks_p_value_exact(h, n, m).unwrap();
            assert_close(actual, from_bits(fields[3]), &context);
            assert_eq!(ks_p_value_exact(h, m, n), Some(actual), "{context}, swapped");
            cases += 1;
        }
        assert!(cases > 3000, "only {cases} golden cases");
    }

    #[test]
    fn where_scipys_exact_method_fails_the_p_value_is_exact() {
        let mut cases = 0;
        for fields in lines(SCIPY_FAILS) {
            let [h, n] = [0, 1].map(|k| fields[k].parse().unwrap());
            let (actual, expected) = (ks_p_value_exact(h, n, n).unwrap(), from_bits(fields[2]));
            let error = (actual / expected - 1.0).abs();
            assert!(error < 1e-12, "h = {h}, n = {n}: {actual:e}, exactly {expected:e}");
            assert!(actual <= 1.0, "h = {h}, n = {n}: {actual:e}");
            cases += 1;
        }
        assert!(cases > 1500, "only {cases} cases");
    }

    #[test]
    fn sizes_beyond_the_exact_rule_have_no_exact_p_value() {
        assert_eq!(ks_p_value_exact(3, 0, 5), None);
        assert_eq!(ks_p_value_exact(3, 10_001, 5), None);
        assert!(ks_p_value_exact(3, 10_000, 10_000).is_some());
        assert_eq!(ks_p_value_exact(u64::MAX, 7, 5), Some(0.0));
    }

    #[test]
    fn far_apart_samples_underflow_to_zero() {
        for (n, m) in [(10_000, 9_973), (10_000, 10_000), (9_999, 300)] {
            let p = ks_p_value_exact(n * m / greatest_common_divisor(n, m), n, m).unwrap();
            assert!((0.0..1e-289).contains(&p), "n = {n}, m = {m}: {p:e}");
        }
    }

    #[test]
    fn signed_zeros_are_equal_and_split_runs_count_together() {
        let a = Runs { values: &[-1.0, -0.0, 2.0], counts: &[1, 2, 1] };
        let b = Runs { values: &[-1.0, 0.0, 0.0, 2.0], counts: &[1, 1, 1, 1] };
        let statistic = ks_statistic(a, b).unwrap();
        assert_eq!((statistic.d, statistic.h), (0.0, 0));
        assert_eq!(ks_p_value_auto(&statistic).p_value, 1.0);
    }

    #[test]
    fn empty_samples_and_nan_have_no_statistic() {
        let some = Runs { values: &[1.0], counts: &[1] };
        let nan = Runs { values: &[0.0, f64::NAN], counts: &[1, 1] };
        let empty = Runs { values: &[], counts: &[] };
        for (a, b) in [(some, empty), (empty, some), (some, nan), (nan, some), (nan, nan)] {
            assert_eq!(ks_statistic(a, b), None);
        }
    }
}
