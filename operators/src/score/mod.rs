//! Scoring: rows find the models that score them, their features are validated, rows are gathered into
//! micro-batches, and models run on them.

mod evaluate;
mod lane;
mod members;
mod shadow;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use self::evaluate::{Evaluated, Evaluator};
use self::lane::{Group, LaneWork};
use self::shadow::Shadows;
use crate::accounting::LaneGauge;
use crate::alert::AlertRules;
use crate::control::Turn;
use crate::core::finish::{Out, Work};
use crate::core::{ROWS_PER_STEP, ROWS_PER_TURN};
use crate::dead_letter::{DeadLetters, Reason};
use crate::features::rules::Rules;
use crate::layout::EventLayout;
use crate::micro_batch::{BatchBounds, Part};
use crate::model_bank::{ModelBank, ModelShelf, ReadyModels};
use crate::partition_names::PartitionNames;
use crate::prediction;
use crate::routes::table::{NO_ROUTE, RouteTable, Scores, UNKNOWN};
use crate::run::Run;
use crate::sinks::Output;
use crate::skipped;
use crate::validate::Validator;
use crate::warm_up::WarmUp;
use crate::watched::{Seen, Watched};

/// What a worker needs to score enriched rows.
pub struct Scoring {
    pub layout: EventLayout,
    /// Those that a run begins with.
    pub models: ReadyModels,
    /// Where those of later states of control come from, if there can be any.
    pub shelf: Option<Arc<dyn ModelShelf>>,
    /// Which of the models scores a row, where there are several.
    pub routes: Option<Arc<RouteTable>>,
    /// Whether somebody waits for each row: those of no route are dead letters then, and not skipped.
    pub on_request: bool,
    /// Whether rows are to be kept from shadows for now; never where there is none.
    pub shed: Option<Arc<AtomicBool>>,
    pub bounds: BatchBounds,
    /// A row that was read longer ago when a run of a model could begin with it is not scored any more.
    pub timeout: Option<Duration>,
    pub warm_up: WarmUp,
    pub partition_names: PartitionNames,
    /// What rows must be.
    pub rules: Arc<Rules>,
    /// What is told of single rows, if anything is.
    pub alerts: Option<Arc<AlertRules>>,
    pub run: Run,
}

impl Scoring {
    /// That of predictions.
    pub fn schema(&self) -> SchemaRef {
        self.models.models[0].format.schema.clone()
    }
}

/// The models and what goes on around one run of them.
pub struct Scorer {
    validator: Validator,
    layout: EventLayout,
    evaluator: Evaluator,
    routes: Arc<RouteTable>,
    /// Whether rows are told apart by routes.
    is_routed: bool,
    on_request: bool,
    lanes: Vec<LaneWork>,
    shadows: Shadows,
    max_rows: usize,
    timeout: Option<Duration>,
    warm_up: WarmUp,
    partition_names: PartitionNames,
    alerts: Option<Arc<AlertRules>>,
    run: Run,
    watched: Watched,
    /// Whether anybody looks at what is watched of all rows.
    is_watched: bool,
    worker: usize,
}

impl Work for Scorer {
    fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let rows = self.warm_up.without(rows, &self.layout)?;
        self.evaluator.models.stand_at(turn.control)?;
        if self.is_routed {
            return self.route(turn, rows, out);
        }
        let required = &self.evaluator.models.model(0).required;
        let (rows, letters) = self.validator.sift(rows, required)?;
        let epoch = turn.epoch;
        out.extend(letters.map(|rows| Out { epoch, output: Output::DeadLetters, rows }));
        self.push(0, turn, rows);
        Ok(())
    }

    fn step(
        &mut self,
        idle: bool,
        out: &mut Vec<Out>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        let mut budget = ROWS_PER_STEP.max(self.max_rows);
        for lane in 0..self.lanes.len() {
            self.step_lane(lane, idle, &mut budget, out, watched)?;
        }
        if self.lanes.iter().all(|lane| lane.batcher.rows() == 0) {
            // Rows that were scored are on their way first.
            if out.is_empty() {
                self.step_shadows(ROWS_PER_TURN, watched)?;
            }
        } else if self.shadows.are_many() {
            self.step_shadows(budget, watched)?;
        }
        Ok(())
    }

    fn waits_for(&self) -> Option<u64> {
        let of_lane = |lane: &LaneWork| lane.batcher.tags().map(|turn| turn.epoch).min();
        self.lanes.iter().filter_map(of_lane).chain(self.shadows.waits_for()).min()
    }

    fn worked_off_below(&mut self, control: u64) {
        self.evaluator.models.free_below(control);
    }
}

