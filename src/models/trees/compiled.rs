//! An ensemble, ready to score rows.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::block::{Block, Layout, ROOM};
use super::leaves::{Leaves, Totals};
use super::link::{Columns, Link};
use super::masks::Masks;
use super::walk::Walker;

/// How the rows of a block find their leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Row by row, each walking some trees at a time.
    #[default]
    ByRow,
    /// Tree by tree, each walked by some rows at a time.
    ByTree,
    /// All at once, by masks of leaves.
    ByMasks,
}

/// Sizes of blocks that have a way of their own: 1, 2, 4 … rows and more.
const SIZES: usize = ROOM.ilog2() as usize + 1;
/// Times that a block is scored to tell how long it takes; the least counts.
const TRIES: usize = 5;

/// An ensemble, ready to score rows.
#[derive(Clone)]
pub struct CompiledTrees {
    pub(super) layout: Layout,
    pub(super) walker: Walker,
    pub(super) masks: Option<Masks>,
    pub(super) leaves: Leaves,
    /// The way of blocks by their size.
    pub(super) ways: [Way; SIZES],
    pub(super) sums: usize,
    pub(super) divide_by: Option<f32>,
    pub(super) base: Vec<f32>,
    pub(super) link: Link,
    pub(super) columns: Columns,
    /// The cells of a block; kept for its memory, as are the sums.
    pub(super) cells: Vec<i32>,
    pub(super) totals: Totals,
}

impl CompiledTrees {
    /// The columns of a prediction.
    pub fn width(&self) -> usize {
        self.columns.count(self.sums)
    }

    /// Trees and nodes.
    pub fn size(&self) -> (usize, usize) {
        (self.walker.trees(), self.walker.steps.len())
    }

    /// The ways that there are, each of which gives the same scores.
    pub fn ways(&self) -> impl Iterator<Item = Way> + use<> {
        let masks = self.masks.as_ref().map(|_| Way::ByMasks);
        [Way::ByRow, Way::ByTree].into_iter().chain(masks)
    }

    /// The way of so many rows.
    pub fn way(&self, rows: usize) -> Way {
        self.ways[rows.clamp(1, ROOM).ilog2() as usize]
    }

    /// Scores in one way only.
    pub fn go(&mut self, way: Way) {
        self.ways = [way; SIZES];
    }

    /// Keeps the fastest way for each size of blocks, by the time that `score` takes for so many rows.
    pub fn keep_the_fastest(&mut self, mut score: impl FnMut(&mut Self, usize)) {
        let mut fastest = [(Duration::MAX, Way::default()); SIZES];
        for way in self.ways() {
            self.go(way);
            for (size, fastest) in fastest.iter_mut().enumerate() {
                let mut took = || {
                    let started = Instant::now();
                    score(self, 1 << size);
                    started.elapsed()
                };
                let least = (0..TRIES).map(|_| took()).min().unwrap_or(Duration::MAX);
                if least < fastest.0 {
                    *fastest = (least, way);
                }
            }
        }
        self.ways = fastest.map(|(_, way)| way);
        if !self.ways.contains(&Way::ByMasks) {
            self.masks = None;
        }
    }

    /// The predictions of rows, `[rows, features]` to `[rows, width]`.
    pub fn score(&mut self, features: &[f32]) -> Vec<f32> {
        let width = self.layout.features().max(1);
        self.score_by_feature(features.len() / width, |rows, block| {
            let cells = &features[rows.start * width..rows.end * width];
            for feature in 0..width.min(cells.len()) {
                block.set(feature, cells[feature..].iter().step_by(width).copied());
            }
        })
    }

    /// The predictions of `count` rows, `[rows, width]`. `fill` sets every feature of some of them.
    pub fn score_by_feature(
        &mut self,
        count: usize,
        mut fill: impl FnMut(Range<usize>, &mut Block),
    ) -> Vec<f32> {
        let mut answer = Vec::with_capacity(count * self.width());
        let mut sums = vec![0.0; self.sums];
        let Self { layout, walker, masks, leaves, cells, totals, .. } = self;
        for first in (0..count).step_by(ROOM) {
            let rows = first..count.min(first + ROOM);
            let count = rows.len();
            totals.clear(self.sums);
            match (self.ways[count.ilog2() as usize], &mut *masks) {
                (Way::ByRow, _) => {
                    for row in 0..count {
                        fill(first + row..first + row + 1, &mut layout.block(cells, 1));
                        walker.by_row(cells, row, leaves, totals);
                    }
                }
                (Way::ByMasks, Some(masks)) => {
                    fill(rows, &mut layout.block(cells, ROOM));
                    masks.sum_up(cells, count, leaves, totals);
                }
                _ => {
                    fill(rows, &mut layout.block(cells, ROOM));
                    walker.by_tree(cells, count, leaves, totals);
                }
            }
            for row in 0..count {
                leaves.sums_of(totals, row, &mut sums);
                if let Some(trees) = self.divide_by {
                    sums.iter_mut().for_each(|sum| *sum /= trees);
                }
                sums.iter_mut().zip(&self.base).for_each(|(sum, base)| *sum += base);
                self.columns.write(self.link, &sums, &mut answer);
            }
        }
        answer
    }
}
