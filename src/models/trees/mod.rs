//! Ensembles of decision trees, scored without ONNX Runtime: the same bits, several times as fast.
//!
//! An [`Ensemble`] is what a model file says, in plain terms. [`CompiledTrees`] finds the leaves of rows in
//! three ways, of which the fastest is measured for each size of batches: a row walks eight trees at a
//! time without a branch, or eight rows one tree (`walk`); or, where trees are small, each branch is asked
//! once for up to 64 rows (`masks`). Numbers are compared as integers of the same order (`block`). Sums
//! are taken in the order of the trees, in single precision, as ONNX Runtime takes them, so that scores
//! agree to the last bit.

mod before;
mod block;
mod compile;
mod compiled;
mod join;
mod leaves;
mod link;
mod masks;
mod walk;

pub use before::Before;
pub use block::Block;
use block::{Reading, key};
pub use compiled::{CompiledTrees, Way};
pub use link::{Columns, Link};

/// Trees whose leaves are summed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// How many numbers a row has.
    pub features: usize,
    /// What is done to them first.
    pub before: Vec<Before>,
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

/// A row whose feature passes the test goes to `low`, any other number to `high`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    pub feature: usize,
    pub test: Test,
    pub nan_goes_low: bool,
    /// Positions in the tree.
    pub low: usize,
    pub high: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    AtMost(f32),
    Below(f32),
    /// Equal to one of these.
    OneOf(Vec<f32>),
}

