//! Keyed sliding windows over event time.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Float64Builder, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;

use crate::numeric::ExactSum;

/// What a window says of its values. Null and NaN values are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// How many values; 0 without any.
    Count,
    /// The correctly rounded sum; null without values.
    Sum,
    /// The correctly rounded sum divided by the count (`math.fsum(v) / len(v)`); null without values.
    Mean,
}

/// One window of a key: (t − length, t] in event time, of rows that come no later in (time, id)
/// order, the row itself included.
#[derive(Clone, Copy, Debug)]
pub struct WindowSpec {
    pub aggregate: Aggregate,
    pub length_ms: i64,
    /// How far behind the newest row a row may read: entries are kept that much longer.
    pub history_ms: i64,
}

/// Where a row stands among rows of the same time: its id, or its origin where there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Number(i64),
    Text(Rc<str>),
    Origin(u32, u64),
}

struct Entry {
    time: i64,
    value: f64,
    place: Place,
}

/// The state of one window of one key. The sum is exact inside, so that it does not depend on where
/// the window started or in which order rows were added and removed.
pub struct SlidingWindow {
    spec: WindowSpec,
    /// By time; the first `expired` are outside the window of the newest row and kept as history.
    entries: VecDeque<Entry>,
    expired: usize,
    newest: i64,
    sum: ExactSum,
}

impl SlidingWindow {
    pub fn new(spec: WindowSpec) -> Self {
        SlidingWindow {
            spec,
            entries: VecDeque::new(),
            expired: 0,
            newest: i64::MIN,
            sum: ExactSum::new(),
        }
    }

    /// Adds a row and returns the aggregate as of it.
    pub fn add(&mut self, time: i64, place: &Place, value: Option<f64>) -> Option<f64> {
        let value = value.filter(|v| !v.is_nan());
        if time < self.newest {
            let aggregate = self.read(time, place, value);
            self.insert_behind(time, place, value);
            return aggregate;
        }
        self.newest = time;
        if let Some(value) = value {
            self.entries.push_back(Entry { time, value, place: place.clone() });
            self.sum.add(value);
        }
        self.expire();
        self.aggregate(self.entries.len() - self.expired, &self.sum)
    }

    /// The aggregate as of a row that updates nothing: rows up to its time and place, and its own
    /// value.
    pub fn read(&self, time: i64, place: &Place, value: Option<f64>) -> Option<f64> {
        let mut sum = ExactSum::new();
        let mut count = 0;
        let start = time.saturating_sub(self.spec.length_ms);
        let from = self.entries.partition_point(|entry| entry.time <= start);
        let not_after = self.entries.iter().skip(from).take_while(|entry| entry.time <= time);
        let inside = not_after.filter(|entry| entry.time < time || entry.place <= *place);
        for value in inside.map(|entry| entry.value).chain(value.filter(|v| !v.is_nan())) {
            sum.add(value);
            count += 1;
        }
        self.aggregate(count, &sum)
    }

    fn insert_behind(&mut self, time: i64, place: &Place, value: Option<f64>) {
        let Some(value) = value else { return };
        let at = self.entries.partition_point(|entry| entry.time <= time);
        self.entries.insert(at, Entry { time, value, place: place.clone() });
        if time > self.newest.saturating_sub(self.spec.length_ms) {
            self.sum.add(value);
        } else {
            self.expired += 1;
        }
    }

    fn expire(&mut self) {
        let start = self.newest.saturating_sub(self.spec.length_ms);
        while let Some(entry) = self.entries.get(self.expired).filter(|e| e.time <= start) {
            self.sum.sub(entry.value);
            self.expired += 1;
        }
        let keep_from = start.saturating_sub(self.spec.history_ms);
        while self.expired > 0 && self.entries[0].time <= keep_from {
            self.entries.pop_front();
            self.expired -= 1;
        }
    }

    fn aggregate(&self, count: usize, sum: &ExactSum) -> Option<f64> {
        match self.spec.aggregate {
            Aggregate::Count => Some(count as f64),
            Aggregate::Sum => (count > 0).then(|| sum.value()),
            Aggregate::Mean => (count > 0).then(|| sum.value() / count as f64),
        }
    }
}

