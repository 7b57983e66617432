//! The windows of all keys of a worker.

mod state;

pub(super) use state::Kept;
pub use state::WindowPieces;

use std::hint::black_box;
use std::rc::Rc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, StringArray, UInt64Array,
};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::limit::KeyLimit;
use super::room::trim_map;
use super::rows::KeyRows;
use super::sliding::Window;
use super::{Place, WindowSpec};
use crate::key_group::group_of_bytes;
use crate::key_map::KeyMap;

/// Keys are looked through for dead ones once the watermark has moved on by this part of the time
/// for which a row can be read: dead keys are held at most that much longer.
const SWEEPS_PER_REACH: i64 = 8;

/// How many keys are looked at in one call at most.
const KEYS_SWEPT_MAX: usize = 16_384;

/// How many rows have their keys looked up before the first of them is applied. Each look-up waits for
/// memory, and those of several rows wait together.
const LOOKED_UP: usize = 64;

/// The windows of all keys that one worker owns.
pub struct KeyedWindows {
    specs: Vec<WindowSpec>,
    /// The slots of keys.
    text: KeyMap<Rc<str>, usize>,
    number: KeyMap<i64, usize>,
    /// By slot.
    names: Vec<Name>,
    key_rows: Vec<KeyRows>,
    /// `specs.len()` windows a slot.
    windows: Vec<Window>,
    /// Slots of forgotten keys.
    vacant: Vec<usize>,
    /// What a late row of an unknown key reads: windows without rows.
    unknown: (KeyRows, Vec<Window>),
    in_order: bool,
    rows: usize,
    /// The watermark when keys were last looked through.
    swept_at: Option<i64>,
    /// The slot to look at next, while they are.
    sweeps: Option<usize>,
    limit: Option<KeyLimit>,
}

/// The key in a slot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Text(Rc<str>),
    Number(i64),
    Forgotten,
}

impl KeyedWindows {
    pub fn new(specs: Vec<WindowSpec>) -> Self {
        KeyedWindows {
            unknown: (KeyRows::default(), fresh(&specs).collect()),
            in_order: false,
            specs,
            text: KeyMap::default(),
            number: KeyMap::default(),
            names: Vec::new(),
            key_rows: Vec::new(),
            windows: Vec::new(),
            vacant: Vec::new(),
            rows: 0,
            swept_at: None,
            sweeps: None,
            limit: None,
        }
    }

    /// The same, with at most `keys_max` keys, evenly over the key groups of all workers: those that
    /// have not been seen for the longest are forgotten.
    #[must_use]
    pub fn with_keys_max(mut self, keys_max: Option<u64>) -> Self {
        self.limit = keys_max.map(KeyLimit::new);
        self
    }

    /// The same, of rows that come in order of (time, place), late ones aside and over all calls: what
    /// tells those of one time apart is then not kept, and who comes first is before the others.
    #[must_use]
    pub fn with_rows_in_order(mut self, in_order: bool) -> Self {
        self.in_order = in_order;
        self
    }

