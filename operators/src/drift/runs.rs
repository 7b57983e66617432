//! A sample as sorted runs of equal values.

use crate::numeric::{self, ExactSum};

/// A multiset of finite or infinite values: distinct values, ascending, and how often each occurs.
/// NaN is never among them, and -0.0 counts as 0.0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    pub values: Vec<f64>,
    pub counts: Vec<u64>,
}

/// Count of a sample's values, mean and deviation of those that are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Of all values.
    pub n: u64,
    /// How many of them are infinite; mean and deviation leave them out.
    pub infinite: u64,
    /// The correctly rounded sum divided by the count, or the value itself where all are equal: the
    /// quotient may miss it by a rounding, which is no shift. `None` without finite values.
    pub mean: Option<f64>,
    /// The sample standard deviation, ddof = 1; `None` for fewer than two finite values.
    pub std: Option<f64>,
}

impl Moments {
    /// Those of `finite` values that are all `value`, and `infinite` others.
    pub fn of_equal(value: f64, finite: u64, infinite: u64) -> Self {
        let std = (finite > 1).then_some(0.0);
        Moments { n: finite + infinite, infinite, mean: Some(value), std }
    }

    /// How many values mean and deviation are of.
    pub fn finite(&self) -> u64 {
        self.n - self.infinite
    }
}

impl Runs {
    /// The runs of `values`, in any order, without NaN.
    pub fn from_values(values: Vec<f64>) -> Self {
        // Whole numbers are compared in half the time. Adding 0 makes one zero of both.
        let mut keys: Vec<i64> =
            values.into_iter().map(|value| ordered((value + 0.0).to_bits() as i64)).collect();
        keys.sort_unstable();
        let mut runs = Runs::default();
        for equal in keys.chunk_by(|a, b| a == b) {
            runs.values.push(f64::from_bits(ordered(equal[0]) as u64));
            runs.counts.push(equal.len() as u64);
        }
        runs
    }

