//! Profile mode: a sample as counts per bin of the reference, in bounded memory.
//!
//! # Bins
//! The edges are values of the reference: all distinct ones where they are at most `bins` + 1, else
//! the smallest, the largest and the quantiles between, so that a value as frequent as a bin is
//! always an edge. Every edge is a cell of its own, and so is every open interval beside one: k edges
//! make 2k + 1 cells, and both distribution functions are known exactly at every edge and just below
//! it.
//!
//! # The statistic and its error
//! Let F be the distribution function of the sample and G the reference's, and let x lie strictly
//! between the neighbouring edges a < b. Both only rise, so F(a) ≤ F(x) ≤ F(b−) and
//! G(a) ≤ G(x) ≤ G(b−), and
//!
//! ```text
//! F(x) − G(x) ≤ F(b−) − G(a)        G(x) − F(x) ≤ G(b−) − F(a)
//! ```
//!
//! The largest distance at the points a and b− is thus a lower bound of D, and the largest of these
//! right-hand sides (and of the distances at the points) an upper one. Below the first edge and above
//! the last, and between edges where only one of the samples has values, both bounds agree. The
//! difference is `ks_error_bound`. Since F(b−) − G(a) = F(b−) − G(b−) + (G(b−) − G(a)), and likewise
//! for the other side, it is at most the reference's largest share strictly between two edges: below
//! 1/`bins`, and 0 where every distinct value of the reference is an edge.

use crate::drift::cells::Cells;
use crate::drift::limits::{Limits, Outliers};
use crate::drift::runs::{Moments, Runs};
use crate::numeric::{ExactSum, ExponentSums, KsDistance, KsStatistic, squares_around};

/// The cells that a reference's values are counted in.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    /// Values of the reference, ascending.
    edges: Vec<f64>,
    /// How many of its values are below each edge, and how many at most at it.
    below: Vec<u64>,
    up_to: Vec<u64>,
    size: u64,
    limits: Limits,
    /// Of many values.
    cells: Cells,
}

/// A sample as counts by cell; samples of one column merge by adding up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// By cell: 2i is below edge i, 2i + 1 is edge i itself. Cells behind the last one that has
    /// values are left out.
    pub counts: Vec<u64>,
    /// Of finite values.
    pub sum: ExactSum,
    pub squares: ExactSum,
    /// Values further than three deviations from the reference's mean.
    pub beyond_3: u64,
    /// Values out of the reference's range.
    pub out_of_range: u64,
    /// Infinite values.
    pub infinite: u64,
    /// The least and the greatest finite value; `None` without any.
    pub extremes: Option<(f64, f64)>,
}

/// Bounds of the distance of a sample from the reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DistanceBounds {
    /// Over the points where both are known; at most the distance.
    pub least: KsStatistic,
    /// At least the distance.
    pub most: KsStatistic,
}

impl Bins {
    /// Up to `bins` open intervals between values of the reference, each with less than 1/`bins` of
    /// it.
    pub fn new(reference: &Runs, bins: usize) -> Self {
        Self::with_moments(reference, &reference.moments(), bins)
    }

    /// As [`new`](Self::new), of a reference whose moments are known.
    pub fn with_moments(reference: &Runs, moments: &Moments, bins: usize) -> Self {
        let cumulative: Vec<u64> = reference
            .counts
            .iter()
            .scan(0, |total, count| {
                *total += count;
                Some(*total)
            })
            .collect();
        let size = cumulative.last().copied().unwrap_or(0);
        let mut chosen: Vec<usize> = if reference.values.len() <= bins + 1 {
            (0..reference.values.len()).collect()
        } else {
            let rank = |k: usize| (u128::from(size) * k as u128).div_ceil(bins as u128).max(1);
            let run = |rank: u128| cumulative.partition_point(|&upto| u128::from(upto) < rank);
            (0..=bins).map(|k| run(rank(k))).collect()
        };
        chosen.dedup();
        let edges: Vec<f64> = chosen.iter().map(|&run| reference.values[run]).collect();
        Bins {
            cells: Cells::new(&edges),
            edges,
            below: chosen.iter().map(|&run| cumulative[run] - reference.counts[run]).collect(),
            up_to: chosen.iter().map(|&run| cumulative[run]).collect(),
            size,
            limits: Limits::of(reference, moments),
        }
    }

