//! The running standard deviation.
//!
//! The textbook formula s² = (n·Σx² − (Σx)²) / (n·(n − 1)) is the one that lets values leave, and is
//! known for its cancellation (T. Chan, G. Golub, R. LeVeque, *Algorithms for computing the sample
//! variance*, 1983): with a mean of 10⁶ deviations the two terms agree in 12 digits. Here nothing is
//! lost, because Σx and Σx² are exact and so is the difference: each sum is taken apart into `f64`
//! parts that add up to it exactly (an expansion: J. Shewchuk, *Adaptive precision floating-point
//! arithmetic*, 1997), and the products of the parts are summed exactly again. Only the difference,
//! the division and the root round, so the result depends on the multiset of values and nothing else.

use crate::numeric::ExactSum;

/// The most parts a sum can have: each but the last takes 53 bits off the range of 2098.
const PARTS_MAX: usize = 40;

/// The number, sum and sum of squares of the values inside.
#[derive(Default)]
pub(super) struct Moments {
    count: usize,
    sum: ExactSum,
    squares: ExactSum,
}

impl Moments {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add_product(value, value);
    }

    pub(super) fn remove(&mut self, value: f64) {
        self.count -= 1;
        self.sum.sub(value);
        self.squares.sub_product(value, value);
    }

    /// The sample standard deviation, as `numpy.std(v, ddof=1)`; none below two values. The limits
    /// are those of [`Aggregate::Std`](super::Aggregate::Std).
    pub(super) fn sample_deviation(&self) -> Option<f64> {
        let n = self.count as f64;
        (self.count > 1).then(|| (self.scatter() / (n * (n - 1.0))).sqrt())
    }

    /// n·Σx² − (Σx)², rounded once.
    fn scatter(&self) -> f64 {
        let n = self.count as f64;
        let (sum, squares) = (self.sum.value(), self.squares.value());
        // Among exact sums, an infinity less an infinity would be what is finite beside them.
        if !(n * squares).is_finite() || !(sum * sum).is_finite() {
            return f64::NAN;
        }
        let mut scatter = ExactSum::new();
        Parts::of(&self.squares).as_slice().iter().for_each(|&part| scatter.add_product(n, part));
        let parts = Parts::of(&self.sum);
        for (i, &part) in parts.as_slice().iter().enumerate() {
            scatter.sub_product(part, part);
            for &larger in &parts.as_slice()[..i] {
                scatter.sub_product(2.0 * larger, part);
            }
        }
        let scatter = scatter.value();
        // Squares too small to be exact can leave less than nothing.
        if scatter < 0.0 { 0.0 } else { scatter }
    }
}

/// A finite sum as `f64` parts that add up to it exactly, the largest first.
struct Parts {
    parts: [f64; PARTS_MAX],
    count: usize,
}

impl Parts {
    fn of(sum: &ExactSum) -> Self {
        let mut rest = sum.clone();
        let mut found = Parts { parts: [0.0; PARTS_MAX], count: 0 };
        for part in &mut found.parts {
            *part = rest.value();
            if *part == 0.0 {
                break;
            }
            rest.sub(*part);
            found.count += 1;
        }
        debug_assert!(rest.is_zero(), "a sum has at most {PARTS_MAX} parts");
        found
    }

    fn as_slice(&self) -> &[f64] {
        &self.parts[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::window::naive::{Random, whole_deviation};

    fn moments_of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|&value| moments.add(value));
        moments
    }

    fn deviation_of(values: &[f64]) -> f64 {
        moments_of(values).sample_deviation().unwrap()
    }

    #[track_caller]
    fn assert_close(found: f64, expected: f64, context: &str) {
        let error = (found - expected).abs() / expected;
        assert!(error <= 1e-15, "{context}: found {found:e}, expected {expected:e}");
    }

    /// `numpy.std([2, 4, 4, 4, 5, 5, 7, 9], ddof=1)`.
    #[test]
    fn divides_by_one_less_than_the_count() {
        let found = deviation_of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(found, 2.138_089_935_299_395);
        assert_eq!(moments_of(&[]).sample_deviation(), None);
        assert_eq!(moments_of(&[7.0]).sample_deviation(), None);
    }

