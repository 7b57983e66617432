//! The rows of one key, which all its windows share.

use std::collections::VecDeque;
use std::ops::Range;

use super::places::{Place, Places};
use super::room::trim_queue;
use super::sliding::Window;

/// Times and places of the rows of one key, as far as one of its windows can still see them.
#[derive(Default)]
pub(super) struct KeyRows {
    /// In (time, place) order.
    times: VecDeque<i64>,
    /// Of each row; of none where rows come in order and have no place to be kept.
    places: Places,
}

impl KeyRows {
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn time(&self, at: usize) -> i64 {
        self.times[at]
    }

    pub(super) fn times(&self, range: Range<usize>) -> impl Iterator<Item = i64> {
        self.times.range(range).copied()
    }

    /// Of each row, from the first on; of none where they are not kept.
    pub(super) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        (0..self.places.len()).map(|at| self.places.get(at))
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.times.back().copied()
    }

    /// How many come before `time`.
    pub(super) fn before(&self, is_before: impl Fn(i64) -> bool) -> usize {
        self.times.partition_point(|&time| is_before(time))
    }

    /// How many come no later than a row.
    pub(super) fn up_to(&self, time: i64, place: Option<Place>) -> usize {
        let rows = self.times.len();
        let is_last = |last: i64| last < time || last == time && self.is_up_to(rows - 1, place);
        if self.newest().is_none_or(is_last) {
            return rows;
        }
        let same = self.before(|other| other < time)..self.before(|other| other <= time);
        first_where(same, |at| !self.is_up_to(at, place))
    }

    /// Whether a row comes no later than another of the same time.
    fn is_up_to(&self, at: usize, place: Option<Place>) -> bool {
        place.is_none_or(|place| self.places.is_up_to(at, place))
    }

    /// Adds a row where it belongs, which is behind `at` others.
    pub(super) fn insert(&mut self, at: usize, time: i64, place: Option<Place>) {
        if let Some(place) = place {
            self.places.insert(at, place);
        }
        if at == self.times.len() {
            self.times.push_back(time);
        } else {
            self.times.insert(at, time);
        }
    }

    /// Lets go of rows that none of the windows looks at any more; the newest stays.
    pub(super) fn forget(&mut self, windows: &[Window]) {
        let seen = windows.iter().map(Window::seen).max().unwrap_or(0).max(1);
        while self.times.len() > seen {
            self.times.pop_front();
            if self.places.len() > self.times.len() {
                self.places.pop_front();
            }
        }
        trim_queue(&mut self.times);
    }
}

/// The first of a range from which on something holds, or its end.
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