    pub fn edges(&self) -> &[f64] {
        &self.edges
    }

    fn cell(&self, value: f64) -> usize {
        let edge = self.edges.partition_point(|&edge| edge < value);
        2 * edge + usize::from(self.edges.get(edge) == Some(&value))
    }

    /// Bounds of the distance of what `counts` counts, by cell; `None` if it or the reference is
    /// empty, or if the product of their sizes reaches 2⁶⁴.
    pub fn distance(&self, counts: &[u64]) -> Option<DistanceBounds> {
        let count = |cell: usize| counts.get(cell).copied().unwrap_or(0);
        let mut least = KsDistance::new(counts.iter().sum(), self.size)?;
        let mut most = least;
        // F and G at the edge before: `a` of the derivation above.
        let (mut seen, mut reference) = (0, 0);
        for (edge, (&below, &up_to)) in self.below.iter().zip(&self.up_to).enumerate() {
            let seen_below = seen + count(2 * edge);
            most.compare(seen_below, reference);
            most.compare(seen, below);
            let seen_up_to = seen_below + count(2 * edge + 1);
            for distance in [&mut least, &mut most] {
                distance.compare(seen_below, below);
                distance.compare(seen_up_to, up_to);
            }
            (seen, reference) = (seen_up_to, up_to);
        }
        Some(DistanceBounds { least: least.finish(), most: most.finish() })
    }
}

impl Profile {
    /// Counts a value that is not NaN.
    #[inline]
    pub fn add(&mut self, bins: &Bins, value: f64) {
        self.count(bins.cell(value), 1);
        self.beyond_3 += u64::from(bins.limits.is_beyond_3(value));
        self.out_of_range += u64::from(bins.limits.is_out_of_range(value));
        if value.is_infinite() {
            self.infinite += 1;
            return;
        }
        self.sum.add(value);
        self.squares.add_product(value, value);
        self.extend((value + 0.0, value + 0.0));
    }

    /// Counts finite values, as [`add`](Self::add) would one by one; [`trim`](Self::trim) is left to do.
    pub fn add_finite(&mut self, bins: &Bins, values: &[f64], sums: &mut ExponentSums) {
        let Bins { cells, limits, .. } = bins;
        self.counts.resize(cells.len().max(self.counts.len()), 0);
        cells.each(values, |cell| self.counts[cell] += 1);
        sums.add(values, &mut self.sum, &mut self.squares);
        let Some(Outliers { beyond_3, out_of_range, extremes }) = limits.outliers(values) else {
            return;
        };
        self.beyond_3 += beyond_3;
        self.out_of_range += out_of_range;
        self.extend(extremes);
    }

    /// Leaves out the cells behind the last one that has values.
    pub fn trim(&mut self) {
        let used = self.counts.iter().rposition(|&values| values > 0).map_or(0, |last| last + 1);
        self.counts.truncate(used);
    }

    #[inline]
    fn extend(&mut self, (least, greatest): (f64, f64)) {
        let (low, high) = self.extremes.unwrap_or((least, greatest));
        self.extremes = Some((low.min(least), high.max(greatest)));
    }

    pub fn count(&mut self, cell: usize, values: u64) {
        if self.counts.len() <= cell {
            self.counts.resize(cell + 1, 0);
        }
        self.counts[cell] += values;
    }

    pub fn merge(&mut self, other: &Profile) {
        for (cell, &values) in other.counts.iter().enumerate().filter(|(_, values)| **values > 0) {
            self.count(cell, values);
        }
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.beyond_3 += other.beyond_3;
        self.out_of_range += other.out_of_range;
        self.infinite += other.infinite;
        other.extremes.into_iter().for_each(|extremes| self.extend(extremes));
    }