/// The windows of all keys that one worker owns.
pub struct KeyedWindows {
    specs: Vec<WindowSpec>,
    text: HashMap<String, usize>,
    number: HashMap<i64, usize>,
    /// One row of `specs.len()` windows a key.
    windows: Vec<SlidingWindow>,
}

impl KeyedWindows {
    pub fn new(specs: Vec<WindowSpec>) -> Self {
        KeyedWindows { specs, text: HashMap::new(), number: HashMap::new(), windows: Vec::new() }
    }

    pub fn keys(&self) -> usize {
        self.text.len() + self.number.len()
    }

    /// Applies rows in the order given; the aggregates as of each row, one column a window, `[rows]`.
    ///
    /// `keys` is Utf8 or Int64; `times` Int64 ms; `place` tells rows of the same time apart; `values`
    /// has one Float64 column a window. Late rows
    /// read and update nothing. A row without a key has null aggregates.
    ///
    /// # Errors
    /// If the key column is of another type.
    pub fn apply(
        &mut self,
        keys: &ArrayRef,
        times: &ArrayRef,
        late: &ArrayRef,
        place: impl Fn(usize) -> Place,
        values: &[ArrayRef],
    ) -> Result<Vec<Float64Array>, ArrowError> {
        let times = times.as_primitive::<Int64Type>();
        let late = late.as_boolean();
        let values: Vec<&Float64Array> =
            values.iter().map(|v| v.as_primitive::<Float64Type>()).collect();
        let mut results: Vec<Float64Builder> =
            values.iter().map(|_| Float64Builder::with_capacity(keys.len())).collect();
        let positions = self.positions(keys)?;
        for (row, position) in positions.into_iter().enumerate() {
            let Some(position) = position else {
                results.iter_mut().for_each(Float64Builder::append_null);
                continue;
            };
            let (time, place) = (times.value(row), place(row));
            for (i, result) in results.iter_mut().enumerate() {
                let value = values[i].is_valid(row).then(|| values[i].value(row));
                let window = &mut self.windows[position + i];
                let aggregate = if late.value(row) {
                    window.read(time, &place, value)
                } else {
                    window.add(time, &place, value)
                };
                result.append_option(aggregate);
            }
        }
        Ok(results.iter_mut().map(Float64Builder::finish).collect())
    }

    /// Where each row's windows start in `windows`; new keys get theirs here.
    fn positions(&mut self, keys: &ArrayRef) -> Result<Vec<Option<usize>>, ArrowError> {
        let KeyedWindows { specs, text, number, windows } = self;
        let mut fresh = || {
            windows.extend(specs.iter().map(|&spec| SlidingWindow::new(spec)));
            windows.len() - specs.len()
        };
        match keys.data_type() {
            DataType::Utf8 => Ok(keys
                .as_string::<i32>()
                .iter()
                .map(|key| {
                    let key = key?;
                    Some(match text.get(key) {
                        Some(&position) => position,
                        None => *text.entry(key.to_owned()).or_insert_with(&mut fresh),
                    })
                })
                .collect()),
            DataType::Int64 => Ok(keys
                .as_primitive::<Int64Type>()
                .iter()
                .map(|key| Some(*number.entry(key?).or_insert_with(&mut fresh)))
                .collect()),
            other => Err(ArrowError::SchemaError(format!("a window cannot be keyed by {other}"))),
        }
    }
}

/// Columns of a request, by position: what a home sends to the owner of a key.
pub mod request {
    pub const KEY: usize = 0;
    pub const TIME: usize = 1;
    pub const LATE: usize = 2;
    pub const PARTITION: usize = 3;
    pub const OFFSET: usize = 4;
    pub const HOME: usize = 5;
    pub const ROW: usize = 6;
    /// The request id where the job has one, then one value column a window.
    pub const REST: usize = 7;
}

