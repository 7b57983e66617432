use std::collections::HashMap as Map;
use std::sync::Arc;

use arrow::array::BooleanArray;

use super::*;
use crate::features::window::Aggregate;
use crate::features::window::naive::{Random, Row, assert_same, naive};

/// Rows of several keys; a row without a key has none.
pub(super) type Keyed = (Option<i64>, Row);

pub(super) fn specs(history_ms: i64) -> Vec<WindowSpec> {
    let spec = |aggregate, length_ms| WindowSpec { aggregate, length_ms, history_ms };
    vec![
        spec(Aggregate::Count, 30),
        spec(Aggregate::Sum, 80),
        spec(Aggregate::Mean, 5),
        spec(Aggregate::Min, 40),
        spec(Aggregate::Max, 60),
        spec(Aggregate::Std, 70),
        spec(Aggregate::TimeSinceLast, 100),
    ]
}

fn key_column(rows: &[Keyed], as_text: bool) -> ArrayRef {
    let keys = rows.iter().map(|(key, _)| *key);
    if as_text {
        Arc::new(StringArray::from_iter(keys.map(|key| Some(format!("k{}", key?)))))
    } else {
        Arc::new(Int64Array::from_iter(keys))
    }
}

/// The first window counts rows, the others have the row's value.
pub(super) fn apply(
    windows: &mut KeyedWindows,
    rows: &[Keyed],
    as_text: bool,
) -> Vec<Vec<Option<f64>>> {
    let column: ArrayRef = Arc::new(Float64Array::from_iter(rows.iter().map(|(_, r)| r.value)));
    let mut values = vec![Some(&column); windows.specs.len()];
    values[0] = None;
    let times: ArrayRef =
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, row)| row.time)));
    let late: ArrayRef =
        Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, row)| Some(row.late))));
    let place = |row: usize| rows[row].1.place();
    let keys = key_column(rows, as_text);
    let results = windows.apply(&keys, &times, &late, place, &values).unwrap();
    (0..rows.len())
        .map(|row| results.iter().map(|r| r.is_valid(row).then(|| r.value(row))).collect())
        .collect()
}

/// Batches of rows and the watermark after each: rows that are not late at or after the watermark
/// before them, late ones up to the history behind it. Most keys are used for some time only.
pub(super) fn random_batches(seed: u64, history_ms: i64) -> Vec<(Vec<Keyed>, i64)> {
    let mut random = Random::new(seed);
    let mut watermark = 0;
    (0..150)
        .map(|batch| {
            let rows = (0..20)
                .map(|i| {
                    let key = match random.below(10) {
                        0 => None,
                        1 => Some(random.below(3) as i64),
                        _ => Some(100 + watermark / 50 + random.below(6) as i64),
                    };
                    let late = random.below(6) == 0;
                    let time = if late {
                        watermark - random.below(history_ms as u64 + 1) as i64
                    } else {
                        watermark + random.below(15) as i64
                    };
                    let place = random.below(1000) as i64 * 10_000 + batch * 20 + i;
                    (key, Row { time, place, late, value: random.value() })
                })
                .collect();
            watermark += [0, 1, 3, 40][random.below(4) as usize];
            (rows, watermark)
        })
        .collect()
}

#[test]
fn equals_the_definition_key_by_key() {
    for seed in 1..=6 {
        // Disorder up to the history.
        let history_ms = 200;
        let mut windows = KeyedWindows::new(specs(history_ms));
        let mut before: Map<i64, Vec<Row>> = Map::new();
        for (rows, watermark) in random_batches(seed, 100) {
            let found = apply(&mut windows, &rows, seed % 2 == 0);
            for ((key, row), found) in rows.iter().zip(found) {
                let Some(key) = key else {
                    assert_eq!(found, vec![None; 7], "seed {seed}, {row:?}");
                    continue;
                };
                let before = before.entry(*key).or_default();
                for (i, (spec, found)) in specs(history_ms).into_iter().zip(found).enumerate() {
                    let expected = if i == 0 {
                        let counted = |row: &Row| Row { value: Some(1.0), ..*row };
                        let before: Vec<Row> = before.iter().map(counted).collect();
                        naive(spec, &before, &counted(row))
                    } else {
                        naive(spec, before, row)
                    };
                    let context = format!("seed {seed}, key {key}, {row:?}");
                    assert_same(spec.aggregate, found, expected, &context);
                }
                before.push(*row);
            }
            windows.forget(watermark);
            let held: usize = windows.windows.iter().map(Window::held).sum();
            assert_eq!(windows.rows(), held, "seed {seed}");
        }
    }
}

