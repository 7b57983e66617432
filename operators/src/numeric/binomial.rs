//! Binomial probabilities to nearly full precision, by Loader's saddle-point form.
//!
//! A difference of log-gammas loses as many digits as the trials have: at 10⁶ trials nine of
//! sixteen are left. Loader (*Fast and Accurate Computation of Binomial Probabilities*, 2000)
//! writes the probability as a normal density times small corrections, all of which are computed
//! without cancellation.

use std::f64::consts::TAU;
use std::sync::LazyLock;

/// ln(n!) − ln(√(2πn) (n/e)ⁿ) for n from 1; the entry for 0 is never used.
const STIRLING_ERRORS: [f64; 16] = [
    0.0,
    0.081_061_466_795_327_26,
    0.041_340_695_955_409_3,
    0.027_677_925_684_998_34,
    0.020_790_672_103_765_093,
    0.016_644_691_189_821_193,
    0.013_876_128_823_070_748,
    0.011_896_709_945_891_77,
    0.010_411_265_261_972_096,
    0.009_255_462_182_712_733,
    0.008_330_563_433_362_87,
    0.007_573_675_487_951_841,
    0.006_942_840_107_209_53,
    0.006_408_994_188_004_207,
    0.005_951_370_112_758_847_5,
    0.005_554_733_551_962_801,
];

/// The probability of `successes` and `failures` (whole numbers) when `successes + excess`
/// successes are expected.
///
/// The excess is an argument of its own because the callers know it exactly, while the difference
/// of the two counts would have lost its digits.
pub(super) fn probability(successes: f64, failures: f64, excess: f64) -> f64 {
    Trials::new(successes + failures).probability(successes, failures, excess)
}

/// So many trials, for several probabilities.
pub(super) struct Trials {
    trials: f64,
    stirling_error: f64,
    stirling_table: &'static [f64],
}

/// [`stirling_error`] of whole numbers, for many probabilities of few trials.
static STIRLING_TABLE: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..4_096).map(|n| stirling_error(f64::from(n))).collect());

impl Trials {
    pub(super) fn new(trials: f64) -> Self {
        let stirling_error = if trials > 0.0 { stirling_error(trials) } else { 0.0 };
        Trials { trials, stirling_error, stirling_table: &STIRLING_TABLE }
    }

    /// As [`probability`]; successes and failures are as many as trials.
    #[inline]
    pub(super) fn probability(&self, successes: f64, failures: f64, excess: f64) -> f64 {
        if successes == 0.0 {
            return all_alike(failures, -excess);
        }
        if failures == 0.0 {
            return all_alike(successes, excess);
        }
        let log_correction = self.stirling_error
            - self.stirling_error_of(successes)
            - self.stirling_error_of(failures)
            - deviance(successes, excess)
            - deviance(failures, -excess);
        log_correction.exp() * (self.trials / (TAU * successes * failures)).sqrt()
    }
}

impl Trials {
    #[inline]
    fn stirling_error_of(&self, n: f64) -> f64 {
        let known = self.stirling_table.get(n as usize);
        known.copied().unwrap_or_else(|| stirling_series(n))
    }
}

/// ln(n!) − ln(√(2πn) (n/e)ⁿ) for a whole number n ≥ 1; absolute error below 2e-16.
pub(super) fn stirling_error(n: f64) -> f64 {
    if n < STIRLING_ERRORS.len() as f64 {
        return STIRLING_ERRORS[n as usize];
    }
    stirling_series(n)
}

/// As [`stirling_error`], for n from 16 on.
fn stirling_series(n: f64) -> f64 {
    let inverse = 1.0 / n;
    let square = inverse * inverse;
    let series = 1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0);
    inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * series))
}

/// How much seeing `count` instead of the expected `count + excess` costs: count·ln(count/expected)
/// + excess ≥ 0.
fn deviance(count: f64, excess: f64) -> f64 {
    let relative = excess / count;
    count * (relative - relative.ln_1p())
}

/// The probability that all `trials` end the same way when `trials + excess` (excess ≤ 0) of them
/// should.
fn all_alike(trials: f64, excess: f64) -> f64 {
    if trials == 0.0 {
        return 1.0;
    }
    (trials * (excess / trials).ln_1p()).exp()
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{Binomial, Discrete};
    use statrs::function::gamma::ln_gamma;

    use super::*;

    #[test]
    fn probabilities_equal_pascals_triangle() {
        let (trials, chance) = (40, 0.3);
        let mut row = vec![1.0];
        for _ in 0..trials {
            let mut next = vec![0.0; row.len() + 1];
            for (k, p) in row.iter().enumerate() {
                next[k] += p * (1.0 - chance);
                next[k + 1] += p * chance;
            }
            row = next;
        }
        for (k, expected) in row.into_iter().enumerate() {
            let (successes, failures) = (k as f64, (trials - k) as f64);
            let actual =
                probability(successes, failures, f64::from(trials as u32) * chance - successes);
            let error = (actual / expected - 1.0).abs();
            assert!(error < 1e-13, "k = {k}: {actual:e}, expected {expected:e}");
        }
    }

    /// statrs takes exponentials of sums of log-gammas, which lose a digit for each of the trials.
    #[test]
    fn probabilities_equal_statrs() {
        for trials in [1u64, 2, 7, 40, 1_000, 30_000, 1_000_000] {
            for chance in [1e-3, 0.05, 0.3, 0.5, 0.93] {
                let theirs = Binomial::new(chance, trials).unwrap();
                let size = trials as f64;
                let spread = (size * chance * (1.0 - chance)).sqrt();
                for off in [-6.0, -2.5, -0.4, 0.0, 0.7, 3.0, 8.0] {
                    let successes = (size * chance + off * spread).round().clamp(0.0, size);
                    let excess = size.mul_add(chance, -successes);
                    let actual = probability(successes, size - successes, excess);
                    let expected = theirs.pmf(successes as u64);
                    let error = (actual / expected - 1.0).abs();
                    let limit = 1e-12 + 1e-15 * size * size.ln();
                    assert!(error < limit, "{successes} of {trials} at {chance}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn stirling_errors_equal_statrs() {
        for n in (1..200).chain([1_000, 50_000]).map(f64::from) {
            let expected = ln_gamma(n + 1.0) - 0.5 * (TAU * n).ln() - n * n.ln() + n;
            let limit = 1e-13 + 1e-15 * n * n.ln();
            assert!((stirling_error(n) - expected).abs() < limit, "n = {n}");
        }
    }

    #[test]
    fn stirling_series_meets_the_table() {
        let mut log_factorial = 0.0;
        for n in 1..40 {
            let n = f64::from(n);
            log_factorial += n.ln();
            let expected = log_factorial - 0.5 * (TAU * n).ln() - n * n.ln() + n;
            assert!((stirling_error(n) - expected).abs() < 1e-13, "n = {n}");
        }
    }
}
