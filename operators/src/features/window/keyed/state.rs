//! The windows of the keys of one key group, as a piece of state.
//!
//! Of each key its rows are kept as they are, and of each window the values that it still holds. What
//! follows from them is made anew: sums are exact, and the extremes of the same values are the same.
//! When dead keys were last looked for is not kept, as nothing is read of a dead key.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, StructArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{
    DataType, Field, Fields, Float64Type, Int64Type, Schema, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::super::WindowSpec;
use super::super::places::Place;
use super::super::rows::KeyRows;
use super::super::sliding::Window;
use super::{Key, KeyedWindows, Keys, Name};
use crate::key_group::group_of_bytes;
use crate::state::groups::by_group;
use crate::state::lists::{list, list_type, lists, numbers};
use crate::state::{Piece, PieceKind, StateError};

/// Columns of a piece, by position: the key; its rank among those of its group by when it was seen
/// last, and in the first row how many keys of the group were forgotten, where keys are limited; the
/// times of its rows; their origins, of those without an id; then their ids, where the job has any, and
/// a column for each window.
const KEY: usize = 0;
const SEEN: usize = 1;
const FORGOTTEN: usize = 2;
const TIMES: usize = 3;
const ORIGINS: usize = 4;
const REST: usize = 5;

/// The pieces of the windows over one key.
#[derive(Clone, Debug)]
pub struct WindowPieces {
    kind: PieceKind,
    key_type: DataType,
    id_type: Option<DataType>,
}

impl WindowPieces {
    /// Of windows that are keyed by `key_type`, of rows whose ids are of `id_type`. `spec`: what the job
    /// says of them beside it.
    pub fn new(
        part: String,
        key_type: &DataType,
        id_type: Option<&DataType>,
        specs: &[WindowSpec],
        spec: &[String],
    ) -> Self {
        let mut fields = vec![
            Field::new("key", key_type.clone(), false),
            Field::new("seen", DataType::UInt64, true),
            Field::new("forgotten", DataType::UInt64, true),
            Field::new("times", list_type(DataType::Int64, false), false),
            Field::new("origins", list_type(DataType::Struct(origin_fields()), false), false),
        ];
        let ids = |id: &DataType| Field::new("ids", list_type(id.clone(), true), false);
        fields.extend(id_type.map(ids));
        let of_window = |(at, spec): (usize, &WindowSpec)| match Window::new(spec) {
            Window::Values(_) => {
                Field::new(format!("window_{at}"), list_type(DataType::Float64, true), false)
            }
            Window::Previous(_) => Field::new(format!("window_{at}"), DataType::UInt64, false),
        };
        fields.extend(specs.iter().enumerate().map(of_window));
        let of_spec = |spec: &WindowSpec| {
            format!("{} {} {}", spec.aggregate.name(), spec.length_ms, spec.history_ms)
        };
        let spec: Vec<String> = specs.iter().map(of_spec).chain(spec.iter().cloned()).collect();
        WindowPieces {
            kind: PieceKind::new(part, Arc::new(Schema::new(fields)), &spec),
            key_type: key_type.clone(),
            id_type: id_type.cloned(),
        }
    }

    pub fn part(&self) -> &str {
        self.kind.part()
    }

    fn first_window(&self) -> usize {
        REST + usize::from(self.id_type.is_some())
    }
}

fn origin_fields() -> Fields {
    Fields::from(vec![
        Field::new("partition", DataType::UInt32, false),
        Field::new("offset", DataType::UInt64, false),
    ])
}

impl KeyedWindows {
    /// The pieces of some key groups.
    ///
    /// # Errors
    /// If the windows are not those that the pieces are of.
    pub fn export(
        &self,
        pieces: &WindowPieces,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        let slots = self.names.iter().enumerate().filter_map(|(slot, name)| match name {
            Name::Text(key) => Some((group_of_bytes(key.as_bytes()), slot)),
            Name::Number(key) => Some((group_of_bytes(&key.to_le_bytes()), slot)),
            Name::Forgotten => None,
        });
        let by_group = by_group(slots, &groups).into_iter();
        let piece = |(group, mut slots): (u64, Vec<usize>)| {
            slots.sort_unstable_by(|&a, &b| self.names[a].cmp(&self.names[b]));
            let columns = self.columns(pieces, group, &slots)?;
            let rows = RecordBatch::try_new(pieces.kind.schema().clone(), columns)?;
            pieces.kind.piece(group, rows)
        };
        by_group.map(piece).collect()
    }

