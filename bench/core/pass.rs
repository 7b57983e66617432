//! The whole pass of a worker: admitted, ordered, enriched, scored, delivered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{RecordBatch, UInt64Array};
use driftline::run::engine::Engine;
use driftline::run::options::RunOptions;
use driftline::run::prepare::Prepared;
use driftline::run::scoring::ScoringParts;
use driftline::{FunctionSink, Job};
use driftline_jobs::graph::{Behind, parts};
use driftline_operators::chunk::Chunk;
use driftline_operators::core::{Taken, WorkerCore};
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, Intake, Polled};
use driftline_operators::score::Scorer;
use driftline_operators::sinks::{Outlet, Outlets, Output, Tally};
use driftline_operators::stages::fused::core_of;
use driftline_operators::watermark::EVENTS;

use crate::{Measured, Turns};

/// Turns of a case.
const TURNS: usize = 4_000;
const ROWS_MAX: usize = 200_000;

/// The flights job as a [`Predictor`](driftline::Predictor) runs it: by epoch, without drift.
pub struct Worker {
    pub core: WorkerCore,
    pub intake: Intake,
    outlets: Outlets,
    epoch: u64,
}

/// The flights job with a model.
pub fn job(model: &str) -> Result<Job> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut job = Job::load(&root.join("jobs/flights.toml"))?;
    job.model.as_mut().context("a model")?.path =
        root.join(format!("data/flights/models/{model}.onnx"));
    job.order = Order::Epoch;
    Ok(job)
}

impl Worker {
    pub fn new(job: Job) -> Result<Self> {
        let (job, options) =
            (Arc::new(job), RunOptions { workers: 1, without_drift: true, ..Default::default() });
        let prepared = Arc::new(Prepared::new(&job, &options)?);
        let scoring = ScoringParts::load(&prepared, &options)?;
        let run = Engine::new(prepared.clone(), &options).run;
        let events = prepared.events(0, 1, &options, &run)?;
        let scorer = scoring.worker(&prepared, &run)?;
        let predictions = Outlet {
            output: Output::Predictions,
            schema: scorer.schema(),
            sink: Box::new(FunctionSink::new("nowhere", |_| Ok(()))),
            tally: Tally::Rows(run.counters.clone()),
        };
        let work = Box::new(Scorer::new(scorer, scoring.watched.clone(), 0).unwatched());
        let behind = Behind { work, drift: None, gathered: None };
        let (core, intake) = core_of(parts(events, behind, 0))?;
        Ok(Worker { core, intake, outlets: Outlets::new(vec![predictions], &run), epoch: 0 })
    }

    /// What the source has to say of tables, taken; and the rows of events up to some.
    pub fn read(&mut self, rows_max: usize) -> Result<RecordBatch> {
        let mut read: Vec<RecordBatch> = Vec::new();
        while read.iter().map(RecordBatch::num_rows).sum::<usize>() < rows_max {
            let Polled::Chunk(chunk) = self.intake.source.poll(&Allowance::default())? else {
                break;
            };
            match chunk.stream {
                EVENTS => read.push(chunk.rows),
                table => {
                    let rows = self.intake.tables[table - 1].admit(&chunk)?.rows;
                    let rows = vec![(table, rows)];
                    self.take(Taken { rows, ..Taken::default() })?;
                }
            }
        }
        let schema = read.first().context("the flights have rows")?.schema();
        Ok(arrow::compute::concat_batches(&schema, &read)?)
    }

    /// An epoch of rows.
    pub fn chunk(rows: RecordBatch, first: u64) -> Chunk {
        let count = rows.num_rows() as u64;
        Chunk::new(0, EVENTS, 0, rows, UInt64Array::from_iter_values(first..first + count))
    }

    /// All that becomes of a chunk.
    pub fn pass(&mut self, chunk: Chunk) -> Result<()> {
        let admitted = self.intake.events.admit(chunk, i64::MIN, Duration::ZERO)?;
        self.take(Taken {
            marks: admitted.marks,
            dead_letters: Vec::new(),
            rows: vec![(EVENTS, admitted.rows)],
            ..Taken::default()
        })
    }

    fn take(&mut self, taken: Taken) -> Result<()> {
        self.epoch += 1;
        self.core.take(self.epoch, taken)?;
        while self.core.step()? {}
        for out in self.core.out() {
            self.outlets.write(out.epoch, out.output, &out.rows)?;
        }
        self.outlets.tick()?;
        Ok(())
    }
}

pub fn measure(rows: usize, measured: &mut Measured) -> Result<()> {
    for (model, case) in [("trees", "pass, trees"), ("logistic", "pass, logistic")] {
        let mut worker = Worker::new(job(model)?)?;
        let events = worker.read(ROWS_MAX)?;
        let mut turns = Turns::default();
        for turn in 0..TURNS.min(events.num_rows() / rows) {
            let part = events.slice(turn * rows, rows);
            let chunk = Worker::chunk(part, (turn * rows) as u64);
            turns.time(|| worker.pass(chunk))?;
        }
        measured.insert((case, rows), turns.median());
    }
    Ok(())
}
