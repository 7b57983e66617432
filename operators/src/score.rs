//! Scoring: features are validated, rows gathered into micro-batches, and the model run on them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};

use crate::alert::AlertRules;
use crate::batch_probe::{BatchDependence, doubled};
use crate::dead_letter::{DeadLetters, Reason};
use crate::layout::EventLayout;
use crate::micro_batch::{BatchBounds, MicroBatcher, Part, halves};
use crate::model::{Model, ModelError, Scores, score_rows};
use crate::model_input::ModelInput;
use crate::not_finite;
use crate::partition_names::PartitionNames;
use crate::prediction::{self, PredictionFormat, ScoredColumns};
use crate::rows::Rows;
use crate::run::Run;
use crate::warm_up::WarmUp;
use crate::watched::Watched;

/// Rows scored before the operator lets others run, unless one micro-batch has more.
const ROWS_PER_ACTIVATION: usize = 8_192;

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
    pub keep_inputs: bool,
    pub partition_names: PartitionNames,
    /// What is told of single rows, if anything is.
    pub alerts: Option<Arc<AlertRules>>,
    pub run: Run,
}

pub struct Scored<'scope> {
    pub predictions: Stream<'scope, u64, Rows>,
    /// Rows of [`Watched::schema`].
    pub watched: Stream<'scope, u64, Rows>,
    /// Rows of [`crate::alert::SCHEMA`].
    pub alerts: Stream<'scope, u64, Rows>,
    pub dead_letters: Stream<'scope, u64, Rows>,
}

/// Scores enriched rows at their home.
pub fn score<'scope>(
    rows: Stream<'scope, u64, Rows>,
    scoring: Scoring,
    watched: Watched,
) -> Scored<'scope> {
    let worker = rows.scope().index();
    let mut builder = OperatorBuilder::new("Score".to_owned(), rows.scope());
    let activator = rows.scope().activator_for(builder.operator_info().address);
    let mut input = builder.new_input(rows, Pipeline);
    let (predictions_out, predictions) = builder.new_output();
    let (watched_out, watched_rows) = builder.new_output();
    let (dead_out, dead_letters) = builder.new_output();
    let (alerts_out, alerts) = builder.new_output();
    type Out = CapacityContainerBuilder<Rows>;
    let mut predictions_out = OutputBuilder::<_, Out>::from(predictions_out);
    let mut watched_out = OutputBuilder::<_, Out>::from(watched_out);
    let mut dead_out = OutputBuilder::<_, Out>::from(dead_out);
    let mut alerts_out = OutputBuilder::<_, Out>::from(alerts_out);

    builder.build(move |_capabilities| {
        let Run { counters, failure, clock, .. } = scoring.run.clone();
        let mut batcher = MicroBatcher::<Capabilities>::new(scoring.bounds);
        let mut scorer = Scorer { scoring, worker, letters: Vec::new() };
        move |_frontiers| {
            // 1. Take what has come; rows whose features are incomplete go no further.
            let mut received = false;
            input.for_each(|capability, container| {
                received = true;
                let ports = [0, 1, 2, 3].map(|port| capability.retain_least(port));
                let [Some(a), Some(b), Some(c), Some(d)] = ports else { return };
                let batch = container.take(&scorer.scoring.enriched);
                let valid = batch.and_then(|batch| scorer.validate(batch));
                let Some((batch, letters)) = failure.check(valid) else { return };
                scorer.letters.extend(letters.map(|letters| (c.clone(), letters)));
                counters.rows_held(batch.num_rows() as i64);
                batcher.push([a, b, c, d], batch, clock.now());
            });
            // 2. Score full batches; the rest once nothing else has come since the last time.
            let mut groups: Vec<Group> = Vec::new();
            let mut budget = ROWS_PER_ACTIVATION.max(scorer.scoring.bounds.max_rows);
            while budget > 0 && !failure.is_set() {
                let now = clock.now();
                let wait = batcher.oldest_wait(now);
                let Some(parts) = batcher.next(!received, now) else { break };
                let rows = parts.iter().map(|part| part.rows).sum::<usize>();
                budget = budget.saturating_sub(rows);
                counters.rows_held(-(rows as i64));
                scorer.score(parts, wait, &mut groups);
            }
            // 3. Send what was scored, a batch for each that came in.
            let mut predictions_out = predictions_out.activate();
            let mut watched_out = watched_out.activate();
            for (part, columns) in groups {
                let [first, second, third, last] = &part.tag;
                let finite = scorer.refuse_not_finite(part.slice(), columns, third);
                let Some((events, columns)) = failure.check(finite) else { break };
                if events.num_rows() == 0 {
                    continue;
                }
                let results = scorer.results(&events, columns, &watched);
                if let Some((prediction, seen)) = failure.check(results) {
                    let raised = scorer.alerts(&prediction, &seen);
                    if let Some(raised) = failure.check(raised).flatten() {
                        scorer.scoring.run.settled.hold_rows(&raised);
                        alerts_out.activate().session(last).give_container(&mut Rows::new(raised));
                    }
                    predictions_out.session(first).give_container(&mut Rows::new(prediction));
                    watched_out.session(second).give_container(&mut Rows::new(seen));
                }
            }
            for (capability, letters) in scorer.letters.drain(..) {
                dead_out.activate().session(&capability).give_container(&mut Rows::new(letters));
            }
            // 4. Come back for the rest, once the others have had their turn.
            if batcher.rows() > 0 {
                activator.activate();
            }
        }
    });
    Scored { predictions, watched: watched_rows, alerts, dead_letters }
}

