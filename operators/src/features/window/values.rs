//! Windows over values: the rows kept, and which of them are inside.

use std::collections::VecDeque;
use std::ops::Range;

use super::WindowSpec;
use super::places::{Places, RowPlace};
use super::room::trim_queue;
use super::running::Running;

/// A window of one key over the values of its rows.
pub(super) struct ValueWindow {
    spec: WindowSpec,
    /// Time and value, in (time, place) order; the first `expired` are outside the window of the newest
    /// row and kept as history. Rows without a value are not kept.
    entries: VecDeque<(i64, f64)>,
    /// Of each entry.
    places: Places,
    expired: usize,
    /// The highest time of a row added, with or without a value.
    newest: Option<i64>,
    /// Of the entries from `expired` on.
    running: Running,
}

impl ValueWindow {
    pub(super) fn new(spec: WindowSpec, running: Running) -> Self {
        let (entries, places) = (VecDeque::new(), Places::default());
        ValueWindow { spec, entries, places, expired: 0, newest: None, running }
    }

    pub(super) fn rows(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    pub(super) fn add(&mut self, time: i64, place: RowPlace, value: Option<f64>) -> Option<f64> {
        let value = value.filter(|v| !v.is_nan());
        if let Some(newest) = self.newest.filter(|&newest| self.is_behind(newest, time, place)) {
            let aggregate = self.read(time, place, value);
            self.insert_behind(newest, time, place, value);
            return aggregate;
        }
        self.newest = Some(time);
        if let Some(value) = value {
            self.entries.push_back((time, value));
            self.places.push(place);
            self.running.add(time, value);
        }
        self.expire(time);
        self.running.value(self.entries.range(self.expired..).copied())
    }

    pub(super) fn read(&self, time: i64, place: RowPlace, value: Option<f64>) -> Option<f64> {
        let from = self.entries.partition_point(|entry| !self.spec.is_inside(entry.0, time));
        let to = self.up_to(time, place);
        let others = self.entries.range(from.min(to)..to).copied();
        self.running.scan(others.chain(value.filter(|v| !v.is_nan()).map(|value| (time, value))))
    }

    /// Whether a row comes before one whose value or time is known already, so that `running` is not
    /// the aggregate as of it.
    fn is_behind(&self, newest: i64, time: i64, place: RowPlace) -> bool {
        let is_last = |entry: &(i64, f64)| entry.0 == time;
        time < newest
            || self.entries.back().is_some_and(is_last)
                && self.places.get(self.entries.len() - 1) > place
    }

    /// How many entries come no later than a row.
    fn up_to(&self, time: i64, place: RowPlace) -> usize {
        let from = self.entries.partition_point(|entry| entry.0 < time);
        let to = self.entries.partition_point(|entry| entry.0 <= time);
        first_where(from..to, |at| self.places.get(at) > place)
    }

    fn insert_behind(&mut self, newest: i64, time: i64, place: RowPlace, value: Option<f64>) {
        let Some(value) = value.filter(|_| !self.spec.is_past(time, newest)) else { return };
        let at = self.up_to(time, place);
        self.places.insert(at, place);
        self.entries.insert(at, (time, value));
        if self.spec.is_inside(time, newest) {
            self.running.add(time, value);
        } else {
            self.expired += 1;
        }
    }

    fn expire(&mut self, newest: i64) {
        while let Some(&(time, value)) = self.entries.get(self.expired) {
            if self.spec.is_inside(time, newest) {
                break;
            }
            self.running.remove(time, value);
            self.expired += 1;
        }
        while self.expired > 0 && self.spec.is_past(self.entries[0].0, newest) {
            self.places.pop_front();
            self.entries.pop_front();
            self.expired -= 1;
        }
        trim_queue(&mut self.entries);
    }
}

/// The first place of a range from which on something holds, or its end.
fn first_where(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = start.midpoint(end);
        if holds(middle) {
            end = middle;
        } else {
            start = middle + 1;
        }
    }
    start
}