/// What tells each request apart from others of the same time.
fn places(requests: &RecordBatch, first_value: usize) -> impl Fn(usize) -> Place + '_ {
    let id = (first_value > request::REST).then(|| requests.column(request::REST));
    let partitions = requests.column(request::PARTITION).as_primitive::<UInt32Type>();
    let offsets = requests.column(request::OFFSET).as_primitive::<UInt64Type>();
    move |row| match id.filter(|id| id.is_valid(row)) {
        Some(id) if *id.data_type() == DataType::Utf8 => {
            Place::Text(Rc::from(id.as_string::<i32>().value(row)))
        }
        Some(id) => Place::Number(id.as_primitive::<Int64Type>().value(row)),
        None => Place::Origin(partitions.value(row), offsets.value(row)),
    }
}

/// The aggregates for a batch of requests that is in order, `[requests]` each.
///
/// # Errors
/// As [`KeyedWindows::apply`].
pub fn answer(
    windows: &mut KeyedWindows,
    requests: &RecordBatch,
    first_value: usize,
) -> Result<Vec<Float64Array>, ArrowError> {
    windows.apply(
        requests.column(request::KEY),
        requests.column(request::TIME),
        requests.column(request::LATE),
        places(requests, first_value),
        &requests.columns()[first_value..],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Place = Place::Number(0);

    fn spec(aggregate: Aggregate) -> WindowSpec {
        WindowSpec { aggregate, length_ms: 10, history_ms: 100 }
    }

    #[test]
    fn the_start_is_outside_and_the_end_inside() {
        let mut window = SlidingWindow::new(spec(Aggregate::Sum));
        assert_eq!(window.add(0, &AT, Some(1.0)), Some(1.0));
        assert_eq!(window.add(9, &AT, Some(2.0)), Some(3.0));
        assert_eq!(window.add(10, &AT, Some(4.0)), Some(6.0));
        assert_eq!(window.add(10, &AT, None), Some(6.0));
        assert_eq!(window.add(30, &AT, Some(f64::NAN)), None);
    }

    #[test]
    fn a_sum_is_not_disturbed_by_what_has_left() {
        let mut window = SlidingWindow::new(spec(Aggregate::Mean));
        window.add(0, &AT, Some(1e100));
        window.add(1, &AT, Some(0.1));
        assert_eq!(window.add(10, &AT, Some(0.2)), Some((0.1 + 0.2) / 2.0));
    }

    #[test]
    fn a_late_row_reads_at_its_own_time_and_leaves_no_trace() {
        let mut window = SlidingWindow::new(spec(Aggregate::Sum));
        for (time, value) in [(0, 1.0), (5, 2.0), (20, 4.0)] {
            window.add(time, &AT, Some(value));
        }
        assert_eq!(window.read(6, &AT, Some(8.0)), Some(11.0));
        assert_eq!(window.read(12, &AT, None), Some(2.0));
        assert_eq!(window.add(21, &AT, Some(1.0)), Some(5.0));
    }

    #[test]
    fn a_row_out_of_order_counts_for_those_after_it() {
        let mut window = SlidingWindow::new(spec(Aggregate::Sum));
        window.add(0, &AT, Some(1.0));
        window.add(20, &AT, Some(4.0));
        assert_eq!(window.add(15, &AT, Some(2.0)), Some(2.0));
        assert_eq!(window.add(5, &AT, Some(8.0)), Some(9.0));
        assert_eq!(window.add(21, &AT, Some(1.0)), Some(7.0));
        assert_eq!(window.add(25, &AT, Some(0.0)), Some(5.0));
    }

    #[test]
    fn history_is_dropped_in_the_end() {
        let mut window = SlidingWindow::new(spec(Aggregate::Count));
        for time in 0..1000 {
            window.add(time, &AT, Some(1.0));
        }
        assert_eq!(window.entries.len(), 110);
    }

    #[test]
    fn a_late_row_sees_of_its_own_time_only_what_comes_before_it() {
        let mut window = SlidingWindow::new(spec(Aggregate::Sum));
        for (place, value) in [(2, 1.0), (4, 2.0)] {
            window.add(0, &Place::Number(place), Some(value));
        }
        assert_eq!(window.read(0, &Place::Number(1), Some(8.0)), Some(8.0));
        assert_eq!(window.read(0, &Place::Number(3), Some(8.0)), Some(9.0));
        assert_eq!(window.read(0, &Place::Number(5), Some(8.0)), Some(11.0));
    }
}
