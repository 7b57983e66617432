//! The windows of all keys of a worker.

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::limit::KeyLimit;
use super::room::trim_map;
use super::{Place, SlidingWindow, WindowSpec};
use crate::key_group::group_of_bytes;
use crate::key_map::KeyMap;

/// Keys are looked through for dead ones once the watermark has moved on by this part of the time
/// for which a row can be read: dead keys are held at most that much longer.
const SWEEPS_PER_REACH: i64 = 8;

/// The windows of all keys that one worker owns.
pub struct KeyedWindows {
    specs: Vec<WindowSpec>,
    text: KeyMap<String, usize>,
    number: KeyMap<i64, usize>,
    /// One row of `specs.len()` windows a key.
    windows: Vec<SlidingWindow>,
    /// Where windows of forgotten keys started.
    vacant: Vec<usize>,
    /// What a late row of an unknown key reads: windows without rows.
    unknown: Vec<SlidingWindow>,
    rows: usize,
    swept_at: Option<i64>,
    limited: Option<Limited>,
}

/// What is known of keys where there is a bound on them.
struct Limited {
    limit: KeyLimit,
    /// The keys, by where their windows start in units of `specs.len()`.
    names: Vec<OwnKey>,
}

#[derive(Clone)]
enum OwnKey {
    Text(String),
    Number(i64),
    /// Its place is vacant.
    Forgotten,
}

impl KeyedWindows {
    pub fn new(specs: Vec<WindowSpec>) -> Self {
        KeyedWindows {
            unknown: specs.iter().map(|&spec| SlidingWindow::new(spec)).collect(),
            specs,
            text: KeyMap::default(),
            number: KeyMap::default(),
            windows: Vec::new(),
            vacant: Vec::new(),
            rows: 0,
            swept_at: None,
            limited: None,
        }
    }

    /// The same, with at most `keys_max` keys, evenly over the key groups of all workers: those that
    /// have not been seen for the longest are forgotten.
    #[must_use]
    pub fn with_keys_max(mut self, keys_max: Option<u64>) -> Self {
        let limited = |keys| Limited { limit: KeyLimit::new(keys), names: Vec::new() };
        self.limited = keys_max.map(limited);
        self
    }