type Capabilities = [Capability<u64>; 4];
type Group = (Part<Capabilities>, ScoredColumns);

/// The model and what goes on around one run of it.
struct Scorer {
    scoring: Scoring,
    worker: usize,
    /// Dead letters of rows that the model refused, with the capability they leave under.
    letters: Vec<(Capability<u64>, RecordBatch)>,
}

impl Scorer {
    /// The rows that can be scored, and dead letters for those that lack a feature.
    fn validate(
        &self,
        batch: RecordBatch,
    ) -> Result<(RecordBatch, Option<RecordBatch>), ArrowError> {
        let batch = self.scoring.warm_up.without(batch, &self.scoring.layout)?;
        let required = self.scoring.inputs.iter().filter(|input| !input.allow_null);
        let lacking: Vec<&ModelInput> =
            required.filter(|input| batch.column(input.column).null_count() > 0).collect();
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
    fn score(&mut self, parts: Vec<Part<Capabilities>>, wait: Duration, groups: &mut Vec<Group>) {
        let slices: Vec<RecordBatch> = parts.iter().map(Part::slice).collect();
        let features = match self.features(&slices) {
            Ok(features) => features,
            Err(error) => return self.scoring.run.failure.report(error),
        };
        let started = self.scoring.run.clock.now();
        let scores = self.run(&features);
        let took = self.scoring.run.clock.now().saturating_sub(started);
        let rows = features.num_rows();
        match scores {
            Ok(scores) => {
                self.scoring.run.counters.batch_scored(self.worker, rows, wait, took);
                let mut first = 0;
                for part in parts {
                    let last = first + part.rows;
                    self.add(groups, part, &scores, first..last, rows, took);
                    first = last;
                }
            }
            Err(_) if rows > 1 => {
                let (first, second) = halves(parts);
                self.score(first, wait, groups);
                self.score(second, wait, groups);
            }
            Err(error) => self.refuse(&parts[0], &slices[0], &error),
        }
    }

    /// The model's inputs of the slices, as one batch.
    fn features(&self, slices: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<usize> = self.scoring.inputs.iter().map(|input| input.column).collect();
        match slices {
            [one] => one.project(&columns),
            many => {
                let projected =
                    many.iter()
                        .map(|slice| slice.project(&columns))
                        .collect::<Result<Vec<_>, _>>()?;
                concat_batches(&projected[0].schema(), &projected)
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
        part: Part<Capabilities>,
        scores: &Scores,
        rows: std::ops::Range<usize>,
        batch_rows: usize,
        took: Duration,
    ) {
        let width = self.scoring.model.width();
        let added = rows.len();
        match groups.last_mut() {
            Some((group, _)) if group.continues_in(&part) => group.rows += part.rows,
            _ => groups.push((part, ScoredColumns::new(width, self.scoring.keep_inputs))),
        }
        let Some((_, columns)) = groups.last_mut() else { return };
        columns
            .predictions
            .extend_from_slice(&scores.predictions[rows.start * width..rows.end * width]);
        if let (Some(kept), Some(input)) = (&mut columns.inputs, &scores.input) {
            let inputs = self.scoring.inputs.len();
            kept.extend_from_slice(&input.values()[rows.start * inputs..rows.end * inputs]);
        }
        columns.run_batch_rows.extend(std::iter::repeat_n(batch_rows as u32, added));
        columns.run_inference_ms.extend(std::iter::repeat_n(took.as_secs_f32() * 1e3, added));
    }

    fn refuse(&mut self, part: &Part<Capabilities>, slice: &RecordBatch, error: &ModelError) {
        let mut letters = DeadLetters::new(self.scoring.partition_names.clone());
        let detail = error.to_string();
        let row = letters.row(Reason::ScoringFailed, &detail, slice, &self.scoring.layout, 0);
        if self.scoring.run.failure.check(row).is_some() {
            self.letters.push((part.tag[2].clone(), letters.finish()));
        }
    }

    /// The rows whose prediction is one; the others become dead letters.
    fn refuse_not_finite(
        &mut self,
        events: RecordBatch,
        columns: ScoredColumns,
        capability: &Capability<u64>,
    ) -> Result<(RecordBatch, ScoredColumns), ArrowError> {
        let Some(finite) = columns.finite_rows() else { return Ok((events, columns)) };
        let mut letters = DeadLetters::new(self.scoring.partition_names.clone());
        for row in (0..events.num_rows()).filter(|&row| !finite.value(row)) {
            let detail =
                not_finite::detail(columns.vector(row), &events, &self.scoring.inputs, row);
            letters.row(Reason::ScoringFailed, &detail, &events, &self.scoring.layout, row)?;
        }
        self.letters.push((capability.clone(), letters.finish()));
        Ok((filter_record_batch(&events, &finite)?, columns.filtered(&finite)))
    }

    fn alerts(
        &self,
        predictions: &RecordBatch,
        watched: &RecordBatch,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let rules = self.scoring.alerts.as_ref();
        rules.map_or(Ok(None), |rules| rules.of_rows(predictions, watched))
    }

    /// Predictions, and what drift watches, of rows that were scored.
    fn results(
        &mut self,
        events: &RecordBatch,
        columns: ScoredColumns,
        watched: &Watched,
    ) -> Result<(RecordBatch, RecordBatch), ArrowError> {
        let task = self.scoring.model.task();
        let prediction = self.scoring.format.batch(events, columns, task, self.worker as u32)?;
        let scores = prediction.column(prediction::SCORE);
        let watched = watched.batch(events, &self.scoring.layout, scores)?;
        Ok((prediction, watched))
    }
}
