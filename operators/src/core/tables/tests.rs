use std::collections::BTreeSet;

use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{Field, Float64Type};

use super::*;
use crate::as_of::table::pack;
use crate::features::window::naive::Random;

/// A row of a table, as it came.
#[derive(Clone, Debug)]
pub(super) struct Came {
    pub key: Option<u64>,
    valid_from: (i64, u32),
    /// Sequence, its low part, partition and offset.
    sequence: (i64, u32, u32, u64),
    deleted: bool,
    number: Option<f64>,
    text: Option<String>,
}

/// A row that looks up, and what of one that came it is to find.
#[derive(Debug)]
struct Asks {
    key: Option<u64>,
    time: (i64, u32),
}

pub(super) fn table(key_type: &DataType, max_age_ms: Option<i64>, fine: bool) -> AsOfTable {
    let values = vec![
        Field::new("number", DataType::Float64, true),
        Field::new("unread", DataType::Boolean, true),
        Field::new("text", DataType::Utf8, true),
    ];
    let (name, key_type) = ("t".to_owned(), key_type.clone());
    AsOfTable { name, key_type, values, max_age_ms, eager: false, fine }
}

/// Keys with long equal beginnings, or at both ends of their range.
pub(super) fn key_column(keys: impl Iterator<Item = Option<u64>>, key_type: &DataType) -> ArrayRef {
    match key_type {
        DataType::Utf8 => {
            let keys = keys.map(|key| key.map(|key| format!("an airport of number {key}")));
            Arc::new(keys.collect::<StringArray>())
        }
        DataType::UInt64 => {
            Arc::new(keys.map(|key| key.map(|key| u64::MAX - key)).collect::<UInt64Array>())
        }
        _ => Arc::new(keys.map(|key| key.map(|key| key as i64 - 2)).collect::<Int64Array>()),
    }
}

pub(super) fn batch(table: &AsOfTable, rows: &[Came]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        key_column(rows.iter().map(|row| row.key), &table.key_type),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.valid_from.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.sequence.0))),
        Arc::new(rows.iter().map(|row| Some(row.deleted)).collect::<BooleanArray>()),
        Arc::new(UInt32Array::from_iter_values(rows.iter().map(|row| row.sequence.2))),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.sequence.3))),
        Arc::new(rows.iter().map(|row| row.number).collect::<Float64Array>()),
        Arc::new(BooleanArray::from(vec![false; rows.len()])),
        Arc::new(rows.iter().map(|row| row.text.clone()).collect::<StringArray>()),
    ];
    let fine = rows.iter().map(|row| pack(row.valid_from.1, row.sequence.1));
    columns.extend(table.fine.then(|| Arc::new(UInt64Array::from_iter_values(fine)) as ArrayRef));
    RecordBatch::try_new(table.schema(), columns).unwrap()
}

/// The row that a lookup finds: of those begun the last, of equal ones that of the greatest sequence.
fn naive<'a>(came: &'a [Came], asks: &Asks, max_age_ms: Option<i64>) -> Option<&'a Came> {
    let of_key = came.iter().filter(|row| row.key.is_some() && row.key == asks.key);
    let begun = of_key.filter(|row| row.valid_from <= asks.time);
    let last = begun.max_by_key(|row| (row.valid_from, row.sequence))?;
    let (ms, ns) = last.valid_from;
    let too_old = max_age_ms.is_some_and(|age| (ms + age, ns) < asks.time);
    (!last.deleted && !too_old).then_some(last)
}

/// The versions that are held, as key and time.
type Held = BTreeSet<(u64, (i64, u32))>;

/// What is held once nothing before `horizon` is looked up: not what a later one has superseded by
/// then, nor what is too old.
fn without_gone(held: &Held, horizon: i64, max_age_ms: Option<i64>) -> Held {
    let is_kept = |&&(key, valid_from): &&(u64, (i64, u32))| {
        let follows = |&(other, from): &(u64, (i64, u32))| {
            other == key && from > valid_from && from <= (horizon, 0)
        };
        let too_old = max_age_ms.is_some_and(|age| valid_from.0 + age < horizon);
        !too_old && !held.iter().any(follows)
    };
    held.iter().filter(is_kept).copied().collect()
}

/// Rows of an epoch, from `from` on, some of them at times of others.
pub(super) fn random_rows(
    random: &mut Random,
    epoch: u64,
    from: i64,
    deletes: bool,
    fine: bool,
) -> Vec<Came> {
    let rows = random.below(12);
    let row = |offset: u64| {
        let ns = if fine { random.below(3) as u32 * 499_999 } else { 0 };
        let low = if fine { random.below(2) as u32 } else { 0 };
        Came {
            key: (random.below(9) > 0).then(|| random.below(4)),
            valid_from: (from + random.below(20) as i64, ns),
            sequence: (random.below(3) as i64, low, random.below(2) as u32, epoch * 12 + offset),
            deleted: deletes && random.below(4) == 0,
            number: random.value(),
            text: (random.below(4) > 0).then(|| format!("t{}", random.below(50))),
        }
    };
    (0..rows).map(row).collect()
}