    /// The union of several samples: sorted runs merged in pairs, so that a value is looked at
    /// log₂(samples) times, and equal ones become one as soon as they meet.
    pub fn merge<'a>(samples: impl IntoIterator<Item = &'a Runs>) -> Self {
        let samples: Vec<&Runs> = samples.into_iter().collect();
        let mut merged: Vec<Runs> = match samples.as_slice() {
            [one] => return (*one).clone(),
            many => many.chunks(2).map(|pair| pair[0].union(pair.get(1).copied())).collect(),
        };
        while merged.len() > 1 {
            merged = merged.chunks(2).map(|pair| pair[0].union(pair.get(1))).collect();
        }
        merged.pop().unwrap_or_default()
    }

    fn union(&self, other: Option<&Runs>) -> Runs {
        let Some(other) = other else { return self.clone() };
        let most = self.values.len() + other.values.len();
        let mut union = Runs { values: vec![0.0; most], counts: vec![0; most] };
        let (mut i, mut j, mut runs) = (0, 0, 0);
        while let (Some(&a), Some(&b)) = (self.values.get(i), other.values.get(j)) {
            let (first, second) = (a <= b, b <= a);
            union.values[runs] = if first { a } else { b };
            let of_first = if first { self.counts[i] } else { 0 };
            let of_second = if second { other.counts[j] } else { 0 };
            union.counts[runs] = of_first + of_second;
            i += usize::from(first);
            j += usize::from(second);
            runs += 1;
        }
        union.values.truncate(runs);
        union.counts.truncate(runs);
        union.values.extend_from_slice(&self.values[i..]);
        union.counts.extend_from_slice(&self.counts[i..]);
        union.values.extend_from_slice(&other.values[j..]);
        union.counts.extend_from_slice(&other.counts[j..]);
        union
    }

    /// Adds values that rise, from the last one of the runs on.
    pub fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        values.into_iter().for_each(|value| self.push(value, 1));
    }

    fn push(&mut self, value: f64, count: u64) {
        match (self.values.last(), self.counts.last_mut()) {
            (Some(&last), Some(counted)) if last == value => *counted += count,
            _ => {
                self.values.push(value);
                self.counts.push(count);
            }
        }
    }

    /// The sample as the Kolmogorov–Smirnov test takes it.
    pub fn as_sample(&self) -> numeric::Runs<'_> {
        numeric::Runs { values: &self.values, counts: &self.counts }
    }

    /// How many values, equal ones counted each.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The values that are finite, and their counts: infinities are at the ends.
    pub fn finite(&self) -> (&[f64], &[u64]) {
        let from = self.values.partition_point(|&value| value == f64::NEG_INFINITY);
        let to = self.values.partition_point(|&value| value < f64::INFINITY);
        (&self.values[from..to], &self.counts[from..to])
    }

    pub fn moments(&self) -> Moments {
        let (values, counts) = self.finite();
        let n = counts.iter().sum();
        let infinite = self.total() - n;
        if let [value] = *values {
            return Moments::of_equal(value, n, infinite);
        }
        let pairs = || values.iter().copied().zip(counts.iter().copied());
        let mut sum = ExactSum::new();
        pairs().for_each(|(value, count)| sum.add_times(value, count));
        let mean = (n > 0).then(|| sum.value() / n as f64);
        let std = mean.filter(|_| n > 1).map(|mean| {
            let squares: f64 = pairs().map(|(v, c)| (v - mean) * (v - mean) * c as f64).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        Moments { n: n + infinite, infinite, mean, std }
    }

    /// How many values are such, equal ones counted each.
    pub fn count_where(&self, is_such: impl Fn(f64) -> bool) -> u64 {
        self.pairs().filter(|&(value, _)| is_such(value)).map(|(_, count)| count).sum()
    }

    pub fn pairs(&self) -> impl Iterator<Item = (f64, u64)> {
        self.values.iter().copied().zip(self.counts.iter().copied())
    }
}

/// The bits of a float as an integer of the same order, and back.
fn ordered(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_merge_to_the_whole() {
        let values: Vec<f64> = (0..500).map(|i| f64::from(i * 7919 % 83) - 40.0).collect();
        let whole = Runs::from_values(values.clone());
        let parts: Vec<Runs> =
            values.chunks(77).map(|part| Runs::from_values(part.to_vec())).collect();
        for many in 0..parts.len() {
            let (few, rest) = parts.split_at(many);
            assert_eq!(Runs::merge(&[Runs::merge(few), Runs::merge(rest)]), whole);
        }
        assert_eq!(whole.total(), 500);
        assert!(whole.values.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn both_zeros_are_one_value() {
        let runs = Runs::from_values(vec![0.0, -0.0, 1.0]);
        assert_eq!((&runs.values[..], runs.counts), (&[0.0, 1.0][..], vec![2, 1]));
        assert!(runs.values[0].is_sign_positive());
    }

    #[test]
    fn moments_of_few_values() {
        let of = |values: &[f64]| Runs::from_values(values.to_vec()).moments();
        let moments = |n, mean, std| Moments { n, infinite: 0, mean, std };
        assert_eq!(of(&[]), moments(0, None, None));
        assert_eq!(of(&[2.0]), moments(1, Some(2.0), None));
        assert_eq!(of(&[1.0, 3.0]), moments(2, Some(2.0), Some(2f64.sqrt())));
    }

    #[test]
    fn infinite_values_are_counted_and_left_out_of_moments() {
        const BOTH: [f64; 3] = [f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY];
        for finite in [vec![], vec![2.0], vec![0.1; 3], vec![1.0, 3.0, f64::MAX]] {
            let alone = Runs::from_values(finite.clone()).moments();
            for infinite in 1..=3 {
                let values = [&finite[..], &BOTH[..infinite]].concat();
                let found = Runs::from_values(values.clone()).moments();
                let (n, infinite) = (values.len() as u64, infinite as u64);
                assert_eq!(found, Moments { n, infinite, ..alone }, "{values:?}");
                assert_eq!(found.finite(), finite.len() as u64);
            }
        }
    }

    #[test]
    fn equal_values_have_their_mean_and_no_deviation() {
        // The sum of three tenths, rounded, is no three tenths.
        for n in 2..200 {
            let moments = Runs::from_values(vec![0.1; n]).moments();
            assert_eq!((moments.mean, moments.std), (Some(0.1), Some(0.0)), "{n}");
        }
    }

    #[test]
    fn values_that_cancel_beyond_the_range_of_floats_have_a_mean() {
        let moments =
            Runs::from_values(vec![1e308, 1e308, 1e308, -1e308, -1e308, -1e308]).moments();
        assert_eq!(moments.mean, Some(0.0));
    }
}
