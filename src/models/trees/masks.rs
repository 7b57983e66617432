//! Trees as masks of leaves, for many rows at a time.
//!
//! Each branch that sends a row high rules out the leaves on its low side. What is left of a tree's
//! leaves when all its branches have been asked begins with the leaf that the row comes to: Lucchese et
//! al., QuickScorer, SIGIR 2015, and its vectorised form of 2016. No branch waits for the one above
//! it, and those of a feature are in the order of their thresholds, so that they are asked until the
//! first one that sends no row high.

use super::block::Layout;
use super::{Branch, Ensemble, Node, Tree};

/// Rows that are asked at a time.
pub(super) const LANES: usize = 32;
/// Leaves of a tree at most.
const LEAVES_MAX: usize = 32;

/// Every tree of an ensemble of one sum, whose leaves add one weight each.
#[derive(Clone)]
pub(super) struct Masks {
    /// By column of a row.
    columns: Vec<Vec<Question>>,
    /// By tree; leaves that a tree has not are 0.
    leaves: Vec<[f32; LEAVES_MAX]>,
    /// What is left of each tree, row by row; kept for its memory.
    left: Vec<[u32; LANES]>,
}

/// A branch.
#[derive(Clone, Copy)]
struct Question {
    threshold: f32,
    tree: u32,
    /// All leaves but those on its low side.
    high: u32,
}

impl Masks {
    /// None where a tree has too many leaves, or adds to several sums. The ensemble must be one that can
    /// be walked.
    pub fn new(ensemble: &Ensemble, layout: &Layout) -> Option<Self> {
        if ensemble.sums != 1 {
            return None;
        }
        let mut masks = Masks {
            columns: vec![Vec::new(); layout.columns()],
            leaves: Vec::new(),
            left: vec![[0; LANES]; ensemble.trees.len()],
        };
        for tree in &ensemble.trees {
            masks.leaves.push([0.0; LEAVES_MAX]);
            masks.place(tree, 0, 0, 0, layout)?;
        }
        for questions in &mut masks.columns {
            questions.sort_by(|a, b| a.threshold.total_cmp(&b.threshold));
        }
        Some(masks)
    }

    /// Numbers the leaves below a node from `first` on, those on the low side first; how many they are.
    fn place(
        &mut self,
        tree: &Tree,
        node: usize,
        first: usize,
        depth: usize,
        layout: &Layout,
    ) -> Option<usize> {
        // A tree has more leaves than its deepest one has branches above it.
        if first >= LEAVES_MAX || depth >= LEAVES_MAX {
            return None;
        }
        match &tree.nodes[node] {
            Node::Leaf(weights) => {
                let [(_, weight)] = weights[..] else { return None };
                self.leaves.last_mut()?[first] = weight;
                Some(1)
            }
            Node::Branch(branch) => {
                let low = self.place(tree, branch.low, first, depth + 1, layout)?;
                let high = self.place(tree, branch.high, first + low, depth + 1, layout)?;
                self.ask(branch, first, low, layout);
                Some(low + high)
            }
        }
    }

    fn ask(&mut self, branch: &Branch, first: usize, low: usize, layout: &Layout) {
        let (column, threshold) = branch.reads(layout);
        let below = (u32::MAX >> (LEAVES_MAX - low)) << first;
        let tree = self.leaves.len() as u32 - 1;
        self.columns[column].push(Question { threshold, tree, high: !below });
    }

    /// Adds the leaves that rows come to, in the order of the trees. `cells` has a column after the other,
    /// with `room` for values, a multiple of [`LANES`].
    pub fn sum_up(&mut self, cells: &[f32], room: usize, totals: &mut [f32]) {
        for (group, totals) in totals.chunks_mut(LANES).enumerate() {
            let mut sums = [0.0; LANES];
            sums[..totals.len()].copy_from_slice(totals);
            self.sum_up_lanes(&cells[group * LANES..], room, &mut sums);
            totals.copy_from_slice(&sums[..totals.len()]);
        }
    }

    fn sum_up_lanes(&mut self, cells: &[f32], room: usize, sums: &mut [f32; LANES]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the machine has AVX2.
            return unsafe { self.sum_up_avx2(cells, room, sums) };
        }
        self.sum_up_portable(cells, room, sums);
    }

    /// The same code, compiled for eight numbers an instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn sum_up_avx2(&mut self, cells: &[f32], room: usize, sums: &mut [f32; LANES]) {
        self.sum_up_portable(cells, room, sums);
    }

    #[inline(always)]
    fn sum_up_portable(&mut self, cells: &[f32], room: usize, sums: &mut [f32; LANES]) {
        let Masks { columns, leaves, left } = self;
        left.fill([u32::MAX; LANES]);
        for (questions, column) in columns.iter().zip(cells.chunks(room)) {
            let Some(&column) = column.first_chunk::<LANES>() else { continue };
            let most = column.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for question in questions.iter().take_while(|question| most > question.threshold) {
                let Question { threshold, tree, high } = *question;
                // All comparisons before all masks: as one loop it is not made for several at a time.
                let is_high = column.map(|value| u32::from(value > threshold).wrapping_neg());
                for (left, is_high) in left[tree as usize].iter_mut().zip(is_high) {
                    *left &= high | !is_high;
                }
            }
        }
        for (left, leaves) in left.iter().zip(leaves) {
            for (sum, left) in sums.iter_mut().zip(left) {
                *sum += leaves[left.trailing_zeros() as usize % LEAVES_MAX];
            }
        }
    }
}
