//! The one-sided tail P(Dₙ⁺ ≥ d).
//!
//! By Birnbaum and Tingey (1951), with pⱼ = d + j/n,
//!
//! P(Dₙ⁺ ≥ d) = d Σ C(n, j) pⱼ^(j−1) (1 − pⱼ)^(n−j), j = 0 … ⌊n(1 − d)⌋
//!
//! which is a sum of binomial probabilities: d/pⱼ times that of j successes when n·pⱼ = j + nd are
//! expected. The excess nd is the same in every term, and all terms are positive, so the sum is
//! good to nearly full precision.

use crate::numeric::binomial::Trials;

/// Above this n SciPy takes the first terms of the asymptotic expansion.
const SUM_N_MAX: u64 = 1_000_000;

/// exp(−2nd²) below 2^−1075 rounds to zero.
const LOG_ZERO: f64 = -745.133_219_101_941_2;

/// How many terms per standard deviation of the peak are enough.
const TERMS_PER_WIDTH: f64 = 40.0;

/// P(Dₙ⁺ ≥ `d`), equal to `scipy.special.smirnov(n, d)`, for 1 < n·d < n − 1 and n·d² ≥ 2.
pub(super) fn one_sided_sf(d: f64, n: u64) -> f64 {
    let size = n as f64;
    if -2.0 * size * d * d < LOG_ZERO {
        return 0.0;
    }
    if n > SUM_N_MAX {
        return (-(6.0 * size * d + 1.0).powi(2) / (18.0 * size)).exp();
    }
    sum_every(stride(d, size), d, size)
}

/// The terms, as a function of j, are a bell around n(1 − d)/2 of width about √n/(4d), smooth down
/// to zero at both ends. For such a function the sum over every s-th point times s is the sum over
/// all points, up to an error that falls exponentially with width/s (the trapezoidal rule;
/// Trefethen and Weideman, SIAM Review 56(3), 2014).
fn stride(d: f64, n: f64) -> f64 {
    let width = n.sqrt() / (4.0 * d);
    (width / TERMS_PER_WIDTH).floor().max(1.0)
}

fn sum_every(stride: f64, d: f64, n: f64) -> f64 {
    let n_d = n * d;
    let trials = Trials::new(n);
    let term = |j: f64| n_d / (n_d + j) * trials.probability(j, n - j, n_d);
    let last = last_term(n_d, n);
    let middle = (last / 2.0).floor();
    let mut sum = 0.0;
    // A term that the sum does not feel ends it: beyond, they fall faster than geometrically.
    for step in [-stride, stride] {
        let mut j = if step < 0.0 { middle } else { middle + stride };
        while (0.0..=last).contains(&j) {
            let before = sum;
            sum += term(j);
            if sum == before && sum > 0.0 {
                break;
            }
            j += step;
        }
    }
    stride * sum
}

/// The last j with 1 − pⱼ > 0: the next one's term is zero, and rounding may have made its 1 − pⱼ
/// negative.
fn last_term(n_d: f64, n: f64) -> f64 {
    let last = (n - n_d).floor();
    if n - last > n_d { last } else { last - 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::binomial;

    #[test]
    fn skipping_terms_changes_nothing() {
        for n in [500, 2_000, 30_000, 200_000] {
            for n_d_squared in [2.0f64, 2.2, 3.0, 5.0, 20.0, 100.0, 340.0] {
                let d = (n_d_squared / f64::from(n)).sqrt();
                if d > 0.6 {
                    continue;
                }
                let all = sum_every(1.0, d, n.into());
                let error = (one_sided_sf(d, n as u64) / all - 1.0).abs();
                assert!(error < 2e-12, "n = {n}, nd² = {n_d_squared}: off by {error:e}");
            }
        }
    }

    /// The terms behind the end of the sum, bit for bit.
    #[test]
    fn terms_that_the_sum_does_not_feel_change_nothing() {
        for n in [141, 911, 5_000, 60_000] {
            for n_d_squared in [2.2f64, 3.7, 9.0, 60.0, 250.0, 340.0] {
                let (d, size) = ((n_d_squared / f64::from(n)).sqrt(), f64::from(n));
                let (stride, last) = (stride(d, size), last_term(size * d, size));
                let term = |j: f64| {
                    size * d / (size * d + j) * binomial::probability(j, size - j, size * d)
                };
                let middle = (last / 2.0).floor();
                let steps = |from: f64| (0..).map(move |k| from + f64::from(k) * stride);
                let upwards = steps(middle + stride).take_while(|&j| j <= last);
                let downwards = steps(-middle).take_while(|&j| j <= 0.0).map(|j| -j);
                let all: f64 = downwards.chain(upwards).fold(0.0, |sum, j| sum + term(j));
                let found = sum_every(stride, d, size);
                assert_eq!(found.to_bits(), (stride * all).to_bits(), "{n} {n_d_squared}");
            }
        }
    }
}
