//! What the tests run graphs with: sources from memory, sinks into memory, a model in Rust.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, TimeUnit};
use driftline_jobs::graph::Events;
use driftline_operators::accounting::Counters;
use driftline_operators::admit::{Admission, LatePolicy};
use driftline_operators::as_of::table::{AsOfTable, TableAdmission};
use driftline_operators::chunk::Chunk;
use driftline_operators::clock::Clock;
use driftline_operators::core::tables::Retention;
use driftline_operators::failure::Failure;
use driftline_operators::features::declaration::FeatureDeclaration;
use driftline_operators::features::functions::Functions;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::features::sql::Expression;
use driftline_operators::gate::Order;
use driftline_operators::ingest::{
    Allowance, Control, FlowBounds, Intake, Polled, Source, SourceError,
};
use driftline_operators::known::Known;
use driftline_operators::layout::{CameAs, EventLayout};
use driftline_operators::model::{Model, ModelError, Scores, Task};
use driftline_operators::model_bank::{ModelShelf, ReadyModels};
use driftline_operators::reports::Reports;
use driftline_operators::routes::table::RouteTable;
use driftline_operators::run::Run;
use driftline_operators::settled::Beginning;
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::state::StateParts;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watermark::EVENTS;
use driftline_operators::watermark::{Progress, StreamBounds, Watermarks};

use crate::record::{Bounds, Origin, Recorded, released};
use crate::ways::Way;

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
    /// µs beyond the ms of the time, below 1,000.
    pub us: i64,
    pub id: i64,
    pub key: Option<String>,
    pub value: Option<f64>,
}

const TIME_TYPE: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn micros(time: i64, us: i64) -> i64 {
    time * 1_000 + us
}

fn event_schema() -> Schema {
    Schema::new(vec![
        Field::new("t", TIME_TYPE, true),
        Field::new("id", DataType::Int64, true),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
        // A number that tells a record from all others, where one is asked for.
        Field::new("origin", DataType::Float64, true),
    ])
}

pub fn layout() -> EventLayout {
    EventLayout::new(&event_schema(), Some(1), Some(2), CameAs::Columns)
        .with_own_time(0, &TIME_TYPE)
}

pub fn events(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(|r| micros(r.time, r.us)),
        )),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.id))),
        Arc::new(rows.iter().map(|r| r.key.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.value).collect::<Float64Array>()),
        Arc::new(Float64Array::new_null(rows.len())),
    ];
    RecordBatch::try_new(Arc::new(event_schema()), columns).unwrap()
}

/// A row of a table of the tests; one without value deletes its key.
#[derive(Clone, Debug)]
pub struct VersionRow {
    pub key: String,
    pub time: i64,
    /// As of [`Row`].
    pub us: i64,
    pub sequence: i64,
    pub value: Option<f64>,
}

fn version_schema() -> Schema {
    Schema::new(vec![
        Field::new("key", DataType::Utf8, true),
        Field::new("t", TIME_TYPE, true),
        Field::new("sequence", DataType::Int64, true),
        Field::new("deleted", DataType::Boolean, true),
        Field::new("value", DataType::Float64, true),
    ])
}

pub fn versions(rows: &[VersionRow]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.key.as_str()))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(|r| micros(r.time, r.us)),
        )),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.sequence))),
        Arc::new(rows.iter().map(|r| Some(r.value.is_none())).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|r| r.value).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::new(version_schema()), columns).unwrap()
}

/// The rows of a partition, in the order they come.
#[derive(Clone)]
pub enum Partition {
    Events(Vec<Row>),
    /// Of table `.0`.
    Versions(usize, Vec<VersionRow>),
}

impl Partition {
    pub fn len(&self) -> usize {
        match self {
            Partition::Events(rows) => rows.len(),
            Partition::Versions(_, rows) => rows.len(),
        }
    }

    fn time(&self, at: usize) -> i64 {
        match self {
            Partition::Events(rows) => rows[at].time,
            Partition::Versions(_, rows) => rows[at].time,
        }
    }

