//! What happened to every record: the terms of the accounting equation and the job's other counters.

mod apart;
mod batches;
mod gauges;
mod lanes;
pub mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use batches::{BatchGauge, BatchSizes, MODELS_APART_MAX, ModelBatches};
pub use gauges::{TableGauge, TableState, WindowGauge, WindowState};

pub use lanes::{Compared, LaneFigures, LaneGauge, Mean, Moments, Said, ShadowFigures};

use crate::lateness::Lateness;
use crate::model::ModelIdentity;
use crate::reasons::Reasons;
use crate::watermark::Span;
use apart::{Apart, Sum};
use batches::{Batches, Gauges};
use gauges::Table;

/// Counters of a run, shared by its workers; one method per thing that happens.
///
/// Each term is counted where rows enter or where their output is durable, never by subtraction.
#[derive(Clone, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Default)]
struct Inner {
    read: Sum,
    skipped: Sum,
    without_route: Sum,
    predictions: Sum,
    dead_letters: Mutex<Reasons>,
    rules_failed: Mutex<BTreeMap<String, u64>>,
    pending: Sum,
    late: Sum,
    lateness: Lateness,
    late_for_drift: Mutex<LateForDrift>,
    event_time_reached: Apart<EventTime>,
    event_times: Mutex<Option<Span>>,
    gate: Apart<GateRows>,
    batches: Mutex<Gauges>,
    /// By lane and worker.
    lanes: Mutex<BTreeMap<(usize, usize), LaneGauge>>,
    windows: Mutex<BTreeMap<(String, usize), WindowGauge>>,
    tables: Mutex<BTreeMap<String, Table>>,
}

/// Rows that wait in order gates.
#[derive(Default)]
struct GateRows {
    now: AtomicI64,
    most: AtomicI64,
    bytes: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A time (ms) that rises; [`i64::MIN`] before the first.
struct EventTime(AtomicI64);

impl Default for EventTime {
    fn default() -> Self {
        EventTime(AtomicI64::new(i64::MIN))
    }
}

/// Late rows that drift windows miss, because they were final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateForDrift {
    /// Rows that at least one window misses.
    pub rows: u64,
    /// By the job's window lengths: rows that windows of it miss, summed over the windows.
    pub by_length: Vec<u64>,
    /// Likewise, rows that windows have of shadows, beside those of predictions; they are not late.
    pub of_shadows: Vec<u64>,
}

impl LateForDrift {
    pub fn merge(&mut self, other: &LateForDrift) {
        self.rows += other.rows;
        self.by_length.resize(self.by_length.len().max(other.by_length.len()), 0);
        for (missed, more) in self.by_length.iter_mut().zip(&other.by_length) {
            *missed += more;
        }
        self.of_shadows.resize(self.of_shadows.len().max(other.of_shadows.len()), 0);
        for (held, more) in self.of_shadows.iter_mut().zip(&other.of_shadows) {
            *held += more;
        }
    }
}

/// The terms of `read = predictions + skipped + dead letters + pending`, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub read: u64,
    pub predictions: u64,
    pub skipped: u64,
    pub dead_letters: u64,
    /// Rows that entered and are held by an operator.
    pub pending: i64,
}

impl Account {
    /// Rows that entered and are in none of the terms; negative if some are in two.
    pub fn missing(&self) -> i64 {
        self.read as i64
            - self.predictions as i64
            - self.skipped as i64
            - self.dead_letters as i64
            - self.pending
    }
}

impl Counters {
    pub fn rows_read(&self, rows: u64) {
        self.0.read.add(rows as i64);
    }

    /// Event times (ms) of rows that were read, whether they are counted or not.
    pub fn event_times_there(&self, times: impl Iterator<Item = i64>) {
        let span = times.fold(Span::NONE, |span, time| span.and(Span { first: time, last: time }));
        if span.first <= span.last {
            let mut there = lock(&self.0.event_times);
            *there = Some(there.map_or(span, |there| there.and(span)));
        }
    }

