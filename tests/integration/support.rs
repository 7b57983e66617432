//! What the tests run graphs with: sources from memory, sinks into memory, a model in Rust.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit};
use driftline_jobs::enriched::Events;
use driftline_operators::accounting::Counters;
use driftline_operators::admit::{Admission, Chunk, LatePolicy};
use driftline_operators::clock::Clock;
use driftline_operators::deliver::{Sink, SinkError};
use driftline_operators::failure::Failure;
use driftline_operators::fault::Faults;
use driftline_operators::features::plan::{FeatureDeclaration, FeaturePlan};
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Polled, Source, SourceError};
use driftline_operators::layout::EventLayout;
use driftline_operators::model::{Model, ModelError, Scores, Task};
use driftline_operators::run::Run;
use driftline_operators::watermark::Watermarks;

/// Every way to run a graph that must give the same.
pub fn ways() -> Vec<timely::CommunicationConfig> {
    use timely::CommunicationConfig::{Process, ProcessBinary};
    vec![Process(1), Process(2), Process(4), ProcessBinary(2), ProcessBinary(4)]
}

pub fn config(communication: timely::CommunicationConfig) -> timely::Config {
    timely::Config { communication, worker: timely::WorkerConfig::default() }
}

/// Xorshift: the same numbers for the same seed, everywhere.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// An event of the tests.
#[derive(Clone, Debug)]
pub struct Row {
    pub time: i64,
    pub id: i64,
    pub key: Option<String>,
    pub value: Option<f64>,
}

fn event_schema() -> Schema {
    Schema::new(vec![
        Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("id", DataType::Int64, true),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
    ])
}

pub fn layout() -> EventLayout {
    EventLayout::new(&event_schema(), Some(1), Some(2), false)
}

pub fn events(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.time))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(rows.iter().map(|r| r.key.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.value).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::new(event_schema()), columns).unwrap()
}

/// Rows by partition, cut into epochs: chunk `i` of all is epoch `i + 1`.
pub fn chunks(
    partitions: &[Vec<Row>],
    random: &mut Random,
) -> Vec<Arc<dyn Fn() -> Chunk + Send + Sync>> {
    let mut at = vec![0; partitions.len()];
    let mut chunks: Vec<Arc<dyn Fn() -> Chunk + Send + Sync>> = Vec::new();
    while let Some(open) = (0..partitions.len())
        .filter(|&p| at[p] < partitions[p].len())
        .min_by_key(|&p| partitions[p][at[p]].time)
    {
        let start = at[open];
        let end = (start + 1 + random.below(40) as usize).min(partitions[open].len());
        at[open] = end;
        let rows = partitions[open][start..end].to_vec();
        let highest_before =
            partitions[open][..start].iter().map(|r| r.time).max().unwrap_or(i64::MIN);
        let finished = if end == partitions[open].len() { vec![open as u32] } else { vec![] };
        let epoch = chunks.len() as u64 + 1;
        chunks.push(Arc::new(move || Chunk {
            epoch,
            partition: open as u32,
            events: events(&rows),
            offsets: UInt64Array::from_iter_values(start as u64..end as u64),
            raw: None,
            undecoded: Vec::new(),
            highest_before,
            finished: finished.clone(),
        }));
    }
    chunks
}

/// Chunks from memory, dealt to the workers in turn.
pub struct Scripted {
    chunks: std::collections::VecDeque<Chunk>,
}

impl Scripted {
    pub fn share(
        chunks: &[Arc<dyn Fn() -> Chunk + Send + Sync>],
        worker: usize,
        workers: usize,
    ) -> Box<dyn Source> {
        let mine = chunks.iter().enumerate().filter(|(at, _)| at % workers == worker);
        Box::new(Scripted { chunks: mine.map(|(_, make)| make()).collect() })
    }
}

impl Source for Scripted {
    fn next_epoch(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.epoch)
    }

    fn poll(&mut self) -> Result<Polled, SourceError> {
        Ok(self.chunks.pop_front().map_or(Polled::End, |chunk| Polled::Chunk(Box::new(chunk))))
    }
}

/// A source that ticks like a live one: a row every `interval`, an epoch each.
pub struct Ticking {
    pub interval: Duration,
    pub left: u64,
    started: Instant,
    sent: u64,
}

impl Ticking {
    pub fn new(interval: Duration, rows: u64) -> Self {
        Ticking { interval, left: rows, started: Instant::now(), sent: 0 }
    }
}

impl Source for Ticking {
    fn next_epoch(&self) -> Option<u64> {
        (self.left > 0).then_some(self.sent + 1)
    }

    fn poll(&mut self) -> Result<Polled, SourceError> {
        let due = self.interval * self.sent as u32;
        if let Some(wait) = due.checked_sub(self.started.elapsed()).filter(|w| !w.is_zero()) {
            return Ok(Polled::Wait(wait));
        }
        let time = self.sent as i64;
        let row = Row { time, id: time, key: Some("k".to_owned()), value: Some(1.0) };
        self.sent += 1;
        self.left -= 1;
        Ok(Polled::Chunk(Box::new(Chunk {
            epoch: self.sent,
            partition: 0,
            events: events(&[row]),
            offsets: UInt64Array::from(vec![self.sent - 1]),
            raw: None,
            undecoded: Vec::new(),
            highest_before: time - 1,
            finished: if self.left == 0 { vec![0] } else { vec![] },
        })))
    }
}

/// What a graph is run with, beside its source.
#[derive(Clone)]
pub struct Setting {
    pub order: Order,
    pub partitions: usize,
    pub allowed_lateness_ms: i64,
    pub counters: Counters,
    pub failure: Failure,
    pub declared: fn() -> Vec<FeatureDeclaration>,
}

impl Setting {
    pub fn plan(&self) -> FeaturePlan {
        FeaturePlan::compile(&layout(), (self.declared)()).unwrap()
    }

    pub fn events(&self, source: Box<dyn Source>) -> Events {
        let layout = layout();
        let admission = Admission {
            layout: layout.clone(),
            time_column: 0,
            filter: None,
            allowed_lateness_ms: self.allowed_lateness_ms,
            late: LatePolicy::Score,
            late_horizon_ms: None,
            from: i64::MIN,
            to: i64::MAX,
            warm_up_from: i64::MIN,
            partition_names: (0..self.partitions).map(|p| p.to_string()).collect(),
            counters: self.counters.clone(),
        };
        let floors = vec![i64::MIN; self.partitions];
        Events {
            source,
            admission,
            plan: Arc::new(self.plan()),
            order: self.order,
            shard_by: layout.id,
            layout,
            watermarks: Watermarks::new(self.allowed_lateness_ms, &floors),
            epochs_in_flight_max: 3,
            run: Run {
                counters: self.counters.clone(),
                failure: self.failure.clone(),
                faults: Faults::default(),
            },
        }
    }
}

/// A sink into memory, shared by the workers.
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Vec<RecordBatch>>>);

impl Memory {
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.0.lock().unwrap().clone()
    }
}

impl Sink for Memory {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.0.lock().unwrap().push(batch.clone());
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        0
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The score is the first feature.
pub struct FirstFeature;

impl Model for FirstFeature {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let first = features.column(0).as_primitive::<Float64Type>();
        Ok(Scores { predictions: first.values().iter().map(|&v| v as f32).collect(), input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

pub struct Monotonic(Instant);

impl Monotonic {
    pub fn start() -> Rc<dyn Clock> {
        Rc::new(Monotonic(Instant::now()))
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
