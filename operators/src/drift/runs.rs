//! A sample as sorted runs of equal values.

use crate::numeric::{self, ExactSum};

/// A multiset of finite or infinite values: distinct values, ascending, and how often each occurs.
/// NaN is never among them, and -0.0 counts as 0.0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Runs {
    pub values: Vec<f64>,
    pub counts: Vec<u64>,
}

/// Count, mean and deviation of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    pub n: u64,
    /// The correctly rounded sum divided by n; `None` without values.
    pub mean: Option<f64>,
    /// The sample standard deviation, ddof = 1; `None` for fewer than two values.
    pub std: Option<f64>,
}

impl Runs {
    /// The runs of `values`, in any order, without NaN.
    pub fn from_values(mut values: Vec<f64>) -> Self {
        values.iter_mut().for_each(|value| *value += 0.0);
        values.sort_unstable_by(f64::total_cmp);
        let mut runs = Runs::default();
        values.into_iter().for_each(|value| runs.push(value, 1));
        runs
    }

    /// The union of several samples.
    pub fn merge<'a>(samples: impl IntoIterator<Item = &'a Runs>) -> Self {
        let mut pairs: Vec<(f64, u64)> = Vec::new();
        for runs in samples {
            pairs.extend(runs.values.iter().copied().zip(runs.counts.iter().copied()));
        }
        // The stable sort finds the runs that are sorted already.
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut merged = Runs::default();
        pairs.into_iter().for_each(|(value, count)| merged.push(value, count));
        merged
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

    pub fn moments(&self) -> Moments {
        let n = self.total();
        let mut sum = ExactSum::new();
        self.pairs().for_each(|(value, count)| sum.add_product(value, count as f64));
        let mean = (n > 0).then(|| sum.value() / n as f64);
        let std = mean.filter(|_| n > 1).map(|mean| {
            let squares: f64 = self.pairs().map(|(v, c)| (v - mean) * (v - mean) * c as f64).sum();
            (squares / (n - 1) as f64).sqrt()
        });
        Moments { n, mean, std }
    }

    /// The share of values further than `limit` from `centre`; `None` without values.
    pub fn share_beyond(&self, centre: f64, limit: f64) -> Option<f64> {
        let beyond: u64 = self
            .pairs()
            .filter(|(value, _)| (value - centre).abs() > limit)
            .map(|(_, count)| count)
            .sum();
        let n = self.total();
        (n > 0).then(|| beyond as f64 / n as f64)
    }

    pub fn pairs(&self) -> impl Iterator<Item = (f64, u64)> {
        self.values.iter().copied().zip(self.counts.iter().copied())
    }
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
        assert_eq!(Runs::merge(&parts), whole);
        assert_eq!(whole.total(), 500);
        assert!(whole.values.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn both_zeros_are_one_value() {
        let runs = Runs::from_values(vec![0.0, -0.0, 1.0]);
        assert_eq!((runs.values, runs.counts), (vec![0.0, 1.0], vec![2, 1]));
    }

    #[test]
    fn moments_of_few_values() {
        let of = |values: &[f64]| Runs::from_values(values.to_vec()).moments();
        assert_eq!(of(&[]), Moments { n: 0, mean: None, std: None });
        assert_eq!(of(&[2.0]), Moments { n: 1, mean: Some(2.0), std: None });
        assert_eq!(of(&[1.0, 3.0]), Moments { n: 2, mean: Some(2.0), std: Some(2f64.sqrt()) });
    }
}
