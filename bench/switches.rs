//! A thousand switches of the model while departures come at half of the rate that one run takes them
//! at: each of them is to be scored once, by the version that the record of switches says, and no turn
//! of an operator is to be longer than it is without switches. `cargo bench --bench switches`, or with
//! `-- 300` so many switches. The departures come again, years later, until all switches are made.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, kernels::numeric::add};
use arrow::datatypes::{DataType, Float32Type, Int64Type, SchemaRef, TimestampMillisecondType};
use driftline::run::prepare::read_parquet;
use driftline::{
    EventSource, FunctionSink, Job, ModelSwitched, Next, OwnEvents, Pipeline, Since, Sink,
    SinkError, Summary,
};

/// Of a batch of the source, each of which is an epoch.
const ROWS: usize = 160;
const MODELS: [&str; 2] = ["trees", "logistic"];

/// From one round of the departures to the next: as many days as make weeks.
const ROUND_MS: i64 = 371 * 24 * 3_600_000;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let switches = arguments.next().map_or(Ok(1_000), |text| text.parse::<usize>())?;
    let events = read_parquet(&data("departures.parquet"))?;
    let all = events.num_rows();
    println!("workers  events/s  switches  events  wrong  longest turns");
    for workers in [1, 2] {
        let run = |model| Run { events: &events, model, workers, rate: None, end: End::Rows(all) };
        let peak = run(MODELS[0]).measure()?.rate;
        let paced = |end| {
            let ran = Run { rate: Some(peak / 2.0), end, ..run(MODELS[0]) }.measure()?;
            let account = &ran.summary.account;
            ensure!(account.predictions == account.read, "{}", ran.summary);
            anyhow::Ok(ran)
        };
        let switched = paced(End::Switches(switches))?;
        // As many events, so that the longest turns compare.
        let still = paced(End::Rows(switched.summary.account.read as usize))?;
        for ran in [still, switched] {
            let rows = ran.summary.account.read as usize;
            let scores = MODELS.map(|model| {
                let ran = Run { end: End::Rows(rows), ..run(model) }.measure()?;
                anyhow::Ok(ran.scores(rows))
            });
            let [first, second] = scores;
            let turns = ran.summary.turns.iter();
            let turns = turns.map(|(operator, took)| format!("{operator} {:.1}", ms(*took)));
            println!(
                "{workers:<9}{:<10.0}{:<10}{rows:<8}{:<7}{} ms",
                ran.rate,
                ran.switched.len(),
                ran.wrong(&[first?, second?]),
                turns.collect::<Vec<_>>().join(", ")
            );
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
    end: End,
}

/// When a run has had enough events.
#[derive(Clone, Copy)]
enum End {
    Rows(usize),
    /// So many switches were made.
    Switches(usize),
}

struct Ran {
    summary: Summary,
    /// Events a second.
    rate: f64,
    switched: Vec<ModelSwitched>,
    /// By batch.
    predictions: Vec<Vec<Predicted>>,
}

struct Predicted {
    /// Which of the events it is, in the order in which they come.
    number: usize,
    time: i64,
    version: String,
    score: u32,
}

impl Run<'_> {
    fn measure(self) -> Result<Ran> {
        let mut job =
            Job::load(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("jobs/flights.toml"))?;
        job.model.as_mut().context("the flights job has a model")?.path = model(self.model);
        let (is_over, given) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let source = Paced {
            events: self.events.clone(),
            rate: self.rate,
            rows: match self.end {
                End::Rows(rows) => rows,
                End::Switches(_) => usize::MAX,
            },
            began: None,
            is_over: is_over.clone(),
            given: given.clone(),
        };
        let kept = Kept::new(self.events)?;
        let pipeline = Pipeline::new(job)
            .workers(self.workers)
            .events(OwnEvents::new(self.events.schema(), source))
            .predictions(into(&kept))
            .dead_letters(|_, _| Ok(Box::new(FunctionSink::new("none", |_| Ok(())))))
            .drift(|_, _| Ok(Box::new(FunctionSink::new("none", |_| Ok(())))));
        let models = pipeline.models();
        let started = Instant::now();
        let summary = std::thread::scope(|scope| {
            scope.spawn(|| {
                let End::Switches(switches) = self.end else { return };
                while !is_over.load(Relaxed) {
                    let made = models.switched().len();
                    if made >= switches {
                        return is_over.store(true, Relaxed);
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
        let rate = given.load(Relaxed) as f64 / started.elapsed().as_secs_f64();
        let predictions = std::mem::take(&mut *kept.lock());
        Ok(Ran { summary, rate, switched: models.switched(), predictions })
    }
}

impl Ran {
    /// By number.
    fn scores(&self, rows: usize) -> Vec<Option<u32>> {
        let mut scores = vec![None; rows];
        self.predictions.iter().flatten().for_each(|row| scores[row.number] = Some(row.score));
        scores
    }

    /// Events that are missing, there twice, or scored otherwise than by the version that holds for them.
    fn wrong(&self, scores: &[Vec<Option<u32>>; 2]) -> usize {
        let since = |switched: &ModelSwitched| match switched.since {
            Since::EventTime(since) => since,
            Since::Epoch(_) => i64::MAX,
        };
        let mut seen = vec![false; scores[0].len()];
        let mut wrong = 0;
        for Predicted { number, time, version, score } in self.predictions.iter().flatten() {
            let holds = self.switched.partition_point(|switched| since(switched) <= *time);
            let holds = holds.checked_sub(1).map(|at| self.switched[at].model.version.as_str());
            let by = MODELS.iter().position(|model| version.starts_with(model)).unwrap_or(0);
            let is_right = version == holds.unwrap_or("1") && scores[by][*number] == Some(*score);
            let is_first = !std::mem::replace(&mut seen[*number], true);
            wrong += usize::from(!is_right || !is_first);
        }
        wrong + seen.iter().filter(|is_there| !**is_there).count()
    }
}

/// The predictions of a run.
#[derive(Clone)]
struct Kept {
    /// Of the departures, by id.
    numbers: Arc<HashMap<String, usize>>,
    /// By batch: one vector that grows would hold sinks up.
    predictions: Arc<Mutex<Vec<Vec<Predicted>>>>,
}

impl Kept {
    fn new(events: &RecordBatch) -> Result<Self> {
        let ids = events.column_by_name("event_id").context("departures have ids")?;
        let ids = cast(ids, &DataType::Utf8)?;
        let ids = ids.as_string::<i32>().iter().flatten().map(str::to_owned);
        let numbers = Arc::new(ids.zip(0..).collect());
        Ok(Kept { numbers, predictions: Arc::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<Predicted>>> {
        self.predictions.lock().expect("no sink panics")
    }

    fn add(&self, batch: &RecordBatch) -> Option<()> {
        let text = |name| Some(batch.column_by_name(name)?.as_string::<i32>());
        let (ids, versions) = (text("event_id")?, text("model_version")?);
        let times = batch.column_by_name("event_time")?.as_primitive::<TimestampMillisecondType>();
        let scores = batch.column_by_name("score")?.as_primitive::<Float32Type>();
        let mut predictions = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let (id, round) = ids.value(row).rsplit_once('/')?;
            predictions.push(Predicted {
                number: round.parse::<usize>().ok()? * self.numbers.len() + self.numbers.get(id)?,
                time: times.value(row),
                version: versions.value(row).to_owned(),
                score: scores.value(row).to_bits(),
            });
        }
        self.lock().push(predictions);
        Some(())
    }
}

/// Sinks of all workers that keep what they are given.
fn into(
    kept: &Kept,
) -> impl Fn(usize, &SchemaRef) -> Result<Box<dyn Sink>, SinkError> + Send + Sync + use<> {
    let kept = kept.clone();
    move |_, _| {
        let kept = kept.clone();
        let keep = move |batch: RecordBatch| {
            kept.add(&batch).ok_or_else(|| "columns of predictions".into())
        };
        Ok(Box::new(FunctionSink::new("kept", keep)))
    }
}

/// Gives events when they are due, again and again.
struct Paced {
    events: RecordBatch,
    rate: Option<f64>,
    /// How many there are at most.
    rows: usize,
    began: Option<Instant>,
    is_over: Arc<AtomicBool>,
    given: Arc<AtomicUsize>,
}

impl Paced {
    /// Rows of a round: that much later, and with ids of their own.
    fn of_round(&self, round: usize, from: usize, rows: usize) -> Result<RecordBatch> {
        let batch = self.events.slice(from, rows);
        let later = Int64Array::new_scalar(round as i64 * ROUND_MS);
        let columns =
            batch.columns().iter().zip(batch.schema_ref().fields()).map(|(column, field)| {
                anyhow::Ok(match field.name().as_str() {
                    "event_time" => {
                        let times = cast(column, &DataType::Int64)?;
                        let times = add(times.as_primitive::<Int64Type>(), &later)?;
                        cast(&times, field.data_type())?
                    }
                    "event_id" => {
                        let ids = cast(column, &DataType::Utf8)?;
                        let ids = ids.as_string::<i32>().iter();
                        let ids: StringArray =
                            ids.map(|id| Some(format!("{}/{round}", id?))).collect();
                        cast(&(Arc::new(ids) as ArrayRef), field.data_type())?
                    }
                    _ => column.clone(),
                })
            });
        Ok(RecordBatch::try_new(batch.schema(), columns.collect::<Result<_>>()?)?)
    }
}

impl EventSource for Paced {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        let (given, all) = (self.given.load(Relaxed), self.events.num_rows());
        let (round, from) = (given / all, given % all);
        let rows = ROWS.min(all - from).min(self.rows - given);
        if rows == 0 || self.is_over.load(Relaxed) {
            self.is_over.store(true, Relaxed);
            return Ok(Next::End);
        }
        let began = *self.began.get_or_insert_with(Instant::now);
        if let Some(rate) = self.rate {
            let due = began + Duration::from_secs_f64(given as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let batch = self.of_round(round, from, rows)?;
        self.given.store(given + rows, Relaxed);
        Ok(Next::Events(batch))
    }
}
