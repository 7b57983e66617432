//! The drift figures of one watched column in one window.

use std::sync::Arc;

use crate::drift::baseline::Reference;
use crate::drift::profile::Bins;
use crate::drift::runs::Moments;
use crate::drift::sample::{Mode, Sample};
use crate::numeric::{KsMethod, KsReference, ks_p_value_auto};

/// A reference, made ready for figures in one mode.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub moments: Moments,
    pub null_count: u64,
    against: Against,
}

#[derive(Clone, Debug)]
enum Against {
    Values(KsReference),
    Bins(Arc<Bins>),
}

/// Figures of one window. Nulls and NaN are in no sample; they are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub current: Moments,
    pub null_count: u64,
    /// `None` if a sample is empty.
    pub ks: Option<Ks>,
    /// (x̄ − μ) / σ with the reference's mean and deviation (ddof = 1). If σ = 0: 0 where the means
    /// agree, else ±∞.
    pub mean_shift_sd: Option<f64>,
    /// (x̄ − μ) / (σ / √n); σ = 0 as above.
    pub z_test: Option<f64>,
    /// The share of values with |x − μ| > 3 σ; with σ = 0, of values that are not μ.
    pub share_beyond_3: Option<f64>,
}

/// The two-sample Kolmogorov–Smirnov test, as `scipy.stats.ks_2samp(current, reference)` has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ks {
    /// The statistic as SciPy gives it with `method`; in profile mode a lower bound of that.
    pub statistic: f64,
    /// SciPy's statistic is at most `statistic` + `error_bound`; 0 in exact mode.
    pub error_bound: f64,
    /// P(D ≥ `statistic`).
    pub p_value: f64,
    /// By SciPy's rule: exact while no sample has more than 10,000 values.
    pub method: KsMethod,
}

impl Comparison {
    /// With all values of the reference.
    pub fn exact(reference: &Reference) -> Self {
        Self::new(reference, Against::Values(KsReference::new(reference.runs.as_sample())))
    }

    /// With the counts of up to `bins` bins of the reference, see [`Bins::new`].
    pub fn profile(reference: &Reference, bins: usize) -> Self {
        Self::new(reference, Against::Bins(Arc::new(Bins::new(&reference.runs, bins))))
    }

    fn new(reference: &Reference, against: Against) -> Self {
        Comparison { moments: reference.moments, null_count: reference.null_count, against }
    }

    /// What figures cost, about: searches in the reference, for as many values as there are.
    pub fn cost(&self) -> u32 {
        match &self.against {
            Against::Values(reference) => 1 + reference.distinct().max(1).ilog2(),
            Against::Bins(_) => 1,
        }
    }

    /// How samples are kept for figures against `comparisons`, one a column.
    pub fn mode(comparisons: &[Arc<Comparison>]) -> Mode {
        let bins = comparisons.iter().filter_map(|comparison| match &comparison.against {
            Against::Values(_) => None,
            Against::Bins(bins) => Some(bins.clone()),
        });
        let bins: Vec<_> = bins.collect();
        if bins.is_empty() { Mode::Exact } else { Mode::Profile(bins) }
    }

    /// The figures of a sample that was kept in the comparison's mode.
    pub fn figures(&self, current: &Sample, null_count: u64) -> Figures {
        let moments = match current {
            Sample::Exact(runs) => runs.moments(),
            Sample::Profile(profile) => profile.moments(),
        };
        let unit = self.moments.mean.zip(self.moments.std);
        let shift = unit.zip(moments.mean).map(|((mean, std), now)| in_units(now - mean, std));
        let share = unit.and_then(|(mean, std)| match current {
            Sample::Exact(runs) => runs.share_beyond(mean, 3.0 * std),
            Sample::Profile(profile) => {
                (moments.n > 0).then(|| profile.beyond_3 as f64 / moments.n as f64)
            }
        });
        Figures {
            current: moments,
            null_count,
            ks: self.ks(current),
            mean_shift_sd: shift,
            z_test: shift.map(|shift| shift * (moments.n as f64).sqrt()),
            share_beyond_3: share,
        }
    }

