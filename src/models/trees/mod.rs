//! Ensembles of decision trees, scored without ONNX Runtime: the same bits, several times as fast.
//!
//! An [`Ensemble`] is what a model file says, in plain terms. [`CompiledTrees`] lays it out in two ways:
//! a row alone walks eight trees at a time without a branch (`walk`); of many rows each branch is asked
//! once for 32 of them (`masks`), where trees are small and that is faster. Sums are taken in the
//! order of the trees, in single precision, as ONNX Runtime takes them, so that scores agree to the last
//! bit.

mod block;
mod compile;
mod compiled;
mod link;
mod masks;
mod walk;

pub use block::Block;
pub use compiled::CompiledTrees;
pub use link::{Columns, Link};

/// Trees whose leaves are summed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// How many numbers a row has.
    pub features: usize,
    pub trees: Vec<Tree>,
    /// How many sums a row has; leaves add to them.
    pub sums: usize,
    /// The sums are divided by the number of trees.
    pub is_average: bool,
    /// Added to the sums; one for each, or none.
    pub base: Vec<f32>,
    pub link: Link,
    pub columns: Columns,
}

/// A tree; its first node is the root.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Branch(Branch),
    /// What it adds to which sums.
    Leaf(Vec<(usize, f32)>),
}

/// A row whose feature is at most the threshold goes to `low`, any other number to `high`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Branch {
    pub feature: usize,
    pub threshold: f32,
    pub nan_goes_low: bool,
    /// Positions in the tree.
    pub low: usize,
    pub high: usize,
}

impl Branch {
    /// Whether all numbers go to `low`, infinity too, and only what is none to `high`: so LightGBM
    /// tells what is missing.
    fn parts_nan(&self) -> bool {
        self.threshold == f32::INFINITY && !self.nan_goes_low
    }

    /// The column of a row as [`block::Layout`] has it that is compared, and with what. NaN that goes
    /// high is made infinite there, which is above all thresholds but one.
    fn reads(&self, layout: &block::Layout) -> (usize, f32) {
        let (from, threshold) = match (self.parts_nan(), self.nan_goes_low) {
            (true, _) => (layout.nan_alone(), 0.0),
            (false, true) => (layout.features, self.threshold),
            (false, false) => (0, self.threshold),
        };
        (from + self.feature, threshold)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// Walks the trees of an ensemble one by one, as it stands.
    fn naive(ensemble: &Ensemble, row: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0f32; ensemble.sums];
        for tree in &ensemble.trees {
            let mut at = 0;
            let weights = loop {
                match &tree.nodes[at] {
                    Node::Leaf(weights) => break weights,
                    Node::Branch(branch) => {
                        let value = row[branch.feature];
                        let goes_low = if value.is_nan() {
                            branch.nan_goes_low
                        } else {
                            value <= branch.threshold
                        };
                        at = if goes_low { branch.low } else { branch.high };
                    }
                }
            };
            weights.iter().for_each(|&(sum, weight)| sums[sum] += weight);
        }
        if ensemble.is_average {
            sums.iter_mut().for_each(|sum| *sum /= ensemble.trees.len() as f32);
        }
        sums.iter_mut().zip(&ensemble.base).for_each(|(sum, base)| *sum += base);
        sums
    }

    /// A tree whose branches get fewer with its depth; children are anywhere after their parent.
    fn random_tree(random: &mut Rng, ensemble: &Ensemble, deepest: u32, has_nan_low: bool) -> Tree {
        let mut nodes = vec![Node::Leaf(Vec::new())];
        let mut open = vec![(0, 0u32)];
        let deepest = random.u32(0..=deepest);
        while !open.is_empty() {
            let (at, depth) = open.swap_remove(random.usize(0..open.len()));
            nodes[at] = if depth < deepest && random.f32() < 0.8 {
                let (low, high) = (nodes.len(), nodes.len() + 1);
                nodes.extend([Node::Leaf(Vec::new()), Node::Leaf(Vec::new())]);
                open.extend([(low, depth + 1), (high, depth + 1)]);
                Node::Branch(Branch {
                    feature: random.usize(0..ensemble.features),
                    threshold: match random.u8(..10) {
                        0 => f32::INFINITY,
                        1 => f32::NEG_INFINITY,
                        _ => random.i8(-3..4).into(),
                    },
                    nan_goes_low: has_nan_low && random.bool(),
                    low,
                    high,
                })
            } else {
                let count = if ensemble.sums == 1 { 1 } else { random.usize(0..4) };
                let weight =
                    |random: &mut Rng| (random.usize(0..ensemble.sums), random.f32() * 2.0 - 1.0);
                Node::Leaf((0..count).map(|_| weight(random)).collect())
            };
        }
        Tree { nodes }
    }

