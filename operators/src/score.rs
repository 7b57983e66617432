//! Scoring: features are validated, rows gathered into micro-batches, and the model run on them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::accounting::BatchGauge;
use crate::alert::AlertRules;
use crate::batch_probe::{BatchDependence, doubled};
use crate::core::ROWS_PER_STEP;
use crate::core::finish::{Out, Work};
use crate::dead_letter::{DeadLetters, Reason};
use crate::layout::EventLayout;
use crate::micro_batch::{BatchBounds, MicroBatcher, Part, halves};
use crate::model::{Model, ModelError, Scores, score_rows};
use crate::model_input::ModelInput;
use crate::not_finite;
use crate::partition_names::PartitionNames;
use crate::prediction::{self, PredictionFormat, ScoredColumns};
use crate::run::Run;
use crate::sinks::Output;
use crate::warm_up::WarmUp;
use crate::watched::Watched;

/// What a worker needs to score enriched rows.
pub struct Scoring {
    pub layout: EventLayout,
    pub enriched: SchemaRef,
    pub inputs: Vec<ModelInput>,
    pub model: Box<dyn Model>,
    pub dependence: BatchDependence,
    pub format: PredictionFormat,
    pub bounds: BatchBounds,
    pub warm_up: WarmUp,
    pub partition_names: PartitionNames,
    /// What is told of single rows, if anything is.
    pub alerts: Option<Arc<AlertRules>>,
    pub run: Run,
}

type Group = (Part<u64>, ScoredColumns);

/// The model and what goes on around one run of it.
pub struct Scorer {
    scoring: Scoring,
    watched: Watched,
    /// Whether anybody looks at what is watched of all rows.
    is_watched: bool,
    worker: usize,
    /// Tags are epochs.
    batcher: MicroBatcher<u64>,
    /// The model's inputs: their positions in enriched rows, and their schema.
    columns: Vec<usize>,
    features: SchemaRef,
    /// Where the model requires a value.
    required: Vec<ModelInput>,
    gauge: BatchGauge,
}

impl Work for Scorer {
    fn take(
        &mut self,
        epoch: u64,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let (rows, letters) = self.validate(rows)?;
        out.extend(letters.map(|rows| Out { epoch, output: Output::DeadLetters, rows }));
        let Run { counters, clock, .. } = &self.scoring.run;
        counters.rows_held(rows.num_rows() as i64);
        self.batcher.push(epoch, rows, clock.now());
        Ok(())
    }

