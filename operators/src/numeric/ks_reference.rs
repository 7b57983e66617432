//! The two-sample statistic against a large sample that stays the same.

use super::ks_distance::KsDistance;
use super::ks_statistic::KsStatistic;
use super::two_sample::Runs;

/// A reference sample, prepared so that its distance from another sample takes a few searches, and not
/// a pass over the reference.
///
/// Between two neighbouring values of the sample its distribution function is flat and the
/// reference's only rises, so the distance is largest at one of the sample's values or just before
/// it. Both functions only rise, so what they are at two of the reference's values bounds how far
/// apart they are between: bounds of all such stretches come first, and only those that may reach the
/// largest distance are looked at value by value. Quotients and differences are rounded as in
/// [`super::ks_statistic`], and rounding keeps order, so the statistic is the same to the last bit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KsReference {
    values: Vec<f64>,
    /// `cumulative[k]` values are at most `values[k]`.
    cumulative: Vec<u64>,
    /// Every `stride`-th of the values, from the first on.
    marks: Vec<f64>,
    stride: usize,
}

/// About how many marks there are in a large reference.
const MARKS: usize = 256;

/// Between fewer values a search is as quick as bounds are.
const STRIDE_MIN: usize = 8;

/// The runs of a sample between two neighbouring marks, or at the upper one.
struct Stretch {
    first: usize,
    end: usize,
    /// How many of the sample's values are before the first run, and before the end.
    seen: (u64, u64),
    /// Between which runs of the reference the first run's place is.
    places: (usize, usize),
}

impl KsReference {
    /// `runs` are ascending and without NaN.
    pub fn new(runs: Runs<'_>) -> Self {
        let running = runs.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        });
        let stride = runs.values.len().div_ceil(MARKS).max(STRIDE_MIN);
        KsReference {
            values: runs.values.to_vec(),
            cumulative: running.collect(),
            marks: runs.values.iter().step_by(stride).copied().collect(),
            stride,
        }
    }

    /// How many values it has, equal ones counted once.
    pub fn distinct(&self) -> usize {
        self.values.len()
    }

    /// The distance of `sample`, whose values are distinct, from the reference; equal to
    /// `ks_statistic(sample, reference)`.
    ///
    /// `None` if a sample is empty or holds a NaN, or if n·m reaches 2⁶⁴.
    pub fn statistic(&self, sample: Runs<'_>) -> Option<KsStatistic> {
        let n: u64 = sample.counts.iter().sum();
        let m = self.cumulative.last().copied().unwrap_or(0);
        let has_nan = sample.values.iter().fold(false, |found, value| found | value.is_nan());
        if has_nan {
            return None;
        }
        let mut distance = KsDistance::new(n, m)?;
        let stretches = self.stretches(sample);
        let bounds = |stretch: &Stretch| {
            (self.up_to(stretch.places.0), self.up_to(stretch.places.1.min(self.values.len())))
        };
        for stretch in &stretches {
            distance.expect(stretch.seen, bounds(stretch));
        }
        for stretch in &stretches {
            if distance.may_grow(stretch.seen, bounds(stretch)) {
                self.compare_each(stretch, sample, &mut distance);
            }
        }
        Some(distance.finish())
    }

    fn stretches(&self, sample: Runs<'_>) -> Vec<Stretch> {
        let most = sample.values.len().min(self.marks.len() + 1);
        let mut stretches = Vec::with_capacity(most);
        let (mut first, mut seen, mut mark) = (0, 0, 0);
        while let Some(&value) = sample.values.get(first) {
            // Behind the last mark that is below.
            mark = pass(&self.marks, mark, |&known| known < value);
            let end = match self.marks.get(mark) {
                Some(&upper) => pass(sample.values, first, |&value| value <= upper),
                None => sample.values.len(),
            };
            let seen_at_end = seen + sample.counts[first..end].iter().sum::<u64>();
            let lower = if mark == 0 { 0 } else { (mark - 1) * self.stride + 1 };
            let places = (lower, mark * self.stride + 1);
            stretches.push(Stretch { first, end, seen: (seen, seen_at_end), places });
            (first, seen) = (end, seen_at_end);
        }
        stretches
    }

    fn compare_each(&self, stretch: &Stretch, sample: Runs<'_>, distance: &mut KsDistance) {
        let runs = stretch.first..stretch.end;
        let (mut seen, mut passed) = (stretch.seen.0, stretch.places.0);
        for (&value, &count) in sample.values[runs.clone()].iter().zip(&sample.counts[runs]) {
            passed = pass(&self.values, passed, |&known| known < value);
            distance.compare(seen, self.up_to(passed));
            seen += count;
            while self.values.get(passed) == Some(&value) {
                passed += 1;
            }
            distance.compare(seen, self.up_to(passed));
        }
    }

    /// How many of its values are in the first `runs` runs.
    fn up_to(&self, runs: usize) -> u64 {
        if runs == 0 { 0 } else { self.cumulative[runs - 1] }
    }
}

/// The first place from `from` on where `is_before` does not hold, which it does up to there; what is
/// near is found at once.
fn pass(values: &[f64], from: usize, is_before: impl Fn(&f64) -> bool) -> usize {
    let rest = &values[from..];
    let (mut passed, mut step) = (0, 1);
    while rest.get(passed + step - 1).is_some_and(&is_before) {
        passed += step;
        step *= 2;
    }
    let end = (passed + step - 1).min(rest.len());
    from + passed + rest[passed..end].partition_point(is_before)
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

    /// Samples and references of many marks, near each other and far apart; the last kind are too many
    /// values for their products to decide.
    #[test]
    fn large_samples_equal_the_pass_over_both() {
        for seed in 0..120u64 {
            let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let range = [5_000, 30_000, 1 << 40][seed as usize % 3];
            let (mut small, small_counts) = random_runs(&mut state, 1 + seed * 37 % 4_000, range);
            let (large, mut large_counts) = random_runs(&mut state, 1 + seed * 71 % 9_000, range);
            let (shift, stretch) = ((seed % 5) as f64 * 40.0, 1.0 + (seed % 7) as f64 * 0.25);
            small.iter_mut().for_each(|value| *value = *value * stretch - shift);
            if seed % 4 == 3 {
                large_counts.iter_mut().for_each(|count| *count <<= 30);
            }
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
