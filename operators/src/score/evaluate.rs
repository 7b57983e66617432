//! What a model, an ensemble or a cascade makes of a micro-batch.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::lane::{Starts, kept, select};
use crate::control::Turn;
use crate::layout::EventLayout;
use crate::micro_batch::Part;
use crate::model::{ModelError, ModelIdentity, Task};
use crate::model_bank::{ModelBank, Slot};
use crate::not_finite;
use crate::numbers::Numbers;
use crate::patience::Patience;
use crate::prediction::PredictionFormat;
use crate::routes::assignment::Buckets;
use crate::routes::ensemble::{largest, of_row};
use crate::routes::table::{Breaker, Ids, RouteTable, Scores};
use crate::run::Run;
use crate::status::RowNote;
use crate::validate::missing_detail;

/// A worker's models, and how they score together.
pub(super) struct Evaluator {
    pub models: ModelBank,
    pub(super) routes: Arc<RouteTable>,
    layout: EventLayout,
    pub(super) run: Run,
}

/// Rows that have a prediction.
pub(super) struct Evaluated {
    /// What made it: a model or an ensemble.
    pub scores: Scores,
    pub parts: Vec<Part<Turn>>,
    /// `[rows * width]`.
    pub predictions: Numbers,
    pub width: usize,
    pub task: Task,
    /// `[rows]`, where that is not the largest probability.
    pub confidences: Option<Numbers>,
    /// The tensors, `[rows * inputs]`; empty where they are not kept.
    pub inputs: Vec<f32>,
    /// The rows of each run of models one after the other, the rows of its micro-batch, and what it took.
    pub runs: Vec<(usize, usize, Duration)>,
    /// `[rows]`, where there is something to say of them.
    pub notes: Option<Vec<RowNote>>,
}

/// What becomes of the rows of a micro-batch.
#[derive(Default)]
pub(super) struct Outcome {
    pub scored: Vec<Evaluated>,
    pub failed: Failed,
}

/// Runs of rows, and why each has no prediction.
pub(super) type Failed = Vec<(Part<Turn>, String)>;

/// Which request ids try a model that was out of service are hashed with its name behind this.
const TRIAL: &str = "trial of ";

/// What predictions say of what made them.
pub(super) struct SaidOf<'a> {
    pub identity: &'a ModelIdentity,
    pub version: usize,
    pub task: Task,
    pub format: &'a mut PredictionFormat,
}

/// What a model says of the rows of a micro-batch, by row.
#[derive(Default)]
pub(super) struct OfModel {
    /// NaN where a row has failed.
    pub predictions: Vec<Numbers>,
    inputs: Vec<f32>,
    pub runs: Vec<(usize, usize, Duration)>,
    /// Rows in order, and why.
    pub failed: Vec<(usize, String)>,
}

impl Evaluator {
    pub fn new(models: ModelBank, routes: Arc<RouteTable>, layout: EventLayout, run: Run) -> Self {
        Evaluator { models, routes, layout, run }
    }