    fn step(
        &mut self,
        idle: bool,
        out: &mut Vec<Out>,
        watched: &mut Vec<(u64, RecordBatch)>,
    ) -> Result<(), ArrowError> {
        let mut groups: Vec<Group> = Vec::new();
        let mut budget = ROWS_PER_STEP.max(self.scoring.bounds.max_rows);
        while budget > 0 {
            let now = self.scoring.run.clock.now();
            let wait = self.batcher.oldest_wait(now);
            let Some(parts) = self.batcher.next(idle, now) else { break };
            let rows = parts.iter().map(|part| part.rows).sum::<usize>();
            budget = budget.saturating_sub(rows);
            self.scoring.run.counters.rows_held(-(rows as i64));
            self.score(parts, wait, &mut groups, out)?;
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
        self.batcher.tags().min().copied()
    }
}

impl Scorer {
    pub fn new(scoring: Scoring, watched: Watched, worker: usize) -> Self {
        let required = scoring.inputs.iter().filter(|input| !input.allow_null).cloned();
        let columns: Vec<usize> = scoring.inputs.iter().map(|input| input.column).collect();
        let fields = columns.iter().map(|&at| scoring.enriched.fields()[at].clone());
        Scorer {
            batcher: MicroBatcher::new(scoring.bounds),
            features: Arc::new(Schema::new(fields.collect::<Fields>())),
            columns,
            required: required.collect(),
            gauge: scoring.run.counters.batch_gauge(worker),
            scoring,
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

    /// The rows that can be scored, and dead letters for those that lack a feature.
    fn validate(
        &self,
        batch: RecordBatch,
    ) -> Result<(RecordBatch, Option<RecordBatch>), ArrowError> {
        let batch = self.scoring.warm_up.without(batch, &self.scoring.layout)?;
        let has_null = |input: &&ModelInput| batch.column(input.column).null_count() > 0;
        let lacking: Vec<&ModelInput> = self.required.iter().filter(has_null).collect();
        if lacking.is_empty() {
            return Ok((batch, None));
        }
        let mut letters = DeadLetters::new(self.scoring.partition_names.clone());
        let mut complete = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let missing = lacking.iter().find(|input| batch.column(input.column).is_null(row));
            complete.push(missing.is_none());
            if let Some(input) = missing {
                let detail = format!("feature {:?} is null and has no default", input.name);
                letters.row(Reason::MissingFeature, &detail, &batch, &self.scoring.layout, row)?;
            }
        }
        let batch = filter_record_batch(&batch, &BooleanArray::from(complete))?;
        Ok((batch, Some(letters.finish())))
    }

    /// Scores one micro-batch and adds each part's columns to its group. A batch that the model
    /// refuses is halved until only rows that it refuses alone are left: they become dead letters.
    fn score(
        &mut self,
        parts: Vec<Part<u64>>,
        wait: Duration,
        groups: &mut Vec<Group>,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let features = self.features(&parts)?;
        let started = self.scoring.run.clock.now();
        let scores = self.run(&features);
        let took = self.scoring.run.clock.now().saturating_sub(started);
        let rows = features.num_rows();
        match scores {
            Ok(scores) => {
                self.gauge.scored(rows, wait, took);
                let mut first = 0;
                for part in parts {
                    let last = first + part.rows;
                    self.add(groups, part, &scores, first..last, rows, took);
                    first = last;
                }
            }
            Err(_) if rows > 1 => {
                let (first, second) = halves(parts);
                self.score(first, wait, groups, out)?;
                self.score(second, wait, groups, out)?;
            }
            Err(error) => out.push(self.refuse(&parts[0], &error)?),
        }
        Ok(())
    }

    /// The model's inputs of the rows, as one batch.
    fn features(&self, parts: &[Part<u64>]) -> Result<RecordBatch, ArrowError> {
        let of_part = |part: &Part<u64>| part.project(&self.columns, &self.features);
        match parts {
            [one] => of_part(one),
            many => {
                let projected = many.iter().map(of_part).collect::<Result<Vec<_>, _>>()?;
                concat_batches(&self.features, &projected)
            }
        }
    }

    fn run(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let model = self.scoring.model.as_mut();
        if features.num_rows() == 1 && self.scoring.dependence == BatchDependence::PadSingleRow {
            return score_rows(model, &doubled(features)?);
        }
        score_rows(model, features)
    }

    fn add(
        &self,
        groups: &mut Vec<Group>,
        part: Part<u64>,
        scores: &Scores,
        rows: std::ops::Range<usize>,
        batch_rows: usize,
        took: Duration,
    ) {
        let width = self.scoring.model.width();
        let added = rows.len();
        match groups.last_mut() {
            Some((group, _)) if group.continues_in(&part) => group.rows += part.rows,
            _ => {
                let columns = ScoredColumns::for_format(&self.scoring.format, width, added);
                groups.push((part, columns));
            }
        }
        let Some((_, columns)) = groups.last_mut() else { return };
        columns
            .predictions
            .extend_from_slice(&scores.predictions[rows.start * width..rows.end * width]);
        if let (Some(kept), Some(input)) = (&mut columns.inputs, &scores.input) {
            let inputs = self.scoring.inputs.len();
            kept.extend_from_slice(&input.values()[rows.start * inputs..rows.end * inputs]);
        }
        columns.ran(added, batch_rows, took);
    }

    /// The dead letter of a row that the model refuses alone.
    fn refuse(&self, part: &Part<u64>, error: &ModelError) -> Result<Out, ArrowError> {
        let mut letters = DeadLetters::new(self.scoring.partition_names.clone());
        let detail = error.to_string();
        letters.row(Reason::ScoringFailed, &detail, &part.slice(), &self.scoring.layout, 0)?;
        Ok(Out { epoch: part.tag, output: Output::DeadLetters, rows: letters.finish() })
    }

    /// The rows whose prediction is one; the others become dead letters.
    fn refuse_not_finite(
        &self,
        part: &Part<u64>,
        columns: ScoredColumns,
        out: &mut Vec<Out>,
    ) -> Result<(RecordBatch, ScoredColumns), ArrowError> {
        let events = part.slice();
        let Some(finite) = columns.finite_rows() else { return Ok((events, columns)) };
        let mut letters = DeadLetters::new(self.scoring.partition_names.clone());
        for row in (0..events.num_rows()).filter(|&row| !finite.value(row)) {
            let detail =
                not_finite::detail(columns.vector(row), &events, &self.scoring.inputs, row);
            letters.row(Reason::ScoringFailed, &detail, &events, &self.scoring.layout, row)?;
        }
        let rows = letters.finish();
        out.push(Out { epoch: part.tag, output: Output::DeadLetters, rows });
        Ok((filter_record_batch(&events, &finite)?, columns.filtered(&finite)))
    }

    /// Predictions of rows that were scored, alerts of them, and what drift watches.
    fn results(
        &mut self,
        epoch: u64,
        events: &RecordBatch,
        columns: ScoredColumns,
        out: &mut Vec<Out>,
        watched: &mut Vec<(u64, RecordBatch)>,
    ) -> Result<(), ArrowError> {
        let Scoring { format, model, layout, alerts, .. } = &mut self.scoring;
        let rows = format.batch(events, columns, model.task(), self.worker as u32)?;
        let seen = (self.is_watched || alerts.is_some())
            .then(|| self.watched.batch(events, layout, rows.column(prediction::SCORE)))
            .transpose()?;
        let raised = alerts.as_ref().zip(seen.as_ref());
        let raised = raised.map(|(rules, seen)| rules.of_rows(&rows, seen));
        if let Some(rows) = raised.transpose()?.flatten() {
            out.push(Out { epoch, output: Output::Alerts, rows });
        }
        out.push(Out { epoch, output: Output::Predictions, rows });
        watched.extend(seen.map(|seen| (epoch, seen)));
        Ok(())
    }
}
