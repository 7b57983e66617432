//! Windows over rows that come twice, rows of one time, and rows without id, of one key and of very
//! many, on several workers, against a naive evaluation.

use std::collections::BTreeMap;

use driftline_operators::admit::LatePolicy;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::window::{Aggregate, WindowSpec};

use crate::input::{Event, Input, Shape};
use crate::job::required;
use crate::record::{Origin, Recorded, last_numbers};
use crate::seeds::seeds;
use crate::support::{Setting, layout};
use crate::ways::{run_features, ways};

const LENGTH_MS: i64 = 25;
const LATENESS_MS: i64 = 20;
const FEATURES: [(Aggregate, bool); 4] = [
    (Aggregate::Count, false),
    (Aggregate::Count, true),
    (Aggregate::Sum, true),
    (Aggregate::TimeSinceLast, false),
];

fn declared() -> Vec<FeatureDeclaration> {
    let declare = |(at, (aggregate, has_value)): (usize, (Aggregate, bool))| {
        let spec = WindowSpec { aggregate, length_ms: LENGTH_MS, history_ms: 1_000_000 };
        let value = has_value.then(|| "value".to_owned());
        let window = Definition::Window { key: "key".to_owned(), value, spec, keys_max: None };
        FeatureDeclaration { allow_null: true, ..required(&format!("feature_{at}"), window) }
    };
    FEATURES.into_iter().enumerate().map(declare).collect()
}

type Found = BTreeMap<Origin, [Option<f64>; FEATURES.len()]>;

/// A row with a key.
struct Keyed<'a> {
    event: &'a Event,
    /// Rows of a key are in order of it.
    place: (i64, Option<i64>, Origin),
    late: bool,
}

/// Rows with a time, by key: those of equal time are in order of id, and of equal id as they are in
/// their files. Rows without id come first.
fn by_key(input: &Input) -> BTreeMap<Option<&str>, Vec<Keyed<'_>>> {
    let mut keys: BTreeMap<Option<&str>, Vec<Keyed>> = BTreeMap::new();
    for (partition, records) in (0..).zip(&input.partitions) {
        let mut highest: Option<i64> = None;
        for (offset, record) in (0..).zip(records) {
            let Some((event, time)) = record.as_ref().and_then(|e| Some((e, e.time?))) else {
                continue;
            };
            let late = highest.is_some_and(|highest| time < highest - LATENESS_MS);
            highest = highest.max(Some(time));
            let place = (time, event.id, (partition, offset));
            keys.entry(event.key.as_deref()).or_default().push(Keyed { event, place, late });
        }
    }
    keys.values_mut().for_each(|rows| rows.sort_by_key(|row| row.place));
    keys
}

/// The definition: a row's window has the rows of its key of the last `LENGTH_MS` that come no later
/// than itself, but for late ones; a row without key has no window.
fn naive(input: &Input) -> Found {
    let mut found = Found::new();
    for (key, rows) in by_key(input) {
        for Keyed { event, place, .. } in &rows {
            let inside = |other: &&Keyed| {
                let is_itself = other.place == *place;
                (is_itself || !other.late)
                    && other.place <= *place
                    && other.place.0 > place.0 - LENGTH_MS
            };
            let window: Vec<&Keyed> = rows.iter().filter(inside).collect();
            let values: Vec<f64> = window.iter().filter_map(|row| row.event.value).collect();
            let before = window.iter().rfind(|other| other.place < *place);
            let sum = (!values.is_empty()).then(|| values.iter().sum());
            let features = [
                Some(window.len() as f64),
                Some(values.len() as f64),
                sum,
                before.map(|before| (place.0 - before.place.0) as f64),
            ];
            debug_assert!(event.time == Some(place.0));
            let of_key = |value: Option<f64>| key.and(value);
            found.insert(place.2, features.map(of_key));
        }
    }
    found
}

fn check(input: &Input, late: LatePolicy, name: &str) {
    let setting = Setting {
        partitions: Input::PARTITIONS,
        allowed_lateness_ms: LATENESS_MS,
        late,
        ..Setting::new(declared)
    };
    let mut expected = naive(input);
    if late == LatePolicy::Skip {
        let rows = by_key(input).into_values().flatten();
        for row in rows.filter(|row| row.late) {
            expected.remove(&row.place.2);
        }
    }
    let mut due = setting.released(&input.chunks, &Input::UNOPENED);
    due.retain(|origin, _| expected.contains_key(origin));
    for way in ways() {
        let name = format!("{name}, {way:?}");
        let (recorded, chunks) = (Recorded::default(), input.chunks.clone());
        run_features(way, &setting, &recorded, &name, move |worker, workers| {
            Input::source(&chunks, worker, workers)
        });
        assert_eq!(setting.failure.message(), None, "{name}");
        recorded.assert_epochs(&due, &name);
        recorded.assert_in_order(&layout(), &name);
        let found: Found = last_numbers(&recorded);
        for (origin, expected) in &expected {
            assert_eq!(&found[origin], expected, "{name}: {origin:?}");
        }
    }
}

#[test]
fn every_row_has_its_place_among_its_likes() {
    for seed in seeds(1..=8) {
        for late in [LatePolicy::Score, LatePolicy::Skip] {
            let keys = [1, 3, 40][seed as usize % 3];
            let input = Input::random(seed, Shape { keys, ..Shape::default() });
            check(&input, late, &format!("seed {seed}, {late:?}, {keys} keys"));
        }
    }
}

#[test]
fn very_many_keys_have_windows_of_their_own() {
    for seed in seeds(11..=11) {
        let shape = Shape { rows: 20_000, keys: 9_000, chunk_rows: 3_000, disorder: 120 };
        let input = Input::random(seed, shape);
        check(&input, LatePolicy::Score, &format!("seed {seed}"));
    }
}
