//! Walking trees: which leaves rows come to, and what they sum up to.

use super::block::ROOM;
use super::leaves::{Leaves, Totals};

/// Walks at a time: enough that one waits for memory while others go on.
pub(super) const LANES: usize = 8;
/// Steps after which it is looked whether all walks have come to a leaf.
const STRIDE: u32 = 4;

/// A node: the next is `skip` further on, or the one after that if the row's value in `column` is
/// above the threshold. A leaf goes on to itself, and has for a threshold the number that it is known by.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Step {
    pub threshold: i32,
    pub column: u16,
    pub skip: u16,
}

/// Some trees that are walked together: where they begin, their depths, and how many they are.
#[derive(Clone, Default)]
pub(super) struct Group {
    roots: [u32; LANES],
    depths: [u32; LANES],
    deepest: u32,
    trees: usize,
}

/// Every tree of an ensemble.
#[derive(Clone)]
pub(super) struct Walker {
    pub groups: Vec<Group>,
    pub steps: Vec<Step>,
    /// The columns of a row.
    pub columns: usize,
}

impl Walker {
    /// Adds a tree that begins at a step and is so deep.
    pub fn add(&mut self, root: u32, depth: u32) {
        if self.groups.last().is_none_or(|group| group.trees == LANES) {
            self.groups.push(Group { roots: [root; LANES], ..Group::default() });
        }
        if let Some(group) = self.groups.last_mut() {
            (group.roots[group.trees], group.depths[group.trees]) = (root, depth);
            group.deepest = group.deepest.max(depth);
            group.trees += 1;
        }
    }

    pub fn trees(&self) -> usize {
        self.groups.iter().map(|group| group.trees).sum()
    }

    /// Adds the leaves that one row comes to, which walks some trees at a time, to those of `row`. `cells`
    /// are its columns.
    pub fn by_row(&self, cells: &[i32], row: usize, leaves: &Leaves, totals: &mut Totals) {
        assert!(cells.len() >= self.columns);
        for (first, group) in self.groups.iter().enumerate() {
            let Group { roots, deepest, trees, .. } = group;
            // SAFETY: as asserted.
            let found = unsafe { self.walk::<1>(*roots, *deepest, cells, [0; LANES]) };
            leaves.add_trees(totals, row, first * LANES, &found[..*trees]);
        }
    }

    /// Adds the leaves that rows come to, tree by tree, each of which some of the first `rows` of a
    /// block walk at a time.
    pub fn by_tree(&self, cells: &[i32], rows: usize, leaves: &Leaves, totals: &mut Totals) {
        const { assert!(ROOM.is_multiple_of(LANES)) };
        assert!(cells.len() >= self.columns * ROOM && rows <= ROOM);
        let trees = self
            .groups
            .iter()
            .flat_map(|group| group.roots[..group.trees].iter().zip(&group.depths));
        for (tree, (root, depth)) in trees.enumerate() {
            for first in (0..rows).step_by(LANES) {
                let lanes = std::array::from_fn(|lane| first + lane);
                // SAFETY: as asserted; lanes are below the next multiple of their number.
                let found = unsafe { self.walk::<ROOM>([*root; LANES], *depth, cells, lanes) };
                leaves.add_rows(totals, first, tree, &found);
            }
        }
    }

    /// The leaves that walks from `at` come to, each for one of the rows.
    ///
    /// # Safety
    /// There are cells for all columns and `ROOM` rows, and the rows are below that.
    #[inline(always)]
    unsafe fn walk<const ROOM: usize>(
        &self,
        mut at: [u32; LANES],
        depth: u32,
        cells: &[i32],
        rows: [usize; LANES],
    ) -> [f32; LANES] {
        let mut left = depth;
        while left > 0 {
            for _ in 0..left.min(STRIDE) {
                for (at, row) in at.iter_mut().zip(rows) {
                    // SAFETY: where a step leads is among the steps, its column among those of a row:
                    // `CompiledTrees::new` places both children of every branch, and knows the columns
                    // of what they read. Of the cells the caller knows.
                    let (step, value) = unsafe {
                        let step = *self.steps.get_unchecked(*at as usize);
                        (step, *cells.get_unchecked(usize::from(step.column) * ROOM + row))
                    };
                    *at += u32::from(step.skip) + u32::from(value > step.threshold);
                }
            }
            left = left.saturating_sub(STRIDE);
            // Only leaves go nowhere. Were it looked whether any walk has moved, the whole of them would go
            // through memory each time.
            let is_leaf = at.iter().fold(0, |skip, at| skip | self.steps[*at as usize].skip) == 0;
            if is_leaf {
                break;
            }
        }
        at.map(|at| f32::from_bits(self.steps[at as usize].threshold as u32))
    }
}
