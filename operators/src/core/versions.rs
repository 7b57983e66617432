//! Which versions of which keys can still be looked up, and where their values are.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

use super::values::{NOWHERE, Place};
use crate::fine_time::FineTime;
use crate::key_map::KeyMap;

/// Up to so many places of values are let be.
const PLACES_KEPT: usize = 1_024;

/// A key of a table. Strings and integers never meet: a table has one type of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    Number(i64),
    Text(&'a str),
}

/// Which of two versions of equal `valid_from` counts, the greatest: by the table's own sequence, or
/// else, where rows come as they come, by the epoch; then by partition and position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence {
    /// With `low`, as [`sequences`](crate::as_of::sequence::sequences) has it.
    pub high: i64,
    pub low: u32,
    pub partition: u32,
    pub offset: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// To the precision that is stored.
    pub valid_from: FineTime,
    /// [`NOWHERE`] says that the key has no values from then on.
    pub values: Place,
    pub sequence: Sequence,
}

/// A version that is held, and its key.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    pub key: Key<'a>,
    pub version: Version,
}

/// The versions of the keys that one worker owns, as far as a lookup can still find them.
///
/// A version is superseded at time t if the key has a later one with `valid_from` ≤ t. Lookups from
/// time t on never find it, so it goes once they are all at or after t.
#[derive(Default)]
pub struct Versions {
    max_age_ms: Option<i64>,
    /// Where the versions of a key are in `kept`.
    text: KeyMap<Rc<str>, u32>,
    number: KeyMap<i64, u32>,
    kept: Vec<OfKey>,
    /// Places in `kept` of keys that are gone.
    vacant: Vec<u32>,
    /// When (ms) to look at a key again: a version of it supersedes another, or is too old. A look at a
    /// key that is new in its place finds nothing too early.
    due: BinaryHeap<Reverse<(i64, u32)>>,
    held: usize,
    places: Places,
}

/// The versions of one key.
struct OfKey {
    name: Name,
    /// In order of `valid_from`, one each.
    versions: VecDeque<Version>,
    /// Which one the last lookup found: times mostly go on.
    last_found: Cell<usize>,
}

enum Name {
    Number(i64),
    Text(Rc<str>),
}

/// Places of values, each taken by one version.
#[derive(Default)]
struct Places {
    taken: Place,
    free: Vec<Place>,
}

impl Places {
    fn take(&mut self) -> Place {
        self.free.pop().unwrap_or_else(|| {
            self.taken += 1;
            self.taken - 1
        })
    }

    fn give_back(&mut self, place: Place) {
        if place != NOWHERE {
            self.free.push(place);
        }
    }
}

impl Versions {
    /// `max_age_ms`: lookups do not find versions that are older.
    pub fn new(max_age_ms: Option<i64>) -> Self {
        Versions { max_age_ms, ..Versions::default() }
    }

