//! What happened to every record: the terms of the accounting equation and the job's other counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::latency::Latencies;
use crate::lateness::Lateness;
use crate::reasons::Reasons;

/// Counters of a run, shared by its workers; one method per thing that happens.
///
/// Each term is counted where rows enter or where their output is durable, never by subtraction.
#[derive(Clone, Default)]
pub struct Counters(Arc<Inner>);

#[derive(Default)]
struct Inner {
    read: AtomicU64,
    skipped: AtomicU64,
    predictions: AtomicU64,
    dead_letters: Mutex<Reasons>,
    pending: AtomicI64,
    late: AtomicU64,
    lateness: Lateness,
    late_for_drift: Mutex<LateForDrift>,
    batches: Mutex<BatchSizes>,
    longest_wait_us: AtomicU64,
    inference_us: AtomicU64,
    stages: StageDurations,
    event_time_reached: EventTime,
    event_times: Mutex<Option<(i64, i64)>>,
    scored_by_worker: Mutex<Vec<u64>>,
    gate_rows: AtomicI64,
    gate_rows_most: AtomicI64,
    gate_rows_pending: AtomicI64,
    windows: Mutex<BTreeMap<(String, usize), WindowState>>,
    tables: Mutex<BTreeMap<String, TableState>>,
}

/// A time (ms) that rises; [`i64::MIN`] before the first.
struct EventTime(AtomicI64);

impl Default for EventTime {
    fn default() -> Self {
        EventTime(AtomicI64::new(i64::MIN))
    }
}

/// What micro-batches take, one value a batch.
#[derive(Default)]
struct StageDurations {
    wait: Latencies,
    inference: Latencies,
}

/// State of the windows by one key on one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowState {
    /// Most keys held at once.
    pub keys_most: u64,
    /// Most rows held at once.
    pub rows_most: u64,
    /// Keys held now.
    pub keys: u64,
    /// Rows held now.
    pub rows: u64,
    /// Keys that were forgotten because there were too many.
    pub forgotten: u64,
}

/// What has been read of an as-of table, and how many versions are held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    pub rows_read: u64,
    /// Rows that came behind the watermark of their partition.
    pub rows_late: u64,
    /// How far (ms) they were behind the highest time of their partition at most.
    pub behind_ms_most: i64,
    /// Files that were not in order of time, and were sorted.
    pub sorted: Vec<String>,
    /// Most versions held at once, by worker.
    pub versions_most: BTreeMap<usize, u64>,
    /// Versions held now, by worker.
    pub versions: BTreeMap<usize, u64>,
}

/// Late rows that drift windows miss, because they were final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateForDrift {
    /// Rows that at least one window misses.
    pub rows: u64,
    /// By the job's window lengths: rows that windows of it miss, summed over the windows.
    pub by_length: Vec<u64>,
}

