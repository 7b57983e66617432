//! Trees as masks of leaves, for many rows at a time.
//!
//! Each branch that sends a row high rules out the leaves on its low side. What is left of a tree's
//! leaves when all its branches have been asked begins with the leaf that the row comes to: Lucchese et
//! al., QuickScorer, SIGIR 2015. No branch waits for the one above it, and those of a feature are in the
//! order of their thresholds, so that they are asked until the first one that sends no row high. Eight
//! leaves are a plane, a byte for each row of a block: Ye et al., RapidScorer, KDD 2018.

use super::block::{Layout, ROOM};
use super::leaves::{Leaves, Totals};
use super::{Ensemble, Node, Tree};

/// Leaves of a tree at most: a byte tells them apart.
const LEAVES_MAX: usize = 256;
/// Leaves of a plane.
const PLANE: usize = 8;
/// Planes of the trees that are asked together: so many stay at hand in a core's first cache.
const PLANES_MAX: usize = 256;

/// Every tree of an ensemble of small trees.
#[derive(Clone)]
pub(super) struct Masks {
    groups: Vec<Group>,
    /// The leaves of a tree after the other, and then as many zeros as a tree may have leaves.
    leaves: Vec<f32>,
    /// Kept for its memory, as are the largest values of columns.
    planes: Vec<u8>,
    most: Vec<i32>,
    pub machine: Machine,
}

/// What the machine can do; only [`Machine::all`] makes them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Machine {
    Any,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Machine {
    /// All that this one can do, the best last.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Machine::Any];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            if has!("avx2") {
                all.push(Machine::Avx2);
            }
            if has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512bitalg") {
                all.push(Machine::Avx512);
            }
        }
        all
    }
}

/// Trees that are asked together.
#[derive(Clone)]
struct Group {
    /// By column of a row.
    columns: Vec<Vec<Question>>,
    trees: Vec<MaskTree>,
    planes: usize,
}

#[derive(Clone, Copy)]
struct MaskTree {
    planes: usize,
    first_leaf: usize,
}

/// What a branch says of a plane; if it says something of several there are as many questions.
#[derive(Clone, Copy)]
struct Question {
    threshold: i32,
    plane: u16,
    /// All leaves but those on its low side.
    high: u8,
}

impl Masks {
    /// None where a tree has too many leaves. The ensemble must be one that can be walked; `known_by` has
    /// the numbers of its leaves, tree by tree, those on the low side of a branch before the others.
    pub fn new(ensemble: &Ensemble, layout: &Layout, known_by: &[Vec<f32>]) -> Option<Self> {
        let mut masks = Masks {
            groups: Vec::new(),
            leaves: Vec::new(),
            planes: Vec::new(),
            most: Vec::new(),
            machine: Machine::all().pop()?,
        };
        for (tree, known_by) in ensemble.trees.iter().zip(known_by) {
            let planes = known_by.len().div_ceil(PLANE);
            if known_by.len() > LEAVES_MAX {
                return None;
            }
            let is_full = |group: &Group| group.planes + planes > PLANES_MAX;
            if masks.groups.last().is_none_or(is_full) {
                let columns = vec![Vec::new(); layout.stop()];
                masks.groups.push(Group { columns, trees: Vec::new(), planes: 0 });
            }
            let group = masks.groups.last_mut()?;
            group.trees.push(MaskTree { planes, first_leaf: masks.leaves.len() });
            masks.leaves.extend(known_by);
            group.place(tree, 0, 0, layout);
            group.planes += planes;
        }
        masks.leaves.resize(masks.leaves.len() + LEAVES_MAX, 0.0);
        for questions in masks.groups.iter_mut().flat_map(|group| &mut group.columns) {
            questions.sort_by_key(|question| question.threshold);
        }
        Some(masks)
    }

    /// Adds the leaves that the first `rows` of a block come to, in the order of the trees.
    pub fn sum_up(&mut self, cells: &[i32], rows: usize, leaves: &Leaves, totals: &mut Totals) {
        match rows {
            0..=16 => self.sum_up_by_machine::<16>(cells, leaves, totals),
            _ => self.sum_up_by_machine::<ROOM>(cells, leaves, totals),
        }
    }

    fn sum_up_by_machine<const ROWS: usize>(
        &mut self,
        cells: &[i32],
        leaves: &Leaves,
        totals: &mut Totals,
    ) {
        match self.machine {
            // SAFETY: the machine has what it is called by.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx512 => unsafe { self.sum_up_avx512::<ROWS>(cells, leaves, totals) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Machine::Avx2 => unsafe { self.sum_up_avx2::<ROWS>(cells, leaves, totals) },
            Machine::Any => self.sum_up_portable::<ROWS>(cells, leaves, totals),
        }
    }