impl Scorer {
    pub fn new(scoring: Scoring, watched: Watched, worker: usize) -> Self {
        let Scoring { layout, models, shelf, routes, on_request, shed, bounds, .. } = scoring;
        let timeout = scoring.timeout;
        let Scoring { warm_up, partition_names, rules, alerts, run, .. } = scoring;
        let is_routed = routes.is_some();
        let routes = routes.unwrap_or_else(|| Arc::new(RouteTable::of_one()));
        let lanes = (0..routes.lanes.len()).map(|lane| LaneWork::new(lane, &routes, bounds));
        let models = ModelBank::new(models, shelf, run.counters.clone(), worker);
        let gauge = |lane: usize| run.counters.lane_gauge(lane, worker);
        let gauges: Vec<LaneGauge> = match is_routed {
            true => (0..routes.lanes.len()).map(gauge).collect(),
            false => Vec::new(),
        };
        Scorer {
            validator: Validator {
                layout: layout.clone(),
                partition_names: partition_names.clone(),
                rules,
                counters: run.counters.clone(),
            },
            evaluator: Evaluator::new(models, routes.clone(), layout.clone(), run.clone()),
            lanes: lanes.collect(),
            shadows: Shadows::new(&routes, gauges, shed),
            routes,
            is_routed,
            on_request,
            max_rows: bounds.max_rows,
            timeout,
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

    fn push(&mut self, lane: usize, turn: Turn, rows: RecordBatch) {
        let Run { counters, clock, .. } = &self.run;
        counters.rows_held(rows.num_rows() as i64);
        self.lanes[lane].batcher.push(turn, rows, clock.now());
    }

    /// Has rows go to the lanes of their routes; those of no route are skipped.
    fn route(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let epoch = turn.epoch;
        let letter = |rows| Out { epoch, output: Output::DeadLetters, rows };
        let (rows, letters) = self.validator.sift(rows, &[])?;
        out.extend(letters.map(letter));
        let settings = self.evaluator.models.settings().clone();
        let assigned = self.routes.assign(&rows, &self.layout, &settings)?;
        let mut letters = DeadLetters::new(self.partition_names.clone());
        let mut skipped: Vec<u32> = Vec::new();
        let mut unknown = assigned.unknown.iter();
        for (row, lane) in assigned.lanes.iter().enumerate() {
            let (reason, detail) = match *lane {
                NO_ROUTE if self.on_request => (Reason::NoRoute, "no route takes it".to_owned()),
                NO_ROUTE => {
                    skipped.push(row as u32);
                    continue;
                }
                UNKNOWN => {
                    let name = unknown.next().map_or("", String::as_str);
                    let what = format!("it asks for {name:?}, which is no model of the job");
                    (Reason::UnknownModel, what)
                }
                _ => continue,
            };
            letters.row(reason, &detail, &rows, &self.layout, row)?;
        }
        if !skipped.is_empty() {
            self.run.counters.rows_without_route(skipped.len() as u64);
            if self.run.reports.are_kept() {
                let records = skipped::records(&rows, &self.layout)?;
                let rows = take_record_batch(&records, &UInt32Array::from(skipped))?;
                out.push(Out { epoch, output: Output::Skipped, rows });
            }
        }
        out.extend(letters.finish_some().map(letter));
        for lane in 0..self.lanes.len() {
            let of_lane = |(_, other): &(u32, &u32)| **other == lane as u32;
            let places = (0..).zip(&assigned.lanes).filter(of_lane).map(|(row, _)| row);
            let places: UInt32Array = places.collect::<Vec<u32>>().into();
            let rows = match places.len() {
                0 => continue,
                all if all == rows.num_rows() => rows.clone(),
                _ => take_record_batch(&rows, &places)?,
            };
            self.enter(lane, turn, rows, out)?;
        }
        Ok(())
    }

    /// Rows come into a lane: those that lack a feature do not.
    fn enter(
        &mut self,
        lane: usize,
        turn: Turn,
        mut rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let epoch = turn.epoch;
        for &model in &self.lanes[lane].models {
            let required = &self.evaluator.models.model(model).required;
            let (kept, letters) = self.validator.lacking(rows, required)?;
            out.extend(letters.map(|rows| Out { epoch, output: Output::DeadLetters, rows }));
            rows = kept;
        }
        self.push(lane, turn, rows);
        Ok(())
    }

    /// Works off rows of a lane, up to `budget` of them.
    fn step_lane(
        &mut self,
        lane: usize,
        idle: bool,
        budget: &mut usize,
        out: &mut Vec<Out>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        let mut groups: Vec<Group> = Vec::new();
        while *budget > 0 {
            let work = &mut self.lanes[lane];
            let Some(control) = work.batcher.first().map(|turn| turn.control) else { break };
            self.evaluator.models.stand_at(control)?;
            let bounds = work
                .models
                .iter()
                .filter_map(|&model| self.evaluator.models.model(model).ready.max_rows);
            work.batcher.bound(bounds.min().unwrap_or(self.max_rows));
            let now = self.run.clock.now();
            let wait = work.batcher.oldest_wait(now);
            let Some(parts) = work.batcher.next(idle, now, go_together) else { break };
            let rows = parts.iter().map(|part| part.rows).sum::<usize>();
            *budget = budget.saturating_sub(rows);
            self.run.counters.rows_held(-(rows as i64));
            let parts = self.without_overdue(parts, now, out)?;
            self.score(lane, parts, wait, &mut groups, out)?;
        }
        // A batch of results for each that came in.
        for group in groups {
            self.results(lane, group, out, watched)?;
        }
        Ok(())
    }

    /// The rows that are still in time; the others are dead letters.
    fn without_overdue(
        &self,
        parts: Vec<Part<Turn>>,
        now: Duration,
        out: &mut Vec<Out>,
    ) -> Result<Vec<Part<Turn>>, ArrowError> {
        let Some(timeout) = self.timeout else { return Ok(parts) };
        let latest = now.saturating_sub(timeout).as_micros() as i64;
        let detail = format!("not scored within {} ms", timeout.as_millis());
        let mut in_time = Vec::with_capacity(parts.len());
        let mut overdue = Vec::new();
        for part in parts {
            let read_at = self.layout.read_at(&part.batch);
            let is_overdue = |row: usize| read_at.value(part.start + row) < latest;
            let part = std::slice::from_ref(&part);
            in_time.extend(lane::select(part, |row| !is_overdue(row)));
            overdue.extend(lane::select(part, is_overdue));
        }
        let overdue = overdue.into_iter().map(|part| (part, detail.clone()));
        self.refuse(Reason::TimedOut, &overdue.collect::<Vec<_>>(), out)?;
        Ok(in_time)
    }

    /// Scores one micro-batch, and adds what has come of it to the groups: by the first of the lane's
    /// chain, and what it fails on by those behind it. What all fail on becomes dead letters.
    fn score(
        &mut self,
        lane: usize,
        parts: Vec<Part<Turn>>,
        wait: Duration,
        groups: &mut Vec<Group>,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let routes = self.routes.clone();
        let chain = &routes.lanes[lane].chain;
        let mut left: Vec<(Part<Turn>, String)> = Vec::new();
        let mut parts = parts;
        for (at, &scores) in chain.iter().enumerate() {
            let is_fallback = at > 0;
            let outcome = self.evaluator.evaluate(scores, parts, wait, is_fallback)?;
            for scored in outcome.scored {
                let version = self.evaluator.said_of(scored.scores).version;
                self.shadows.compare(lane, &scored, version);
                lane::add(groups, scored, is_fallback, &mut self.evaluator);
            }
            left = outcome.failed;
            if left.is_empty() {
                return Ok(());
            }
            parts = left.iter().map(|(part, _)| part.clone()).collect();
        }
        self.refuse(Reason::ScoringFailed, &left, out)
    }

    /// Dead letters of rows that nothing scores.
    fn refuse(
        &self,
        reason: Reason,
        failed: &[(Part<Turn>, String)],
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        for (part, detail) in failed {
            let mut letters = DeadLetters::new(self.partition_names.clone());
            let rows = part.slice();
            for row in 0..part.rows {
                letters.row(reason, detail, &rows, &self.layout, row)?;
            }
            let epoch = part.tag.epoch;
            out.push(Out { epoch, output: Output::DeadLetters, rows: letters.finish() });
        }
        Ok(())
    }

    /// Predictions of rows that were scored, alerts of them, and what drift watches.
    fn results(
        &mut self,
        lane: usize,
        group: Group,
        out: &mut Vec<Out>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        let Group { part, scores, columns } = group;
        let (epoch, events) = (part.tag.epoch, part.slice());
        self.evaluator.models.stand_at(part.tag.control)?;
        let said = self.evaluator.said_of(scores);
        let (version, task) = (said.version, said.task);
        let labels = self.is_routed.then_some(&mut self.lanes[lane].labels);
        let rows = said.format.batch(&events, columns, task, self.worker as u32, labels)?;
        if self.is_routed {
            self.shadows.gauge(lane).scored(&rows);
        }
        let seen = (self.is_watched || self.alerts.is_some())
            .then(|| self.watched.batch(&events, &self.layout, rows.column(prediction::SCORE)))
            .transpose()?;
        let raised = self.alerts.as_ref().zip(seen.as_ref());
        let raised =
            raised.map(|(rules, seen)| rules.of_rows((said.identity, version), &rows, seen));
        if let Some(rows) = raised.transpose()?.flatten() {
            out.push(Out { epoch, output: Output::Alerts, rows });
        }
        out.push(Out { epoch, output: Output::Predictions, rows });
        watched.extend(seen.map(|rows| Seen { epoch, version, rows, with_features: true }));
        Ok(())
    }

    /// Scores rows by the shadows of their lanes, up to about `budget` of them.
    fn step_shadows(&mut self, budget: usize, watched: &mut Vec<Seen>) -> Result<(), ArrowError> {
        let mut left = budget;
        while left > 0
            && let Some(next) = self.shadows.next()
        {
            left = left.saturating_sub(next.rows());
            let mut seen = vec![next.version];
            let routes = self.routes.clone();
            for &shadow in &routes.lanes[next.lane].shadows {
                let Some(scored) = self.shadows.score(shadow, &next, &mut self.evaluator)? else {
                    continue;
                };
                for scored in scored {
                    self.watch_shadow(scored, &mut seen, watched)?;
                }
            }
        }
        Ok(())
    }

    /// What drift watches of what a shadow says: its predictions alone, where there is something to compare
    /// them with. Those of a version that drift has
    /// `seen` for these rows are the same again: two aliases may stand on one version.
    fn watch_shadow(
        &mut self,
        scored: Evaluated,
        seen: &mut Vec<usize>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        if !self.is_watched {
            return Ok(());
        }
        let said = self.evaluator.said_of(scored.scores);
        let (version, task) = (said.version, said.task);
        if seen.contains(&version) || !self.evaluator.models.has_reference(version) {
            return Ok(());
        }
        seen.push(version);
        let scores = scored.predictions.scores(task, scored.width).into_array();
        let mut first = 0;
        for part in &scored.parts {
            let of_part = scores.slice(first, part.rows);
            first += part.rows;
            let column = |at: usize| part.batch.column(at).slice(part.start, part.rows);
            let (time, late) = (column(self.layout.time), column(self.layout.late));
            let rows = self.watched.scores(time, late, &of_part)?;
            let epoch = part.tag.epoch;
            watched.push(Seen { epoch, version, rows, with_features: false });
        }
        Ok(())
    }
}

/// Whether rows can be in one micro-batch.
fn go_together(a: &Turn, b: &Turn) -> bool {
    a.control == b.control
}

/// What scores all rows of a job that has no routes.
impl RouteTable {
    fn of_one() -> Self {
        let lane = crate::routes::table::Lane {
            route: 0,
            variant: None,
            chain: vec![Scores::Model(0)],
            shadows: Vec::new(),
        };
        RouteTable { lanes: vec![lane], models: vec!["the model".to_owned()], ..Self::default() }
    }
}
