//! A sample as sorted runs of equal values.

use crate::drift::sample::Sample;
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

    /// Mean and standard deviation, where both are known and the latter is not 0.
    pub fn unit(&self) -> Option<(f64, f64)> {
        self.mean.zip(self.std).filter(|(_, std)| *std > 0.0 && std.is_finite())
    }
}

impl Runs {
    /// The runs of `values`, in any order, without NaN.
    pub fn from_values(values: Vec<f64>) -> Self {
        // Whole numbers are compared in half the time. Adding 0 makes one zero of both.
        let mut keys: Vec<i64> =
            values.into_iter().map(|value| ordered((value + 0.0).to_bits())).collect();
        keys.sort_unstable();
        let rises = keys.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let distinct = rises + usize::from(!keys.is_empty());
        let mut runs =
            Runs { values: Vec::with_capacity(distinct), counts: Vec::with_capacity(distinct) };
        for equal in keys.chunk_by(|a, b| a == b) {
            runs.values.push(f64::from_bits(unordered(equal[0])));
            runs.counts.push(equal.len() as u64);
        }
        runs
    }

    /// The union of several samples.
    pub fn merge<'a>(samples: impl IntoIterator<Item = &'a Runs>) -> Self {
        MergeSpace::default().merge(&samples.into_iter().collect::<Vec<_>>())
    }

    fn as_slices(&self) -> Slices<'_> {
        (&self.values, &self.counts)
    }

    /// Adds values that rise, from the last one of the runs on.
    pub fn extend(&mut self, values: impl IntoIterator<Item = f64>) {
        values.into_iter().for_each(|value| self.push(value, 1));
    }

    fn truncate(&mut self, runs: usize) {
        self.values.truncate(runs);
        self.counts.truncate(runs);
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

/// Values, and how often each occurs.
type Slices<'a> = (&'a [f64], &'a [u64]);

/// Room for unions, kept from one to the next.
#[derive(Default)]
pub struct MergeSpace {
    merged: Runs,
    before: Runs,
    /// Where the parts of `merged` end.
    ends: Vec<usize>,
}

impl MergeSpace {
    /// The union of several samples: sorted runs merged in pairs, so that a value is looked at
    /// log₂(samples) times, and equal ones become one as soon as they meet.
    pub fn merge(&mut self, samples: &[&Runs]) -> Runs {
        if let [one] = samples {
            return (*one).clone();
        }
        let sources: Vec<Slices<'_>> = samples.iter().map(|runs| runs.as_slices()).collect();
        merge_pairs(&sources, &mut self.merged, &mut self.ends);
        while self.ends.len() > 1 {
            std::mem::swap(&mut self.merged, &mut self.before);
            let Runs { values, counts } = &self.before;
            let starts = std::iter::once(0).chain(self.ends.iter().copied());
            let parts = starts.zip(&self.ends);
            let sources: Vec<Slices<'_>> =
                parts.map(|(from, &to)| (&values[from..to], &counts[from..to])).collect();
            merge_pairs(&sources, &mut self.merged, &mut self.ends);
        }
        let mut merged = std::mem::take(&mut self.merged);
        merged.truncate(self.ends.last().copied().unwrap_or(0));
        merged
    }

    /// Takes the room of a union that is done with.
    pub fn reuse(&mut self, merged: Sample) {
        if let Sample::Exact(merged) = merged {
            self.merged = merged;
        }
    }
}

/// Writes unions of neighbouring pairs one behind the other, and where each ends.
fn merge_pairs(sources: &[Slices<'_>], merged: &mut Runs, ends: &mut Vec<usize>) {
    let most = sources.iter().map(|(values, _)| values.len()).sum::<usize>();
    if merged.values.len() < most {
        merged.values.resize(most, 0.0);
        merged.counts.resize(most, 0);
    }
    ends.clear();
    let mut end = 0;
    for pair in sources.chunks(2) {
        let values = &mut merged.values[end..];
        let counts = &mut merged.counts[end..];
        end += union(pair[0], pair.get(1).copied().unwrap_or_default(), values, counts);
        ends.push(end);
    }
}

/// Writes the union of two samples, and returns how many runs it has. The lower half and the upper one
/// at once: what is taken next is known only after a comparison, and meanwhile the other half goes on.
fn union(a: Slices<'_>, b: Slices<'_>, values: &mut [f64], counts: &mut [u64]) -> usize {
    let half = a.0.len() / 2;
    let middle = a.0.get(half).copied().unwrap_or(f64::INFINITY);
    let half_of_b = b.0.partition_point(|&value| value < middle);
    let (a, b) = (split_at(a, half), split_at(b, half_of_b));
    let mut low = Merging { sources: [a.0, b.0], at: [0; 2], runs: 0 };
    let mut high = Merging { sources: [a.1, b.1], at: [0; 2], runs: 0 };
    let from = half + half_of_b;
    let (low_values, high_values) = values.split_at_mut(from);
    let (low_counts, high_counts) = counts.split_at_mut(from);
    while low.has_both() && high.has_both() {
        low.step(low_values, low_counts);
        high.step(high_values, high_counts);
    }
    let low = low.finish(low_values, low_counts);
    let high = high.finish(high_values, high_counts);
    if low < from {
        values.copy_within(from..from + high, low);
        counts.copy_within(from..from + high, low);
    }
    low + high
}

fn split_at((values, counts): Slices<'_>, run: usize) -> (Slices<'_>, Slices<'_>) {
    let (values, counts) = (values.split_at(run), counts.split_at(run));
    ((values.0, counts.0), (values.1, counts.1))
}

/// Two samples on their way to their union.
struct Merging<'a> {
    sources: [Slices<'a>; 2],
    at: [usize; 2],
    /// How many runs the union has so far.
    runs: usize,
}

impl Merging<'_> {
    #[inline(always)]
    fn has_both(&self) -> bool {
        let [a, b] = self.sources;
        self.at[0] < a.0.len() && self.at[1] < b.0.len()
    }

    /// Takes the lower value, or both where they are equal; there is one of each.
    #[inline(always)]
    fn step(&mut self, values: &mut [f64], counts: &mut [u64]) {
        let ([a, b], [i, j]) = (self.sources, self.at);
        // All loads first, and no branch behind them: which value is lower is a coin toss.
        let ((x, y), (of_x, of_y)) = ((a.0[i], b.0[j]), (a.1[i], b.1[j]));
        let (first, second) = (x <= y, y <= x);
        values[self.runs] = if x < y { x } else { y };
        counts[self.runs] = of_x * u64::from(first) + of_y * u64::from(second);
        self.at = [i + usize::from(first), j + usize::from(second)];
        self.runs += 1;
    }

    /// Takes all that is left, and returns how many runs there are.
    fn finish(mut self, values: &mut [f64], counts: &mut [u64]) -> usize {
        while self.has_both() {
            self.step(values, counts);
        }
        for ((left_values, left_counts), at) in self.sources.into_iter().zip(self.at) {
            let end = self.runs + left_values.len() - at;
            values[self.runs..end].copy_from_slice(&left_values[at..]);
            counts[self.runs..end].copy_from_slice(&left_counts[at..]);
            self.runs = end;
        }
        self.runs
    }
}

/// The bits of a float as an integer of the same order.
#[inline]
pub(super) fn ordered(bits: u64) -> i64 {
    flipped(bits as i64)
}

/// The bits of the float whose [`ordered`] integer this is.
#[inline]
pub(super) fn unordered(key: i64) -> u64 {
    flipped(key) as u64
}

fn flipped(bits: i64) -> i64 {
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

    /// Against sorting and counting, seeded; the room is that of the union before.
    #[test]
    fn unions_are_what_sorting_and_counting_gives() {
        let mut state = 1u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 33) % bound
        };
        let mut space = MergeSpace::default();
        for case in 0..150 {
            let (samples, distinct) = (next(9), [2, 40, 100_000][case % 3]);
            let mut parts = Vec::new();
            for _ in 0..samples {
                let (size, shift) = (next([3, 70, 900][case / 3 % 3]), next(distinct) as f64);
                let values = (0..size).map(|_| next(distinct) as f64 / 3.0 - shift);
                let mut values: Vec<f64> = values.collect();
                values.extend([f64::INFINITY, -0.0, f64::NEG_INFINITY].iter().take(case % 4));
                parts.push(values);
            }
            let mut sorted: Vec<f64> = parts.concat().iter().map(|value| value + 0.0).collect();
            sorted.sort_by(f64::total_cmp);
            let naive: Vec<(f64, u64)> = sorted
                .chunk_by(|a, b| a == b)
                .map(|equal| (equal[0], equal.len() as u64))
                .collect();
            let runs: Vec<Runs> = parts.into_iter().map(Runs::from_values).collect();
            let found = space.merge(&runs.iter().collect::<Vec<_>>());
            assert_eq!(found.pairs().collect::<Vec<_>>(), naive, "case {case}");
            assert_eq!(found.counts.len(), found.values.len());
            space.reuse(Sample::Exact(found));
        }
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