    /// How many keys were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.limit.as_ref().map_or(0, KeyLimit::forgotten)
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
    pub fn apply<'r>(
        &mut self,
        keys: &ArrayRef,
        times: &ArrayRef,
        late: &ArrayRef,
        place: impl Fn(usize) -> Place<'r>,
        values: &[Option<&ArrayRef>],
    ) -> Result<Vec<Float64Array>, ArrowError> {
        let keys = Keys::of(keys)?;
        let times = times.as_primitive::<Int64Type>().values();
        let late = late.as_boolean().values();
        let values: Vec<Option<&Float64Array>> =
            values.iter().map(|v| v.map(|v| v.as_primitive::<Float64Type>())).collect();
        let mut results: Vec<Float64Builder> =
            values.iter().map(|_| Float64Builder::with_capacity(times.len())).collect();
        // A key that is one too many may take the slot of one that was looked up.
        let looked_up = if self.limit.is_some() { 1 } else { LOOKED_UP };
        let mut slots = Vec::with_capacity(looked_up);
        for start in (0..times.len()).step_by(looked_up) {
            let rows = start..times.len().min(start + looked_up);
            slots.clear();
            slots.extend(rows.clone().map(|row| self.slot(keys.get(row), late.value(row))));
            self.warm(&slots);
            for (row, &slot) in rows.zip(&slots) {
                let place = (!self.in_order).then(|| place(row));
                let value = |i: usize| match values[i] {
                    Some(values) => values.is_valid(row).then(|| values.value(row)),
                    None => Some(1.0),
                };
                let answers = |i: usize, answer| results[i].append_option(answer);
                match slot {
                    Slot::NoKey => results.iter_mut().for_each(Float64Builder::append_null),
                    Slot::Unknown => {
                        let (rows, windows) = &self.unknown;
                        self.read((rows, windows), times[row], place, value, answers);
                    }
                    Slot::Held(slot) if late.value(row) => {
                        self.read(self.held(slot), times[row], place, value, answers);
                    }
                    Slot::Held(slot) => self.add(slot, times[row], place, value, answers),
                }
            }
        }
        Ok(results.iter_mut().map(Float64Builder::finish).collect())
    }

    /// Where the rows of a row's key are, of which there is one from then on unless the row is late.
    fn slot(&mut self, key: Option<Key>, is_late: bool) -> Slot {
        match key {
            None => Slot::NoKey,
            Some(key) if is_late => self.find(key).map_or(Slot::Unknown, Slot::Held),
            Some(key) => Slot::Held(self.find_or_insert(key)),
        }
    }

    /// Has what will be read be near.
    fn warm(&self, slots: &[Slot]) {
        for slot in slots {
            if let Slot::Held(slot) = *slot {
                let (rows, windows) = self.held(slot);
                black_box((rows.newest(), windows.last().map(Window::held)));
            }
        }
    }

    fn held(&self, slot: usize) -> (&KeyRows, &[Window]) {
        let start = slot * self.specs.len();
        (&self.key_rows[slot], &self.windows[start..start + self.specs.len()])
    }

    /// The aggregates as of a row of a key that updates nothing.
    fn read(
        &self,
        (rows, windows): (&KeyRows, &[Window]),
        time: i64,
        place: Option<Place>,
        value: impl Fn(usize) -> Option<f64>,
        mut answer: impl FnMut(usize, Option<f64>),
    ) {
        let up_to = rows.up_to(time, place);
        for (i, (window, spec)) in windows.iter().zip(&self.specs).enumerate() {
            answer(i, window.read(spec, rows, (time, up_to), value(i)));
        }
    }

    /// Adds a row; the aggregates as of it.
    fn add(
        &mut self,
        slot: usize,
        time: i64,
        place: Option<Place>,
        value: impl Fn(usize) -> Option<f64>,
        mut answer: impl FnMut(usize, Option<f64>),
    ) {
        let rows = &mut self.key_rows[slot];
        let windows = windows_of(&mut self.windows, &self.specs, slot);
        let up_to = rows.up_to(time, place);
        let is_last = up_to == rows.len();
        if !is_last {
            for (i, (window, spec)) in windows.iter().zip(&self.specs).enumerate() {
                answer(i, window.read(spec, rows, (time, up_to), value(i)));
            }
        }
        rows.insert(up_to, time, place);
        for (i, (window, spec)) in windows.iter_mut().zip(&self.specs).enumerate() {
            let before = window.held();
            if is_last {
                answer(i, window.push(spec, rows, value(i)));
            } else {
                window.insert(spec, rows, up_to, value(i));
            }
            self.rows = self.rows + window.held() - before;
        }
        rows.forget(windows);
    }

    /// Forgets the keys whose rows no row to come can see, if it is time to look for them.
    ///
    /// To come are rows at or after `watermark`, which only rises, and late rows up to the history
    /// behind it. So a key is dead when its newest row is at or before watermark − length − history
    /// for each window. Costs a look at every key, a few times while the watermark moves on by the
    /// longest length and history; where there are many keys, some of them with each call.
    pub fn forget(&mut self, watermark: i64) {
        let Some(reach) = self.specs.iter().map(WindowSpec::reach_ms).max() else { return };
        let is_due =
            |swept_at: i64| watermark.saturating_sub(swept_at) >= (reach / SWEEPS_PER_REACH).max(1);
        // Before the first watermark nothing is known of what is to come.
        if reach == i64::MAX || watermark == i64::MIN {
            return;
        }
        if self.sweeps.is_none() && self.swept_at.is_none_or(is_due) {
            self.swept_at = Some(watermark);
            self.sweeps = Some(0);
        }
        let Some(from) = self.sweeps else { return };
        let to = self.names.len().min(from + KEYS_SWEPT_MAX);
        for slot in from..to {
            let newest = self.key_rows[slot].newest();
            let is_read = newest.is_some_and(|newest| watermark.saturating_sub(newest) < reach);
            if !is_read && !matches!(self.names[slot], Name::Forgotten) {
                self.forget_slot(slot);
            }
        }
        self.sweeps = (to < self.names.len()).then_some(to);
        if self.sweeps.is_none() {
            trim_map(&mut self.text);
            trim_map(&mut self.number);
        }
    }

    fn forget_slot(&mut self, slot: usize) {
        self.key_rows[slot] = KeyRows::default();
        let windows = windows_of(&mut self.windows, &self.specs, slot);
        for (window, spec) in windows.iter_mut().zip(&self.specs) {
            self.rows -= window.held();
            *window = Window::new(spec);
        }
        match std::mem::replace(&mut self.names[slot], Name::Forgotten) {
            Name::Text(key) => drop(self.text.remove(&key)),
            Name::Number(key) => drop(self.number.remove(&key)),
            Name::Forgotten => return,
        }
        self.vacant.push(slot);
    }

    fn find(&self, key: Key) -> Option<usize> {
        match key {
            Key::Text(key) => self.text.get(key),
            Key::Number(key) => self.number.get(&key),
        }
        .copied()
    }

    /// The slot of the key. Where it is one too many, another one is forgotten.
    fn find_or_insert(&mut self, key: Key) -> usize {
        let (slot, is_new) = match self.find(key) {
            Some(slot) => (slot, false),
            None => (self.insert(key), true),
        };
        if let Some(limit) = &mut self.limit {
            let group = match key {
                Key::Text(key) => group_of_bytes(key.as_bytes()),
                Key::Number(key) => group_of_bytes(&key.to_le_bytes()),
            };
            if let Some(oldest) = limit.see(slot, group, is_new) {
                self.forget_slot(oldest);
            }
        }
        slot
    }

    fn insert(&mut self, key: Key) -> usize {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.windows.extend(fresh(&self.specs));
            self.key_rows.push(KeyRows::default());
            self.names.push(Name::Forgotten);
            self.names.len() - 1
        });
        self.names[slot] = match key {
            Key::Text(key) => {
                let key: Rc<str> = Rc::from(key);
                self.text.insert(key.clone(), slot);
                Name::Text(key)
            }
            Key::Number(key) => {
                self.number.insert(key, slot);
                Name::Number(key)
            }
        };
        slot
    }
}

/// The windows of a key without rows.
fn fresh(specs: &[WindowSpec]) -> impl Iterator<Item = Window> {
    specs.iter().map(Window::new)
}

fn windows_of<'a>(
    windows: &'a mut [Window],
    specs: &[WindowSpec],
    slot: usize,
) -> &'a mut [Window] {
    let start = slot * specs.len();
    &mut windows[start..start + specs.len()]
}

/// A key column.
enum Keys<'a> {
    Text(&'a StringArray),
    Number(&'a Int64Array),
    Count(&'a UInt64Array),
}

/// Where the rows of a row's key are.
#[derive(Clone, Copy)]
enum Slot {
    NoKey,
    /// Nowhere, as no row of the key has been added.
    Unknown,
    Held(usize),
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
