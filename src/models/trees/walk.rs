//! Walking trees: which leaves rows come to, and what they sum up to.

use std::ops::Range;

use super::link::{Columns, Link};

/// Trees that are walked at a time: enough that one waits for memory while others go on.
pub const LANES: usize = 8;
/// Rows for which the trees of a group are walked before it is the next group's turn.
const BLOCK_ROWS: usize = 64;
/// Steps after which it is looked whether all trees have come to a leaf.
const STRIDE: u32 = 4;

/// A node: the next is `skip` further on, or the one after that if the row's value in `column` is
/// above the threshold. A leaf goes on to itself, and has its weight for a threshold, or its position
/// among the leaves where these have several.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Step {
    pub threshold: f32,
    pub column: u16,
    pub skip: u16,
}

/// Trees that are walked together, and the depth of the deepest.
pub struct Group {
    pub roots: [u32; LANES],
    pub trees: usize,
    pub depth: u32,
}

/// What leaves add.
pub enum Leaves {
    /// One weight each, to the only sum.
    Single,
    /// Any number of weights, `weights[starts[leaf]..starts[leaf + 1]]`.
    Several { starts: Vec<u32>, weights: Vec<(u32, f32)> },
}

impl Leaves {
    pub fn several() -> Self {
        Leaves::Several { starts: vec![0], weights: Vec::new() }
    }

    /// Adds a leaf; the threshold of its step.
    ///
    /// # Errors
    /// If it adds to a sum that there is not.
    pub fn add(&mut self, added: &[(usize, f32)], sums: usize) -> Result<f32, String> {
        if let Some((sum, _)) = added.iter().find(|(sum, _)| *sum >= sums) {
            return Err(format!("a leaf adds to output {sum} of {sums}"));
        }
        match self {
            Leaves::Single => Ok(added.first().map_or(0.0, |(_, weight)| *weight)),
            Leaves::Several { starts, weights } => {
                weights.extend(added.iter().map(|&(sum, weight)| (sum as u32, weight)));
                starts.push(weights.len() as u32);
                Ok(f32::from_bits(starts.len() as u32 - 2))
            }
        }
    }
}

/// An ensemble, ready to be walked.
pub struct CompiledTrees {
    pub(super) features: usize,
    pub(super) has_nan_low: bool,
    pub(super) has_nan_alone: bool,
    /// Columns of a row as it is walked: the features with NaN as infinity; where a branch sends NaN
    /// low, once more with NaN as minus infinity; where one parts NaN from all numbers, once more with
    /// NaN as infinity and numbers as minus infinity; minus infinity.
    pub(super) stride: usize,
    pub(super) groups: Vec<Group>,
    pub(super) steps: Vec<Step>,
    pub(super) leaves: Leaves,
    pub(super) sums: usize,
    pub(super) divide_by: Option<f32>,
    pub(super) base: Vec<f32>,
    pub(super) link: Link,
    pub(super) columns: Columns,
    /// `[rows, stride]` of a block; kept for its memory, as are the sums.
    pub(super) rows: Vec<f32>,
    pub(super) totals: Vec<f32>,
}

impl CompiledTrees {
    /// The columns of a prediction.
    pub fn width(&self) -> usize {
        self.columns.count(self.sums)
    }

    /// Trees and nodes.
    pub fn size(&self) -> (usize, usize) {
        (self.groups.iter().map(|group| group.trees).sum(), self.steps.len())
    }

    /// The predictions of rows, `[rows, features]` to `[rows, width]`.
    pub fn score(&mut self, features: &[f32]) -> Vec<f32> {
        let width = self.features.max(1);
        self.score_by_feature(features.len() / width, |rows, block| {
            let cells = &features[rows.start * width..rows.end * width];
            for feature in 0..width.min(cells.len()) {
                block.set(feature, cells[feature..].iter().step_by(width).copied());
            }
        })
    }