    /// How many keys were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.limited.as_ref().map_or(0, |limited| limited.limit.forgotten())
    }

    /// How many keys are held.
    pub fn keys(&self) -> usize {
        self.text.len() + self.number.len()
    }

    /// How many rows are held, over all windows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Applies rows in the order given; the aggregates as of each row, one column a window, `[rows]`.
    ///
    /// `keys` is Utf8, Int64 or UInt64; `times` Int64 ms; `late` Boolean; `place` tells rows of the same time
    /// apart; `values` has one Float64 column a window, or none where each row is to count as the
    /// value 1. Late rows read and update nothing. A row without a key has null aggregates.
    ///
    /// # Errors
    /// If the key column is of another type.
    pub fn apply(
        &mut self,
        keys: &ArrayRef,
        times: &ArrayRef,
        late: &ArrayRef,
        place: impl Fn(usize) -> Place,
        values: &[Option<ArrayRef>],
    ) -> Result<Vec<Float64Array>, ArrowError> {
        let keys = Keys::of(keys)?;
        let times = times.as_primitive::<Int64Type>();
        let late = late.as_boolean();
        let values: Vec<Option<&Float64Array>> =
            values.iter().map(|v| v.as_ref().map(|v| v.as_primitive::<Float64Type>())).collect();
        let mut results: Vec<Float64Builder> =
            values.iter().map(|_| Float64Builder::with_capacity(times.len())).collect();
        for row in 0..times.len() {
            let Some(key) = keys.get(row) else {
                results.iter_mut().for_each(Float64Builder::append_null);
                continue;
            };
            let (time, is_late, place) = (times.value(row), late.value(row), place(row));
            let value = |i: usize| match values[i] {
                Some(values) => values.is_valid(row).then(|| values.value(row)),
                None => Some(1.0),
            };
            if is_late {
                for (i, (window, result)) in self.find(key).iter().zip(&mut results).enumerate() {
                    result.append_option(window.read(time, &place, value(i)));
                }
            } else {
                let start = self.find_or_insert(key);
                self.bound_keys(key, start);
                let windows = &mut self.windows[start..start + self.specs.len()];
                for (i, (window, result)) in windows.iter_mut().zip(&mut results).enumerate() {
                    let before = window.rows();
                    result.append_option(window.add(time, &place, value(i)));
                    self.rows = self.rows + window.rows() - before;
                }
            }
        }
        Ok(results.iter_mut().map(Float64Builder::finish).collect())
    }

    /// Forgets the keys whose rows no row to come can see, if it is time to look for them.
    ///
    /// To come are rows at or after `watermark`, which only rises, and late rows up to the history
    /// behind it. So a key is dead when its newest row is at or before watermark − length − history
    /// for each window. Costs a look at every key, a few times while the watermark moves on by the
    /// longest length and history.
    pub fn forget(&mut self, watermark: i64) {
        let Some(reach) = self.specs.iter().map(WindowSpec::reach_ms).max() else { return };
        let is_due =
            |swept_at: i64| watermark.saturating_sub(swept_at) >= (reach / SWEEPS_PER_REACH).max(1);
        if reach == i64::MAX {
            return;
        }
        // Before the first watermark nothing is known of what is to come.
        if watermark == i64::MIN || !self.swept_at.is_none_or(is_due) {
            return;
        }
        self.swept_at = Some(watermark);
        let KeyedWindows { specs, text, number, windows, vacant, rows, .. } = self;
        let mut keeps = |start: usize| {
            let windows = &mut windows[start..start + specs.len()];
            let newest = windows.iter().filter_map(SlidingWindow::newest).max();
            if newest.is_some_and(|newest| watermark.saturating_sub(newest) < reach) {
                return true;
            }
            for (window, &spec) in windows.iter_mut().zip(&*specs) {
                *rows -= window.rows();
                *window = SlidingWindow::new(spec);
            }
            vacant.push(start);
            false
        };
        text.retain(|_, start| keeps(*start));
        number.retain(|_, start| keeps(*start));
        trim_map(text);
        trim_map(number);
    }

    /// Forgets a key where the one that starts at `start` is one too many.
    fn bound_keys(&mut self, key: Key, start: usize) {
        let KeyedWindows { specs, text, number, windows, vacant, rows, limited, .. } = self;
        let Some(Limited { limit, names }) = limited else { return };
        let place = start / specs.len();
        let is_known = |name: &OwnKey| match (name, key) {
            (OwnKey::Text(name), Key::Text(key)) => name == key,
            (OwnKey::Number(name), Key::Number(key)) => *name == key,
            _ => false,
        };
        let group = match key {
            Key::Text(key) => group_of_bytes(key.as_bytes()),
            Key::Number(key) => group_of_bytes(&key.to_le_bytes()),
        };
        let is_new = !names.get(place).is_some_and(is_known);
        if is_new {
            names.resize(names.len().max(place + 1), OwnKey::Forgotten);
            names[place] = match key {
                Key::Text(key) => OwnKey::Text(key.to_owned()),
                Key::Number(key) => OwnKey::Number(key),
            };
        }
        let Some(oldest) = limit.see(place, group, is_new) else { return };
        let start = oldest * specs.len();
        for (window, &spec) in windows[start..start + specs.len()].iter_mut().zip(&*specs) {
            *rows -= window.rows();
            *window = SlidingWindow::new(spec);
        }
        match std::mem::replace(&mut names[oldest], OwnKey::Forgotten) {
            OwnKey::Text(name) => drop(text.remove(name.as_str())),
            OwnKey::Number(name) => drop(number.remove(&name)),
            OwnKey::Forgotten => {}
        }
        vacant.push(start);
    }

    fn find(&self, key: Key) -> &[SlidingWindow] {
        let start = match key {
            Key::Text(key) => self.text.get(key),
            Key::Number(key) => self.number.get(&key),
        };
        start.map_or(&self.unknown, |&start| &self.windows[start..start + self.specs.len()])
    }

    /// Where the windows of the key start.
    fn find_or_insert(&mut self, key: Key) -> usize {
        let KeyedWindows { specs, text, number, windows, vacant, .. } = self;
        let fresh = || {
            vacant.pop().unwrap_or_else(|| {
                windows.extend(specs.iter().map(|&spec| SlidingWindow::new(spec)));
                windows.len() - specs.len()
            })
        };
        match key {
            Key::Text(key) => match text.get(key) {
                Some(&start) => start,
                None => *text.entry(key.to_owned()).or_insert_with(fresh),
            },
            Key::Number(key) => *number.entry(key).or_insert_with(fresh),
        }
    }
}

/// A key column.
enum Keys<'a> {
    Text(&'a StringArray),
    Number(&'a Int64Array),
    Count(&'a UInt64Array),
}

#[derive(Clone, Copy)]
enum Key<'a> {
    Text(&'a str),
    Number(i64),
}

impl<'a> Keys<'a> {
    fn of(keys: &'a ArrayRef) -> Result<Self, ArrowError> {
        match keys.data_type() {
            DataType::Utf8 => Ok(Keys::Text(keys.as_string::<i32>())),
            DataType::Int64 => Ok(Keys::Number(keys.as_primitive::<Int64Type>())),
            DataType::UInt64 => Ok(Keys::Count(keys.as_primitive::<UInt64Type>())),
            other => Err(ArrowError::SchemaError(format!("a window cannot be keyed by {other}"))),
        }
    }

    fn get(&self, row: usize) -> Option<Key<'a>> {
        match self {
            Keys::Text(keys) => keys.is_valid(row).then(|| Key::Text(keys.value(row))),
            Keys::Number(keys) => keys.is_valid(row).then(|| Key::Number(keys.value(row))),
            // A job's keys are of one type: their bits tell them apart.
            Keys::Count(keys) => {
                keys.is_valid(row).then(|| Key::Number(keys.value(row).cast_signed()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
