//! The flights job as a straight line in one thread: the parts of the engine called one after the
//! other, chunk by chunk, without a dataflow. Its rows must come in order of event time.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use driftline::Job;
use driftline::run::drift::PreparedDrift;
use driftline::run::engine::Engine;
use driftline::run::options::RunOptions;
use driftline::run::prepare::Prepared;
use driftline::run::scoring::ScoringParts;
use driftline::sinks::parquet::ParquetSink;
use driftline_operators::drift::coverage::Coverage;
use driftline_operators::drift::panes::OpenPanes;
use driftline_operators::drift::snapshot;
use driftline_operators::drift::windows::{OpenWindows, WindowOutput};
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::features::trip::{Errand, KeyedWindow, Trip};
use driftline_operators::features::window::{KeyedWindows, Place};
use driftline_operators::ingest::{Allowance, Polled};
use driftline_operators::layout::EventLayout;
use driftline_operators::prediction::{self, ScoredColumns};
use driftline_operators::score::Scoring;
use driftline_operators::sinks::Sink;
use driftline_operators::watched::Watched;
use driftline_operators::watermark::{EVENTS, Span};

use crate::stages::Stages;
use crate::versions::TableVersions;

/// Returns the rows of events.
pub fn run(
    job: &Arc<Job>,
    options: &RunOptions,
    folder: &Path,
    stages: &mut Stages,
) -> Result<usize> {
    let prepared = Arc::new(Prepared::new(job, options)?);
    let parts = ScoringParts::load(&prepared, options)?;
    let engine = Engine::new(prepared.clone(), options);
    let events = prepared.events(0, 1, options, &engine.run)?;
    let scoring = parts.worker(&prepared, &engine.run)?;
    let mut intake = events.intake;
    let mut features = Features::new(&events.plan, &events.layout, events.tables.len());
    let mut scores = Scores::new(scoring, parts.watched.clone(), folder)?;
    let drift = PreparedDrift::new(job, &parts, Coverage::ALL)?.context("the job watches drift")?;
    let mut drift = Drift::new(drift, folder)?;
    let mut read = 0;
    loop {
        let polled = stages.time("read and decode", || intake.source.poll(&Allowance::default()));
        let mut chunk = match polled? {
            Polled::Chunk(chunk) => chunk,
            Polled::End => break,
            Polled::Wait(_) | Polled::Held(_) => bail!("files do not wait"),
        };
        chunk.finished.clear();
        if chunk.stream != EVENTS {
            let rows = intake.tables[chunk.stream - 1].admit(&chunk)?.rows;
            features.tables[chunk.stream - 1].add(rows);
            continue;
        }
        read += chunk.rows.num_rows();
        let admitted = stages
            .time("admit", || intake.events.admit(*chunk, i64::MIN, std::time::Duration::ZERO));
        let rows = admitted?.rows;
        let enriched = features.append(&rows, &scores.scoring, stages)?;
        for watched in scores.score(&enriched, stages)? {
            stages.time("drift: gather", || drift.add(&watched));
        }
        let times = events.layout.times(&rows);
        let watermark = times.values().last().copied().unwrap_or(i64::MIN);
        stages.time("drift: figures of windows", || drift.issue(watermark))?;
    }
    stages.time("drift: figures of windows", || drift.issue(i64::MAX))?;
    stages.time("write predictions", || scores.predictions.finish())?;
    drift.sink.finish()?;
    Ok(read)
}

/// What features need to know of earlier rows and of tables.
struct Features {
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    /// By trip; none for lookups.
    windows: Vec<Option<KeyedWindows>>,
    tables: Vec<TableVersions>,
}

impl Features {
    fn new(plan: &Arc<FeaturePlan>, layout: &EventLayout, tables: usize) -> Self {
        let windows = plan.trips.iter().map(|trip| match &trip.errand {
            Errand::Windows(windows) => {
                Some(KeyedWindows::new(windows.iter().map(|window| window.spec).collect()))
            }
            Errand::Lookups(_) => None,
        });
        Features {
            plan: plan.clone(),
            layout: layout.clone(),
            windows: windows.collect(),
            tables: (0..tables).map(|_| TableVersions::default()).collect(),
        }
    }

    fn append(
        &mut self,
        rows: &RecordBatch,
        scoring: &Scoring,
        stages: &mut Stages,
    ) -> Result<RecordBatch> {
        let mut answers = Vec::new();
        for (number, trip) in self.plan.clone().trips.iter().enumerate() {
            let key = trip.key.evaluate(rows.columns(), rows.num_rows())?;
            let key = cast(&key, &trip.key_type)?;
            match &trip.errand {
                Errand::Windows(windows) => {
                    let found =
                        stages.time("windows", || self.windows(number, trip, windows, rows, &key));
                    answers.extend(found?);
                }
                Errand::Lookups(lookups) => {
                    let times = self.layout.times(rows);
                    let table = &self.tables[lookups.table];
                    answers.extend(
                        stages.time("as-of lookups", || table.lookup(lookups, &key, times))?,
                    );
                }
            }
        }
        let append = || self.plan.append(rows, answers, &scoring.enriched);
        Ok(stages.time("expressions, categories, static lookups", append)?)
    }

