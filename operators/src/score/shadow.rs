//! Models that score beside others and are only compared with them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arrow::error::ArrowError;

use super::evaluate::{Evaluated, Evaluator};
use crate::accounting::{Compared, LaneGauge, Said};
use crate::control::Turn;
use crate::micro_batch::Part;
use crate::model::Task;
use crate::numbers::Numbers;
use crate::routes::table::{RouteTable, Scores};

/// Rows that wait for shadows at most before rows that wait to be scored make place for them.
const ROWS_MAX: usize = 16_384;

/// Rows that have been scored, for shadows of their lane.
pub(super) struct Scored {
    pub lane: usize,
    /// That has scored them.
    pub version: usize,
    parts: Vec<Part<Turn>>,
    predictions: Numbers,
    width: usize,
    task: Task,
}

impl Scored {
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

/// What shadows have yet to score.
pub(super) struct Shadows {
    waiting: VecDeque<Scored>,
    rows: usize,
    /// By lane.
    gauges: Vec<LaneGauge>,
    /// By lane, whether there are any.
    are_there: Vec<bool>,
    shed: Option<Arc<AtomicBool>>,
}

impl Shadows {
    pub fn new(routes: &RouteTable, gauges: Vec<LaneGauge>, shed: Option<Arc<AtomicBool>>) -> Self {
        let are_there = routes.lanes.iter().map(|lane| !lane.shadows.is_empty()).collect();
        Shadows { waiting: VecDeque::new(), rows: 0, gauges, are_there, shed }
    }

    pub fn gauge(&self, lane: usize) -> &LaneGauge {
        &self.gauges[lane]
    }

    /// Rows of a lane have been scored by a version, and are to be by its shadows.
    pub fn compare(&mut self, lane: usize, scored: &Evaluated, version: usize) {
        if !self.are_there[lane] {
            return;
        }
        let gauge = &self.gauges[lane];
        if self.shed.as_ref().is_some_and(|shed| shed.load(Relaxed)) {
            gauge.shed(scored.rows());
            return;
        }
        let Evaluated { parts, predictions, width, task, .. } = scored;
        self.rows += scored.rows();
        self.waiting.push_back(Scored {
            lane,
            version,
            parts: parts.clone(),
            predictions: predictions.clone(),
            width: *width,
            task: *task,
        });
    }

    /// Whether so many rows wait that others have to.
    pub fn are_many(&self) -> bool {
        self.rows > ROWS_MAX
    }

    /// The lowest epoch of which rows wait.
    pub fn waits_for(&self) -> Option<u64> {
        let parts = self.waiting.iter().flat_map(|scored| &scored.parts);
        parts.map(|part| part.tag.epoch).min()
    }

    pub fn next(&mut self) -> Option<Scored> {
        let next = self.waiting.pop_front()?;
        self.rows -= next.rows();
        Some(next)
    }

    /// What a shadow says of rows, which is compared; nothing where it says nothing of any.
    pub fn score(
        &self,
        shadow: Scores,
        of: &Scored,
        evaluator: &mut Evaluator,
    ) -> Result<Option<Vec<Evaluated>>, ArrowError> {
        let outcome = evaluator.evaluate(shadow, of.parts.clone(), Duration::ZERO, true)?;
        let gauge = &self.gauges[of.lane];
        let failed: usize = outcome.failed.iter().map(|(part, _)| part.rows).sum();
        gauge.shadow_failed(shadow, failed);
        for scored in &outcome.scored {
            let rows = scored.parts.iter().flat_map(|part| {
                let first = of.first_of(part);
                first..first + part.rows
            });
            let compared = Compared {
                primary: said(&of.predictions, of.width, of.task),
                shadow: said(&scored.predictions, scored.width, scored.task),
                rows: rows.collect(),
            };
            gauge.shadow_scored(shadow, &compared);
        }
        Ok((!outcome.scored.is_empty()).then_some(outcome.scored))
    }
}

impl Scored {
    /// The number of the first row of a part of these parts.
    fn first_of(&self, part: &Part<Turn>) -> usize {
        let mut first = 0;
        for own in &self.parts {
            let rows = own.start..own.start + own.rows;
            if own.source == part.source && rows.contains(&part.start) {
                return first + part.start - own.start;
            }
            first += own.rows;
        }
        debug_assert!(false, "a shadow scores rows that were scored");
        0
    }
}

fn said(predictions: &Numbers, width: usize, task: Task) -> Said {
    Said { numbers: predictions.iter().collect(), width, task }
}