    /// The predictions of `count` rows, `[rows, width]`. `fill` sets every feature of some of them.
    pub fn score_by_feature(
        &mut self,
        count: usize,
        mut fill: impl FnMut(Range<usize>, &mut Block),
    ) -> Vec<f32> {
        let mut answer = Vec::with_capacity(count * self.width());
        for first in (0..count).step_by(BLOCK_ROWS) {
            let rows = first..count.min(first + BLOCK_ROWS);
            self.totals.clear();
            self.totals.resize(rows.len() * self.sums, 0.0);
            self.rows.resize(rows.len() * self.stride, 0.0);
            fill(rows, &mut self.block());
            self.sum_up();
            for sums in self.totals.chunks_exact_mut(self.sums) {
                if let Some(trees) = self.divide_by {
                    sums.iter_mut().for_each(|sum| *sum /= trees);
                }
                sums.iter_mut().zip(&self.base).for_each(|(sum, base)| *sum += base);
                self.columns.write(self.link, sums, &mut answer);
            }
        }
        answer
    }

    /// The rows of a block, of which nothing is set but where leaves look.
    fn block(&mut self) -> Block<'_> {
        for row in self.rows.chunks_exact_mut(self.stride) {
            row[self.stride - 1] = f32::NEG_INFINITY;
        }
        let low = self.has_nan_low.then_some(self.features);
        let alone = self.features * (1 + usize::from(self.has_nan_low));
        Block {
            rows: &mut self.rows,
            stride: self.stride,
            low,
            alone: self.has_nan_alone.then_some(alone),
        }
    }

    /// Sums up the leaves that the rows of the block come to, in the order of the trees.
    fn sum_up(&mut self) {
        let rows = self.rows.chunks_exact(self.stride);
        match &self.leaves {
            Leaves::Single => {
                for group in &self.groups {
                    for (row, total) in rows.clone().zip(&mut self.totals) {
                        for leaf in &walk(&self.steps, group, row)[..group.trees] {
                            *total += leaf;
                        }
                    }
                }
            }
            Leaves::Several { starts, weights } => {
                for group in &self.groups {
                    for (row, totals) in rows.clone().zip(self.totals.chunks_exact_mut(self.sums)) {
                        for leaf in &walk(&self.steps, group, row)[..group.trees] {
                            let leaf = leaf.to_bits() as usize;
                            let of_leaf = starts[leaf] as usize..starts[leaf + 1] as usize;
                            for &(sum, weight) in &weights[of_leaf] {
                                totals[sum as usize] += weight;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Rows as they are walked, to be filled feature by feature.
pub struct Block<'a> {
    rows: &'a mut [f32],
    stride: usize,
    /// Where the columns begin in which NaN goes low, and those that tell it from all numbers.
    low: Option<usize>,
    alone: Option<usize>,
}

impl Block<'_> {
    /// The values of a feature, one for each row.
    #[inline]
    pub fn set(&mut self, feature: usize, values: impl Iterator<Item = f32>) {
        let Block { stride, low, alone, .. } = *self;
        for (row, value) in self.rows.chunks_exact_mut(stride).zip(values) {
            let is_nan = value.is_nan();
            row[feature] = if is_nan { f32::INFINITY } else { value };
            if let Some(low) = low {
                row[low + feature] = if is_nan { f32::NEG_INFINITY } else { value };
            }
            if let Some(alone) = alone {
                row[alone + feature] = if is_nan { f32::INFINITY } else { f32::NEG_INFINITY };
            }
        }
    }

    /// The feature of one row has no value.
    pub fn set_nan(&mut self, row: usize, feature: usize) {
        let Block { rows, stride, low, alone } = self;
        let of_row = &mut rows[row * *stride..][..*stride];
        Block { rows: of_row, stride: *stride, low: *low, alone: *alone }
            .set(feature, std::iter::once(f32::NAN));
    }
}

/// The thresholds of the leaves that a row comes to in the trees of a group.
#[inline]
fn walk(steps: &[Step], group: &Group, row: &[f32]) -> [f32; LANES] {
    // Checking both bounds in each step would take as long as the step.
    let mut at = group.roots;
    let mut left = group.depth;
    while left > 0 {
        let before = at;
        for _ in 0..left.min(STRIDE) {
            for at in &mut at {
                // SAFETY: where a step leads is among the steps, and its column is below the stride of
                // rows: `CompiledTrees::new` places both children of every branch, and refuses a
                // feature that there is not.
                let (step, value) = unsafe {
                    let step = *steps.get_unchecked(*at as usize);
                    (step, *row.get_unchecked(usize::from(step.column)))
                };
                *at += u32::from(step.skip) + u32::from(value > step.threshold);
            }
        }
        left = left.saturating_sub(STRIDE);
        if at == before {
            break;
        }
    }
    at.map(|at| steps[at as usize].threshold)
}
