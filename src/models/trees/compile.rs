//! From an ensemble to nodes that can be walked without a branch.

use std::collections::VecDeque;

use super::block::Layout;
use super::compiled::CompiledTrees;
use super::masks::Masks;
use super::walk::{Group, LANES, Leaves, Step, Walker};
use super::{Ensemble, Node, Tree};

impl CompiledTrees {
    /// # Errors
    /// What of the ensemble cannot be laid out.
    pub fn new(ensemble: &Ensemble) -> Result<Self, String> {
        if !ensemble.base.is_empty() && ensemble.base.len() != ensemble.sums {
            let base = ensemble.base.len();
            return Err(format!("it has {base} base values for {} sums", ensemble.sums));
        }
        let nodes = || ensemble.trees.iter().flat_map(|tree| &tree.nodes);
        let has_nan_low =
            nodes().any(|node| matches!(node, Node::Branch(branch) if branch.nan_goes_low));
        let has_nan_alone =
            nodes().any(|node| matches!(node, Node::Branch(branch) if branch.parts_nan()));
        let is_single = ensemble.sums == 1
            && nodes().all(|node| !matches!(node, Node::Leaf(weights) if weights.len() != 1));
        let layout = Layout { features: ensemble.features, has_nan_low, has_nan_alone };
        u16::try_from(layout.stop()).map_err(|_| "it has too many features".to_owned())?;
        let mut steps = Steps {
            layout,
            sums: ensemble.sums,
            steps: Vec::new(),
            leaves: if is_single { Leaves::Single } else { Leaves::several() },
        };
        let mut placed = Vec::with_capacity(ensemble.trees.len());
        for tree in &ensemble.trees {
            placed.push(steps.place(tree)?);
        }
        let groups = placed.chunks(LANES).map(|trees| {
            let mut roots = [trees[0].0; LANES];
            for (root, tree) in roots.iter_mut().zip(trees) {
                *root = tree.0;
            }
            let depth = trees.iter().map(|tree| tree.1).max().unwrap_or(0);
            Group { roots, trees: trees.len(), depth }
        });
        Ok(CompiledTrees {
            masks: Masks::new(ensemble, &layout),
            layout,
            walker: Walker { groups: groups.collect(), steps: steps.steps, leaves: steps.leaves },
            sums: ensemble.sums,
            divide_by: ensemble.is_average.then_some(ensemble.trees.len() as f32),
            base: ensemble.base.clone(),
            link: ensemble.link,
            columns: ensemble.columns,
            cells: Vec::new(),
            totals: Vec::new(),
        })
    }
}

/// What has been laid out so far.
struct Steps {
    layout: Layout,
    sums: usize,
    steps: Vec<Step>,
    leaves: Leaves,
}

impl Steps {
    /// Lays a tree out level by level, the two children of a node side by side. Its root's position,
    /// and its depth.
    fn place(&mut self, tree: &Tree) -> Result<(u32, u32), String> {
        let root = self.steps.len();
        let mut waiting = VecDeque::from([(0usize, 0u32)]);
        // Each node in the order of its place; those that wait have places after all these.
        let (mut placed, mut depth) = (0usize, 0);
        while let Some((position, level)) = waiting.pop_front() {
            let node = tree.nodes.get(position).ok_or("a tree has a branch to nowhere")?;
            if placed == tree.nodes.len() {
                return Err("the branches of a tree meet".to_owned());
            }
            placed += 1;
            depth = depth.max(level);
            let step = match node {
                Node::Leaf(weights) => {
                    let threshold = self.leaves.add(weights, self.sums)?;
                    // No step goes on from a leaf.
                    Step { threshold, column: self.layout.stop() as u16, skip: 0 }
                }
                Node::Branch(branch) => {
                    let features = self.layout.features;
                    if branch.feature >= features {
                        return Err(format!(
                            "a branch reads feature {} of {features}",
                            branch.feature
                        ));
                    }
                    if branch.threshold.is_nan() {
                        return Err("a branch has the threshold NaN".to_owned());
                    }
                    let skip = u16::try_from(waiting.len() + 1)
                        .map_err(|_| "it has a tree that is too large".to_owned())?;
                    waiting.extend([(branch.low, level + 1), (branch.high, level + 1)]);
                    let (column, threshold) = branch.reads(&self.layout);
                    Step { threshold, column: column as u16, skip }
                }
            };
            self.steps.push(step);
        }
        match u32::try_from(self.steps.len()) {
            Ok(_) => Ok((root as u32, depth)),
            Err(_) => Err("it has too many nodes".to_owned()),
        }
    }
}