#[track_caller]
fn assert_found(
    owner: &TableOwner,
    came: &[Came],
    asked: &[Asks],
    table: &AsOfTable,
    context: &str,
) {
    let keys = key_column(asked.iter().map(|asks| asks.key), &table.key_type);
    let times: ArrayRef = Arc::new(Int64Array::from_iter_values(asked.iter().map(|a| a.time.0)));
    let ns: ArrayRef = Arc::new(UInt32Array::from_iter_values(asked.iter().map(|a| a.time.1)));
    let lookups = AsOfLookups { table: 0, columns: vec![2, 0], age: true };
    let ns = table.fine.then_some(&ns);
    let answers = owner.answer(&lookups, &keys, &times, ns).unwrap();
    assert_eq!(answers.len(), 3);
    let texts = answers[0].as_string::<i32>();
    let (numbers, ages) =
        (answers[1].as_primitive::<Float64Type>(), answers[2].as_primitive::<Float64Type>());
    for (row, asks) in asked.iter().enumerate() {
        let wanted = naive(came, asks, table.max_age_ms);
        let context = format!("{context}, {asks:?}: wanted {wanted:?}");
        let text = texts.is_valid(row).then(|| texts.value(row));
        assert_eq!(text, wanted.and_then(|row| row.text.as_deref()), "{context}");
        let bits = numbers.is_valid(row).then(|| numbers.value(row).to_bits());
        assert_eq!(bits, wanted.and_then(|row| row.number).map(f64::to_bits), "{context}");
        let age = wanted.map(|row| {
            let (ms, ns) = row.valid_from;
            let ns = i64::from(asks.time.1) - i64::from(ns);
            ((asks.time.0 - ms) * 1_000_000 + ns) as f64 / 1e6
        });
        assert_eq!(ages.is_valid(row).then(|| ages.value(row)), age, "{context}");
    }
}

#[test]
fn lookups_find_what_a_look_at_all_rows_does() {
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let key_type =
            [DataType::Utf8, DataType::Int64, DataType::UInt64][seed as usize % 3].clone();
        let (fine, deletes) = (seed % 2 == 0, seed % 5 < 3);
        let max_age_ms = [None, Some(0), Some(25)][seed as usize % 7 % 3];
        let table = table(&key_type, max_age_ms, fine);
        let retention =
            Retention { history_ms: [0, 10][seed as usize % 4 / 2], epochs: seed as usize % 3 };
        let mut owner = TableOwner::new(&table, retention).unwrap();
        let mut came: Vec<Came> = Vec::new();
        let mut held = Held::new();
        let mut watermarks = vec![i64::MIN; retention.epochs + 1];
        let mut watermark = 0;
        for epoch in 0..60 {
            let horizon = watermarks[epoch as usize].saturating_sub(retention.history_ms);
            held = without_gone(&held, horizon, max_age_ms);
            // What comes behind the time of a deletion that is gone is not seen to be deleted.
            let from = if deletes { watermark } else { watermark - 15 };
            let rows = random_rows(&mut random, epoch, from, deletes, fine);
            watermark += [0, 1, 7, 30][random.below(4) as usize];
            let cut = random.below(rows.len() as u64 + 1) as usize;
            let (first, second) = rows.split_at(cut);
            owner.complete(&[batch(&table, first), batch(&table, second)], watermark).unwrap();
            held.extend(rows.iter().filter_map(|row| Some((row.key?, row.valid_from))));
            came.extend(rows);
            watermarks.push(watermark);
            let lowest = horizon.max(-30);
            let asks = |ms| {
                let ns = if fine { random.below(3) as u32 * 499_999 } else { 0 };
                Asks { key: (random.below(9) > 0).then(|| random.below(5)), time: (ms, ns) }
            };
            let mut asked: Vec<Asks> = (lowest..watermark + 25).map(asks).collect();
            if epoch % 2 == 0 {
                random.shuffle(&mut asked);
            }
            let context = format!("seed {seed}, epoch {epoch}");
            assert_found(&owner, &came, &asked, &table, &context);
            for asks in asked.chunks(1).take(3) {
                assert_found(&owner, &came, asks, &table, &context);
            }
            // A deletion goes when its key is next looked at.
            if !deletes {
                assert_eq!(owner.held(), held.len(), "{context}");
            }
        }
    }
}

#[test]
fn a_key_of_another_type_is_refused() {
    let table = table(&DataType::Utf8, None, false);
    let owner = TableOwner::new(&table, Retention { history_ms: 0, epochs: 0 }).unwrap();
    let keys: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let times: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let lookups = AsOfLookups { table: 0, columns: vec![0], age: false };
    let refused = owner.answer(&lookups, &keys, &times, None).unwrap_err();
    assert_eq!(refused.to_string(), "Schema error: a table cannot be keyed by Float64");
}

#[test]
fn values_that_stay_are_found_when_most_others_are_gone() {
    let table = table(&DataType::Int64, None, false);
    let mut owner = TableOwner::new(&table, Retention { history_ms: 0, epochs: 0 }).unwrap();
    let row = |at: i64| Came {
        key: Some(at as u64 % 7),
        valid_from: (at, 0),
        sequence: (0, 0, 0, at as u64),
        deleted: at % 7 == 3,
        number: Some(at as f64),
        text: Some(format!("t{at}")),
    };
    let mut came: Vec<Came> = (0..20_000).map(row).collect();
    owner.complete(&[batch(&table, &came)], 19_000).unwrap();
    assert_eq!(owner.held(), 20_000);
    for (from, horizon) in [(20_000, 19_000), (21_000, 20_040)] {
        let rows: Vec<Came> = (from..from + 50).map(row).collect();
        owner.complete(&[batch(&table, &rows)], from + 40).unwrap();
        came.extend(rows);
        let asks = |ms| Asks { key: Some(ms as u64 * 3 % 8), time: (ms, 0) };
        let asked: Vec<Asks> = (horizon..from + 60).map(asks).collect();
        assert_found(&owner, &came, &asked, &table, "after most are gone");
    }
    assert!(owner.held() < 110, "{}", owner.held());
}