    fn random_ensemble(random: &mut Rng) -> Ensemble {
        let sums = random.usize(1..4);
        let mut ensemble = Ensemble {
            features: random.usize(1..6),
            trees: Vec::new(),
            sums,
            is_average: random.f32() < 0.3,
            base: (0..sums * random.usize(0..2)).map(|at| at as f32 - 0.7).collect(),
            link: Link::None,
            columns: Columns::Sums,
        };
        let has_nan_low = random.bool();
        let deepest = [5, 11][random.usize(..2)];
        for _ in 0..random.usize(1..30) {
            ensemble.trees.push(random_tree(random, &ensemble, deepest, has_nan_low));
        }
        ensemble
    }

    fn random_value(random: &mut Rng) -> f32 {
        match random.u8(0..8) {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => f32::NEG_INFINITY,
            3..6 => random.i8(-4..5).into(),
            _ => random.f32() * 8.0 - 4.0,
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn compiled_trees_sum_up_as_trees_that_are_walked_one_by_one() {
        let mut small = 0;
        for seed in 0..300 {
            let random = &mut Rng::with_seed(seed);
            let ensemble = random_ensemble(random);
            let mut compiled = CompiledTrees::new(&ensemble).unwrap();
            for rows in [0, 1, 15, 16, 65, 130] {
                let cells = (0..rows * ensemble.features).map(|_| random_value(random));
                let cells: Vec<f32> = cells.collect();
                let rows = cells.chunks_exact(ensemble.features);
                let wanted: Vec<f32> = rows.flat_map(|row| naive(&ensemble, row)).collect();
                assert_eq!(bits(&compiled.score(&cells)), bits(&wanted), "seed {seed}");
            }
            small += usize::from(compiled.masks.is_some());
        }
        assert!((30..200).contains(&small), "{small} of 300 have masks");
    }

    /// An ensemble of one feature and one tree.
    fn of_one_tree(nodes: Vec<Node>) -> Ensemble {
        Ensemble {
            features: 1,
            trees: vec![Tree { nodes }],
            sums: 1,
            is_average: false,
            base: Vec::new(),
            link: Link::None,
            columns: Columns::Sums,
        }
    }

    fn branch(feature: usize, threshold: f32, low: usize, high: usize) -> Node {
        Node::Branch(Branch { feature, threshold, nan_goes_low: false, low, high })
    }

    #[test]
    fn what_cannot_be_walked_is_refused() {
        let leaf = || Node::Leaf(vec![(0, 1.0)]);
        let refusal = |nodes| CompiledTrees::new(&of_one_tree(nodes)).err().unwrap_or_default();
        assert_eq!(refusal(vec![branch(0, 0.0, 1, 2), leaf(), leaf()]), "");
        assert_eq!(refusal(vec![]), "a tree has a branch to nowhere");
        assert_eq!(refusal(vec![branch(0, 0.0, 1, 2), leaf()]), "a tree has a branch to nowhere");
        assert_eq!(refusal(vec![branch(0, 0.0, 0, 0)]), "the branches of a tree meet");
        assert_eq!(
            refusal(vec![branch(1, 0.0, 1, 2), leaf(), leaf()]),
            "a branch reads feature 1 of 1"
        );
        assert_eq!(
            refusal(vec![branch(0, f32::NAN, 1, 2), leaf(), leaf()]),
            "a branch has the threshold NaN"
        );
        assert_eq!(refusal(vec![Node::Leaf(vec![(1, 1.0)])]), "a leaf adds to output 1 of 1");
    }
}