    /// Versions held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// All versions, those of a key in order of `valid_from`.
    pub fn all(&self) -> impl Iterator<Item = Kept<'_>> {
        self.kept.iter().flat_map(|of_key| {
            let key = match &of_key.name {
                Name::Text(key) => Key::Text(key),
                Name::Number(key) => Key::Number(*key),
            };
            of_key.versions.iter().map(move |&version| Kept { key, version })
        })
    }

    /// Adds a version; returns where its values belong. Nowhere if it deletes its key, or does not
    /// count as the key has one of the same `valid_from` and a greater sequence.
    pub fn insert(
        &mut self,
        key: Key,
        valid_from: FineTime,
        sequence: Sequence,
        deletes: bool,
    ) -> Place {
        let at = self.find_or_insert(key);
        let Versions { kept, places, due, held, max_age_ms, .. } = self;
        let versions = &mut kept[at as usize].versions;
        let is_last = versions.back().is_none_or(|last| last.valid_from < valid_from);
        let position = if is_last {
            versions.len()
        } else {
            versions.partition_point(|version| version.valid_from < valid_from)
        };
        if let Some(present) = versions.get_mut(position).filter(|v| v.valid_from == valid_from) {
            if present.sequence >= sequence {
                return NOWHERE;
            }
            places.give_back(present.values);
            let values = if deletes { NOWHERE } else { places.take() };
            // What is held follows from the versions alone, not from when they were looked at.
            if deletes {
                due.push(Reverse((valid_from.ms_up(), at)));
            }
            *present = Version { valid_from, values, sequence };
            return values;
        }
        let values = if deletes { NOWHERE } else { places.take() };
        versions.insert(position, Version { valid_from, values, sequence });
        *held += 1;
        due.push(Reverse((valid_from.ms_up(), at)));
        if let Some(max_age) = *max_age_ms {
            let too_old = valid_from.ms.saturating_add(max_age).saturating_add(1);
            due.push(Reverse((too_old, at)));
        }
        values
    }

    /// Lets go of what no lookup at `horizon` (ms) or later can find. The first such lookup is that at
    /// the very beginning of the ms. Calls `gone` with the place of each one's values.
    pub fn forget(&mut self, horizon: i64, mut gone: impl FnMut(Place)) {
        let first = FineTime::of_ms(horizon);
        while self.due.peek().is_some_and(|Reverse((time, _))| *time <= horizon) {
            let Some(Reverse((_, at))) = self.due.pop() else { return };
            let OfKey { versions, .. } = &mut self.kept[at as usize];
            let begun = versions.partition_point(|version| version.valid_from <= first);
            let current = begun.checked_sub(1).map(|at| versions[at].valid_from);
            let before = versions.len();
            while let Some(oldest) = versions.front() {
                let superseded = current.is_some_and(|current| oldest.valid_from < current);
                let deleted = oldest.valid_from <= first && oldest.values == NOWHERE;
                let too_old = self
                    .max_age_ms
                    .is_some_and(|max_age| oldest.valid_from.ms.saturating_add(max_age) < horizon);
                if !(superseded || deleted || too_old) {
                    break;
                }
                if oldest.values != NOWHERE {
                    self.places.give_back(oldest.values);
                    gone(oldest.values);
                }
                versions.pop_front();
            }
            self.held -= before - versions.len();
            if before > 0 && versions.is_empty() {
                self.remove(at);
            }
        }
    }

    /// Where most places are free, gives the values the first ones: returns which ones they had, in the
    /// order of those that they have now. Amortised constant.
    pub fn close_ranks(&mut self) -> Option<Vec<Place>> {
        let taken = self.places.taken as usize;
        if taken <= PLACES_KEPT || self.places.free.len() <= taken / 4 * 3 {
            return None;
        }
        let mut had = Vec::with_capacity(taken - self.places.free.len());
        for version in self.kept.iter_mut().flat_map(|of_key| &mut of_key.versions) {
            if version.values != NOWHERE {
                had.push(version.values);
                version.values = had.len() as Place - 1;
            }
        }
        self.places = Places { taken: had.len() as Place, free: Vec::new() };
        Some(had)
    }

    /// The version of a key that is valid at `time`, and that its lookups find.
    pub fn valid_at(&self, key: Key, time: FineTime) -> Option<Version> {
        let at = match key {
            Key::Text(key) => self.text.get(key)?,
            Key::Number(key) => self.number.get(&key)?,
        };
        let version = self.kept[*at as usize].valid_at(time)?;
        let too_old = self.max_age_ms.is_some_and(|age| time.minus_ms(age) > version.valid_from);
        (version.values != NOWHERE && !too_old).then_some(version)
    }

    fn find_or_insert(&mut self, key: Key) -> u32 {
        let known = match key {
            Key::Text(key) => self.text.get(key),
            Key::Number(key) => self.number.get(&key),
        };
        if let Some(&known) = known {
            return known;
        }
        let name = match key {
            Key::Text(key) => Name::Text(Rc::from(key)),
            Key::Number(key) => Name::Number(key),
        };
        let at = self.vacant.pop().unwrap_or(self.kept.len() as u32);
        match &name {
            Name::Text(key) => self.text.insert(key.clone(), at),
            Name::Number(key) => self.number.insert(*key, at),
        };
        let of_key = OfKey { name, versions: VecDeque::new(), last_found: Cell::new(0) };
        match self.kept.get_mut(at as usize) {
            Some(vacant) => *vacant = of_key,
            None => self.kept.push(of_key),
        }
        at
    }

    /// Forgets a key that has no versions.
    fn remove(&mut self, at: u32) {
        let gone = &mut self.kept[at as usize];
        gone.versions = VecDeque::new();
        match std::mem::replace(&mut gone.name, Name::Number(0)) {
            Name::Text(key) => self.text.remove(&key),
            Name::Number(key) => self.number.remove(&key),
        };
        self.vacant.push(at);
    }
}

impl OfKey {
    /// The last version that has begun at `time`.
    fn valid_at(&self, time: FineTime) -> Option<Version> {
        let has_begun = |at: usize| self.versions.get(at).is_some_and(|v| v.valid_from <= time);
        let last = self.last_found.get();
        let at = [last, last + 1].into_iter().find(|&at| has_begun(at) && !has_begun(at + 1));
        let at = match at {
            Some(at) => at,
            None => self.versions.partition_point(|v| v.valid_from <= time).checked_sub(1)?,
        };
        self.last_found.set(at);
        self.versions.get(at).copied()
    }
}
