//! Walking trees: which leaves rows come to, and what they sum up to.

/// Trees that are walked at a time: enough that one waits for memory while others go on.
pub const LANES: usize = 8;
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
#[derive(Clone)]
pub struct Group {
    pub roots: [u32; LANES],
    pub trees: usize,
    pub depth: u32,
}

/// What leaves add.
#[derive(Clone)]
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

/// Every tree of an ensemble, for one row at a time.
#[derive(Clone)]
pub(super) struct Walker {
    pub groups: Vec<Group>,
    pub steps: Vec<Step>,
    pub leaves: Leaves,
}

impl Walker {
    /// Adds the leaves that rows come to, in the order of the trees. `cells` has a row of `columns` after
    /// the other, `totals` as many rows of `sums`.
    pub fn sum_up(&self, cells: &[f32], columns: usize, totals: &mut [f32], sums: usize) {
        let rows = cells.chunks_exact(columns);
        match &self.leaves {
            Leaves::Single => {
                for group in &self.groups {
                    for (row, total) in rows.clone().zip(&mut *totals) {
                        for leaf in &walk(&self.steps, group, row)[..group.trees] {
                            *total += leaf;
                        }
                    }
                }
            }
            Leaves::Several { starts, weights } => {
                for group in &self.groups {
                    for (row, totals) in rows.clone().zip(totals.chunks_exact_mut(sums)) {
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