    fn ks(&self, current: &Sample) -> Option<Ks> {
        let (least, most) = match (&self.against, current) {
            (Against::Values(reference), Sample::Exact(runs)) => {
                (reference.statistic(runs.as_sample())?, None)
            }
            (Against::Bins(bins), Sample::Profile(profile)) => {
                let bounds = bins.distance(&profile.counts)?;
                (bounds.least, Some(bounds.most))
            }
            _ => return None,
        };
        let test = ks_p_value_auto(&least);
        let most = most.map_or(test.statistic, |most| most.reported(test.method));
        Some(Ks {
            statistic: test.statistic,
            error_bound: rounded_up_difference(most, test.statistic),
            p_value: test.p_value,
            method: test.method,
        })
    }
}

fn in_units(difference: f64, unit: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / unit }
}

/// `most` − `least`, such that `least` and it add up to at least `most`.
fn rounded_up_difference(most: f64, least: f64) -> f64 {
    if most > least { (most - least).next_up() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::runs::Runs;

    fn figures(reference: &[f64], current: &[f64]) -> Figures {
        let reference = Reference::new(Runs::from_values(reference.to_vec()), 0);
        let current = Sample::Exact(Runs::from_values(current.to_vec()));
        Comparison::exact(&reference).figures(&current, 0)
    }

    #[test]
    fn a_constant_reference_has_no_unit() {
        let same = figures(&[5.0, 5.0], &[5.0]);
        assert_eq!((same.mean_shift_sd, same.share_beyond_3), (Some(0.0), Some(0.0)));
        let other = figures(&[5.0, 5.0], &[6.0]);
        assert_eq!((other.mean_shift_sd, other.share_beyond_3), (Some(f64::INFINITY), Some(1.0)));
    }

    #[test]
    fn a_constant_that_no_sum_meets_is_no_drift() {
        for n in 1..200 {
            let same = figures(&[0.1; 10], &vec![0.1; n]);
            assert_eq!((same.mean_shift_sd, same.z_test), (Some(0.0), Some(0.0)), "{n}");
            assert_eq!(same.share_beyond_3, Some(0.0), "{n}");
            let same = figures(&vec![0.1; n + 1], &[0.1; 7]);
            assert_eq!((same.mean_shift_sd, same.share_beyond_3), (Some(0.0), Some(0.0)), "{n}");
        }
    }

    #[test]
    fn an_empty_window_has_no_figures() {
        let empty = figures(&[1.0, 2.0], &[]);
        assert_eq!((empty.ks, empty.mean_shift_sd, empty.share_beyond_3), (None, None, None));
    }

    #[test]
    fn z_by_hand() {
        // Reference: mean 2, deviation 1. Current: mean 4, n = 4.
        let z = figures(&[1.0, 2.0, 3.0], &[3.0, 3.0, 4.0, 6.0]);
        assert_eq!((z.mean_shift_sd, z.z_test), (Some(2.0), Some(4.0)));
        assert_eq!(z.share_beyond_3, Some(0.25));
    }

    #[test]
    fn the_p_value_is_exact_up_to_ten_thousand_values() {
        let ramp = |n: i32| (0..n).map(f64::from).collect::<Vec<_>>();
        let method = |n, m| figures(&ramp(m), &ramp(n)).ks.unwrap().method;
        assert_eq!(method(10_000, 10_000), KsMethod::Exact);
        assert_eq!(method(10_001, 5), KsMethod::Asymptotic);
        assert_eq!(method(5, 10_001), KsMethod::Asymptotic);
        // By hand: D = 1, and 2 of the C(5, 2) = 10 interleavings are that far apart.
        let apart = figures(&[1.0, 2.0, 3.0], &[7.0, 8.0]).ks.unwrap();
        assert_eq!((apart.statistic, apart.error_bound), (1.0, 0.0));
        assert!((apart.p_value - 0.2).abs() < 1e-15);
    }
}
