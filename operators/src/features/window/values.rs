//! Windows over values: the rows kept, and which of them are inside.

use std::collections::VecDeque;

use super::room::trim_queue;
use super::running::Running;
use super::{Place, WindowSpec};

struct Entry {
    time: i64,
    value: f64,
    place: Place,
}

impl Entry {
    fn row(&self) -> (i64, f64) {
        (self.time, self.value)
    }
}

/// A window of one key over the values of its rows.
pub(super) struct ValueWindow {
    spec: WindowSpec,
    /// In (time, place) order; the first `expired` are outside the window of the newest row and
    /// kept as history. Rows without a value are not kept.
    entries: VecDeque<Entry>,
    expired: usize,
    /// The highest time of a row added, with or without a value.
    newest: Option<i64>,
    /// Of the entries from `expired` on.
    running: Running,
}

impl ValueWindow {
    pub(super) fn new(spec: WindowSpec, running: Running) -> Self {
        ValueWindow { spec, entries: VecDeque::new(), expired: 0, newest: None, running }
    }

    pub(super) fn rows(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    pub(super) fn add(&mut self, time: i64, place: &Place, value: Option<f64>) -> Option<f64> {
        let value = value.filter(|v| !v.is_nan());
        if let Some(newest) = self.newest.filter(|&newest| self.is_behind(newest, time, place)) {
            let aggregate = self.read(time, place, value);
            self.insert_behind(newest, time, place, value);
            return aggregate;
        }
        self.newest = Some(time);
        if let Some(value) = value {
            self.entries.push_back(Entry { time, value, place: place.clone() });
            self.running.add(time, value);
        }
        self.expire(time);
        self.running.value(self.entries.range(self.expired..).map(Entry::row))
    }

    pub(super) fn read(&self, time: i64, place: &Place, value: Option<f64>) -> Option<f64> {
        let from = self.entries.partition_point(|entry| !self.spec.is_inside(entry.time, time));
        let to = self.up_to(time, place);
        let others = self.entries.range(from.min(to)..to).map(Entry::row);
        self.running.scan(others.chain(value.filter(|v| !v.is_nan()).map(|value| (time, value))))
    }

    /// Whether a row comes before one whose value or time is known already, so that `running` is not
    /// the aggregate as of it.
    fn is_behind(&self, newest: i64, time: i64, place: &Place) -> bool {
        let is_after = |entry: &Entry| entry.time == time && entry.place > *place;
        time < newest || self.entries.back().is_some_and(is_after)
    }

    /// How many entries come no later than a row.
    fn up_to(&self, time: i64, place: &Place) -> usize {
        self.entries.partition_point(|entry| (entry.time, &entry.place) <= (time, place))
    }

    fn insert_behind(&mut self, newest: i64, time: i64, place: &Place, value: Option<f64>) {
        let Some(value) = value.filter(|_| !self.spec.is_past(time, newest)) else { return };
        let at = self.up_to(time, place);
        self.entries.insert(at, Entry { time, value, place: place.clone() });
        if self.spec.is_inside(time, newest) {
            self.running.add(time, value);
        } else {
            self.expired += 1;
        }
    }

    fn expire(&mut self, newest: i64) {
        let outside = |entry: &&Entry| !self.spec.is_inside(entry.time, newest);
        while let Some(entry) = self.entries.get(self.expired).filter(outside) {
            self.running.remove(entry.time, entry.value);
            self.expired += 1;
        }
        while self.expired > 0 && self.spec.is_past(self.entries[0].time, newest) {
            self.entries.pop_front();
            self.expired -= 1;
        }
        trim_queue(&mut self.entries);
    }
}
