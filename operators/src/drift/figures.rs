//! The drift figures of one watched column in one window.

use std::sync::Arc;

use crate::drift::baseline::Reference;
use crate::drift::limits::Limits;
use crate::drift::profile::Bins;
use crate::drift::runs::Moments;
use crate::drift::sample::{Mode, Sample};
use crate::numeric::{
    KsMethod, KsReference, ks_p_value_auto, out_of_range_p_value, two_proportions_z,
};

/// A reference, made ready for figures in one mode.
#[derive(Clone, Debug)]
pub struct Comparison {
    pub moments: Moments,
    pub null_count: u64,
    limits: Limits,
    against: Against,
}

#[derive(Clone, Debug)]
enum Against {
    Values(KsReference),
    Bins(Arc<Bins>),
}

/// Figures of one window. Nulls and NaN are in no sample; they are counted. Infinite values are in the
/// Kolmogorov–Smirnov test and in shares, and are left out of means and deviations on both sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub current: Moments,
    pub null_count: u64,
    /// `None` if a sample is empty.
    pub ks: Option<Ks>,
    /// (x̄ − μ) / σ with the reference's mean and deviation (ddof = 1). If σ = 0: 0 where the means
    /// agree, else ±∞.
    pub mean_shift_sd: Option<f64>,
    /// (x̄ − μ) / (σ / √n) for n finite values; σ = 0 as above.
    pub z_test: Option<f64>,
    /// The share of values with |x − μ| > 3 σ; with σ = 0, of values that are not μ. An infinite value
    /// is always beyond, and is one of the values that the share is of.
    pub share_beyond_3: Option<f64>,
    /// The share of values below the reference's least or above its greatest finite value; of infinite
    /// ones those that are no value of the reference.
    pub share_out_of_range: Option<f64>,
    /// How likely chance puts so many or more out of the range of so few; see
    /// [`out_of_range_p_value`].
    pub out_of_range_p_value: Option<f64>,
    /// Whether the share of nulls differs from the reference's by more than chance; see
    /// [`two_proportions_z`]. `None` if there are no rows on one side.
    pub null_share_z: Option<f64>,
}

/// The share of rows that are null; `None` without rows.
pub fn null_share(nulls: u64, values: u64) -> Option<f64> {
    share(nulls, nulls + values)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
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
        Self::new(
            reference,
            Against::Bins(Arc::new(Bins::with_moments(&reference.runs, &reference.moments, bins))),
        )
    }

    fn new(reference: &Reference, against: Against) -> Self {
        let Reference { runs, moments, null_count } = reference;
        let limits = Limits::of(runs, moments);
        Comparison { moments: *moments, null_count: *null_count, limits, against }
    }

    /// How samples are kept for figures against `comparisons`, one a column.
    pub fn mode(comparisons: &[Arc<Comparison>]) -> Mode {
        let bins: Vec<_> =
            comparisons.iter().filter_map(|comparison| comparison.bins().cloned()).collect();
        if bins.is_empty() { Mode::Exact } else { Mode::Profile(bins) }
    }

    /// The bins by which samples are counted, where they are.
    pub fn bins(&self) -> Option<&Arc<Bins>> {
        match &self.against {
            Against::Values(_) => None,
            Against::Bins(bins) => Some(bins),
        }
    }

    /// The figures of a sample that was kept in the comparison's mode.
    pub fn figures(&self, current: &Sample, null_count: u64) -> Figures {
        let moments = match current {
            Sample::Exact(runs) => runs.moments(),
            Sample::Profile(profile) => profile.moments(),
        };
        let unit = self.moments.mean.zip(self.moments.std);
        let shift = unit.zip(moments.mean).map(|((mean, std), now)| in_units(now - mean, std));
        let (beyond_3, out_of_range) = match current {
            Sample::Exact(runs) => (
                runs.count_where(|value| self.limits.is_beyond_3(value)),
                runs.count_where(|value| self.limits.is_out_of_range(value)),
            ),
            Sample::Profile(profile) => (profile.beyond_3, profile.out_of_range),
        };
        let share_of = |known: bool, count: u64| share(count, moments.n).filter(|_| known);
        let share_out_of_range = share_of(self.limits.has_range(), out_of_range);
        Figures {
            current: moments,
            null_count,
            ks: self.ks(current),
            mean_shift_sd: shift,
            z_test: shift.map(|shift| shift * (moments.finite() as f64).sqrt()),
            share_beyond_3: share_of(self.limits.has_centre(), beyond_3),
            share_out_of_range,
            out_of_range_p_value: share_out_of_range
                .map(|_| out_of_range_p_value(out_of_range, moments.n, self.moments.finite())),
            null_share_z: self.null_share_z(null_count, null_count + moments.n),
        }
    }

    fn null_share_z(&self, nulls: u64, rows: u64) -> Option<f64> {
        let reference_rows = self.rows();
        let both = rows > 0 && reference_rows > 0;
        both.then(|| two_proportions_z((nulls, rows), (self.null_count, reference_rows)))
    }

    /// The reference's values and nulls.
    pub fn rows(&self) -> u64 {
        self.moments.n + self.null_count
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
    fn infinite_values_do_not_move_means() {
        const INF: f64 = f64::INFINITY;
        // Reference: mean 2, deviation 1. Current: mean 4 of 4 finite values.
        let found = figures(&[1.0, 2.0, 3.0, INF], &[3.0, 3.0, 4.0, 6.0, INF, -INF]);
        assert_eq!((found.mean_shift_sd, found.z_test), (Some(2.0), Some(4.0)));
        assert_eq!((found.current.n, found.current.infinite), (6, 2));
        // 6 and both infinities are further than three deviations; 4, 6 and −∞ are out of range.
        assert_eq!((found.share_beyond_3, found.share_out_of_range), (Some(0.5), Some(0.5)));
        let without = figures(&[1.0, 2.0, 3.0], &[3.0, 3.0, 4.0, 6.0]);
        assert_eq!(found.current.std, without.current.std);
        // To the distance they are values: 1/6 are −∞, where the reference has none.
        let ks = figures(&[0.0, 0.0, INF], &[0.0, 0.0, -INF]).ks.unwrap();
        assert!((ks.statistic - 1.0 / 3.0).abs() < 1e-15);
        let only = figures(&[1.0, 2.0], &[INF, INF]);
        assert_eq!((only.mean_shift_sd, only.z_test, only.share_beyond_3), (None, None, Some(1.0)));
        let none = figures(&[INF, -INF], &[1.0, INF]);
        assert_eq!((none.mean_shift_sd, none.share_beyond_3), (None, None));
        assert_eq!((none.share_out_of_range, none.out_of_range_p_value), (Some(0.5), Some(1.0)));
    }

    #[test]
    fn shares_of_nulls_are_compared() {
        let z = |nulls: u64, values: usize, before: u64| {
            let reference = Reference::new(Runs::from_values(vec![1.0; 1_000]), before);
            let current = Sample::Exact(Runs::from_values(vec![1.0; values]));
            Comparison::exact(&reference).figures(&current, nulls).null_share_z
        };
        assert_eq!(z(100, 900, 100), Some(two_proportions_z((100, 1_000), (100, 1_100))));
        assert!(z(40, 0, 0).unwrap() > 30.0 && z(0, 40, 1_000).unwrap() < -5.0);
        assert_eq!((z(0, 40, 0), z(0, 0, 9)), (Some(0.0), None));
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