    fn windows(
        &mut self,
        number: usize,
        trip: &Trip,
        windows: &[KeyedWindow],
        rows: &RecordBatch,
        key: &ArrayRef,
    ) -> Result<Vec<ArrayRef>> {
        let value = |window: &KeyedWindow| {
            let value = window.value.as_ref();
            value.map(|value| value.evaluate(rows.columns(), rows.num_rows())).transpose()
        };
        let values = windows.iter().map(value).collect::<Result<Vec<_>, _>>()?;
        let id = rows.column(self.layout.id.context("events have an id")?).as_string::<i32>();
        let (time, late) = (rows.column(self.layout.time), rows.column(self.layout.late));
        let state = self.windows[number].as_mut().with_context(|| trip.key_sql.clone())?;
        let values: Vec<Option<&ArrayRef>> = values.iter().map(Option::as_ref).collect();
        let place = |row: usize| Place::Text(id.value(row));
        let found = state.apply(key, time, late, place, &values)?;
        Ok(found.into_iter().map(|column| Arc::new(column) as ArrayRef).collect())
    }
}

struct Scores {
    scoring: Scoring,
    watched: Watched,
    predictions: ParquetSink,
}

impl Scores {
    fn new(scoring: Scoring, watched: Watched, folder: &Path) -> Result<Self> {
        let path = folder.join("straight-predictions.parquet");
        let schema = scoring.format.schema.clone();
        let predictions = ParquetSink::create(path, schema, &[], prediction::UNIQUE)?;
        Ok(Scores { scoring, watched, predictions })
    }

    /// Writes the predictions of rows, and returns what drift watches of them.
    fn score(&mut self, rows: &RecordBatch, stages: &mut Stages) -> Result<Vec<RecordBatch>> {
        let inputs: Vec<usize> = self.scoring.inputs.iter().map(|input| input.column).collect();
        let most = self.scoring.bounds.max_rows;
        let mut watched = Vec::new();
        for from in (0..rows.num_rows()).step_by(most) {
            let part = rows.slice(from, most.min(rows.num_rows() - from));
            let (width, task) = (self.scoring.model.width(), self.scoring.model.task());
            let mut columns = ScoredColumns::new(width, false);
            let features = part.project(&inputs)?;
            let scored = stages.time("inference", || self.scoring.model.score(&features));
            columns.predictions = scored?.predictions;
            columns.run_batch_rows = vec![part.num_rows() as u32; part.num_rows()];
            columns.run_inference_ms = vec![0.0; part.num_rows()];
            let scores: ArrayRef = Arc::new(columns.scores(task));
            let format = &mut self.scoring.format;
            let batch = stages.time("make predictions", || format.batch(&part, columns, task, 0));
            let batch = batch?;
            stages.time("write predictions", || self.predictions.write(&batch))?;
            let layout = &self.scoring.layout;
            let mut seen = vec![part.column(layout.time).clone(), part.column(layout.late).clone()];
            seen.extend(inputs.iter().map(|&column| part.column(column).clone()));
            seen.push(cast(&scores, &DataType::Float64)?);
            watched.push(RecordBatch::try_new(self.watched.schema.clone(), seen)?);
        }
        Ok(watched)
    }
}

struct Drift {
    prepared: PreparedDrift,
    panes: OpenPanes,
    windows: OpenWindows<<snapshot::SnapshotFormat as WindowOutput>::Figures>,
    sink: ParquetSink,
}

impl Drift {
    fn new(prepared: PreparedDrift, folder: &Path) -> Result<Self> {
        let columns = prepared.format.names.len();
        let schedule = prepared.schedule.clone();
        let path = folder.join("straight-drift.parquet");
        Ok(Drift {
            panes: OpenPanes::new(schedule.clone(), prepared.format.mode(), columns),
            windows: OpenWindows::new(schedule),
            sink: ParquetSink::create(path, snapshot::schema(), &[], &[])?,
            prepared,
        })
    }

    fn add(&mut self, watched: &RecordBatch) {
        self.panes.add(watched);
    }

    fn issue(&mut self, watermark: i64) -> Result<()> {
        // Which windows are partial is not looked at.
        let seen = Span { first: i64::MIN, last: i64::MAX };
        for partial in self.panes.close(watermark) {
            self.windows.add(partial);
        }
        let issued = self.windows.issue(watermark, &self.prepared.format);
        if !issued.is_empty() {
            self.sink.write(&self.prepared.format.batch(&issued, seen)?)?;
        }
        Ok(())
    }
}