    /// Rows `start..end` as a chunk of epoch `epoch`.
    pub fn chunk(&self, number: usize, epoch: u64, start: usize, end: usize) -> Chunk {
        let (stream, rows) = match self {
            Partition::Events(rows) => (EVENTS, events(&rows[start..end])),
            Partition::Versions(table, rows) => (table + 1, versions(&rows[start..end])),
        };
        let offsets = UInt64Array::from_iter_values(start as u64..end as u64);
        Chunk {
            highest_before: (0..start).map(|at| self.time(at)).max().unwrap_or(i64::MIN),
            finished: if end == self.len() { vec![number as u32] } else { vec![] },
            ..Chunk::new(epoch, stream, number as u32, rows, offsets)
        }
    }
}

pub type MakeChunk = Arc<dyn Fn() -> Chunk + Send + Sync>;

/// Partitions of events, cut into epochs: chunk `i` of all is epoch `i + 1`. The one that is
/// furthest behind comes next.
pub fn chunks(partitions: &[Vec<Row>], random: &mut Random) -> Vec<MakeChunk> {
    let partitions: Vec<Partition> = partitions.iter().cloned().map(Partition::Events).collect();
    chunks_of(&partitions, 40, random, |open, _random| {
        open.iter().min_by_key(|(_, time)| *time).map(|(partition, _)| *partition)
    })
}

/// Partitions in chunks of up to `rows_max`; `choose` says which of the unfinished ones comes next,
/// given the time of the next row of each.
pub fn chunks_of(
    partitions: &[Partition],
    rows_max: u64,
    random: &mut Random,
    choose: impl Fn(&[(usize, i64)], &mut Random) -> Option<usize>,
) -> Vec<MakeChunk> {
    let mut at = vec![0; partitions.len()];
    let mut chunks: Vec<MakeChunk> = Vec::new();
    loop {
        let open: Vec<(usize, i64)> = (0..partitions.len())
            .filter(|&p| at[p] < partitions[p].len())
            .map(|p| (p, partitions[p].time(at[p])))
            .collect();
        let Some(next) = choose(&open, random) else { return chunks };
        let start = at[next];
        // A chunk may be empty.
        let rows = if random.below(12) == 0 { 0 } else { 1 + random.below(rows_max) as usize };
        let end = (start + rows).min(partitions[next].len());
        at[next] = end;
        let (partition, epoch) = (partitions[next].clone(), chunks.len() as u64 + 1);
        chunks.push(Arc::new(move || partition.chunk(next, epoch, start, end)));
    }
}

/// Chunks from memory, dealt to the workers in turn. Their order is fixed: one of a partition that
/// may not be read holds up the rest.
pub struct Scripted {
    chunks: std::collections::VecDeque<Chunk>,
}

impl Scripted {
    pub fn share(chunks: &[MakeChunk], worker: usize, workers: usize) -> Box<dyn Source> {
        Self::share_without(chunks, worker, workers, &[])
    }

    /// As [`Scripted::share`]; `unopened` partitions have no rows, and the first chunk says so.
    pub fn share_without(
        chunks: &[MakeChunk],
        worker: usize,
        workers: usize,
        unopened: &[u32],
    ) -> Box<dyn Source> {
        let mine = chunks.iter().enumerate().filter(|(at, _)| at % workers == worker);
        let mut chunks: std::collections::VecDeque<Chunk> = mine.map(|(_, make)| make()).collect();
        if let Some(first) = chunks.front_mut().filter(|chunk| chunk.epoch == 1) {
            first.finished.extend(unopened);
        }
        Box::new(Scripted { chunks })
    }

    /// These chunks, and then no more.
    pub fn of(chunks: &[MakeChunk]) -> Box<dyn Source> {
        Box::new(Scripted { chunks: chunks.iter().map(|make| make()).collect() })
    }
}

