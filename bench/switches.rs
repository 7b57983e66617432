//! A thousand switches of the model while departures come at half of the rate that one run takes them
//! at: each of them is to be scored once, by the version that the record of switches says, and no turn
//! of an operator is to be longer than it is without switches. `cargo bench --bench switches`, or with
//! `-- 300` so many switches.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, SchemaRef, TimestampMillisecondType};
use driftline::run::prepare::read_parquet;
use driftline::{
    EventSource, FunctionSink, Job, ModelSwitched, Next, OwnEvents, Pipeline, Since, Sink,
    SinkError, Summary,
};

/// Of a batch of the source, each of which is an epoch.
const ROWS: usize = 160;
const MODELS: [&str; 2] = ["trees", "logistic"];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let switches = arguments.next().map_or(Ok(1_000), |text| text.parse::<usize>())?;
    let events = read_parquet(&data("departures.parquet"))?;
    let mut scores = Vec::new();
    for model in MODELS {
        let run = Run { events: &events, model, workers: 1, rate: None, switches: 0 };
        scores.push(run.measure()?.scores());
    }
    println!("workers  events/s  switches  rows  wrong  longest turns");
    for workers in [1, 2] {
        let run = Run { events: &events, model: MODELS[0], workers, rate: None, switches: 0 };
        let peak = run.measure()?.rate;
        for switches in [0, switches] {
            let ran = Run { rate: Some(peak / 2.0), switches, ..run }.measure()?;
            let turns = ran.summary.turns.iter();
            let turns = turns.map(|(operator, took)| format!("{operator} {:.1}", ms(*took)));
            println!(
                "{workers:<9}{:<10.0}{:<10}{:<6}{:<7}{} ms",
                ran.rate,
                ran.switched.len(),
                ran.predictions.len(),
                ran.wrong(&scores),
                turns.collect::<Vec<_>>().join(", ")
            );
            let account = &ran.summary.account;
            let all = events.num_rows() as u64;
            ensure!((account.read, account.predictions) == (all, all), "{}", ran.summary);
        }
    }
    Ok(())
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/flights").join(name)
}

fn model(name: &str) -> PathBuf {
    data("models").join(format!("{name}.onnx"))
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[derive(Clone, Copy)]
struct Run<'a> {
    events: &'a RecordBatch,
    model: &'static str,
    workers: usize,
    /// Events a second; as fast as they are taken where there is none.
    rate: Option<f64>,
    switches: usize,
}

struct Ran {
    summary: Summary,
    /// Events a second.
    rate: f64,
    switched: Vec<ModelSwitched>,
    predictions: Vec<Predicted>,
}

struct Predicted {
    id: String,
    time: i64,
    version: String,
    score: u32,
}

/// Scores by event, of one model.
type Scores = HashMap<String, u32>;

impl Run<'_> {
    fn measure(self) -> Result<Ran> {
        let mut job =
            Job::load(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("jobs/flights.toml"))?;
        job.model.as_mut().context("the flights job has a model")?.path = model(self.model);
        let is_over = Arc::new(AtomicBool::new(false));
        let source = Paced {
            events: self.events.clone(),
            from: 0,
            rate: self.rate,
            began: None,
            is_over: is_over.clone(),
        };
        let batches = Arc::new(Mutex::new(Vec::new()));
        let pipeline = Pipeline::new(job)
            .workers(self.workers)
            .events(OwnEvents::new(self.events.schema(), source))
            .predictions(into(&batches))
            .dead_letters(into(&Arc::default()))
            .drift(into(&Arc::default()));
        let models = pipeline.models();
        let started = Instant::now();
        let summary = std::thread::scope(|scope| {
            scope.spawn(|| {
                while self.switches > 0 && !is_over.load(Relaxed) {
                    let made = models.switched().len();
                    if made >= self.switches {
                        return;
                    }
                    let name = MODELS[(made + 1) % 2];
                    // One that nobody has been told of when the next comes never scores a row.
                    if models.switch(&format!("{name} {made}"), model(name)).is_ok() {
                        while models.switched().len() == made && !is_over.load(Relaxed) {
                            std::thread::sleep(Duration::from_micros(100));
                        }
                    }
                }
            });
            let summary = pipeline.run();
            is_over.store(true, Relaxed);
            summary
        })?;
        let rate = self.events.num_rows() as f64 / started.elapsed().as_secs_f64();
        let batches = std::mem::take(&mut *batches.lock().expect("no sink panics"));
        let predictions = batches.iter().map(predicted).collect::<Option<Vec<_>>>();
        let predictions = predictions.context("columns of predictions")?;
        let predictions = predictions.into_iter().flatten().collect();
        Ok(Ran { summary, rate, switched: models.switched(), predictions })
    }
}

impl Ran {
    fn scores(&self) -> Scores {
        self.predictions.iter().map(|row| (row.id.clone(), row.score)).collect()
    }

    /// Events that are missing, there twice, or scored otherwise than by the version that holds for them.
    fn wrong(&self, scores: &[Scores]) -> usize {
        let mut seen = Scores::new();
        let mut wrong = 0;
        for Predicted { id, time, version, score } in &self.predictions {
            let holds = self.switched.iter().rev().find(|switched| match switched.since {
                Since::EventTime(since) => since <= *time,
                Since::Epoch(_) => false,
            });
            let wanted = holds.map_or("1", |holds| holds.model.version.as_str());
            let by = MODELS.iter().position(|model| version.starts_with(model)).unwrap_or(0);
            let is_right = version == wanted && scores[by].get(id) == Some(score);
            let is_first = seen.insert(id.clone(), *score).is_none();
            wrong += usize::from(!is_right || !is_first);
        }
        wrong + scores[0].len() - seen.len()
    }
}

fn predicted(batch: &RecordBatch) -> Option<Vec<Predicted>> {
    let text = |name| Some(batch.column_by_name(name)?.as_string::<i32>());
    let (ids, versions) = (text("event_id")?, text("model_version")?);
    let times = batch.column_by_name("event_time")?.as_primitive::<TimestampMillisecondType>();
    let scores = batch.column_by_name("score")?.as_primitive::<Float32Type>();
    let row = |row: usize| Predicted {
        id: ids.value(row).to_owned(),
        time: times.value(row),
        version: versions.value(row).to_owned(),
        score: scores.value(row).to_bits(),
    };
    Some((0..batch.num_rows()).map(row).collect())
}

type Batches = Arc<Mutex<Vec<RecordBatch>>>;

/// Sinks of all workers that keep what they are given.
fn into(
    batches: &Batches,
) -> impl Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync + use<> {
    let batches = batches.clone();
    move |_, _| {
        let batches = batches.clone();
        let keep = move |batch| {
            batches.lock().expect("no sink panics").push(batch);
            Ok(())
        };
        Ok(Box::new(FunctionSink::new("kept", keep)))
    }
}

/// Gives events when they are due.
struct Paced {
    events: RecordBatch,
    from: usize,
    rate: Option<f64>,
    began: Option<Instant>,
    is_over: Arc<AtomicBool>,
}

impl EventSource for Paced {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        let rows = ROWS.min(self.events.num_rows() - self.from);
        if rows == 0 {
            self.is_over.store(true, Relaxed);
            return Ok(Next::End);
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        if let Some(rate) = self.rate {
            let due = began + Duration::from_secs_f64(self.from as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let batch = self.events.slice(self.from, rows);
        self.from += rows;
        Ok(Next::Events(batch))
    }
}