impl Branch {
    /// What is compared, and above what a row goes high.
    fn reads(&self) -> (Reading, i32) {
        let reading = || if self.nan_goes_low { Reading::NanLow } else { Reading::NanHigh };
        match &self.test {
            Test::AtMost(threshold) => (reading(), key(*threshold)),
            Test::Below(threshold) => (reading(), key(*threshold) - 1),
            Test::OneOf(numbers) => {
                let mut keys = Vec::from_iter(numbers.iter().map(|number| key(*number)));
                keys.sort_unstable();
                (Reading::OneOf { keys, is_nan_one: self.nan_goes_low }, 0)
            }
        }
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
                        let goes_low = match &branch.test {
                            _ if value.is_nan() => branch.nan_goes_low,
                            Test::AtMost(threshold) => value <= *threshold,
                            Test::Below(threshold) => value < *threshold,
                            Test::OneOf(numbers) => numbers.contains(&value),
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

    /// What random trees are like.
    struct Kind {
        deepest: u32,
        has_nan_low: bool,
        has_sets: bool,
        /// Leaves add to all sums, or to some, if not to that of their tree.
        leaves: [bool; 2],
    }

    /// What a leaf adds.
    fn random_leaf(random: &mut Rng, sums: usize, of_tree: usize, leaves: [bool; 2]) -> Node {
        let mut weight = |sum| (sum, random.f32() * 2.0 - 1.0);
        Node::Leaf(match leaves {
            [true, _] => (0..sums).map(weight).collect(),
            [_, false] => vec![weight(of_tree)],
            [_, true] if sums == 1 => vec![weight(0)],
            [_, true] => {
                let count = random.usize(0..4);
                (0..count).map(|_| (random.usize(0..sums), random.f32() * 2.0 - 1.0)).collect()
            }
        })
    }

    /// A tree whose branches get fewer with its depth; children are anywhere after their parent.
    fn random_tree(random: &mut Rng, ensemble: &Ensemble, kind: &Kind) -> Tree {
        let of_tree = random.usize(..ensemble.sums);
        let mut nodes = vec![Node::Leaf(Vec::new())];
        let mut open = vec![(0, 0u32)];
        let deepest = random.u32(0..=kind.deepest);
        while !open.is_empty() {
            let (at, depth) = open.swap_remove(random.usize(0..open.len()));
            nodes[at] = if depth < deepest && random.f32() < 0.8 {
                let (low, high) = (nodes.len(), nodes.len() + 1);
                nodes.extend([Node::Leaf(Vec::new()), Node::Leaf(Vec::new())]);
                open.extend([(low, depth + 1), (high, depth + 1)]);
                Node::Branch(Branch {
                    feature: random.usize(0..ensemble.features),
                    test: match random.u8(..16) {
                        0 => Test::AtMost(f32::INFINITY),
                        1 => Test::AtMost(f32::NEG_INFINITY),
                        2 => Test::Below(f32::NEG_INFINITY),
                        3..6 => Test::Below(random.i8(-3..4).into()),
                        6 | 7 if kind.has_sets => {
                            let numbers = (0..random.usize(..4)).map(|_| random.i8(-3..4).into());
                            Test::OneOf(numbers.collect())
                        }
                        _ => Test::AtMost(random.i8(-3..4).into()),
                    },
                    nan_goes_low: kind.has_nan_low && random.bool(),
                    low,
                    high,
                })
            } else {
                random_leaf(random, ensemble.sums, of_tree, kind.leaves)
            };
        }
        Tree { nodes }
    }

    fn random_ensemble(random: &mut Rng) -> Ensemble {
        let sums = random.usize(1..4);
        let mut ensemble = Ensemble {
            features: random.usize(1..6),
            before: Vec::new(),
            trees: Vec::new(),
            sums,
            is_average: random.f32() < 0.3,
            base: (0..sums * random.usize(0..2)).map(|at| at as f32 - 0.7).collect(),
            link: Link::None,
            columns: Columns::Sums,
        };
        let kind = Kind {
            deepest: [5, 8, 11][random.usize(..3)],
            has_nan_low: random.bool(),
            has_sets: random.bool(),
            leaves: [random.bool(), random.bool()],
        };
        for _ in 0..random.usize(1..30) {
            ensemble.trees.push(random_tree(random, &ensemble, &kind));
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
            for rows in [0, 1, 2, 15, 16, 17, 33, 65, 130] {
                let cells = (0..rows * ensemble.features).map(|_| random_value(random));
                let cells: Vec<f32> = cells.collect();
                let rows = cells.chunks_exact(ensemble.features);
                let wanted: Vec<f32> = rows.flat_map(|row| naive(&ensemble, row)).collect();
                for way in compiled.ways() {
                    compiled.go(way);
                    for machine in masks::Machine::all() {
                        compiled.masks.iter_mut().for_each(|masks| masks.machine = machine);
                        let made = compiled.score(&cells);
                        let which = format!("seed {seed}, {way:?}, {machine:?}");
                        assert_eq!(bits(&made), bits(&wanted), "{which}");
                    }
                }
            }
            small += usize::from(compiled.ways().any(|way| way == Way::ByMasks));
        }
        assert!((100..280).contains(&small), "{small} of 300 have masks");
    }

    #[test]
    fn keys_are_in_the_order_of_numbers() {
        let numbers = [f32::NEG_INFINITY, -2.0, -f32::MIN_POSITIVE, -1e-45, 0.0, 1e-45, 2.0];
        assert!(numbers.is_sorted_by(|a, b| key(*a) < key(*b)));
        assert_eq!(key(-0.0), key(0.0));
        assert!(key(f32::MAX) < key(f32::INFINITY) && key(f32::INFINITY) < i32::MAX);
        assert!(key(f32::NEG_INFINITY) - 1 > i32::MIN);
    }

    #[test]
    fn each_size_of_blocks_has_the_way_that_took_the_least_time() {
        let leaf = || Node::Leaf(vec![(0, 1.0)]);
        let ensemble = of_one_tree(vec![branch(0, 0.0, 1, 2), leaf(), leaf()]);
        let mut compiled = CompiledTrees::new(&ensemble).unwrap();
        compiled.keep_the_fastest(|trees, rows| {
            let is_slow = trees.way(rows) != if rows < 8 { Way::ByRow } else { Way::ByMasks };
            std::thread::sleep(std::time::Duration::from_millis(u64::from(is_slow)));
        });
        let ways = [1, 7, 8, 64, 65, 1_000].map(|rows| compiled.way(rows));
        let masks = Way::ByMasks;
        assert_eq!(ways, [Way::ByRow, Way::ByRow, masks, masks, masks, masks]);
        // Of 72 rows the last 8 are a block of their own.
        assert_eq!(compiled.score(&[1.0; 72]), [1.0; 72]);
    }

    /// An ensemble of one feature and one tree.
    fn of_one_tree(nodes: Vec<Node>) -> Ensemble {
        Ensemble {
            features: 1,
            before: Vec::new(),
            trees: vec![Tree { nodes }],
            sums: 1,
            is_average: false,
            base: Vec::new(),
            link: Link::None,
            columns: Columns::Sums,
        }
    }

    fn branch(feature: usize, threshold: f32, low: usize, high: usize) -> Node {
        let test = Test::AtMost(threshold);
        Node::Branch(Branch { feature, test, nan_goes_low: false, low, high })
    }

    #[test]
    fn features_are_prepared_before_branches_see_them() {
        let leaf = |weight| Node::Leaf(vec![(0, weight)]);
        let mut ensemble = of_one_tree(vec![branch(0, 1.0, 1, 2), leaf(0.0), leaf(1.0)]);
        ensemble.before = vec![
            Before::Replace { number: f32::NAN, by: vec![4.0] },
            Before::Replace { number: -1.0, by: vec![10.0] },
            Before::Subtract(vec![2.0]),
            Before::Divide(vec![2.0]),
            Before::Multiply(vec![0.5]),
            Before::Add(vec![-0.25]),
        ];
        // (value − 2) / 4 − 1/4 is above 1 from 7 on.
        let mut compiled = CompiledTrees::new(&ensemble).unwrap();
        assert_eq!(compiled.score(&[7.0, 7.5, f32::NAN, -1.0]), [0.0, 1.0, 0.0, 1.0]);
        ensemble.before = vec![Before::Add(vec![1.0, 2.0])];
        let refusal = CompiledTrees::new(&ensemble).err().unwrap_or_default();
        assert_eq!(refusal, "it prepares 2 of 1 features");
    }

    #[test]
    fn chains_that_ask_for_one_number_each_become_a_set() {
        let leaf = |weight| Node::Leaf(vec![(0, weight)]);
        let is = |number, low, high, nan_goes_low| {
            let test = Test::OneOf(vec![number]);
            Node::Branch(Branch { feature: 0, test, nan_goes_low, low, high })
        };
        // 3, 5, 7 and NaN come to one leaf, 9 to another.
        let nodes = vec![
            is(3.0, 4, 1, false),
            is(5.0, 4, 2, true),
            is(7.0, 4, 3, false),
            is(9.0, 5, 6, false),
            leaf(1.0),
            leaf(2.0),
            leaf(3.0),
        ];
        let tree = Tree { nodes }.joined();
        let Node::Branch(first) = &tree.nodes[0] else { panic!("a branch") };
        assert_eq!(first.test, Test::OneOf(vec![3.0, 5.0, 7.0]));
        let mut compiled = CompiledTrees::new(&of_one_tree(tree.nodes)).unwrap();
        let made = compiled.score(&[3.0, 5.0, 7.0, f32::NAN, 9.0, 4.0, -0.0]);
        assert_eq!(made, [1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
        // Branches that go round.
        let tree = Tree { nodes: vec![is(3.0, 2, 1, false), is(5.0, 2, 0, false), leaf(1.0)] };
        assert!(CompiledTrees::new(&of_one_tree(tree.joined().nodes)).is_err());
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
