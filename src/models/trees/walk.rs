//! Walking trees: which leaves rows come to, and what they sum up to.

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
        let count = features.len() / self.features.max(1);
        let mut answer = Vec::with_capacity(count * self.width());
        for block in features.chunks(BLOCK_ROWS * self.features.max(1)) {
            self.load(block);
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

    /// Takes over the rows of a block.
    fn load(&mut self, block: &[f32]) {
        self.rows.clear();
        for row in block.chunks_exact(self.features) {
            let or =
                |nan: f32| row.iter().map(move |&value| if value.is_nan() { nan } else { value });
            self.rows.extend(or(f32::INFINITY));
            if self.has_nan_low {
                self.rows.extend(or(f32::NEG_INFINITY));
            }
            if self.has_nan_alone {
                let is_nan = row.iter().map(|value| value.is_nan());
                self.rows
                    .extend(is_nan.map(|nan| if nan { f32::INFINITY } else { f32::NEG_INFINITY }));
            }
            self.rows.push(f32::NEG_INFINITY);
        }
        self.totals.clear();
        self.totals.resize(block.len() / self.features * self.sums, 0.0);
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