    /// From the first to the last of them.
    pub fn event_times(&self) -> Option<Span> {
        *lock(&self.0.event_times)
    }

    pub fn rows_skipped(&self, rows: u64) {
        self.0.skipped.add(rows as i64);
    }

    /// Rows that no route takes: they are skipped.
    pub fn rows_without_route(&self, rows: u64) {
        self.0.without_route.add(rows as i64);
        self.rows_skipped(rows);
    }

    pub fn without_route(&self) -> u64 {
        self.0.without_route.get() as u64
    }

    pub fn predictions_durable(&self, rows: u64) {
        self.0.predictions.add(rows as i64);
    }

    pub fn dead_letters_durable(&self, letters: &Reasons) {
        if letters.rows() > 0 {
            lock(&self.0.dead_letters).merge(letters);
        }
    }

    /// The dead letters that are durable, by reason.
    pub fn dead_letters(&self) -> Reasons {
        lock(&self.0.dead_letters).clone()
    }

    /// By the name of a rule, so many rows more that fail it, whatever becomes of them.
    pub fn rules_failed<'a>(&self, more: impl Iterator<Item = (&'a str, u64)>) {
        let mut failed = lock(&self.0.rules_failed);
        for (rule, rows) in more {
            match failed.get_mut(rule) {
                Some(known) => *known += rows,
                None => drop(failed.insert(rule.to_owned(), rows)),
            }
        }
    }

    /// How many rows failed the rules that any failed, by name.
    pub fn failed_rules(&self) -> BTreeMap<String, u64> {
        lock(&self.0.rules_failed).clone()
    }

    /// `rows` more (or, negative, fewer) are held by an operator.
    pub fn rows_held(&self, rows: i64) {
        self.0.pending.add(rows);
    }

    pub fn rows_late(&self, rows: u64) {
        self.0.late.add(rows as i64);
    }

    /// Late rows that drift windows miss, because they were final, and rows of shadows that they have.
    pub fn rows_late_for_drift(&self, more: &LateForDrift) {
        if more.rows > 0 || !more.of_shadows.is_empty() {
            lock(&self.0.late_for_drift).merge(more);
        }
    }

    /// What tells of a model's micro-batches on `worker`: to be made once.
    pub fn batch_gauge(&self, model: &ModelIdentity, worker: usize) -> BatchGauge {
        lock(&self.0.batches).of(model, worker)
    }

    /// What tells of a lane of the job's routes on `worker`: to be made once.
    pub fn lane_gauge(&self, lane: usize, worker: usize) -> LaneGauge {
        lock(&self.0.lanes).entry((lane, worker)).or_default().clone()
    }

    /// By lane what all workers have counted of it.
    pub fn lanes(&self) -> BTreeMap<usize, LaneFigures> {
        let mut all: BTreeMap<usize, LaneFigures> = BTreeMap::new();
        for ((lane, _), gauge) in &*lock(&self.0.lanes) {
            all.entry(*lane).or_default().merge(&gauge.lock());
        }
        all
    }

    /// `rows` more (or, negative, fewer) wait in an order gate of this process.
    pub fn gate_rows_added(&self, rows: i64) {
        let now = self.0.gate.now.fetch_add(rows, Relaxed) + rows;
        self.0.gate.most.fetch_max(now, Relaxed);
    }

    /// So many bytes more (or, negative, fewer) of memory are held by rows in an order gate of this
    /// process.
    pub fn gate_bytes_added(&self, bytes: i64) {
        self.0.gate.bytes.fetch_add(bytes, Relaxed);
    }

    /// What tells of the windows keyed by `key` on `worker`: to be made once.
    pub fn windows_gauge(&self, key: &str, worker: usize) -> WindowGauge {
        lock(&self.0.windows).entry((key.to_owned(), worker)).or_default().clone()
    }

    /// `late` of `rows` rows came behind the watermark of their partition, and at most `behind_ms`
    /// behind its highest time.
    pub fn table_rows_read(&self, table: &str, rows: u64, late: u64, behind_ms: i64) {
        self.table(table, |table| {
            let state = table.read();
            state.rows_read += rows;
            state.rows_late += late;
            state.behind_ms_most = state.behind_ms_most.max(behind_ms);
        });
    }

    /// Files of `table` were not in order of time, and were sorted.
    pub fn table_sorted(&self, table: &str, files: Vec<String>) {
        self.table(table, |table| table.read().sorted = files);
    }

    /// What tells how many versions of `table` are held on `worker`: to be made once.
    pub fn table_gauge(&self, table: &str, worker: usize) -> TableGauge {
        self.table(table, |table| table.gauge(worker))
    }

    fn table<T>(&self, name: &str, with: impl FnOnce(&mut Table) -> T) -> T {
        let mut tables = lock(&self.0.tables);
        match tables.get_mut(name) {
            Some(table) => with(table),
            None => with(tables.entry(name.to_owned()).or_default()),
        }
    }

    /// Rows with an event time of `time` (ms) have been released for scoring.
    pub fn event_time_reached(&self, time: i64) {
        // Nearly always another worker has been there, or it is the same time again.
        if self.0.event_time_reached.0.load(Relaxed) < time {
            self.0.event_time_reached.0.fetch_max(time, Relaxed);
        }
    }

    pub fn account(&self) -> Account {
        Account {
            read: self.0.read.get() as u64,
            predictions: self.0.predictions.get() as u64,
            skipped: self.0.skipped.get() as u64,
            dead_letters: lock(&self.0.dead_letters).rows(),
            pending: self.0.pending.get(),
        }
    }

    pub fn late(&self) -> u64 {
        self.0.late.get() as u64
    }

    /// How late rows of the events were, scored or not.
    pub fn lateness(&self) -> &Lateness {
        &self.0.lateness
    }

    pub fn late_for_drift(&self) -> LateForDrift {
        lock(&self.0.late_for_drift).clone()
    }

    pub fn batch_sizes(&self) -> BatchSizes {
        self.batches(BatchSizes::default(), |all, batches| all.merge(&batches.sizes))
    }

    /// The longest time a row waited for its micro-batch.
    pub fn longest_wait(&self) -> Duration {
        self.batches(Duration::ZERO, |all, batches| *all = batches.longest_wait.max(*all))
    }

    /// Time spent inside the model, summed over the workers.
    pub fn inference_time(&self) -> Duration {
        self.batches(Duration::ZERO, |all, batches| *all += batches.inference_time)
    }

    /// By model what all workers have counted of its micro-batches, of [`MODELS_APART_MAX`] models (and those
    /// that still score), in the order in which they began.
    pub fn batches_by_model(&self) -> Vec<(ModelIdentity, ModelBatches)> {
        lock(&self.0.batches).by_model()
    }

    /// What all workers have counted of their micro-batches.
    fn batches<T>(&self, mut all: T, add: impl Fn(&mut T, &Batches)) -> T {
        lock(&self.0.batches).each(|batches| add(&mut all, batches));
        all
    }

    /// The highest event time (ms) released for scoring, if any was.
    pub fn highest_event_time(&self) -> Option<i64> {
        Some(self.0.event_time_reached.0.load(Relaxed)).filter(|&time| time != i64::MIN)
    }

    /// Rows that wait in the order gates of this process.
    pub fn gate_rows(&self) -> u64 {
        self.0.gate.now.load(Relaxed).max(0) as u64
    }

    /// Bytes of memory held by the rows that wait in the order gates of this process.
    pub fn gate_bytes(&self) -> u64 {
        self.0.gate.bytes.load(Relaxed).max(0) as u64
    }

    /// Most rows that waited at once.
    pub fn gate_rows_most(&self) -> u64 {
        self.0.gate.most.load(Relaxed).max(0) as u64
    }

    /// The state of windows, by what keys them and by worker.
    pub fn window_states(&self) -> Vec<(String, usize, WindowState)> {
        let held = lock(&self.0.windows);
        held.iter().map(|((key, worker), gauge)| (key.clone(), *worker, gauge.state())).collect()
    }

    /// The state of as-of tables by name.
    pub fn table_states(&self) -> Vec<(String, TableState)> {
        let tables = lock(&self.0.tables);
        tables.iter().map(|(name, table)| (name.clone(), table.state())).collect()
    }

    pub fn scored_rows(&self) -> u64 {
        self.batches(0, |all, batches| *all += batches.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latencies;

    #[test]
    fn times_before_1970_are_times() {
        let counters = Counters::default();
        assert_eq!(counters.highest_event_time(), None);
        for (time, highest) in [(-5, -5), (-9, -5), (0, 0), (7, 7)] {
            counters.event_time_reached(time);
            assert_eq!(counters.highest_event_time(), Some(highest));
        }
    }

    #[test]
    fn a_lost_and_a_doubled_row_are_missing() {
        let account = Account { read: 10, predictions: 6, skipped: 2, dead_letters: 1, pending: 0 };
        assert_eq!(account.missing(), 1);
        assert_eq!(Account { predictions: 8, ..account }.missing(), -1);
        assert_eq!(Account { pending: 1, ..account }.missing(), 0);
    }

    /// What several workers tell is what one would, told all of it.
    #[test]
    fn gauges_of_workers_add_up() {
        let (counters, alone) = (Counters::default(), Latencies::default());
        let model = ModelIdentity { name: "m".to_owned(), version: "1".to_owned() };
        let gauge = |worker| counters.batch_gauge(&model, worker);
        let gauges: Vec<BatchGauge> = (0..3).map(gauge).collect();
        let (mut rows, mut inference) = (0, Duration::ZERO);
        for at in 0..100u64 {
            let (wait, took) =
                (Duration::from_micros(at * at % 611), Duration::from_micros(3 + at));
            gauges[at as usize % 3].scored(1 + at as usize % 7, wait, took);
            alone.record(wait);
            rows += 1 + at % 7;
            inference += took;
        }
        gauge(1).scored(1_000, Duration::from_secs(2), Duration::ZERO);
        alone.record(Duration::from_secs(2));
        assert_eq!((counters.scored_rows(), counters.inference_time()), (rows + 1_000, inference));
        assert_eq!(counters.batch_sizes().batches(), 101);
        assert_eq!(counters.longest_wait(), Duration::from_secs(2));
        let by_model = counters.batches_by_model();
        let [(_, waits), (_, models)] = &by_model[0].1.stages;
        let bounds = [0, 10, 100, 610, 5_000_000].map(Duration::from_micros);
        assert_eq!(waits.cumulative(&bounds), alone.cumulative(&bounds));
        assert_eq!(models.figures().rows, 101);
    }

    #[test]
    fn what_is_held_is_told_with_the_most_of_it() {
        let counters = Counters::default();
        let windows = counters.windows_gauge("k", 1);
        windows.held(3, 30);
        counters.windows_gauge("k", 1).held(2, 40);
        windows.forgotten(5);
        let state = WindowState { keys_most: 3, rows_most: 40, keys: 2, rows: 40, forgotten: 5 };
        assert_eq!(counters.window_states(), [("k".to_owned(), 1, state)]);
        let table = counters.table_gauge("t", 2);
        table.held(9);
        table.held(4);
        counters.table_gauge("t", 0).held(1);
        counters.table_rows_read("t", 10, 1, 77);
        let wanted = TableState {
            rows_read: 10,
            rows_late: 1,
            behind_ms_most: 77,
            sorted: Vec::new(),
            versions_most: [(0, 1), (2, 9)].into(),
            versions: [(0, 1), (2, 4)].into(),
        };
        assert_eq!(counters.table_states(), [("t".to_owned(), wanted)]);
    }
}