#[test]
fn forgetting_changes_no_answer() {
    for seed in 1..=20 {
        let history_ms = [0, 10, 150][seed as usize % 3];
        let as_text = seed % 2 == 0;
        let mut forgetful = KeyedWindows::new(specs(history_ms));
        let mut faithful = KeyedWindows::new(specs(history_ms));
        let mut most_keys = 0;
        for (rows, watermark) in random_batches(seed, history_ms) {
            let found = apply(&mut forgetful, &rows, as_text);
            let expected = apply(&mut faithful, &rows, as_text);
            let bits = |answers: &[Option<f64>]| -> Vec<Option<u64>> {
                answers.iter().map(|answer| answer.map(f64::to_bits)).collect()
            };
            for (i, row) in rows.iter().enumerate() {
                let context = format!("seed {seed}, watermark {watermark}: {row:?}");
                assert_eq!(bits(&found[i]), bits(&expected[i]), "{context}");
            }
            forgetful.forget(watermark);
            most_keys = most_keys.max(forgetful.keys());
        }
        assert!(forgetful.keys() < faithful.keys() / 2, "seed {seed}: {}", forgetful.keys());
        assert!(forgetful.rows() < faithful.rows(), "seed {seed}");
        assert_eq!(forgetful.windows.len(), most_keys * 7, "seed {seed}: places are used again");
    }
}

#[test]
fn a_key_is_dead_once_no_window_can_be_read() {
    let mut windows = KeyedWindows::new(specs(10));
    let rows = [(Some(1), Row { time: 0, place: 0, late: false, value: Some(1.0) })];
    apply(&mut windows, &rows, false);
    assert_eq!((windows.keys(), windows.rows()), (1, 7));
    windows.forget(i64::MIN);
    assert_eq!(windows.keys(), 1);
    windows.forget(20);
    windows.forget(109);
    assert_eq!(windows.keys(), 1);
    windows.forget(110);
    assert_eq!(windows.keys(), 1, "the last look was a moment ago");
    windows.forget(109 + 110 / SWEEPS_PER_REACH);
    assert_eq!((windows.keys(), windows.rows()), (0, 0));
}

#[test]
fn a_late_row_makes_no_key() {
    let mut windows = KeyedWindows::new(specs(10));
    let rows = [(Some(1), Row { time: 0, place: 0, late: true, value: Some(2.0) })];
    let found = apply(&mut windows, &rows, true);
    let own = Some(2.0);
    assert_eq!(found, [[Some(1.0), own, own, own, own, None, None]]);
    assert_eq!((windows.keys(), windows.rows()), (0, 0));
}

#[test]
fn a_key_is_text_or_a_whole_number() {
    let keys: ArrayRef = Arc::new(Float64Array::from_iter_values([1.0]));
    let times: ArrayRef = Arc::new(Int64Array::from_iter_values([1]));
    let late: ArrayRef = Arc::new(BooleanArray::from(vec![false]));
    let mut windows = KeyedWindows::new(Vec::new());
    let refused = windows.apply(&keys, &times, &late, |_| Place::Number(0), &[]).unwrap_err();
    assert_eq!(refused.to_string(), "Schema error: a window cannot be keyed by Float64");
}

/// More keys than are looked at in one call.
#[test]
fn many_keys_are_looked_through_in_turns() {
    let mut windows = KeyedWindows::new(specs(10));
    let keys = KEYS_SWEPT_MAX as i64 + 10;
    let row = |place| Row { time: 0, place, late: false, value: Some(1.0) };
    let rows: Vec<Keyed> = (0..keys).map(|key| (Some(key), row(key))).collect();
    apply(&mut windows, &rows, true);
    windows.forget(109);
    windows.forget(109);
    assert_eq!(windows.keys(), keys as usize);
    windows.forget(200);
    assert_eq!(windows.keys(), 10);
    apply(&mut windows, &rows[..5], true);
    windows.forget(200);
    assert_eq!((windows.keys(), windows.rows()), (5, 35), "of keys that are new");
    assert_eq!(windows.windows.len(), keys as usize * 7);
}