    #[test]
    fn nothing_is_lost_beside_a_large_mean() {
        for seed in 1..=200 {
            let mut random = Random::new(seed);
            let n = 2 + random.below(60);
            // A deviation is shifted by nothing: whole steps of 2⁻²⁰ beside means that swallow them.
            let steps: Vec<i64> = (0..n).map(|_| random.below(8) as i64 - 3).collect();
            let expected = whole_deviation(&steps).unwrap() * 2f64.powi(-20);
            for mean in [0.0, 1.0, -1e6, 1e9, 4e9] {
                let values: Vec<f64> =
                    steps.iter().map(|&step| mean + step as f64 * 2f64.powi(-20)).collect();
                let found = deviation_of(&values);
                let context = format!("seed {seed}, mean {mean}");
                if expected == 0.0 {
                    assert_eq!(found, 0.0, "{context}");
                } else {
                    assert_close(found, expected, &context);
                }
            }
        }
    }

    #[test]
    fn equals_whole_numbers_for_values_of_all_digits() {
        for seed in 1..=200 {
            let mut random = Random::new(seed);
            let n = 2 + random.below(60);
            let bits = 1 + random.below(52);
            let digits: Vec<i64> =
                (0..n).map(|_| (1 << 52) + random.below(1 << bits) as i64).collect();
            let expected = whole_deviation(&digits).unwrap();
            for scale in [1.0, 2f64.powi(-52), 2f64.powi(400), 2f64.powi(-480)] {
                let values: Vec<f64> = digits.iter().map(|&d| d as f64 * scale).collect();
                if expected > 0.0 {
                    let context = format!("seed {seed}, {bits} bits, scale {scale:e}");
                    assert_close(deviation_of(&values), expected * scale, &context);
                }
            }
        }
    }

    #[test]
    fn a_constant_deviates_by_zero() {
        for value in [0.1, -1.0 / 3.0, 1e-140, 1e9 + 0.1, 1e150, -0.0] {
            for n in [2, 3, 7, 100, 1001] {
                assert_eq!(deviation_of(&vec![value; n]).to_bits(), 0, "{n} times {value}");
            }
        }
    }

    #[test]
    fn what_has_left_leaves_no_trace() {
        for seed in 1..=50 {
            let mut random = Random::new(seed);
            let values: Vec<f64> = (0..20).map(|_| random.below(1 << 50) as f64 / 3.0).collect();
            let mut moments = moments_of(&values);
            let noise = [1e150, 1e-150, 1e200, f64::INFINITY, f64::NEG_INFINITY, 0.1];
            noise.iter().for_each(|&value| moments.add(value));
            assert!(moments.sample_deviation().unwrap().is_nan());
            noise.iter().rev().for_each(|&value| moments.remove(value));
            let found = moments.sample_deviation().unwrap();
            assert_eq!(found.to_bits(), deviation_of(&values).to_bits(), "seed {seed}");
        }
    }

    #[test]
    fn beyond_its_limits_it_is_near_zero_or_nan() {
        assert!(deviation_of(&[1e-160; 5]) < 1e-160);
        assert!(deviation_of(&[1e-200, 3e-200]) < 1e-160);
        for values in [[1e160, 1.0], [1e200, -1e200], [f64::MAX, f64::MAX], [f64::INFINITY, 1.0]] {
            assert!(deviation_of(&values).is_nan(), "{values:?}");
        }
    }

    #[test]
    fn values_of_every_magnitude_stay_exact() {
        // The large ones cancel in Σx, and their squares have no place for the small ones' in f64.
        let values = [1e153, -1e153, 1e100, -1e100, 1e-140, -3e-140, 0.5];
        let mut moments = moments_of(&values);
        values[..4].iter().for_each(|&value| moments.remove(value));
        let found = moments.sample_deviation().unwrap();
        assert_eq!(found.to_bits(), deviation_of(&values[4..]).to_bits());
        assert_close(deviation_of(&values), 1e153 / 3f64.sqrt(), "the largest ones prevail");
    }
}
