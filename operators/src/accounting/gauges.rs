//! What workers hold, told by handles that are made once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::apart::Apart;

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

/// A number, and the highest that it has been.
#[derive(Default)]
struct Level {
    now: AtomicU64,
    most: AtomicU64,
}

impl Level {
    fn set(&self, now: u64) {
        self.now.store(now, Relaxed);
        self.most.fetch_max(now, Relaxed);
    }
}

/// Tells the state of the windows by one key on one worker.
#[derive(Clone, Default)]
pub struct WindowGauge(Arc<Apart<Windows>>);

#[derive(Default)]
struct Windows {
    keys: Level,
    rows: Level,
    forgotten: AtomicU64,
}

impl WindowGauge {
    /// They hold `rows` rows of `keys` keys.
    pub fn held(&self, keys: usize, rows: usize) {
        self.0.keys.set(keys as u64);
        self.0.rows.set(rows as u64);
    }

    /// So many keys were forgotten so far, as there were too many.
    pub fn forgotten(&self, forgotten: u64) {
        self.0.forgotten.store(forgotten, Relaxed);
    }

    pub fn state(&self) -> WindowState {
        let Windows { keys, rows, forgotten } = &**self.0;
        WindowState {
            keys_most: keys.most.load(Relaxed),
            rows_most: rows.most.load(Relaxed),
            keys: keys.now.load(Relaxed),
            rows: rows.now.load(Relaxed),
            forgotten: forgotten.load(Relaxed),
        }
    }
}

/// Tells how many versions of a table one worker holds.
#[derive(Clone, Default)]
pub struct TableGauge(Arc<Apart<Level>>);

impl TableGauge {
    pub fn held(&self, versions: u64) {
        self.0.set(versions);
    }

    /// How many there are, and have been at most.
    pub(super) fn versions(&self) -> (u64, u64) {
        (self.0.now.load(Relaxed), self.0.most.load(Relaxed))
    }
}

/// What is known of a table.
#[derive(Default)]
pub(super) struct Table {
    /// But for the versions.
    read: TableState,
    gauges: BTreeMap<usize, TableGauge>,
}

impl Table {
    pub fn read(&mut self) -> &mut TableState {
        &mut self.read
    }

    pub fn gauge(&mut self, worker: usize) -> TableGauge {
        self.gauges.entry(worker).or_default().clone()
    }

    pub fn state(&self) -> TableState {
        let by_worker = |of: fn((u64, u64)) -> u64| {
            self.gauges.iter().map(|(&worker, gauge)| (worker, of(gauge.versions()))).collect()
        };
        TableState {
            versions: by_worker(|(now, _)| now),
            versions_most: by_worker(|(_, most)| most),
            ..self.read.clone()
        }
    }
}
