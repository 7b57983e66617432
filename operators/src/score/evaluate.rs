//! What a model, an ensemble or a cascade makes of a micro-batch.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::compute::{cast, concat};
use arrow::error::ArrowError;

use super::lane::{Tag, kept, select};
use crate::micro_batch::Part;
use crate::model::{ModelError, ModelIdentity, Task};
use crate::model_bank::{ModelBank, Slot};
use crate::not_finite;
use crate::numbers::Numbers;
use crate::patience::Patience;
use crate::prediction::PredictionFormat;
use crate::routes::ensemble::{Policy, Together, largest, of_row, score};
use crate::routes::table::{Breaker, RouteTable, Scores};
use crate::run::Run;
use crate::status::RowNote;
use crate::validate::missing_detail;

/// A worker's models, and how they score together.
pub(super) struct Evaluator {
    pub models: ModelBank,
    routes: Arc<RouteTable>,
    run: Run,
}

/// Rows that have a prediction.
pub(super) struct Evaluated {
    /// What made it: a model or an ensemble.
    pub scores: Scores,
    pub parts: Vec<Part<Tag>>,
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
pub(super) type Failed = Vec<(Part<Tag>, String)>;

/// What predictions say of what made them.
pub(super) struct SaidOf<'a> {
    pub identity: &'a ModelIdentity,
    pub version: usize,
    pub task: Task,
    pub format: &'a mut PredictionFormat,
}

/// What a model says of the rows of a micro-batch, by row.
#[derive(Default)]
struct OfModel {
    /// NaN where a row has failed.
    predictions: Vec<Numbers>,
    inputs: Vec<f32>,
    runs: Vec<(usize, usize, Duration)>,
    /// Rows in order, and why.
    failed: Vec<(usize, String)>,
}