    fn columns(
        &self,
        pieces: &WindowPieces,
        group: u64,
        slots: &[usize],
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let rows = || slots.iter().map(|&slot| &self.key_rows[slot]);
        let places = || rows().flat_map(KeyRows::places);
        let lengths = |of: fn(&Place) -> bool| {
            let count = move |rows: &KeyRows| rows.places().filter(of).count();
            rows().map(count).collect::<Vec<usize>>()
        };
        let times = Int64Array::from_iter_values(rows().flat_map(|rows| rows.times(0..rows.len())));
        let mut columns = vec![
            self.keys_of(slots, &pieces.key_type),
            self.seen_of(slots),
            self.forgotten_of(group, slots.len()),
            lists(rows().map(KeyRows::len), Arc::new(times), false)?,
            lists(lengths(|place| matches!(place, Place::Origin(..))), origins(places()), false)?,
        ];
        if let Some(id_type) = &pieces.id_type {
            columns.push(lists(lengths(|_| true), ids(places(), id_type), true)?);
        }
        for at in 0..self.specs.len() {
            let of_slot = |&slot: &usize| &self.windows[slot * self.specs.len() + at];
            columns.push(windows_column(slots.iter().map(of_slot))?);
        }
        Ok(columns)
    }

    fn keys_of(&self, slots: &[usize], key_type: &DataType) -> ArrayRef {
        let names = || slots.iter().map(|&slot| &self.names[slot]);
        let number = |name: &Name| match name {
            Name::Number(key) => *key,
            Name::Text(_) | Name::Forgotten => 0,
        };
        let text = |name: &Name| match name {
            Name::Text(key) => Some(key.clone()),
            Name::Number(_) | Name::Forgotten => None,
        };
        match key_type {
            DataType::Utf8 => Arc::new(names().map(text).collect::<StringArray>()),
            DataType::UInt64 => {
                let bits = names().map(|name| number(name).cast_unsigned());
                Arc::new(UInt64Array::from_iter_values(bits))
            }
            _ => Arc::new(Int64Array::from_iter_values(names().map(number))),
        }
    }

    /// The same numbers whoever has seen the keys, and among however many others.
    fn seen_of(&self, slots: &[usize]) -> ArrayRef {
        let Some(limit) = &self.limit else {
            return Arc::new(UInt64Array::new_null(slots.len()));
        };
        let mut in_order: Vec<usize> = (0..slots.len()).collect();
        in_order.sort_unstable_by_key(|&at| limit.last_seen(slots[at]));
        let mut ranks = vec![0; slots.len()];
        for (rank, at) in (0..).zip(in_order) {
            ranks[at] = rank;
        }
        Arc::new(UInt64Array::from(ranks))
    }

    fn forgotten_of(&self, group: u64, rows: usize) -> ArrayRef {
        let forgotten = self.limit.as_ref().map(|limit| limit.forgotten_of(group));
        let first = (0..rows).map(|row| forgotten.filter(|_| row == 0));
        Arc::new(first.collect::<UInt64Array>())
    }

    /// Adds the keys of a piece, none of which is known.
    ///
    /// # Errors
    /// If it is a piece of other windows, or its keys are known.
    pub fn import(&mut self, pieces: &WindowPieces, piece: &Piece) -> Result<(), StateError> {
        let rows = pieces.kind.open(piece)?;
        let keys = Keys::of(rows.column(KEY))?;
        let mut slots = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let key = keys.get(row).ok_or_else(|| StateError::damaged("a key is null"))?;
            slots.push(self.import_key(pieces, rows, row, key)?);
        }
        let Some(limit) = &mut self.limit else { return Ok(()) };
        let (seen, forgotten) = (
            rows.column(SEEN).as_primitive::<UInt64Type>(),
            rows.column(FORGOTTEN).as_primitive::<UInt64Type>(),
        );
        let mut in_order: Vec<usize> = (0..slots.len()).collect();
        in_order.sort_unstable_by_key(|&row| seen.value(row));
        for row in in_order {
            limit.see(slots[row], piece.group, true);
        }
        limit.forgot(piece.group, forgotten.iter().flatten().sum());
        Ok(())
    }

    fn import_key(
        &mut self,
        pieces: &WindowPieces,
        columns: &RecordBatch,
        row: usize,
        key: Key,
    ) -> Result<usize, StateError> {
        if self.knows(key) {
            return Err(StateError::damaged("a key of a window is in two pieces"));
        }
        let rows = key_rows(pieces, columns, row)?;
        let slot = self.insert(key);
        for (at, spec) in self.specs.iter().enumerate() {
            let kept = kept(columns.column(pieces.first_window() + at), row);
            let window = Window::restored(spec, &rows, kept)
                .ok_or_else(|| StateError::damaged("a window has more values than its key rows"))?;
            self.rows += window.held();
            self.windows[slot * self.specs.len() + at] = window;
        }
        self.key_rows[slot] = rows;
        Ok(slot)
    }

    fn knows(&self, key: Key) -> bool {
        match key {
            Key::Text(key) => self.text.contains_key(key),
            Key::Number(key) => self.number.contains_key(&key),
        }
    }
}