impl Source for Scripted {
    fn next_epoch(&self) -> Option<u64> {
        self.chunks.front().map(|chunk| chunk.epoch)
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        if let Some(held) = self.chunks.front().filter(|c| !allowance.holds_back(c.partition)) {
            return Ok(Polled::Held(held.partition));
        }
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

    fn poll(&mut self, _allowance: &Allowance) -> Result<Polled, SourceError> {
        let due = self.interval * self.sent as u32;
        if let Some(wait) = due.checked_sub(self.started.elapsed()).filter(|w| !w.is_zero()) {
            return Ok(Polled::Wait(wait));
        }
        let time = self.sent as i64;
        let row = Row { time, us: 0, id: time, key: Some("k".to_owned()), value: Some(1.0) };
        self.sent += 1;
        self.left -= 1;
        let offsets = UInt64Array::from(vec![self.sent - 1]);
        Ok(Polled::Chunk(Box::new(Chunk {
            highest_before: time - 1,
            finished: if self.left == 0 { vec![0] } else { vec![] },
            ..Chunk::new(self.sent, EVENTS, 0, events(&[row]), offsets)
        })))
    }
}

/// An as-of table of the tests, keyed by text, with one value.
#[derive(Clone)]
pub struct TestTable {
    pub table: AsOfTable,
    pub partitions: usize,
    pub allowed_lateness_ms: i64,
}

impl TestTable {
    pub fn new(name: &str) -> Self {
        let table = AsOfTable {
            name: name.to_owned(),
            key_type: DataType::Utf8,
            values: vec![Field::new("value", DataType::Float64, true)],
            max_age_ms: None,
            eager: false,
            fine: AsOfTable::is_fine(&TIME_TYPE, Some(&DataType::Int64)),
        };
        TestTable { table, partitions: 1, allowed_lateness_ms: 0 }
    }
}

/// What a graph is run with, beside its source.
#[derive(Clone)]
pub struct Setting {
    pub order: Order,
    pub partitions: usize,
    pub allowed_lateness_ms: i64,
    pub late: LatePolicy,
    pub late_horizon_ms: i64,
    pub tables: Vec<TestTable>,
    pub bounds: FlowBounds,
    pub counters: Counters,
    pub failure: Failure,
    pub clock: Arc<dyn Clock>,
    /// Where the records begin of which account is kept.
    pub beginning: Beginning,
    pub reports: Reports,
    pub state: StateParts,
    pub declared: fn() -> Vec<FeatureDeclaration>,
    pub control: Control,
    /// Of models that take the place of a job's.
    pub shelf: Option<Arc<dyn ModelShelf>>,
    /// In the place of a job's one model.
    pub routed: Option<Routed>,
}

/// Which of several models scores a row.
#[derive(Clone)]
pub struct Routed {
    pub table: Arc<RouteTable>,
    /// Of a worker.
    pub models: Arc<dyn Fn(usize) -> ReadyModels + Send + Sync>,
}

impl Setting {
    pub fn new(declared: fn() -> Vec<FeatureDeclaration>) -> Self {
        Setting {
            order: Order::EventTime,
            partitions: 1,
            allowed_lateness_ms: 0,
            late: LatePolicy::Score,
            late_horizon_ms: 1_000_000,
            tables: Vec::new(),
            bounds: FlowBounds {
                epochs_in_flight_max: 3,
                rows_in_flight_max: u64::MAX,
                gate_rows_max: 1_000_000,
                gate_bytes_max: u64::MAX,
                bytes_in_flight_max: u64::MAX,
                partition_skew_max_ms: None,
                gather_for: None,
            },
            counters: Counters::default(),
            failure: Failure::default(),
            clock: Arc::new(Monotonic(Instant::now())),
            beginning: Beginning::default(),
            reports: Reports::default(),
            state: StateParts::default(),
            declared,
            control: Control::default(),
            shelf: None,
            routed: None,
        }
    }

    fn as_of_tables(&self) -> Vec<AsOfTable> {
        self.tables.iter().map(|table| table.table.clone()).collect()
    }

    pub fn plan(&self) -> FeaturePlan {
        FeaturePlan::compile(
            &layout(),
            (self.declared)(),
            &self.as_of_tables(),
            &Functions::default(),
        )
        .unwrap()
    }

    fn watermarks(&self) -> Watermarks {
        let bounds = |partitions, allowed_lateness_ms, holds_events| StreamBounds {
            allowed_lateness_ms,
            holds_events,
            floors: vec![i64::MIN; partitions],
        };
        let tables =
            self.tables.iter().map(|t| bounds(t.partitions, t.allowed_lateness_ms, !t.table.eager));
        let events = bounds(self.partitions, self.allowed_lateness_ms, true);
        Watermarks::new(&std::iter::once(events).chain(tables).collect::<Vec<_>>())
    }