impl LateForDrift {
    pub fn merge(&mut self, other: &LateForDrift) {
        self.rows += other.rows;
        self.by_length.resize(self.by_length.len().max(other.by_length.len()), 0);
        for (missed, more) in self.by_length.iter_mut().zip(&other.by_length) {
            *missed += more;
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

/// How many micro-batches had how many rows.
#[derive(Clone, Debug, Default)]
pub struct BatchSizes(BTreeMap<usize, u64>);

impl BatchSizes {
    fn record(&mut self, rows: usize) {
        *self.0.entry(rows).or_default() += 1;
    }

    pub fn batches(&self) -> u64 {
        self.0.values().sum()
    }

    /// The median number of rows of a batch; 0 without batches.
    pub fn median(&self) -> usize {
        let half = self.batches().div_ceil(2);
        let mut seen = 0;
        for (&rows, &count) in &self.0 {
            seen += count;
            if seen >= half {
                return rows;
            }
        }
        0
    }
}

impl Counters {
    pub fn rows_read(&self, rows: u64) {
        self.0.read.fetch_add(rows, Relaxed);
    }

    /// Event times (ms) of rows that were read, whether they are counted or not.
    pub fn event_times_there(&self, times: impl Iterator<Item = i64>) {
        let Some((first, last)) = times.map(|t| (t, t)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        else {
            return;
        };
        let mut there = self.0.event_times.lock().unwrap_or_else(|p| p.into_inner());
        let (lowest, highest) = there.unwrap_or((first, last));
        *there = Some((lowest.min(first), highest.max(last)));
    }

    /// The first and last of them.
    pub fn event_times(&self) -> Option<(i64, i64)> {
        *self.0.event_times.lock().unwrap_or_else(|p| p.into_inner())
    }

    pub fn rows_skipped(&self, rows: u64) {
        self.0.skipped.fetch_add(rows, Relaxed);
    }

    pub fn predictions_durable(&self, rows: u64) {
        self.0.predictions.fetch_add(rows, Relaxed);
    }

    pub fn dead_letters_durable(&self, letters: &Reasons) {
        if letters.rows() > 0 {
            self.0.dead_letters.lock().unwrap_or_else(|p| p.into_inner()).merge(letters);
        }
    }

    /// The dead letters that are durable, by reason.
    pub fn dead_letters(&self) -> Reasons {
        self.0.dead_letters.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }

    /// `rows` more (or, negative, fewer) are held by an operator.
    pub fn rows_held(&self, rows: i64) {
        self.0.pending.fetch_add(rows, Relaxed);
    }

    pub fn rows_late(&self, rows: u64) {
        self.0.late.fetch_add(rows, Relaxed);
    }

    /// Late rows that drift windows miss, because they were final.
    pub fn rows_late_for_drift(&self, more: &LateForDrift) {
        if more.rows > 0 {
            self.0.late_for_drift.lock().unwrap_or_else(|p| p.into_inner()).merge(more);
        }
    }

    /// A micro-batch was scored on `worker`; its oldest row had waited `wait`.
    pub fn batch_scored(&self, worker: usize, rows: usize, wait: Duration, inference: Duration) {
        let mut batches = self.0.batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        batches.record(rows);
        drop(batches);
        self.0.longest_wait_us.fetch_max(wait.as_micros() as u64, Relaxed);
        self.0.inference_us.fetch_add(inference.as_micros() as u64, Relaxed);
        self.0.stages.wait.record(wait);
        self.0.stages.inference.record(inference);
        let mut scored = self.0.scored_by_worker.lock().unwrap_or_else(|p| p.into_inner());
        if scored.len() <= worker {
            scored.resize(worker + 1, 0);
        }
        scored[worker] += rows as u64;
    }

    /// `rows` more (or, negative, fewer) wait in an order gate of this process, of which `pending` are
    /// in the account.
    pub fn gate_rows_added(&self, rows: i64, pending: i64) {
        self.0.gate_rows_pending.fetch_add(pending, Relaxed);
        let now = self.0.gate_rows.fetch_add(rows, Relaxed) + rows;
        self.0.gate_rows_most.fetch_max(now, Relaxed);
    }

    /// The windows keyed by `key` hold `rows` rows of `keys` keys on `worker`.
    pub fn windows_held(&self, key: &str, worker: usize, keys: usize, rows: usize) {
        let mut held = self.0.windows.lock().unwrap_or_else(|p| p.into_inner());
        let state = held.entry((key.to_owned(), worker)).or_default();
        state.keys_most = state.keys_most.max(keys as u64);
        state.rows_most = state.rows_most.max(rows as u64);
        (state.keys, state.rows) = (keys as u64, rows as u64);
    }

    /// So many keys of the windows keyed by `key` were forgotten on `worker`, as there were too many.
    pub fn keys_forgotten(&self, key: &str, worker: usize, forgotten: u64) {
        let mut held = self.0.windows.lock().unwrap_or_else(|p| p.into_inner());
        held.entry((key.to_owned(), worker)).or_default().forgotten = forgotten;
    }

    /// `late` of `rows` rows came behind the watermark of their partition, and at most `behind_ms`
    /// behind its highest time.
    pub fn table_rows_read(&self, table: &str, rows: u64, late: u64, behind_ms: i64) {
        self.table(table, |state| {
            state.rows_read += rows;
            state.rows_late += late;
            state.behind_ms_most = state.behind_ms_most.max(behind_ms);
        });
    }

    /// Files of `table` were not in order of time, and were sorted.
    pub fn table_sorted(&self, table: &str, files: Vec<String>) {
        self.table(table, |state| state.sorted = files);
    }

    /// `versions` of `table` are held on `worker`.
    pub fn versions_held(&self, table: &str, worker: usize, versions: u64) {
        self.table(table, |state| {
            let most = state.versions_most.entry(worker).or_default();
            *most = versions.max(*most);
            state.versions.insert(worker, versions);
        });
    }

    fn table(&self, table: &str, change: impl FnOnce(&mut TableState)) {
        let mut tables = self.0.tables.lock().unwrap_or_else(|p| p.into_inner());
        change(tables.entry(table.to_owned()).or_default());
    }

    /// Rows with an event time of `time` (ms) have been released for scoring.
    pub fn event_time_reached(&self, time: i64) {
        self.0.event_time_reached.0.fetch_max(time, Relaxed);
    }

    pub fn account(&self) -> Account {
        Account {
            read: self.0.read.load(Relaxed),
            predictions: self.0.predictions.load(Relaxed),
            skipped: self.0.skipped.load(Relaxed),
            dead_letters: self.0.dead_letters.lock().unwrap_or_else(|p| p.into_inner()).rows(),
            pending: self.0.pending.load(Relaxed),
        }
    }

    pub fn late(&self) -> u64 {
        self.0.late.load(Relaxed)
    }

    /// How late rows of the events were, scored or not.
    pub fn lateness(&self) -> &Lateness {
        &self.0.lateness
    }

    pub fn late_for_drift(&self) -> LateForDrift {
        self.0.late_for_drift.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }

    pub fn batch_sizes(&self) -> BatchSizes {
        self.0.batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The longest time a row waited for its micro-batch.
    pub fn longest_wait(&self) -> Duration {
        Duration::from_micros(self.0.longest_wait_us.load(Relaxed))
    }

    /// Time spent inside the model, summed over the workers.
    pub fn inference_time(&self) -> Duration {
        Duration::from_micros(self.0.inference_us.load(Relaxed))
    }

    /// What micro-batches took: the wait of the oldest row, and the model.
    pub fn stage_durations(&self) -> [(&'static str, Latencies); 2] {
        let StageDurations { wait, inference } = &self.0.stages;
        [("wait", wait.clone()), ("inference", inference.clone())]
    }

    /// The highest event time (ms) released for scoring, if any was.
    pub fn highest_event_time(&self) -> Option<i64> {
        Some(self.0.event_time_reached.0.load(Relaxed)).filter(|&time| time != i64::MIN)
    }

    /// Rows that wait in the order gates of this process.
    pub fn gate_rows(&self) -> u64 {
        self.0.gate_rows.load(Relaxed).max(0) as u64
    }

    /// Those of them that are in the account: rows read back for windows are not.
    pub fn gate_rows_pending(&self) -> u64 {
        self.0.gate_rows_pending.load(Relaxed).max(0) as u64
    }

    /// Most rows that waited at once.
    pub fn gate_rows_most(&self) -> u64 {
        self.0.gate_rows_most.load(Relaxed).max(0) as u64
    }

    /// The state of windows, by what keys them and by worker.
    pub fn window_states(&self) -> Vec<(String, usize, WindowState)> {
        let held = self.0.windows.lock().unwrap_or_else(|p| p.into_inner());
        held.iter().map(|((key, worker), state)| (key.clone(), *worker, *state)).collect()
    }

    /// The state of as-of tables by name.
    pub fn table_states(&self) -> Vec<(String, TableState)> {
        let tables = self.0.tables.lock().unwrap_or_else(|p| p.into_inner());
        tables.iter().map(|(name, state)| (name.clone(), state.clone())).collect()
    }

    pub fn scored_rows(&self) -> u64 {
        self.scored_by_worker().iter().sum()
    }

    /// Rows scored on each worker, `[workers]`.
    pub fn scored_by_worker(&self) -> Vec<u64> {
        self.0.scored_by_worker.lock().unwrap_or_else(|p| p.into_inner()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_batches() {
        let mut sizes = BatchSizes::default();
        assert_eq!(sizes.median(), 0);
        for rows in [1, 1024, 1024, 7, 1024] {
            sizes.record(rows);
        }
        assert_eq!((sizes.median(), sizes.batches()), (1024, 5));
    }

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
}
