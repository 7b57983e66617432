//! Scoring: features are validated, rows gathered into micro-batches, and the model run on them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::alert::AlertRules;
use crate::control::Turn;
use crate::core::ROWS_PER_STEP;
use crate::core::finish::{Out, Work};
use crate::dead_letter::{DeadLetters, Reason};
use crate::features::rules::Rules;
use crate::layout::EventLayout;
use crate::micro_batch::{BatchBounds, MicroBatcher, Part, halves};
use crate::model::{ModelError, ScoredRows};
use crate::model_bank::{ModelBank, ModelShelf, ReadyModel};
use crate::not_finite;
use crate::partition_names::PartitionNames;
use crate::patience::Patience;
use crate::prediction::{self, ScoredColumns};
use crate::run::Run;
use crate::sinks::Output;
use crate::validate::Validator;
use crate::warm_up::WarmUp;
use crate::watched::{Seen, Watched};

/// What a worker needs to score enriched rows.
pub struct Scoring {
    pub layout: EventLayout,
    pub enriched: SchemaRef,
    /// That a run begins with.
    pub model: ReadyModel,
    /// Where those of later states of control come from, if there can be any.
    pub shelf: Option<Arc<dyn ModelShelf>>,
    pub bounds: BatchBounds,
    pub warm_up: WarmUp,
    pub partition_names: PartitionNames,
    /// What rows must be.
    pub rules: Arc<Rules>,
    /// What is told of single rows, if anything is.
    pub alerts: Option<Arc<AlertRules>>,
    pub run: Run,
}

type Group = (Part<Turn>, ScoredColumns);

/// The models and what goes on around one run of them.
pub struct Scorer {
    validator: Validator,
    layout: EventLayout,
    models: ModelBank,
    max_rows: usize,
    warm_up: WarmUp,
    partition_names: PartitionNames,
    alerts: Option<Arc<AlertRules>>,
    run: Run,
    watched: Watched,
    /// Whether anybody looks at what is watched of all rows.
    is_watched: bool,
    worker: usize,
    batcher: MicroBatcher<Turn>,
}

impl Work for Scorer {
    fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let rows = self.warm_up.without(rows, &self.layout)?;
        let required = &self.models.of(turn.control)?.required;
        let (rows, letters) = self.validator.sift(rows, required)?;
        let epoch = turn.epoch;
        out.extend(letters.map(|rows| Out { epoch, output: Output::DeadLetters, rows }));
        let Run { counters, clock, .. } = &self.run;
        counters.rows_held(rows.num_rows() as i64);
        self.batcher.push(turn, rows, clock.now());
        Ok(())
    }

    fn step(
        &mut self,
        idle: bool,
        out: &mut Vec<Out>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        let mut groups: Vec<Group> = Vec::new();
        let mut budget = ROWS_PER_STEP.max(self.max_rows);
        let is_same = |a: &Turn, b: &Turn| a.control == b.control;
        while budget > 0 {
            let Some(control) = self.batcher.first().map(|turn| turn.control) else { break };
            let max_rows = self.models.of(control)?.ready.max_rows;
            self.batcher.bound(max_rows.unwrap_or(self.max_rows));
            let now = self.run.clock.now();
            let wait = self.batcher.oldest_wait(now);
            let Some(parts) = self.batcher.next(idle, now, is_same) else { break };
            let rows = parts.iter().map(|part| part.rows).sum::<usize>();
            budget = budget.saturating_sub(rows);
            self.run.counters.rows_held(-(rows as i64));
            self.score(parts, wait, &mut Patience::with(rows), &mut groups, out)?;
        }
        // A batch of results for each that came in.
        for (part, columns) in groups {
            let (events, columns) = self.refuse_not_finite(&part, columns, out)?;
            if events.num_rows() > 0 {
                self.results(part.tag, &events, columns, out, watched)?;
            }
        }
        Ok(())
    }

    fn waits_for(&self) -> Option<u64> {
        self.batcher.tags().map(|turn| turn.epoch).min()
    }

    fn worked_off_below(&mut self, control: u64) {
        self.models.free_below(control);
    }
}

impl Scorer {
    pub fn new(scoring: Scoring, watched: Watched, worker: usize) -> Self {
        let Scoring { layout, enriched, model, shelf, bounds, .. } = scoring;
        let Scoring { warm_up, partition_names, rules, alerts, run, .. } = scoring;
        Scorer {
            validator: Validator {
                layout: layout.clone(),
                partition_names: partition_names.clone(),
                rules,
                counters: run.counters.clone(),
            },
            models: ModelBank::new(model, enriched, shelf, run.counters.clone(), worker),
            batcher: MicroBatcher::new(bounds),
            max_rows: bounds.max_rows,
            layout,
            warm_up,
            partition_names,
            alerts,
            run,
            watched,
            is_watched: true,
            worker,
        }
    }

    /// Scores rows of which nothing is watched.
    #[must_use]
    pub fn unwatched(self) -> Self {
        Scorer { is_watched: false, ..self }
    }