    /// The same code, compiled for 64 bytes an instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bitalg")]
    fn sum_up_avx512<const ROWS: usize>(
        &mut self,
        cells: &[i32],
        leaves: &Leaves,
        totals: &mut Totals,
    ) {
        self.sum_up_portable::<ROWS>(cells, leaves, totals);
    }

    /// The same code, compiled for 32 bytes an instruction.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn sum_up_avx2<const ROWS: usize>(
        &mut self,
        cells: &[i32],
        leaves: &Leaves,
        totals: &mut Totals,
    ) {
        self.sum_up_portable::<ROWS>(cells, leaves, totals);
    }

    #[inline(always)]
    fn sum_up_portable<const ROWS: usize>(
        &mut self,
        cells: &[i32],
        leaves: &Leaves,
        totals: &mut Totals,
    ) {
        let columns = cells.as_chunks::<ROOM>().0.iter();
        let columns = columns.filter_map(|column| column.first_chunk::<ROWS>());
        self.most.clear();
        self.most.extend(
            columns
                .clone()
                .map(|column| column.iter().fold(i32::MIN, |most, value| most.max(*value))),
        );
        let mut tree = 0;
        for group in &self.groups {
            self.planes.clear();
            self.planes.resize(group.planes * ROWS, u8::MAX);
            let mut planes = self.planes.as_chunks_mut::<ROWS>().0;
            let asked = group.columns.iter().zip(columns.clone()).zip(&self.most);
            asked.for_each(|((questions, column), most)| ask(questions, column, *most, planes));
            for of_tree in &group.trees {
                let (own, others) = planes.split_at_mut(of_tree.planes);
                planes = others;
                let known_by = self.leaves[of_tree.first_leaf..].first_chunk::<LEAVES_MAX>();
                let known_by = known_by.expect("as many zeros behind the last leaf");
                let found = first_left(own).map(|leaf| known_by[usize::from(leaf)]);
                leaves.add_rows(totals, 0, tree, &found);
                tree += 1;
            }
        }
    }
}

impl Group {
    /// Asks the branches from a node of a tree on, whose leaves are numbered from `first`, those on the low
    /// side before the others; how many they are.
    fn place(&mut self, tree: &Tree, node: usize, first: usize, layout: &Layout) -> usize {
        let Node::Branch(branch) = &tree.nodes[node] else { return 1 };
        let low = self.place(tree, branch.low, first, layout);
        let high = self.place(tree, branch.high, first + low, layout);
        let (reading, threshold) = branch.reads();
        let questions = &mut self.columns[layout.column(branch.feature, &reading)];
        let ruled_out = first..first + low;
        for plane in first / PLANE..ruled_out.end.div_ceil(PLANE) {
            let is_kept = |leaf: &usize| !ruled_out.contains(&(plane * PLANE + leaf));
            let high = (0..PLANE).filter(is_kept).map(|leaf| 1 << leaf).sum();
            questions.push(Question { threshold, plane: (self.planes + plane) as u16, high });
        }
        low + high
    }
}

/// Asks the questions of a column, of whose values `most` is the largest.
#[inline(always)]
fn ask<const ROWS: usize>(
    questions: &[Question],
    column: &[i32; ROWS],
    most: i32,
    planes: &mut [[u8; ROWS]],
) {
    for question in questions.iter().take_while(|question| most > question.threshold) {
        let Question { threshold, plane, high } = *question;
        // All comparisons before all masks: as one loop it is not made for several at a time.
        let is_high = column.map(|value| u8::from(value > threshold).wrapping_neg());
        for (left, is_high) in planes[usize::from(plane)].iter_mut().zip(is_high) {
            *left &= high | !is_high;
        }
    }
}

/// For each row the first leaf that is left in the planes of a tree.
#[inline(always)]
fn first_left<const ROWS: usize>(planes: &[[u8; ROWS]]) -> [u8; ROWS] {
    let (mut first, mut byte) = ([0; ROWS], [1; ROWS]);
    for (at, &plane) in planes.iter().enumerate().rev() {
        let choose = |plane: u8, left: u8, right: u8| if plane != 0 { left } else { right };
        first = std::array::from_fn(|row| choose(plane[row], (at * PLANE) as u8, first[row]));
        byte = std::array::from_fn(|row| choose(plane[row], plane[row], byte[row]));
    }
    std::array::from_fn(|row| first[row] + byte[row].trailing_zeros() as u8)
}
