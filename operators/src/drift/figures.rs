//! The drift figures of one watched column in one window.

use crate::drift::baseline::Reference;
use crate::drift::runs::{Moments, Runs};
use crate::numeric;

/// When a window counts as drifted; the job's `[drift]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Drift if the KS p-value is below it and the statistic is at least `min_effect`.
    pub ks_p_value: f64,
    pub min_effect: f64,
    /// Drift if |`mean_shift_sd`| is over it.
    pub mean_shift_sd: f64,
    /// Drift if the share of values further than three deviations from the reference mean is over it.
    pub share_beyond_3: f64,
}

/// Figures of one window. Nulls and NaN are in no sample; they are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub current: Moments,
    pub null_count: u64,
    /// The two-sample statistic, `scipy.stats.ks_2samp(current, reference).statistic`; `None` if a
    /// sample is empty.
    pub ks_statistic: Option<f64>,
    /// `ks_2samp(…, method="asymp").pvalue`.
    pub ks_p_value: Option<f64>,
    /// (x̄ − μ) / σ with the reference's mean and deviation (ddof = 1). If σ = 0: 0 where the means
    /// agree, else ±∞.
    pub mean_shift_sd: Option<f64>,
    /// (x̄ − μ) / (σ / √n); σ = 0 as above.
    pub z_test: Option<f64>,
    /// The share of values with |x − μ| > 3 σ; with σ = 0, of values that are not μ.
    pub share_beyond_3: Option<f64>,
}

impl Figures {
    pub fn compute(reference: &Reference, current: &Runs, null_count: u64) -> Self {
        let moments = current.moments();
        let ks = ks(reference, current);
        let centre = reference.moments.mean;
        let spread = reference.moments.std;
        let shift = centre
            .zip(spread)
            .zip(moments.mean)
            .map(|((mean, std), now)| in_units(now - mean, std));
        Figures {
            current: moments,
            null_count,
            ks_statistic: ks.map(|(statistic, _)| statistic),
            ks_p_value: ks.map(|(_, p)| p),
            mean_shift_sd: shift,
            z_test: shift.map(|shift| shift * (moments.n as f64).sqrt()),
            share_beyond_3: centre
                .zip(spread)
                .and_then(|(mean, std)| current.share_beyond(mean, 3.0 * std)),
        }
    }

    pub fn drifted(&self, thresholds: &Thresholds) -> bool {
        let ks = self.ks_p_value.is_some_and(|p| p < thresholds.ks_p_value)
            && self.ks_statistic.is_some_and(|d| d >= thresholds.min_effect);
        ks || self.mean_shift_sd.is_some_and(|shift| shift.abs() > thresholds.mean_shift_sd)
            || self.share_beyond_3.is_some_and(|share| share > thresholds.share_beyond_3)
    }
}

fn in_units(difference: f64, unit: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / unit }
}

/// Statistic and asymptotic p-value, if both samples have values.
fn ks(reference: &Reference, current: &Runs) -> Option<(f64, f64)> {
    let ks = reference.ks.statistic(current.as_sample())?;
    Some((ks.d, numeric::ks_p_value_asymptotic(ks.d, ks.n, ks.m)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(reference: &[f64], current: &[f64]) -> Figures {
        let reference = Reference::new(Runs::from_values(reference.to_vec()), 0);
        Figures::compute(&reference, &Runs::from_values(current.to_vec()), 0)
    }

    #[test]
    fn a_constant_reference_has_no_unit() {
        let same = figures(&[5.0, 5.0], &[5.0]);
        assert_eq!((same.mean_shift_sd, same.share_beyond_3), (Some(0.0), Some(0.0)));
        let other = figures(&[5.0, 5.0], &[6.0]);
        assert_eq!((other.mean_shift_sd, other.share_beyond_3), (Some(f64::INFINITY), Some(1.0)));
    }

    #[test]
    fn an_empty_window_has_no_figures() {
        let empty = figures(&[1.0, 2.0], &[]);
        assert_eq!((empty.ks_statistic, empty.mean_shift_sd), (None, None));
    }

    #[test]
    fn z_by_hand() {
        // Reference: mean 2, deviation 1. Current: mean 4, n = 4.
        let z = figures(&[1.0, 2.0, 3.0], &[3.0, 3.0, 4.0, 6.0]);
        assert_eq!((z.mean_shift_sd, z.z_test), (Some(2.0), Some(4.0)));
        assert_eq!(z.share_beyond_3, Some(0.25));
    }

    #[test]
    fn p_alone_is_no_drift_when_the_effect_is_small() {
        let thresholds = Thresholds {
            ks_p_value: 0.05,
            min_effect: 0.1,
            mean_shift_sd: 0.5,
            share_beyond_3: 0.1,
        };
        let many: Vec<f64> = (0..20_000).map(f64::from).collect();
        let shifted: Vec<f64> = many.iter().map(|x| x + 500.0).collect();
        let small = figures(&many, &shifted);
        assert!(small.ks_p_value.unwrap() < 0.05 && !small.drifted(&thresholds));
        let large: Vec<f64> = many.iter().map(|x| x + 5_000.0).collect();
        assert!(figures(&many, &large).drifted(&thresholds));
    }
}
