//! Which cell of a profile a value is in, for many values at once.
//!
//! A search among 257 edges takes nine steps, each of which waits for the one before. Here a table says
//! which edges are before the stretch of the number line that a value lies in, and a few steps are left:
//! as many as the stretch with the most edges takes. None of them is a branch, and several values are looked
//! for at a time, so that they need not wait for each other.

use std::fmt;

/// Stretches of the table for each edge: most of those between quantiles then hold one or two.
const STRETCHES_PER_EDGE: usize = 4;
const STRETCHES_MAX: usize = 1_024;

/// Values that are looked for at a time.
const LANES: usize = 4;

/// A table over the edges of a profile.
///
/// The stretch of a value is (value − origin)·scale, cut off: that rises with the value however it is
/// rounded. So an edge of a lower stretch is below the value, one of a higher stretch above it, and only
/// those of the same one are to be compared. Where the edges have no table (some are infinite, or too far
/// apart for a float) all are of one stretch.
#[derive(Clone, PartialEq)]
pub struct Cells {
    /// Ascending, and behind them as many NaN as a search may come to: no value is above or at one.
    padded: Vec<f64>,
    edges: usize,
    origin: f64,
    scale: f64,
    /// By stretch, how many edges are of lower ones.
    before: Vec<u32>,
    /// No stretch has 2^`steps` edges.
    steps: u32,
}

impl Cells {
    /// `edges` are ascending.
    pub fn new(edges: &[f64]) -> Self {
        let stretches = (edges.len() * STRETCHES_PER_EDGE).clamp(1, STRETCHES_MAX);
        let origin = edges.first().copied().unwrap_or(0.0);
        let span = edges.last().copied().unwrap_or(0.0) - origin;
        let scale = if span > 0.0 { stretches as f64 / span } else { 0.0 };
        let mut cells = Cells {
            padded: edges.to_vec(),
            edges: edges.len(),
            origin,
            scale: if scale.is_finite() { scale } else { 0.0 },
            before: vec![0; stretches],
            steps: 0,
        };
        let mut in_stretch = vec![0u32; stretches];
        edges.iter().for_each(|&edge| in_stretch[cells.stretch(edge)] += 1);
        let before = in_stretch.iter().scan(0, |before, edges| {
            *before += edges;
            Some(*before - edges)
        });
        cells.before = before.collect();
        let most = in_stretch.iter().max().copied().unwrap_or(0);
        cells.steps = u32::BITS - most.leading_zeros();
        cells.padded.resize(edges.len() + (1 << cells.steps), f64::NAN);
        cells
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        2 * self.edges + 1
    }

    #[inline]
    fn stretch(&self, value: f64) -> usize {
        // What is below the first edge becomes 0, as does NaN: infinity times 0.
        (((value - self.origin) * self.scale) as u32 as usize).min(self.before.len() - 1)
    }

    /// Calls `found` with the cell of each value, in order; values are not NaN.
    #[inline]
    pub fn each(&self, values: &[f64], mut found: impl FnMut(usize)) {
        let mut lanes = values.chunks_exact(LANES);
        for values in &mut lanes {
            let values: &[f64; LANES] = values.try_into().expect("as many as lanes");
            self.search(values).into_iter().for_each(&mut found);
        }
        lanes.remainder().iter().for_each(|&value| found(self.search(&[value])[0]));
    }

    #[inline]
    fn search<const N: usize>(&self, values: &[f64; N]) -> [usize; N] {
        let mut below = values.map(|value| self.before[self.stretch(value)] as usize);
        for step in (0..self.steps).rev() {
            for (below, &value) in below.iter_mut().zip(values) {
                let is_above = self.padded[*below + (1 << step) - 1] < value;
                *below += usize::from(is_above) << step;
            }
        }
        let mut cells = below;
        for (cell, &value) in cells.iter_mut().zip(values) {
            *cell = 2 * *cell + usize::from(self.padded[*cell] == value);
        }
        cells
    }
}

/// It follows from the edges.
impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cells").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(edges: &[f64], value: f64) -> usize {
        let below = edges.iter().filter(|&&edge| edge < value).count();
        2 * below + usize::from(edges.contains(&value))
    }

    /// Against counting, seeded: edges even and skewed, few and many, and far apart.
    #[test]
    fn cells_are_what_counting_gives() {
        const INF: f64 = f64::INFINITY;
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for case in 0..80 {
            let count = [0, 1, 2, 5, 31, 257, 1_500][case % 7];
            let mut edges: Vec<f64> = (0..count)
                .map(|_| match case % 5 {
                    0 => uniform() * 8.0 - 4.0,
                    1 => (uniform() * 12.0 - 6.0).exp(),
                    2 => (uniform() * 40.0).floor() - 20.0,
                    3 => (uniform() - 0.5) * 1.7e308 * 2.0,
                    _ => 1.0 + uniform() * 1e-13,
                })
                .collect();
            if case % 4 == 3 {
                edges.extend([-INF, INF, 0.0]);
            }
            edges.sort_by(f64::total_cmp);
            edges.dedup();
            let mut values = vec![0.0, -0.0, INF, -INF, f64::MAX, f64::MIN, 5e-324, 1.0];
            for &edge in &edges {
                values.extend([edge, edge.next_up(), edge.next_down(), edge * 0.999]);
            }
            values.extend((0..500).map(|_| uniform() * 10.0 - 5.0));
            values.retain(|value| !value.is_nan());
            let cells = Cells::new(&edges);
            let mut found = Vec::new();
            cells.each(&values, |cell| found.push(cell));
            let expected: Vec<usize> = values.iter().map(|&value| naive(&edges, value)).collect();
            assert_eq!(found, expected, "case {case}");
            assert!(found.iter().all(|&cell| cell < cells.len()));
        }
    }

    #[test]
    fn quantiles_take_few_steps() {
        let even: Vec<f64> = (0..257).map(f64::from).collect();
        assert_eq!(Cells::new(&even).steps, 1);
        let skewed: Vec<f64> = (0..257).map(|k| (f64::from(k) / 64.0).exp()).collect();
        assert!(Cells::new(&skewed).steps <= 5);
    }
}
