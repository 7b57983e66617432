//! Windows over values: the values kept, and which of them are inside.

use std::collections::VecDeque;

use super::WindowSpec;
use super::room::trim_queue;
use super::rows::KeyRows;
use super::running::Running;

/// A window of one key over the values of its rows.
pub(super) struct ValueWindow {
    /// Of the last of the key's rows, NaN of those without a value; the first `expired` are outside the
    /// window of the newest row and kept as history.
    values: VecDeque<f64>,
    expired: usize,
    /// How many of `values` are values.
    held: usize,
    /// Of the values from `expired` on.
    running: Running,
}

impl ValueWindow {
    pub(super) fn new(running: Running) -> Self {
        ValueWindow { values: VecDeque::new(), expired: 0, held: 0, running }
    }

    /// Takes the values of the last of `rows`, NaN of those without one.
    pub(super) fn restore(&mut self, spec: &WindowSpec, rows: &KeyRows, values: VecDeque<f64>) {
        let Some(newest) = rows.newest() else { return };
        let first = rows.len() - values.len();
        self.expired =
            rows.times(first..rows.len()).take_while(|&t| !spec.is_inside(t, newest)).count();
        self.held = values.iter().filter(|value| !value.is_nan()).count();
        let inside = rows.times(first..rows.len()).zip(&values).skip(self.expired);
        for (time, &value) in inside.filter(|(_, value)| !value.is_nan()) {
            self.running.add(time, value);
        }
        self.values = values;
    }

    /// Of the last of the key's rows, NaN of those without one.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied()
    }

    /// Values held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// How many of the key's rows, the last ones, it looks at.
    pub(super) fn seen(&self) -> usize {
        self.values.len()
    }

    /// Adds the value of the last of `rows`; the aggregate as of it.
    pub(super) fn push(
        &mut self,
        spec: &WindowSpec,
        rows: &KeyRows,
        value: Option<f64>,
    ) -> Option<f64> {
        let time = rows.time(rows.len() - 1);
        let value = value.filter(|v| !v.is_nan());
        self.values.push_back(value.unwrap_or(f64::NAN));
        if let Some(value) = value {
            self.held += 1;
            self.running.add(time, value);
        }
        self.expire(spec, rows, time);
        self.running.value(|| self.rows(rows, self.first(rows) + self.expired, rows.len()))
    }

    /// The aggregate as of a row at `time` behind `up_to` of `rows`, which is not among them.
    pub(super) fn read(
        &self,
        spec: &WindowSpec,
        rows: &KeyRows,
        (time, up_to): (i64, usize),
        value: Option<f64>,
    ) -> Option<f64> {
        let from = rows.before(|other| !spec.is_inside(other, time)).max(self.first(rows));
        let others = self.rows(rows, from.min(up_to), up_to);
        self.running.scan(others.chain(value.filter(|v| !v.is_nan()).map(|value| (time, value))))
    }

    /// Adds the value of the row at `at` of `rows`, which has come behind others.
    pub(super) fn insert(
        &mut self,
        spec: &WindowSpec,
        rows: &KeyRows,
        at: usize,
        value: Option<f64>,
    ) {
        let (time, newest) = (rows.time(at), rows.time(rows.len() - 1));
        if spec.is_past(time, newest) {
            return;
        }
        let value = value.filter(|v| !v.is_nan());
        // The row is among `rows`, and not yet among the values.
        let first = self.first(rows) - 1;
        self.values.insert(at - first, value.unwrap_or(f64::NAN));
        self.held += usize::from(value.is_some());
        match value {
            _ if !spec.is_inside(time, newest) => self.expired += 1,
            Some(value) => self.running.add(time, value),
            None => {}
        }
    }

    /// The first of the key's rows whose value is kept.
    fn first(&self, rows: &KeyRows) -> usize {
        rows.len() - self.values.len()
    }

    /// Times and values of a range of the key's rows, from the first one kept on.
    fn rows(&self, rows: &KeyRows, from: usize, to: usize) -> impl Iterator<Item = (i64, f64)> {
        let first = self.first(rows).min(from);
        let values = self.values.range(from - first..to - first).copied();
        rows.times(from..to).zip(values).filter(|(_, value)| !value.is_nan())
    }

    fn expire(&mut self, spec: &WindowSpec, rows: &KeyRows, newest: i64) {
        let mut first = self.first(rows);
        while let Some(&value) = self.values.get(self.expired) {
            let time = rows.time(first + self.expired);
            if spec.is_inside(time, newest) {
                break;
            }
            if !value.is_nan() {
                self.running.remove(time, value);
            }
            self.expired += 1;
        }
        while self.expired > 0 && spec.is_past(rows.time(first), newest) {
            let gone = self.values.pop_front();
            self.held -= usize::from(gone.is_some_and(|value| !value.is_nan()));
            self.expired -= 1;
            first += 1;
        }
        trim_queue(&mut self.values);
    }
}
