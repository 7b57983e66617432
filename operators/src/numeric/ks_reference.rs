//! The two-sample statistic against a large sample that stays the same.

use super::ks_distance::KsDistance;
use super::ks_statistic::KsStatistic;
use super::two_sample::Runs;

/// A reference sample, prepared so that its distance from a small sample takes a search for each
/// value of the small one, and not a pass over the reference.
///
/// Between two neighbouring values of the small sample its distribution function is flat and the
/// reference's only rises, so the distance is largest at one of the small sample's values or just
/// before it. Quotients and differences are rounded as in [`super::ks_statistic`], and rounding
/// keeps order, so the statistic is the same to the last bit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KsReference {
    values: Vec<f64>,
    /// `cumulative[k]` values are at most `values[k]`.
    cumulative: Vec<u64>,
}

impl KsReference {
    /// `runs` are ascending and without NaN.
    pub fn new(runs: Runs<'_>) -> Self {
        let running = runs.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        });
        KsReference { values: runs.values.to_vec(), cumulative: running.collect() }
    }

    /// How many values it has, equal ones counted once.
    pub fn distinct(&self) -> usize {
        self.values.len()
    }

    /// The distance of `sample` from the reference; equal to `ks_statistic(sample, reference)`.
    ///
    /// `None` if a sample is empty or holds a NaN, or if n·m reaches 2⁶⁴.
    pub fn statistic(&self, sample: Runs<'_>) -> Option<KsStatistic> {
        let n: u64 = sample.counts.iter().sum();
        let m = self.cumulative.last().copied().unwrap_or(0);
        if sample.values.iter().any(|value| value.is_nan()) {
            return None;
        }
        let mut distance = KsDistance::new(n, m)?;
        let below = |runs: usize| if runs == 0 { 0 } else { self.cumulative[runs - 1] };
        let (mut seen, mut passed) = (0, 0);
        for (&value, &count) in sample.values.iter().zip(sample.counts) {
            passed = self.pass(passed, value);
            distance.compare(seen, below(passed));
            seen += count;
            while self.values.get(passed) == Some(&value) {
                passed += 1;
            }
            distance.compare(seen, below(passed));
        }
        Some(distance.finish())
    }

    /// The first place from `from` on whose value is not below `value`; what is near is found at once.
    fn pass(&self, from: usize, value: f64) -> usize {
        let rest = &self.values[from..];
        let (mut passed, mut step) = (0, 1);
        while rest.get(passed + step - 1).is_some_and(|&known| known < value) {
            passed += step;
            step *= 2;
        }
        let end = (passed + step - 1).min(rest.len());
        from + passed + rest[passed..end].partition_point(|&known| known < value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::two_sample::ks_statistic;
    use super::*;

    /// Ascending distinct values with counts, seeded.
    fn random_runs(state: &mut u64, values: u64, range: u64) -> (Vec<f64>, Vec<u64>) {
        let mut next = |bound: u64| {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            (*state >> 11) % bound
        };
        let mut distinct: Vec<u64> = (0..values).map(|_| next(range)).collect();
        distinct.sort_unstable();
        distinct.dedup();
        let counts = distinct.iter().map(|_| 1 + next(4)).collect();
        (distinct.iter().map(|&value| value as f64 / 8.0).collect(), counts)
    }

    #[test]
    fn equals_the_pass_over_both_samples() {
        for seed in 1..400u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let range = [3, 20, 1_000_000][seed as usize % 3];
            let (small, small_counts) = random_runs(&mut state, 1 + seed % 30, range);
            let (large, large_counts) = random_runs(&mut state, 1 + seed % 700, range);
            let small = Runs { values: &small, counts: &small_counts };
            let large = Runs { values: &large, counts: &large_counts };
            let found = KsReference::new(large).statistic(small).unwrap();
            let expected = ks_statistic(small, large).unwrap();
            assert_eq!(found.d.to_bits(), expected.d.to_bits(), "seed {seed}");
            assert_eq!((found.n, found.m, found.h), (expected.n, expected.m, expected.h));
        }
    }

    #[test]
    fn an_empty_sample_has_no_distance() {
        let some = Runs { values: &[1.0], counts: &[1] };
        let none = Runs { values: &[], counts: &[] };
        assert!(KsReference::new(some).statistic(none).is_none());
        assert!(KsReference::new(none).statistic(some).is_none());
    }
}