    /// Scores one micro-batch and adds each part's columns to its group. A batch that the model
    /// refuses, or stays with for too long, is halved until only rows that it refuses alone are left, or
    /// nobody has patience any more: they become dead letters.
    fn score(
        &mut self,
        parts: Vec<Part<Turn>>,
        wait: Duration,
        patience: &mut Patience,
        groups: &mut Vec<Group>,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        // They are all of one state.
        let Some(control) = parts.first().map(|part| part.tag.control) else { return Ok(()) };
        if let Some(why) = patience.lost() {
            return self.refuse(&parts, why, out);
        }
        let model = self.models.of(control)?;
        let features = model.features(&parts)?;
        let started = self.run.clock.now();
        let scores = model.run(&features);
        let took = self.run.clock.now().saturating_sub(started);
        let rows = features.num_rows();
        match scores {
            Ok(scores) => {
                model.gauge.scored(rows, wait, took);
                let mut first = 0;
                for part in parts {
                    let last = first + part.rows;
                    add(&model.ready, groups, part, &scores, first..last, (rows, took));
                    first = last;
                }
            }
            Err(error) => {
                if let ModelError::Overstayed { limit_ms } = error {
                    model.gauge.overstayed();
                    patience.overstayed(limit_ms);
                }
                if rows == 1 {
                    return self.refuse(&parts, &error.to_string(), out);
                }
                let (first, second) = halves(parts);
                self.score(first, wait, patience, groups, out)?;
                self.score(second, wait, patience, groups, out)?;
            }
        }
        Ok(())
    }

    /// The dead letters of rows that have no scores.
    fn refuse(
        &self,
        parts: &[Part<Turn>],
        why: &str,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        for part in parts {
            let mut letters = DeadLetters::new(self.partition_names.clone());
            let events = part.slice();
            for row in 0..events.num_rows() {
                letters.row(Reason::ScoringFailed, why, &events, &self.layout, row)?;
            }
            let rows = letters.finish();
            out.push(Out { epoch: part.tag.epoch, output: Output::DeadLetters, rows });
        }
        Ok(())
    }

    /// The rows whose prediction is one; the others become dead letters.
    fn refuse_not_finite(
        &mut self,
        part: &Part<Turn>,
        columns: ScoredColumns,
        out: &mut Vec<Out>,
    ) -> Result<(RecordBatch, ScoredColumns), ArrowError> {
        let events = part.slice();
        let Some(finite) = columns.finite_rows() else { return Ok((events, columns)) };
        let inputs = &self.models.of(part.tag.control)?.ready.inputs;
        let mut letters = DeadLetters::new(self.partition_names.clone());
        for row in (0..events.num_rows()).filter(|&row| !finite.value(row)) {
            let detail = not_finite::detail(&columns.vector(row), &events, inputs, row);
            letters.row(Reason::ScoringFailed, &detail, &events, &self.layout, row)?;
        }
        let rows = letters.finish();
        out.push(Out { epoch: part.tag.epoch, output: Output::DeadLetters, rows });
        Ok((filter_record_batch(&events, &finite)?, columns.filtered(&finite)))
    }

    /// Predictions of rows that were scored, alerts of them, and what drift watches.
    fn results(
        &mut self,
        turn: Turn,
        events: &RecordBatch,
        columns: ScoredColumns,
        out: &mut Vec<Out>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        let epoch = turn.epoch;
        let ready = &mut self.models.of(turn.control)?.ready;
        let ReadyModel { identity, format, model, version, .. } = ready;
        let version = *version;
        let rows = format.batch(events, columns, model.task(), self.worker as u32)?;
        let seen = (self.is_watched || self.alerts.is_some())
            .then(|| self.watched.batch(events, &self.layout, rows.column(prediction::SCORE)))
            .transpose()?;
        let raised = self.alerts.as_ref().zip(seen.as_ref());
        let raised = raised.map(|(rules, seen)| rules.of_rows((identity, version), &rows, seen));
        if let Some(rows) = raised.transpose()?.flatten() {
            out.push(Out { epoch, output: Output::Alerts, rows });
        }
        out.push(Out { epoch, output: Output::Predictions, rows });
        watched.extend(seen.map(|rows| Seen { epoch, version, rows }));
        Ok(())
    }
}

/// Adds the scores of a part, `rows` of those of a micro-batch, to its group. `batch`: the rows of the
/// micro-batch, and what the model took for it.
fn add(
    ready: &ReadyModel,
    groups: &mut Vec<Group>,
    part: Part<Turn>,
    scores: &ScoredRows,
    rows: Range<usize>,
    batch: (usize, Duration),
) {
    let width = ready.model.width();
    let added = rows.len();
    match groups.last_mut() {
        Some((group, _)) if group.continues_in(&part) => group.rows += part.rows,
        _ => groups.push((part, ScoredColumns::for_format(&ready.format, width, added))),
    }
    let Some((_, columns)) = groups.last_mut() else { return };
    columns.predictions.extend(&scores.predictions, rows.start * width..rows.end * width);
    if let (Some(kept), Some(input)) = (&mut columns.inputs, &scores.input) {
        let inputs = ready.inputs.len();
        kept.extend_from_slice(&input.values()[rows.start * inputs..rows.end * inputs]);
    }
    columns.ran(added, batch.0, batch.1);
}
