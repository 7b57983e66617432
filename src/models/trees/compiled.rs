//! An ensemble, ready to score rows.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::block::{Block, Layout};
use super::link::{Columns, Link};
use super::masks::{self, Masks};
use super::walk::Walker;

/// Rows that are scored together: the part of an ensemble that is at hand is of use to all of them.
const BLOCK_ROWS: usize = 2 * masks::LANES;
/// Rows of a batch from which on masks are worth their work, which is that of [`masks::LANES`] rows.
const MASKS_FROM: usize = masks::LANES / 2;

/// An ensemble, ready to score rows.
#[derive(Clone)]
pub struct CompiledTrees {
    pub(super) layout: Layout,
    pub(super) walker: Walker,
    pub(super) masks: Option<Masks>,
    pub(super) sums: usize,
    pub(super) divide_by: Option<f32>,
    pub(super) base: Vec<f32>,
    pub(super) link: Link,
    pub(super) columns: Columns,
    /// The cells of a block; kept for its memory, as are the sums.
    pub(super) cells: Vec<f32>,
    pub(super) totals: Vec<f32>,
}

impl CompiledTrees {
    /// The columns of a prediction.
    pub fn width(&self) -> usize {
        self.columns.count(self.sums)
    }

    /// Trees and nodes.
    pub fn size(&self) -> (usize, usize) {
        let Walker { groups, steps, .. } = &self.walker;
        (groups.iter().map(|group| group.trees).sum(), steps.len())
    }

    /// Batches of this many rows, and of one row, are scored in the two ways that there are.
    pub const BOTH_WAYS: [usize; 2] = [BLOCK_ROWS, MASKS_FROM - 1];

    /// Keeps the faster way to score large batches, by the time that `score` takes.
    pub fn keep_the_faster(&mut self, mut score: impl FnMut(&mut Self)) {
        let mut time = |trees: &mut Self| {
            let mut took = || {
                let started = Instant::now();
                score(trees);
                started.elapsed()
            };
            // The least is what it takes when nothing else has a turn.
            (0..3).map(|_| took()).min().unwrap_or(Duration::MAX)
        };
        let by_masks = time(self);
        let masks = self.masks.take();
        if masks.is_some() && by_masks < time(self) {
            self.masks = masks;
        }
    }

    /// The predictions of rows, `[rows, features]` to `[rows, width]`.
    pub fn score(&mut self, features: &[f32]) -> Vec<f32> {
        let width = self.layout.features.max(1);
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
        let Self { layout, walker, masks, cells, totals, sums, .. } = self;
        let mut masks = masks.as_mut().filter(|_| count >= MASKS_FROM);
        let room = masks.is_some().then_some(BLOCK_ROWS);
        for first in (0..count).step_by(BLOCK_ROWS) {
            let rows = first..count.min(first + BLOCK_ROWS);
            totals.clear();
            totals.resize(rows.len() * *sums, 0.0);
            let mut block = layout.block(cells, rows.len(), room);
            fill(rows, &mut block);
            match &mut masks {
                Some(masks) => masks.sum_up(cells, BLOCK_ROWS, totals),
                None => walker.sum_up(cells, layout.columns(), totals, *sums),
            }
            for sums in totals.chunks_exact_mut(*sums) {
                if let Some(trees) = self.divide_by {
                    sums.iter_mut().for_each(|sum| *sum /= trees);
                }
                sums.iter_mut().zip(&self.base).for_each(|(sum, base)| *sum += base);
                self.columns.write(self.link, sums, &mut answer);
            }
        }
        answer
    }
}