impl Evaluator {
    pub fn new(models: ModelBank, routes: Arc<RouteTable>, run: Run) -> Self {
        Evaluator { models, routes, run }
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
        parts: Vec<Part<Tag>>,
        wait: Duration,
        may_lack: bool,
    ) -> Result<Outcome, ArrowError> {
        let Some(control) = parts.first().map(|part| part.tag.turn.control) else {
            return Ok(Outcome::default());
        };
        self.models.stand_at(control)?;
        let (parts, lacking) = match may_lack {
            true => self.without_lacking(scores, parts),
            false => (parts, Vec::new()),
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
        Ok(outcome)
    }

    /// Rows that have all features, and the others.
    fn without_lacking(
        &mut self,
        scores: Scores,
        parts: Vec<Part<Tag>>,
    ) -> (Vec<Part<Tag>>, Failed) {
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
    fn of_model(
        &mut self,
        model: usize,
        parts: &[Part<Tag>],
        wait: Duration,
    ) -> Result<OfModel, ArrowError> {
        let slot = self.models.model(model);
        let features = slot.features(parts)?;
        Ok(of_features(slot, &features, parts, wait, &self.run))
    }

    fn outcome(&mut self, model: usize, parts: Vec<Part<Tag>>, of: OfModel) -> Outcome {
        let slot = self.models.model(model);
        let (width, task) = (slot.ready.model.width(), slot.ready.model.task());
        let OfModel { predictions, inputs, runs, failed } = of;
        let mut evaluated = Evaluated {
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
        let failed = evaluated.without(failed);
        let scored = if evaluated.parts.is_empty() { Vec::new() } else { vec![evaluated] };
        Outcome { scored, failed }
    }

    fn of_ensemble(
        &mut self,
        at: usize,
        parts: Vec<Part<Tag>>,
        wait: Duration,
    ) -> Result<Outcome, ArrowError> {
        let routes = self.routes.clone();
        let ensemble = &routes.ensembles[at];
        let rows = parts.iter().map(|part| part.rows).sum::<usize>();
        let mut members = Vec::with_capacity(ensemble.members.len());
        for member in &ensemble.members {
            members.push(self.of_member(member.model, &parts, wait)?);
        }
        let mut took = members.iter().map(|member| member.took).sum::<Duration>();
        let (task, width) = {
            let ready = self.models.ensemble(at);
            (ready.task, ready.width)
        };
        let mut together: Vec<Result<Together, String>> = match ensemble.policy {
            Policy::Stacking { by } => {
                let (stacked, more) = self.stacked(by, at, &parts, &members, wait)?;
                took += more;
                stacked
            }
            _ => {
                let of_row = |row: usize| {
                    let said: Vec<_> = members.iter().map(|member| member.of(row)).collect();
                    let together = ensemble.together(task, width, &said);
                    together.ok_or_else(|| all_failed(&members, row))
                };
                (0..rows).map(of_row).collect()
            }
        };
        let mut evaluated = Evaluated {
            scores: Scores::Ensemble(at),
            parts,
            predictions: Numbers::with_capacity(true, rows * width),
            width,
            task,
            confidences: None,
            inputs: Vec::new(),
            runs: vec![(rows, rows, took)],
            notes: Some(Vec::with_capacity(rows)),
        };
        let mut confidences = Vec::with_capacity(rows);
        let (mut failed, mut predictions) = (Vec::new(), Vec::with_capacity(rows * width));
        for (row, together) in together.iter_mut().enumerate() {
            match together {
                Ok(Together { prediction, confidence }) => {
                    confidences.extend(*confidence);
                    predictions.append(prediction);
                }
                Err(why) => {
                    failed.push((row, std::mem::take(why)));
                    confidences.push(f64::NAN);
                    predictions.extend(std::iter::repeat_n(f64::NAN, width));
                }
            }
        }
        let notes = (0..rows).map(|row| note_of(ensemble, &members, row));
        evaluated.notes = Some(notes.collect());
        let gives_doubles = self.models.ensemble(at).gives_doubles;
        let as_wide = |numbers| match gives_doubles {
            true => Numbers::Doubles(numbers),
            false => Numbers::Floats(Numbers::Doubles(numbers).into_floats()),
        };
        evaluated.predictions = as_wide(predictions);
        let has_own = ensemble.policy == Policy::WeightedAverage && task != Task::Regression;
        evaluated.confidences = has_own.then(|| as_wide(confidences));
        let failed = evaluated.without(failed);
        let scored = if evaluated.parts.is_empty() { Vec::new() } else { vec![evaluated] };
        Ok(Outcome { scored, failed })
    }

    /// What a member says of rows; nothing while it is out of service.
    fn of_member(
        &mut self,
        model: usize,
        parts: &[Part<Tag>],
        wait: Duration,
    ) -> Result<OfMember, ArrowError> {
        let rows = parts.iter().map(|part| part.rows).sum::<usize>();
        let is_open = self.models.settings().breakers.get(model) == Some(&Breaker::Open);
        let of = match is_open {
            false => self.of_model(model, parts, wait)?,
            true => OfModel {
                failed: (0..rows)
                    .map(|row| (row, "its circuit breaker is open".to_owned()))
                    .collect(),
                ..OfModel::default()
            },
        };
        let slot = self.models.model(model);
        let (width, task) = (slot.ready.model.width(), slot.ready.model.task());
        let predictions = joined(of.predictions);
        let mut why = vec![None; rows];
        of.failed.into_iter().for_each(|(row, detail)| why[row] = Some(detail));
        let said = |row: usize| match why[row] {
            Some(_) => Vec::new(),
            None => of_row(&predictions, width, row),
        };
        let said = (0..rows).map(said).collect();
        let took = of.runs.iter().map(|(.., took)| *took).sum();
        let identity = slot.ready.identity.clone();
        Ok(OfMember { identity, task, width, predictions, said, why, took })
    }

    /// The predictions of the model that has members' scores as its inputs, and what it took.
    fn stacked(
        &mut self,
        by: usize,
        at: usize,
        parts: &[Part<Tag>],
        members: &[OfMember],
        wait: Duration,
    ) -> Result<(Vec<Result<Together, String>>, Duration), ArrowError> {
        let routes = self.routes.clone();
        let ensemble = &routes.ensembles[at];
        let rows = parts.iter().map(|part| part.rows).sum::<usize>();
        let slot = self.models.model(by);
        let enriched = parts.first().map_or(0, |part| part.batch.num_columns());
        let fields = slot.ready.features.fields();
        let column = |(input, field): (usize, &crate::model_input::ModelInput)| {
            let data_type = fields[input].data_type();
            match field.column.checked_sub(enriched) {
                Some(member) => {
                    let OfMember { task, width, said, .. } = &members[member];
                    let neutral = ensemble.neutral(*task, *width);
                    let of_row = |said: &Vec<f64>| {
                        score(*task, if said.is_empty() { &neutral } else { said })
                    };
                    let scores = Float64Array::from_iter_values(said.iter().map(of_row));
                    cast(&scores, data_type)
                }
                None => {
                    let of_part = |part: &Part<Tag>| {
                        part.batch.column(field.column).slice(part.start, part.rows)
                    };
                    let pieces: Vec<ArrayRef> = parts.iter().map(of_part).collect();
                    concat(&pieces.iter().map(|piece| piece.as_ref()).collect::<Vec<_>>())
                }
            }
        };
        let columns = slot.ready.inputs.iter().enumerate().map(column);
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let features = RecordBatch::try_new(slot.ready.features.clone(), columns)?;
        let of = of_features(slot, &features, parts, wait, &self.run);
        let width = slot.ready.model.width();
        let took = of.runs.iter().map(|(.., took)| *took).sum();
        let predictions = joined(of.predictions);
        let together =
            |row| Together { prediction: of_row(&predictions, width, row), confidence: None };
        let mut together: Vec<Result<Together, String>> =
            (0..rows).map(|row| Ok(together(row))).collect();
        of.failed.into_iter().for_each(|(row, why)| together[row] = Err(why));
        for (row, together) in together.iter_mut().enumerate() {
            if members.iter().all(|member| member.why[row].is_some()) {
                *together = Err(all_failed(members, row));
            }
        }
        Ok((together, took))
    }

    fn of_cascade(
        &mut self,
        at: usize,
        parts: Vec<Part<Tag>>,
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
        let unsure = select(&first.parts, |row| is_unsure[row]);
        if unsure.is_empty() {
            outcome.scored.push(first);
            return Ok(outcome);
        }
        let then = self.of_model(cascade.then, &unsure, wait)?;
        let failed: Vec<usize> = then.failed.iter().map(|(row, _)| *row).collect();
        let places: Vec<usize> = (0..rows).filter(|&row| is_unsure[row]).collect();
        let mut keeps_first: Vec<bool> = is_unsure.iter().map(|unsure| !unsure).collect();
        for &row in &failed {
            // What the first one said stands.
            keeps_first[places[row]] = true;
            first.notes.iter_mut().for_each(|notes| notes[places[row]] = note(1, true));
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
        for (row, why) in failed {
            has_failed[row] = true;
            let part = select(&self.parts, |other| other == row).into_iter().next();
            runs.extend(part.map(|part| (part, why)));
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

/// What a member of an ensemble says, by row.
struct OfMember {
    identity: ModelIdentity,
    task: Task,
    width: usize,
    predictions: Numbers,
    /// Empty where it has failed.
    said: Vec<Vec<f64>>,
    why: Vec<Option<String>>,
    took: Duration,
}

impl OfMember {
    fn of(&self, row: usize) -> Option<&[f64]> {
        self.why[row].is_none().then_some(self.said[row].as_slice())
    }
}

fn all_failed(members: &[OfMember], row: usize) -> String {
    let why = members.iter().filter_map(|member| {
        member.why[row].as_ref().map(|why| format!("{}: {why}", member.identity.name))
    });
    format!("all members have failed: {}", why.collect::<Vec<_>>().join("; "))
}

/// What the metadata of a row says of the members.
fn note_of(
    ensemble: &crate::routes::ensemble::Ensemble,
    members: &[OfMember],
    row: usize,
) -> RowNote {
    let said = ensemble.members.iter().zip(members).map(|(member, of)| {
        let numbers = match of.why[row] {
            Some(_) => Vec::new(),
            None => of.predictions.slice(row * of.width..(row + 1) * of.width).texts(),
        };
        let confidence = match (of.task, of.of(row)) {
            (Task::Regression, Some(_)) => "null".to_owned(),
            (_, Some(_)) => {
                let numbers = of.predictions.slice(row * of.width..(row + 1) * of.width);
                numbers.largest(of.width).texts().remove(0)
            }
            (_, None) => "0".to_owned(),
        };
        let error = of.why[row].as_ref().map(|why| format!(",\"error\":{}", text(why)));
        format!(
            "{{\"model\":{},\"version\":{},\"weight\":{},\"prediction\":[{}],\"confidence\":{confidence}{}}}",
            text(&of.identity.name),
            text(&of.identity.version),
            member.weight,
            numbers.join(","),
            error.unwrap_or_default()
        )
    });
    let said = format!("\"members\":[{}]", said.collect::<Vec<_>>().join(","));
    RowNote { member_failed: members.iter().any(|member| member.why[row].is_some()), said }
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The numbers of runs one after the other.
fn joined(runs: Vec<Numbers>) -> Numbers {
    let mut runs = runs.into_iter();
    let mut all = runs.next().unwrap_or_else(|| Numbers::with_capacity(false, 0));
    runs.for_each(|run| all.extend(&run, 0..run.len()));
    all
}

/// What a model says of its inputs, `parts` being the rows that they are of.
fn of_features(
    slot: &mut Slot,
    features: &RecordBatch,
    parts: &[Part<Tag>],
    wait: Duration,
    run: &Run,
) -> OfModel {
    let mut of = OfModel::default();
    let mut patience = Patience::with(features.num_rows());
    score_rows(slot, features, (0, wait), &mut patience, run, &mut of);
    slot.gauge.ran(of.failed.len() < features.num_rows());
    let width = slot.ready.model.width();
    if of.predictions.iter().all(|numbers| numbers.finite_rows(width).is_none()) {
        return of;
    }
    let predictions = joined(std::mem::take(&mut of.predictions));
    let is_known: Vec<usize> = of.failed.iter().map(|(row, _)| *row).collect();
    if let Some(finite) = predictions.finite_rows(width) {
        for row in (0..finite.len()).filter(|&row| !finite.value(row) && !is_known.contains(&row)) {
            let vector = predictions.slice(row * width..(row + 1) * width);
            let detail = match select(parts, |other| other == row).first() {
                Some(part) => {
                    not_finite::detail(&vector, &part.batch, &slot.ready.inputs, part.start)
                }
                None => String::new(),
            };
            slot.gauge.failed(1, &detail);
            of.failed.push((row, detail));
        }
        of.failed.sort_by_key(|(row, _)| *row);
    }
    of.predictions = vec![predictions];
    of
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
            if let Some(input) = scores.input {
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