    pub fn said_of(&mut self, scores: Scores) -> SaidOf<'_> {
        match scores {
            Scores::Ensemble(at) => {
                let ready = self.models.ensemble(at);
                let (version, task) = (ready.version, ready.task);
                SaidOf { identity: &ready.identity, version, task, format: &mut ready.format }
            }
            Scores::Model(at) | Scores::Cascade(at) => {
                let ready = &mut self.models.model(at).ready;
                let (version, task) = (ready.version, ready.model.task());
                SaidOf { identity: &ready.identity, version, task, format: &mut ready.format }
            }
        }
    }

    /// Scores rows of one state of control. `may_lack`: rows may lack features that it needs, which are
    /// failed rows then.
    ///
    /// # Errors
    /// If rows are not what the job makes of its input.
    pub fn evaluate(
        &mut self,
        scores: Scores,
        parts: Vec<Part<Turn>>,
        wait: Duration,
        may_lack: bool,
    ) -> Result<Outcome, ArrowError> {
        let Some(control) = parts.first().map(|part| part.tag.control) else {
            return Ok(Outcome::default());
        };
        self.models.stand_at(control)?;
        let (parts, lacking) = match may_lack {
            true => self.without_lacking(scores, parts),
            false => (parts, Vec::new()),
        };
        let (parts, kept) = match scores {
            Scores::Model(model) => self.without_kept(model, parts)?,
            Scores::Cascade(at) => self.without_kept(self.routes.cascades[at].first, parts)?,
            // A member that rows are kept from counts as one that has failed.
            Scores::Ensemble(_) => (parts, Vec::new()),
        };
        let mut outcome = match scores {
            _ if parts.is_empty() => Outcome::default(),
            Scores::Model(model) => {
                let of_model = self.of_model(model, &parts, wait)?;
                self.outcome(model, parts, of_model)
            }
            Scores::Ensemble(ensemble) => self.of_ensemble(ensemble, parts, wait)?,
            Scores::Cascade(cascade) => self.of_cascade(cascade, parts, wait)?,
        };
        outcome.failed.extend(lacking);
        outcome.failed.extend(kept);
        Ok(outcome)
    }

    /// Which rows a model is given, where those are not all: its circuit breaker may be open, or let few
    /// request ids try it.
    pub(super) fn given(
        &self,
        model: usize,
        parts: &[Part<Turn>],
    ) -> Result<Option<Vec<bool>>, ArrowError> {
        let breakers = &self.models.settings().breakers;
        let share = match breakers.get(model).copied().unwrap_or_default() {
            Breaker::Closed => return Ok(None),
            Breaker::Open => 0,
            Breaker::HalfOpen(share) => share,
        };
        let mut buckets = Buckets::new(&format!("{TRIAL}{}", self.routes.models[model]));
        let (mut given, mut text) = (Vec::new(), String::new());
        for part in parts {
            let rows = part.slice();
            let ids = Ids::of(None, &rows, &self.layout)?;
            given.extend((0..part.rows).map(|row| buckets.of(ids.text(row, &mut text)) < share));
        }
        Ok(Some(given))
    }

    /// Rows that a model is given, and the others.
    fn without_kept(
        &self,
        model: usize,
        parts: Vec<Part<Turn>>,
    ) -> Result<(Vec<Part<Turn>>, Failed), ArrowError> {
        let Some(given) = self.given(model, &parts)? else { return Ok((parts, Vec::new())) };
        let kept = select(&parts, |row| !given[row]).into_iter();
        let why = self.out_of_service(model);
        let kept = kept.map(|part| (part, why.clone())).collect();
        Ok((select(&parts, |row| given[row]), kept))
    }

    pub(super) fn out_of_service(&self, model: usize) -> String {
        format!("{} is out of service: its circuit breaker is open", self.routes.models[model])
    }

    /// Rows that have all features, and the others.
    fn without_lacking(
        &mut self,
        scores: Scores,
        parts: Vec<Part<Turn>>,
    ) -> (Vec<Part<Turn>>, Failed) {
        let mut lacking = Vec::new();
        let mut parts = parts;
        for model in self.routes.models_of(scores) {
            let slot = self.models.model(model);
            let mut whole = Vec::with_capacity(parts.len());
            for part in parts {
                let lacks = |row: usize| {
                    let at = part.start + row;
                    slot.required.iter().find(|input| part.batch.column(input.column).is_null(at))
                };
                whole.extend(select(std::slice::from_ref(&part), |row| lacks(row).is_none()));
                for row in 0..part.rows {
                    let Some(input) = lacks(row) else { continue };
                    let why = missing_detail(input);
                    lacking.push((Part { start: part.start + row, rows: 1, ..part.clone() }, why));
                }
            }
            parts = whole;
        }
        (parts, lacking)
    }

    /// What a model says of rows. A batch that it refuses is halved until only rows are left that it
    /// refuses alone.
    pub(super) fn of_model(
        &mut self,
        model: usize,
        parts: &[Part<Turn>],
        wait: Duration,
    ) -> Result<OfModel, ArrowError> {
        let slot = self.models.model(model);
        let features = slot.features(parts)?;
        Ok(of_features(slot, &features, parts, wait, &self.run))
    }

    fn outcome(&mut self, model: usize, parts: Vec<Part<Turn>>, of: OfModel) -> Outcome {
        let slot = self.models.model(model);
        let (width, task) = (slot.ready.model.width(), slot.ready.model.task());
        let OfModel { predictions, inputs, runs, failed } = of;
        let evaluated = Evaluated {
            scores: Scores::Model(model),
            parts,
            predictions: joined(predictions),
            width,
            task,
            confidences: None,
            inputs,
            runs,
            notes: None,
        };
        Outcome::of(evaluated, failed)
    }

    fn of_cascade(
        &mut self,
        at: usize,
        parts: Vec<Part<Turn>>,
        wait: Duration,
    ) -> Result<Outcome, ArrowError> {
        let routes = self.routes.clone();
        let cascade = &routes.cascades[at];
        let first = self.of_model(cascade.first, &parts, wait)?;
        let mut outcome = self.outcome(cascade.first, parts, first);
        let Some(mut first) = outcome.scored.pop() else { return Ok(outcome) };
        let rows = first.rows();
        let confidence = |row| largest(&of_row(&first.predictions, first.width, row));
        let is_unsure: Vec<bool> =
            (0..rows).map(|row| confidence(row) < cascade.confidence_below).collect();
        let note = |stage, failed| RowNote::of_cascade(&cascade.name, stage, failed);
        first.notes = Some(vec![note(1, false); rows]);
        let given = self.given(cascade.then, &first.parts)?;
        let is_given = |row: usize| given.as_ref().is_none_or(|given| given[row]);
        let goes_on: Vec<bool> = (0..rows).map(|row| is_unsure[row] && is_given(row)).collect();
        let unsure = select(&first.parts, |row| goes_on[row]);
        let then = match unsure.is_empty() {
            true => OfModel::default(),
            false => self.of_model(cascade.then, &unsure, wait)?,
        };
        let places: Vec<usize> = (0..rows).filter(|&row| goes_on[row]).collect();
        let failed = then.failed.iter().map(|(row, _)| places[*row]);
        let kept = (0..rows).filter(|&row| is_unsure[row] && !goes_on[row]);
        let mut keeps_first: Vec<bool> = is_unsure.iter().map(|unsure| !unsure).collect();
        for row in failed.chain(kept) {
            // What the first one said stands.
            keeps_first[row] = true;
            first.notes.iter_mut().for_each(|notes| notes[row] = note(1, true));
        }
        if unsure.is_empty() {
            outcome.scored.push(first);
            return Ok(outcome);
        }
        first.keep(|row| keeps_first[row]);
        outcome.scored.extend((!first.parts.is_empty()).then_some(first));
        let then = self.outcome(cascade.then, unsure, then);
        for mut scored in then.scored {
            scored.notes = Some(vec![note(2, false); scored.rows()]);
            outcome.scored.push(scored);
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Of rows of which some have failed.
    pub fn of(mut evaluated: Evaluated, failed: Vec<(usize, String)>) -> Self {
        let failed = evaluated.without(failed);
        let scored = if evaluated.parts.is_empty() { Vec::new() } else { vec![evaluated] };
        Outcome { scored, failed }
    }
}

impl Evaluated {
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Takes failed rows away, and gives them back as runs of rows.
    fn without(&mut self, failed: Vec<(usize, String)>) -> Failed {
        if failed.is_empty() {
            return Vec::new();
        }
        let mut has_failed = vec![false; self.rows()];
        let mut runs = Vec::with_capacity(failed.len());
        let starts = Starts::of(&self.parts);
        for (row, why) in failed {
            has_failed[row] = true;
            runs.push((starts.row(&self.parts, row), why));
        }
        self.keep(|row| !has_failed[row]);
        runs
    }

    /// Only some rows are left.
    fn keep(&mut self, is_kept: impl Fn(usize) -> bool) {
        let rows = self.rows();
        let mask = (0..rows).map(|row| Some(is_kept(row))).collect();
        self.predictions = self.predictions.of_rows(self.width, &mask);
        self.confidences = self.confidences.take().map(|numbers| numbers.of_rows(1, &mask));
        let inputs = self.inputs.len() / rows.max(1);
        self.inputs = kept(&self.inputs, inputs, &is_kept);
        self.notes = self.notes.take().map(|notes| kept(&notes, 1, &is_kept));
        let mut at = 0;
        for (of_run, ..) in &mut self.runs {
            let left = (at..at + *of_run).filter(|&row| is_kept(row)).count();
            at += *of_run;
            *of_run = left;
        }
        self.parts = select(&self.parts, is_kept);
    }
}

/// The numbers of runs one after the other.
pub(super) fn joined(runs: Vec<Numbers>) -> Numbers {
    let mut runs = runs.into_iter();
    let mut all = runs.next().unwrap_or_else(|| Numbers::with_capacity(false, 0));
    runs.for_each(|run| all.extend(&run, 0..run.len()));
    all
}

/// What a model says of its inputs, `parts` being the rows that they are of.
pub(super) fn of_features(
    slot: &mut Slot,
    features: &RecordBatch,
    parts: &[Part<Turn>],
    wait: Duration,
    run: &Run,
) -> OfModel {
    let mut of = OfModel::default();
    let mut patience = Patience::with(features.num_rows());
    score_rows(slot, features, (0, wait), &mut patience, run, &mut of);
    without_not_finite(slot, parts, &mut of);
    slot.gauge.ran(of.failed.len() < features.num_rows());
    of
}

/// Rows of which the model says what is no number have failed.
fn without_not_finite(slot: &Slot, parts: &[Part<Turn>], of: &mut OfModel) {
    let width = slot.ready.model.width();
    if of.predictions.iter().all(|numbers| numbers.finite_rows(width).is_none()) {
        return;
    }
    let predictions = joined(std::mem::take(&mut of.predictions));
    if let Some(finite) = predictions.finite_rows(width) {
        let mut is_known = vec![false; finite.len()];
        of.failed.iter().for_each(|(row, _)| is_known[*row] = true);
        let starts = Starts::of(parts);
        for row in (0..finite.len()).filter(|&row| !finite.value(row) && !is_known[row]) {
            let vector = predictions.slice(row * width..(row + 1) * width);
            let part = starts.row(parts, row);
            let detail = not_finite::detail(&vector, &part.batch, &slot.ready.inputs, part.start);
            slot.gauge.failed(1, &detail);
            of.failed.push((row, detail));
        }
        of.failed.sort_by_key(|(row, _)| *row);
    }
    of.predictions = vec![predictions];
}

/// Scores rows of features, of which `first` come before and the oldest has waited `wait`; halves of them
/// where they are refused, or take too long, until nobody has patience any more.
fn score_rows(
    slot: &mut Slot,
    features: &RecordBatch,
    (first, wait): (usize, Duration),
    patience: &mut Patience,
    run: &Run,
    of: &mut OfModel,
) {
    let rows = features.num_rows();
    if let Some(why) = patience.lost() {
        let why = why.to_owned();
        return refuse(slot, first..first + rows, Duration::ZERO, &why, of);
    }
    let started = run.clock.now();
    let scores = slot.run(features);
    let took = run.clock.now().saturating_sub(started);
    let error = match scores {
        Ok(scores) => {
            slot.gauge.scored(rows, wait, took);
            of.runs.push((rows, rows, took));
            // A row that is alone may have been scored with a copy of itself.
            let (numbers, inputs) = (rows * slot.ready.model.width(), features.num_columns());
            // A program's own model may tell them unasked.
            if let Some(input) = scores.input.filter(|_| slot.ready.format.keeps_inputs()) {
                of.inputs.extend_from_slice(&input.values()[..rows * inputs]);
            }
            of.predictions.push(match scores.predictions.len() == numbers {
                true => scores.predictions,
                false => scores.predictions.slice(0..numbers),
            });
            return;
        }
        Err(error) => error,
    };
    if let ModelError::Overstayed { limit_ms } = error {
        slot.gauge.overstayed();
        patience.overstayed(limit_ms);
    }
    if rows == 1 {
        return refuse(slot, first..first + 1, took, &error.to_string(), of);
    }
    let half = rows / 2;
    score_rows(slot, &features.slice(0, half), (first, wait), patience, run, of);
    let rest = features.slice(half, rows - half);
    score_rows(slot, &rest, (first + half, wait), patience, run, of);
}

/// Rows that have no prediction: theirs is NaN.
fn refuse(slot: &mut Slot, rows: Range<usize>, took: Duration, why: &str, of: &mut OfModel) {
    slot.gauge.failed(rows.len(), why);
    let ready = &slot.ready;
    of.runs.push((rows.len(), rows.len(), took));
    let none = vec![f64::NAN; ready.model.width() * rows.len()];
    of.predictions.push(match ready.model.gives_doubles() {
        true => Numbers::Doubles(none),
        false => Numbers::Floats(Numbers::Doubles(none).into_floats()),
    });
    if ready.format.keeps_inputs() {
        of.inputs.extend(std::iter::repeat_n(f32::NAN, ready.inputs.len() * rows.len()));
    }
    of.failed.extend(rows.map(|row| (row, why.to_owned())));
}