    /// Counts; mean and deviation of finite values. The mean has the same bits as that of the values; the deviation
    /// is the root of Σ(x − c)² / (n − 1), where c is the mean as it is rounded and the sum is exact
    /// but for one rounding, while values are between 1e-146 and 1e154 in magnitude. It is infinite
    /// where a square is.
    pub fn moments(&self) -> Moments {
        let all: u64 = self.counts.iter().sum();
        let (infinite, n) = (self.infinite, all - self.infinite);
        if let Some((least, greatest)) = self.extremes
            && least == greatest
        {
            return Moments::of_equal(least, n, infinite);
        }
        let mean = (n > 0).then(|| self.sum.value() / n as f64);
        let std = mean.filter(|_| n > 1).map(|mean| {
            (squares_around(mean, n as f64, &self.sum, &self.squares) / (n - 1) as f64).sqrt()
        });
        Moments { n: all, infinite, mean, std }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(bins: &Bins, values: &[f64]) -> Profile {
        let mut profile = Profile::default();
        values.iter().for_each(|&value| profile.add(bins, value));
        profile
    }

    fn runs(values: impl IntoIterator<Item = i32>) -> Runs {
        Runs::from_values(values.into_iter().map(f64::from).collect())
    }

    #[test]
    fn every_distinct_value_is_an_edge_where_they_are_few() {
        let bins = Bins::new(&runs([5, 1, 5, 5, 9]), 4);
        assert_eq!(bins.edges, [1.0, 5.0, 9.0]);
        assert_eq!(
            (bins.below.as_slice(), bins.up_to.as_slice()),
            (&[0, 1, 4][..], &[1, 4, 5][..])
        );
        assert_eq!(
            [0.0, 1.0, 2.0, 5.0, 7.0, 9.0, 10.0].map(|v| bins.cell(v)),
            [0, 1, 2, 3, 4, 5, 6]
        );
    }

    #[test]
    fn between_edges_lies_less_than_a_bin() {
        for (distinct, heavy, bins) in [(1_000, 0, 7), (1_000, 900, 10), (500, 100_000, 256)] {
            let values = (0..distinct).chain(std::iter::repeat_n(distinct / 2, heavy));
            let reference = runs(values);
            let made = Bins::new(&reference, bins);
            assert!(made.edges.len() <= bins + 1);
            assert_eq!(made.edges.first(), reference.values.first());
            assert_eq!(made.edges.last(), reference.values.last());
            for edge in 1..made.edges.len() {
                let between = made.below[edge] - made.up_to[edge - 1];
                assert!(between * (bins as u64) < made.size, "{distinct} {heavy} {bins}");
            }
            if heavy > 0 {
                assert!(made.edges.contains(&f64::from(distinct / 2)));
            }
        }
    }

    #[test]
    fn the_bounds_are_those_derived() {
        // Edges 0, 4 and 8; the reference has a fifth of its values at each of 0, 2, 4, 6, 8.
        let bins = Bins::new(&runs([0, 2, 4, 6, 8]), 2);
        assert_eq!(bins.edges, [0.0, 4.0, 8.0]);
        // All of the sample between 0 and 4, where the reference has a fifth.
        let bounds = bins.distance(&profile(&bins, &[1.0; 10]).counts).unwrap();
        assert_eq!((bounds.least.h, bounds.least.d), (6, 1.0 - 2.0 / 5.0));
        assert_eq!((bounds.most.h, bounds.most.d), (8, 1.0 - 1.0 / 5.0));
        // And between 4 and 8, where the reference is ahead.
        let bounds = bins.distance(&profile(&bins, &[7.0; 10]).counts).unwrap();
        assert_eq!((bounds.least.h, bounds.least.d), (6, 3.0 / 5.0));
        assert_eq!((bounds.most.h, bounds.most.d), (8, 4.0 / 5.0));
        // On the edges there is nothing unknown.
        let bounds = bins.distance(&profile(&bins, &[4.0, 8.0]).counts).unwrap();
        assert_eq!(bounds.least, bounds.most);
        assert!(bins.distance(&[]).is_none());
        assert!(Bins::new(&Runs::default(), 2).distance(&[1]).is_none());
    }

    #[test]
    fn moments_are_those_of_the_values() {
        let bins = Bins::new(&runs(0..100), 4);
        for offset in [0.0, -3.25, 1e9, 1e15] {
            let values: Vec<f64> =
                (0..1_000).map(|i| offset + f64::from(i * 7_919 % 83) * 0.25).collect();
            let (found, exact) =
                (profile(&bins, &values).moments(), Runs::from_values(values).moments());
            assert_eq!((found.n, found.mean), (exact.n, exact.mean));
            let (found, exact) = (found.std.unwrap(), exact.std.unwrap());
            assert!((found / exact - 1.0).abs() < 1e-13, "{offset}: {found} {exact}");
        }
        let few = |values: &[f64]| profile(&bins, values).moments();
        let moments = |n, mean, std| Moments { n, infinite: 0, mean, std };
        assert_eq!(few(&[]), moments(0, None, None));
        assert_eq!(few(&[0.1]), moments(1, Some(0.1), None));
        assert_eq!(few(&[0.5; 3]).std, Some(0.0));
        assert_eq!(few(&[0.1; 3]), moments(3, Some(0.1), Some(0.0)));
        for infinite in [f64::INFINITY, f64::NEG_INFINITY] {
            let moments = |n, mean, std| Moments { n, infinite: 1, mean, std };
            assert_eq!(few(&[infinite]), moments(1, None, None));
            assert_eq!(few(&[0.1, infinite]), moments(2, Some(0.1), None));
            assert_eq!(few(&[0.1, 0.1, infinite]), moments(3, Some(0.1), Some(0.0)));
            assert_eq!(few(&[1.0, infinite, 3.0]), moments(3, Some(2.0), Some(2f64.sqrt())));
        }
        assert_eq!(few(&[-0.0, 0.0]).std, Some(0.0));
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let bins = Bins::new(&runs(0..100), 4);
        let mut values: Vec<f64> = (0..90).map(|i| f64::from(i * 37 % 90) * 5.0 - 150.0).collect();
        (values[3], values[80]) = (f64::INFINITY, f64::NEG_INFINITY);
        let whole = profile(&bins, &values);
        assert!(whole.beyond_3 > 0 && whole.beyond_3 < whole.out_of_range);
        assert!(whole.out_of_range < 90 && whole.infinite == 2);
        for parts in [1, 2, 7] {
            let mut merged = Profile::default();
            values.chunks(90_usize.div_ceil(parts)).for_each(|p| merged.merge(&profile(&bins, p)));
            assert_eq!(merged, whole, "{parts}");
        }
    }

    #[test]
    fn moments_of_huge_and_tiny_values_are_those_of_the_values() {
        let bins = Bins::new(&runs(0..100), 4);
        for exponent in (-145..=307).step_by(4) {
            let scale = 10f64.powi(exponent);
            for values in [vec![1.0, 3.0], vec![1.0, 1.1, 1.3], vec![-1.5, 0.25, 1.25, 9.0 / 7.0]] {
                let values: Vec<f64> = values.into_iter().map(|value| value * scale).collect();
                let found = profile(&bins, &values).moments();
                let exact = Runs::from_values(values).moments();
                assert_eq!(found.mean, exact.mean, "{scale:e}");
                let (found, exact) = (found.std.unwrap(), exact.std.unwrap());
                let same = found == exact || (found / exact - 1.0).abs() < 1e-13;
                assert!(
                    same || exponent >= 154 && found.is_infinite(),
                    "{scale:e}: {found:e} {exact:e}"
                );
            }
        }
        let tiny = profile(&bins, &[1e-170, 2e-170, 4e-170]).moments();
        assert!(tiny.std.is_some_and(|std| std >= 0.0), "{tiny:?}");
    }
}