fn origins<'a>(places: impl Iterator<Item = Place<'a>>) -> ArrayRef {
    let origins = places.filter_map(|place| match place {
        Place::Origin(partition, offset) => Some((partition, offset)),
        _ => None,
    });
    let (partitions, offsets): (Vec<u32>, Vec<u64>) = origins.unzip();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(UInt32Array::from(partitions)), Arc::new(UInt64Array::from(offsets))];
    Arc::new(StructArray::new(origin_fields(), columns, None))
}

/// Null for rows that have none.
fn ids<'a>(places: impl Iterator<Item = Place<'a>>, id_type: &DataType) -> ArrayRef {
    match id_type {
        DataType::Utf8 => Arc::new(StringArray::from_iter(places.map(|place| match place {
            Place::Text(id) => Some(id),
            _ => None,
        }))),
        DataType::UInt64 => Arc::new(UInt64Array::from_iter(places.map(|place| match place {
            Place::Count(id) => Some(id),
            _ => None,
        }))),
        _ => Arc::new(Int64Array::from_iter(places.map(|place| match place {
            Place::Number(id) => Some(id),
            _ => None,
        }))),
    }
}

/// What is kept of one window, of each key: its values, NaN as null, or how many rows it looks at.
fn windows_column<'a>(windows: impl Iterator<Item = &'a Window>) -> Result<ArrayRef, ArrowError> {
    let (mut lengths, mut values, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for window in windows {
        match window {
            Window::Values(window) => {
                lengths.push(window.seen());
                values.extend(window.values().map(|value| (!value.is_nan()).then_some(value)));
            }
            Window::Previous(previous) => seen.push(previous.seen() as u64),
        }
    }
    if seen.is_empty() {
        return lists(lengths, Arc::new(Float64Array::from(values)), true);
    }
    Ok(Arc::new(UInt64Array::from(seen)))
}

/// What one window keeps of the rows of its key.
pub(in crate::features::window) enum Kept {
    /// Of the last rows, NaN of those without a value.
    Values(VecDeque<f64>),
    /// How many of them it looks at.
    Seen(usize),
}

fn kept(column: &ArrayRef, row: usize) -> Kept {
    match column.data_type() {
        DataType::UInt64 => Kept::Seen(column.as_primitive::<UInt64Type>().value(row) as usize),
        _ => {
            let values = list(column, row);
            let values = values.as_primitive::<Float64Type>().iter();
            Kept::Values(values.map(|value| value.unwrap_or(f64::NAN)).collect())
        }
    }
}

fn key_rows(
    pieces: &WindowPieces,
    columns: &RecordBatch,
    row: usize,
) -> Result<KeyRows, StateError> {
    let times = numbers::<Int64Type>(columns.column(TIMES), row);
    let origins = list(columns.column(ORIGINS), row);
    let origins = origins.as_struct();
    let partitions = origins.column(0).as_primitive::<UInt32Type>().values().iter();
    let offsets = origins.column(1).as_primitive::<UInt64Type>().values().iter();
    let mut origins = partitions.zip(offsets).map(|(&p, &offset)| Place::Origin(p, offset));
    let ids = pieces.id_type.as_ref().map(|_| list(columns.column(REST), row));
    let mut rows = KeyRows::default();
    let places = ids.as_ref().map_or(origins.len(), |ids| ids.len());
    if places != 0 && places != times.len() {
        return Err(StateError::damaged("rows of a window lack their places"));
    }
    for (at, &time) in times.iter().enumerate() {
        let id = ids.as_ref().and_then(|ids| id_at(ids, at));
        rows.insert(at, time, id.or_else(|| origins.next()));
    }
    Ok(rows)
}

fn id_at(ids: &ArrayRef, at: usize) -> Option<Place<'_>> {
    if at >= ids.len() || ids.is_null(at) {
        return None;
    }
    Some(match ids.data_type() {
        DataType::Utf8 => Place::Text(ids.as_string::<i32>().value(at)),
        DataType::UInt64 => Place::Count(ids.as_primitive::<UInt64Type>().value(at)),
        _ => Place::Number(ids.as_primitive::<Int64Type>().value(at)),
    })
}

#[cfg(test)]
mod tests;