    fn table_admission(&self, table: &TestTable) -> TableAdmission {
        let columns = version_schema();
        let columns = columns.fields().iter();
        let columns: Vec<_> =
            columns.map(|field| (field.name().clone(), field.data_type().clone())).collect();
        TableAdmission {
            table: table.table.clone(),
            schema: table.table.schema(),
            key: 0,
            time: 1,
            sequence: Some(2),
            delete: Some(Expression::compile("deleted", &columns, &Functions::default()).unwrap()),
            values: vec![4],
            by_epoch: false,
            allowed_lateness_ms: table.allowed_lateness_ms,
            partition_names: self.partition_names().to_vec().into(),
            counters: self.counters.clone(),
        }
    }

    /// By which epoch each event passes the gate.
    pub fn released(&self, chunks: &[MakeChunk], unopened: &[u32]) -> BTreeMap<Origin, u64> {
        let events = Bounds {
            partitions: self.partitions,
            allowed_lateness_ms: self.allowed_lateness_ms,
            holds_events: true,
        };
        let tables = self.tables.iter().map(|table| Bounds {
            partitions: table.partitions,
            allowed_lateness_ms: table.allowed_lateness_ms,
            holds_events: !table.table.eager,
        });
        let streams: Vec<Bounds> = std::iter::once(events).chain(tables).collect();
        released(chunks, &streams, unopened)
    }

    pub fn partition_names(&self) -> Arc<[String]> {
        let events = (0..self.partitions).map(|p| format!("events-{p}"));
        let tables = self.tables.iter().flat_map(|table| {
            (0..table.partitions).map(move |p| format!("{}-{p}", table.table.name))
        });
        events.chain(tables).collect()
    }

    pub fn events(&self, source: Box<dyn Source>, way: Way, worker: usize) -> Events {
        let layout = layout();
        let known = Known::new(self.beginning.settled(worker, way.workers()));
        let admission = Admission {
            layout: layout.clone(),
            time_column: 0,
            filter: None,
            allowed_lateness_ms: self.allowed_lateness_ms,
            late: self.late,
            late_horizon_ms: Some(self.late_horizon_ms),
            future_horizon: None,
            warm_up: WarmUp::none(),
            to: i64::MAX,
            warm_up_from: i64::MIN,
            partition_names: self.partition_names().to_vec().into(),
            counters: self.counters.clone(),
            settled: known.settled().clone(),
        };
        let late_are_scored = self.late == LatePolicy::Score;
        Events {
            intake: Intake {
                source,
                events: admission,
                tables: self.tables.iter().map(|table| self.table_admission(table)).collect(),
                bounds: self.bounds,
                gate: Progress::new(self.watermarks()),
                control: self.control.clone(),
                known,
            },
            plan: Arc::new(self.plan()),
            order: self.order,
            shard_by: layout.id,
            layout,
            tables: self.as_of_tables(),
            retention: Retention {
                history_ms: if late_are_scored { self.late_horizon_ms } else { 0 },
                epochs: 0,
            },
            is_split: way.is_split(),
            run: self.run(),
        }
    }

    /// What the operators of this setting share.
    pub fn run(&self) -> Run {
        Run {
            counters: self.counters.clone(),
            failure: self.failure.clone(),
            beginning: self.beginning.clone(),
            reports: self.reports.clone(),
            state: self.state.clone(),
            ..Run::new(self.clock.clone())
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

/// The last `N` columns of what was delivered, Float64, by id.
pub fn last_columns<const N: usize>(recorded: &Recorded) -> BTreeMap<i64, [Option<f64>; N]> {
    let mut found = BTreeMap::new();
    for batch in recorded.batches() {
        let ids = batch.column(1).as_primitive::<Int64Type>();
        let first = batch.num_columns() - N;
        for row in 0..batch.num_rows() {
            let value = |i: usize| {
                let column = batch.column(first + i).as_primitive::<Float64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let twice = found.insert(ids.value(row), std::array::from_fn(value));
            assert!(twice.is_none(), "row {} came twice", ids.value(row));
        }
    }
    found
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

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A sink that acknowledges what it takes at once.
pub struct Acknowledging {
    sink: Box<dyn Sink>,
    acknowledged: Vec<RecordBatch>,
}

impl Acknowledging {
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Acknowledging { sink, acknowledged: Vec::new() }
    }
}

impl Sink for Acknowledging {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.acknowledged.push(batch.clone());
        self.sink.write(batch)
    }

    fn durable_rows(&mut self) -> u64 {
        self.sink.durable_rows()
    }

    fn acknowledged(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.acknowledged)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}
