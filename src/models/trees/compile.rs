//! From an ensemble to nodes that can be walked without a branch.

use std::collections::VecDeque;

use super::block::Layout;
use super::compiled::CompiledTrees;
use super::leaves::{Leaves, Totals};
use super::masks::Masks;
use super::walk::{Step, Walker};
use super::{Ensemble, Node, Test, Tree};

impl CompiledTrees {
    /// # Errors
    /// What of the ensemble cannot be laid out.
    pub fn new(ensemble: &Ensemble) -> Result<Self, String> {
        if !ensemble.base.is_empty() && ensemble.base.len() != ensemble.sums {
            let base = ensemble.base.len();
            return Err(format!("it has {base} base values for {} sums", ensemble.sums));
        }
        let layout = layout(ensemble)?;
        let mut leaves = Leaves::new(ensemble)?;
        let mut known_by = Vec::new();
        let mut walker =
            Walker { groups: Vec::new(), steps: Vec::new(), columns: layout.stop() + 1 };
        for tree in &ensemble.trees {
            let (layout, steps, leaves) = (&layout, &mut walker.steps, &mut leaves);
            let (root, depth, of_leaves) = Placing { tree, layout, steps, leaves }.place()?;
            walker.add(root, depth);
            known_by.push(of_leaves);
        }
        Ok(CompiledTrees {
            masks: Masks::new(ensemble, &layout, &known_by),
            layout,
            walker,
            leaves,
            ways: Default::default(),
            sums: ensemble.sums,
            divide_by: ensemble.is_average.then_some(ensemble.trees.len() as f32),
            base: ensemble.base.clone(),
            link: ensemble.link,
            columns: ensemble.columns,
            cells: Vec::new(),
            totals: Totals::default(),
        })
    }
}

/// The columns of what branches read.
fn layout(ensemble: &Ensemble) -> Result<Layout, String> {
    let features = ensemble.features;
    let mut readings = Vec::new();
    for node in ensemble.trees.iter().flat_map(|tree| &tree.nodes) {
        let Node::Branch(branch) = node else { continue };
        if branch.feature >= features {
            return Err(format!("a branch reads feature {} of {features}", branch.feature));
        }
        let is_nan = match &branch.test {
            Test::AtMost(number) | Test::Below(number) => number.is_nan(),
            Test::OneOf(numbers) => numbers.iter().any(|number| number.is_nan()),
        };
        if is_nan {
            return Err("a branch has the threshold NaN".to_owned());
        }
        readings.push((branch.feature, branch.reads().0));
    }
    let layout = Layout::new(features, &ensemble.before, readings)?;
    u16::try_from(layout.stop()).map_err(|_| "its branches ask too many things".to_owned())?;
    Ok(layout)
}

/// A tree that is laid out.
struct Placing<'a> {
    tree: &'a Tree,
    layout: &'a Layout,
    steps: &'a mut Vec<Step>,
    leaves: &'a mut Leaves,
}

impl Placing<'_> {
    /// Lays the tree out level by level, the two children of a node side by side. Its root, its
    /// depth, and what its leaves are known by, those on the low side of a branch before the others.
    fn place(&mut self) -> Result<(u32, u32, Vec<f32>), String> {
        let nodes = &self.tree.nodes;
        let root = self.steps.len();
        let mut waiting = VecDeque::from([(0usize, 0u32)]);
        // Each node in the order of its place; those that wait have places after all these.
        let (mut placed, mut depth) = (0usize, 0);
        let mut known_by = vec![0.0; nodes.len()];
        while let Some((position, level)) = waiting.pop_front() {
            let node = nodes.get(position).ok_or("a tree has a branch to nowhere")?;
            if placed == nodes.len() {
                return Err("the branches of a tree meet".to_owned());
            }
            placed += 1;
            depth = depth.max(level);
            let step = match node {
                Node::Leaf(weights) => {
                    known_by[position] = self.leaves.add(weights)?;
                    // No step goes on from a leaf.
                    let column = self.layout.stop() as u16;
                    let threshold = known_by[position].to_bits() as i32;
                    Step { threshold, column, skip: 0 }
                }
                Node::Branch(branch) => {
                    let skip = u16::try_from(waiting.len() + 1)
                        .map_err(|_| "it has a tree that is too large".to_owned())?;
                    waiting.extend([(branch.low, level + 1), (branch.high, level + 1)]);
                    let (reading, threshold) = branch.reads();
                    let column = self.layout.column(branch.feature, &reading) as u16;
                    Step { threshold, column, skip }
                }
            };
            self.steps.push(step);
        }
        let Ok(_) = u32::try_from(self.steps.len()) else {
            return Err("it has too many nodes".to_owned());
        };
        let mut ordered = Vec::new();
        let mut open = vec![0];
        while let Some(position) = open.pop() {
            match &nodes[position] {
                Node::Leaf(_) => ordered.push(known_by[position]),
                Node::Branch(branch) => open.extend([branch.high, branch.low]),
            }
        }
        Ok((root as u32, depth, ordered))
    }
}
