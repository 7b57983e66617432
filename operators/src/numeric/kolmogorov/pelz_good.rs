//! The asymptotic series of Pelz and Good for P(Dₙ ≤ d).
//!
//! W. Pelz and I. J. Good, *Approximating the Lower Tail-areas of the Kolmogorov-Smirnov One-sample
//! Statistic*, J. R. Stat. Soc. B 38(2), 1976: with z = d√n,
//!
//! P(Dₙ ≤ d) ≈ K₀(z) + K₁(z)/√n + K₂(z)/n + K₃(z)/n^(3/2)
//!
//! K₀ is Kolmogorov's limit in the form (by the theta function's identity) that converges fast for
//! small z.

use std::f64::consts::{PI, TAU};

/// K₀'s first exponent below this counts as zero, as in SciPy.
const LOG_ZERO: f64 = -708.0;

/// P(Dₙ ≤ `d`) for 0 < d < 1, approximately.
pub(super) fn cdf(d: f64, n: u64) -> f64 {
    let z = (n as f64).sqrt() * d;
    let z2 = z * z;
    if -PI * PI / (8.0 * z2) < LOG_ZERO {
        return 0.0;
    }
    let [k0, k1, k2, k3] = coefficients(z, z2);
    let root = (n as f64).sqrt();
    k0 + k1 / root + k2 / (root * root) + k3 / (root * root * root)
}

fn coefficients(z: f64, z2: f64) -> [f64; 4] {
    let (z4, z6) = (z2 * z2, z2 * z2 * z2);
    let mut odd = [0.0; 4];
    let mut even = [0.0; 2];
    // The last weight is below exp(−128): far more terms than float64 can tell.
    let terms = (16.0 * z / PI).ceil() as u32;
    for k in (1..=terms).rev().map(f64::from) {
        // Sums over k + ½, halves of odd numbers, with x = π²(k + ½)².
        let x = (PI * (k - 0.5)).powi(2);
        let weight = (-x / (2.0 * z2)).exp();
        odd[0] += weight;
        odd[1] += weight * (x - z2);
        odd[2] += weight * (6.0 * z6 + 2.0 * z4 + x * (2.0 * z4 - 5.0 * z2 + x * (1.0 - 2.0 * z2)));
        odd[3] += weight
            * (-30.0 * z6 - 90.0 * z4 * z4
                + x * (135.0 * z4 - 96.0 * z6
                    + x * (212.0 * z4 - 60.0 * z2 + x * (5.0 - 30.0 * z2))));
        // Sums over whole k, with x = π²k².
        let x = (PI * k).powi(2);
        let weight = (-x / (2.0 * z2)).exp();
        even[0] += weight * x;
        even[1] += weight * x * (3.0 * z2 - x);
    }
    // √(π/2), twice because k and −k give the same term.
    let scale = TAU.sqrt();
    [
        scale * odd[0] / z,
        scale * odd[1] / (6.0 * z4),
        scale * (odd[2] / (72.0 * z6 * z) - even[0] / (36.0 * z2 * z)),
        scale * (odd[3] / (6480.0 * z6 * z4) + even[1] / (216.0 * z6)),
    ]
}
