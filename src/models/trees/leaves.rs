//! What leaves add to the sums of a row.

use super::block::ROOM;
use super::{Ensemble, Node};

/// The weights of all leaves. A leaf is known by one number, which is its weight itself where that is
/// all that it adds.
#[derive(Clone)]
pub(super) enum Leaves {
    /// One weight, to the sum of the leaf's tree.
    OfTree { sums: Vec<u32> },
    /// A weight for each sum; the number's bits are the position of the first. A sum is never -0, so that
    /// adding 0 changes nothing.
    Dense { sums: usize, weights: Vec<f32> },
    /// `weights[starts[leaf]..starts[leaf + 1]]`, in this order; the number's bits are the leaf.
    Sparse { starts: Vec<u32>, weights: Vec<(u32, f32)> },
}

/// The sums of a block's rows: where leaves have one weight the first sum of all rows before the second,
/// else one row after the other.
#[derive(Clone, Default)]
pub(super) struct Totals {
    cells: Vec<f32>,
    sums: usize,
}

impl Totals {
    pub fn clear(&mut self, sums: usize) {
        self.sums = sums;
        self.cells.clear();
        self.cells.resize(sums * ROOM, 0.0);
    }
}

impl Leaves {
    /// Without leaves, in the form that those of an ensemble need.
    ///
    /// # Errors
    /// If a leaf adds to a sum that there is not.
    pub fn new(ensemble: &Ensemble) -> Result<Self, String> {
        let sums = ensemble.sums;
        if sums == 0 {
            return Err("it has no sums".to_owned());
        }
        let mut of_tree = Some(Vec::new());
        let (mut is_dense, mut added, mut leaves) = (true, 0, 0);
        for tree in &ensemble.trees {
            let weights = || {
                tree.nodes.iter().filter_map(|node| match node {
                    Node::Leaf(weights) => Some(weights),
                    Node::Branch(_) => None,
                })
            };
            let sum = weights().flatten().next().map_or(0, |(sum, _)| *sum);
            if !weights().all(|weights| matches!(weights[..], [(own, _)] if own == sum)) {
                of_tree = None;
            }
            of_tree.iter_mut().for_each(|of_tree| of_tree.push(sum as u32));
            for weights in weights() {
                if let Some((sum, _)) = weights.iter().find(|(sum, _)| *sum >= sums) {
                    return Err(format!("a leaf adds to output {sum} of {sums}"));
                }
                is_dense &= weights.is_sorted_by(|a, b| a.0 < b.0);
                added += weights.len();
                leaves += 1;
            }
        }
        Ok(match of_tree {
            Some(sums) => Leaves::OfTree { sums },
            None if is_dense && 2 * added >= sums * leaves => {
                Leaves::Dense { sums, weights: Vec::new() }
            }
            None => Leaves::Sparse { starts: vec![0], weights: Vec::new() },
        })
    }

    /// Adds a leaf of the ensemble; the number that it is known by.
    pub fn add(&mut self, added: &[(usize, f32)]) -> Result<f32, String> {
        let position = match self {
            Leaves::OfTree { .. } => return Ok(added.first().map_or(0.0, |(_, weight)| *weight)),
            Leaves::Dense { sums, weights } => {
                let first = weights.len();
                weights.resize(first + *sums, 0.0);
                added.iter().for_each(|(sum, weight)| weights[first + sum] = *weight);
                first
            }
            Leaves::Sparse { starts, weights } => {
                weights.extend(added.iter().map(|&(sum, weight)| (sum as u32, weight)));
                starts.push(weights.len() as u32);
                starts.len() - 2
            }
        };
        let position = u32::try_from(position).map_err(|_| "it has too many leaves".to_owned())?;
        Ok(f32::from_bits(position))
    }

    /// Adds the leaves that one row comes to in trees from `first` on, in their order.
    #[inline]
    pub fn add_trees(&self, totals: &mut Totals, row: usize, first: usize, leaves: &[f32]) {
        match self {
            Leaves::OfTree { .. } if totals.sums == 1 => {
                let total = &mut totals.cells[row];
                *total = leaves.iter().fold(*total, |total, leaf| total + leaf);
            }
            _ => {
                for (tree, leaf) in leaves.iter().enumerate() {
                    self.add_rows(totals, row, first + tree, &[*leaf]);
                }
            }
        }
    }

    /// Adds the leaves that rows from `first` on come to in a tree.
    #[inline]
    pub fn add_rows<const ROWS: usize>(
        &self,
        totals: &mut Totals,
        first: usize,
        tree: usize,
        leaves: &[f32; ROWS],
    ) {
        let Totals { cells, sums } = totals;
        match self {
            Leaves::OfTree { sums } => {
                let first = sums[tree] as usize * ROOM + first;
                for (total, leaf) in cells[first..first + ROWS].iter_mut().zip(leaves) {
                    *total += leaf;
                }
            }
            Leaves::Dense { weights, .. } => {
                let rows = cells[first * *sums..].chunks_exact_mut(*sums);
                for (totals, leaf) in rows.zip(leaves) {
                    let weights = &weights[leaf.to_bits() as usize..][..*sums];
                    totals.iter_mut().zip(weights).for_each(|(total, weight)| *total += weight);
                }
            }
            Leaves::Sparse { starts, weights } => {
                let rows = cells[first * *sums..].chunks_exact_mut(*sums);
                for (totals, leaf) in rows.zip(leaves) {
                    let leaf = leaf.to_bits() as usize;
                    for (sum, weight) in &weights[starts[leaf] as usize..starts[leaf + 1] as usize]
                    {
                        totals[*sum as usize] += weight;
                    }
                }
            }
        }
    }

    /// The sums of a row.
    pub fn sums_of(&self, totals: &Totals, row: usize, sums: &mut [f32]) {
        match self {
            Leaves::OfTree { .. } => {
                let cells = totals.cells[row..].iter().step_by(ROOM);
                sums.iter_mut().zip(cells).for_each(|(sum, total)| *sum = *total);
            }
            _ => sums.copy_from_slice(&totals.cells[row * totals.sums..][..totals.sums]),
        }
    }
}
