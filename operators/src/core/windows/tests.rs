use std::collections::BTreeMap;

use arrow::array::{BooleanArray, Float64Array, UInt32Array};
use arrow::datatypes::Float64Type;

use super::*;
use crate::features::functions::Functions;
use crate::features::sql::Expression;
use crate::features::window::naive::{Random, Row, assert_same, naive};
use crate::features::window::{Aggregate, WindowSpec};

const PARTITIONS: u64 = 2;

/// A row as it comes: what tells it apart from others of its time is its id, or else its origin.
#[derive(Clone, Debug)]
struct Asks {
    key: Option<u64>,
    time: i64,
    late: bool,
    id: Option<u64>,
    partition: u64,
    offset: u64,
    value: Option<f64>,
}

/// Texts that share their beginnings, some of which are the beginning of another.
fn text_of(id: u64) -> String {
    let long = "UA-1545-2013-01-01T10:00Z";
    long[..5 + id as usize % 40 / 2].to_owned() + if id.is_multiple_of(2) { "" } else { "+" }
}

/// Keys and ids as columns of a type.
fn column(numbers: impl Iterator<Item = Option<u64>>, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::Utf8 => Arc::new(numbers.map(|n| n.map(text_of)).collect::<StringArray>()),
        DataType::UInt64 => {
            Arc::new(numbers.map(|n| n.map(|n| u64::MAX - 50 + n)).collect::<UInt64Array>())
        }
        _ => Arc::new(numbers.map(|n| n.map(|n| n as i64 - 20)).collect::<Int64Array>()),
    }
}

/// Ids in their order; those of one place are equal.
type Rank = (Option<String>, Option<u64>, (u64, u64));

fn rank(asks: &Asks, id_type: Option<&DataType>) -> Rank {
    match (id_type, asks.id) {
        (Some(DataType::Utf8), Some(id)) => (Some(text_of(id)), None, (0, 0)),
        (Some(_), Some(id)) => (None, Some(id), (0, 0)),
        _ => (None, None, (asks.partition, asks.offset)),
    }
}

fn windows(history_ms: i64) -> Vec<KeyedWindow> {
    let value = || {
        let columns = [("value".to_owned(), DataType::Float64)];
        Expression::compile("value", &columns, &Functions::default()).unwrap()
    };
    let window = |aggregate, length_ms, value| KeyedWindow {
        feature: "f".to_owned(),
        value,
        value_sql: None,
        spec: WindowSpec { aggregate, length_ms, history_ms },
        keys_max: None,
    };
    vec![
        window(Aggregate::Count, 30, None),
        window(Aggregate::Sum, 60, Some(value())),
        window(Aggregate::TimeSinceLast, 100, None),
        window(Aggregate::Max, 25, Some(value())),
        window(Aggregate::Std, 40, Some(value())),
    ]
}

fn answer(
    owner: &mut WindowOwner,
    asked: &[Asks],
    key_type: &DataType,
    id_type: Option<&DataType>,
) -> Vec<Vec<Option<f64>>> {
    let rows = || asked.iter();
    let value: ArrayRef = Arc::new(rows().map(|asks| asks.value).collect::<Float64Array>());
    let ids = id_type.map(|id_type| column(rows().map(|asks| asks.id), id_type));
    let asked = WindowRows {
        keys: &column(rows().map(|asks| asks.key), key_type),
        times: &(Arc::new(Int64Array::from_iter_values(rows().map(|asks| asks.time))) as ArrayRef),
        late: &(Arc::new(rows().map(|asks| Some(asks.late)).collect::<BooleanArray>()) as ArrayRef),
        ids: ids.as_ref(),
        partitions: &(Arc::new(UInt32Array::from_iter_values(
            rows().map(|asks| asks.partition as u32),
        )) as ArrayRef),
        offsets: &(Arc::new(UInt64Array::from_iter_values(rows().map(|asks| asks.offset)))
            as ArrayRef),
        // Windows that are not there take none.
        values: &[value.clone(), value.clone(), value],
    };
    let found = owner.answer(&asked).unwrap();
    let found: Vec<&Float64Array> = found.iter().map(|f| f.as_primitive::<Float64Type>()).collect();
    let of_row = |row: usize| found.iter().map(|f| f.is_valid(row).then(|| f.value(row))).collect();
    (0..asked.keys.len()).map(of_row).collect()
}

/// Rows, many at the same time. Those that are not late are at or after the watermark, late ones so far
/// behind it that they are within the history of all others.
fn random_rows(random: &mut Random, watermark: i64, history_ms: i64, first: u64) -> Vec<Asks> {
    let row = |offset: u64| {
        let late = history_ms > 0 && random.below(5) == 0;
        let time = match late {
            true => watermark - random.below(history_ms as u64 - 7) as i64,
            false => watermark + random.below(8) as i64,
        };
        Asks {
            key: (random.below(9) > 0).then(|| random.below(3) + watermark as u64 / 100 * 3),
            time,
            late,
            id: (random.below(5) > 0).then(|| random.below(40)),
            partition: offset % PARTITIONS,
            offset: first + offset / PARTITIONS,
            value: random.value(),
        }
    };
    (0..20).map(row).collect()
}

/// The rows of a run in the epochs in which they come, each in order, and the watermark after each.
fn epochs(seed: u64, history_ms: i64, id_type: Option<&DataType>) -> Vec<(Vec<Asks>, i64)> {
    let mut random = Random::new(seed);
    let mut watermark = 0;
    let order = |asks: &Asks| (asks.time, rank(asks, id_type), (asks.partition, asks.offset));
    let mut epochs: Vec<(Vec<Asks>, i64)> = (0..60)
        .map(|epoch| {
            let mut rows = random_rows(&mut random, watermark, history_ms, epoch * 20);
            rows.sort_by_key(order);
            watermark += [0, 1, 5, 30][random.below(4) as usize];
            (rows, watermark)
        })
        .collect();
    if history_ms == 0 {
        // All are in order, and so cut that a time is in several epochs.
        let mut rows: Vec<Asks> = epochs.into_iter().flat_map(|(rows, _)| rows).collect();
        rows.sort_by_key(order);
        epochs = rows.chunks(7).map(|rows| (rows.to_vec(), rows[rows.len() - 1].time)).collect();
    }
    epochs
}

#[test]
fn answers_are_those_of_a_look_at_all_rows_before() {
    let types = [DataType::Utf8, DataType::Int64, DataType::UInt64];
    for seed in 1..=48 {
        let key_type = &types[seed as usize % 3];
        let id_type = types.get(seed as usize / 3 % 4);
        let history_ms = [0, 100, 0, 15][seed as usize % 4];
        let epochs = epochs(seed, history_ms, id_type);
        let mut ranks: Vec<Rank> =
            epochs.iter().flat_map(|(rows, _)| rows).map(|asks| rank(asks, id_type)).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let place = |asks: &Asks| ranks.binary_search(&rank(asks, id_type)).unwrap() as i64;
        let windows = windows(history_ms);
        // Without history all rows are in order.
        let in_order = history_ms == 0 && seed % 8 < 4;
        let mut owner = WindowOwner::new(&windows).with_rows_in_order(in_order);
        let mut before: BTreeMap<u64, Vec<Row>> = BTreeMap::new();
        let mut most_keys = 0;
        for (rows, watermark) in epochs {
            let found = answer(&mut owner, &rows, key_type, id_type);
            for (asks, found) in rows.iter().zip(found) {
                let Some(key) = asks.key else {
                    assert_eq!(found, [None; 5], "seed {seed}, {asks:?}");
                    continue;
                };
                let key = if *key_type == DataType::Utf8 { key % 40 } else { key };
                let before = before.entry(key).or_default();
                let Asks { time, late, value, .. } = *asks;
                let row = Row { time, place: place(asks), late, value };
                for (window, found) in windows.iter().zip(found) {
                    let has_value = window.value.is_some();
                    let counted =
                        |row: &Row| if has_value { *row } else { Row { value: Some(1.0), ..*row } };
                    let rows: Vec<Row> = before.iter().map(counted).collect();
                    let expected = naive(window.spec, &rows, &counted(&row));
                    let context = format!("seed {seed}, {asks:?}");
                    assert_same(window.spec.aggregate, found, expected, &context);
                }
                before.push(row);
            }
            most_keys = most_keys.max(owner.keys());
            owner.forget(watermark);
        }
        assert!(owner.keys() <= most_keys && most_keys < before.len(), "seed {seed}");
        assert!(owner.rows() >= owner.keys() && owner.forgotten() == 0);
    }
}

/// No row is late, and yet those of the second partition come behind all of the first.
#[test]
fn rows_of_a_partition_that_lags_stand_among_the_others_by_their_ids() {
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let windows: Vec<KeyedWindow> = windows(0).into_iter().take(2).collect();
        let mut owner = WindowOwner::new(&windows);
        let mut before: Vec<Row> = Vec::new();
        for partition in 0..2 {
            let row = |offset: u64| Asks {
                key: Some(1),
                time: random.below(25) as i64,
                late: false,
                id: Some(random.below(40)),
                partition,
                offset,
                value: random.value(),
            };
            let mut rows: Vec<Asks> = (0..60).map(row).collect();
            let id_type = Some(&DataType::Utf8);
            rows.sort_by_key(|asks| (asks.time, rank(asks, id_type)));
            let found = answer(&mut owner, &rows, &DataType::Int64, id_type);
            let mut ids: Vec<String> = (0..40).map(text_of).collect();
            ids.sort_unstable();
            for (asks, found) in rows.iter().zip(found) {
                let place = asks.id.map(|id| ids.binary_search(&text_of(id)).unwrap() as i64);
                let place = place.unwrap();
                let row = Row { time: asks.time, place, late: false, value: asks.value };
                let sum = naive(windows[1].spec, &before, &row);
                let context = format!("seed {seed}, {asks:?}");
                assert_same(Aggregate::Sum, found[1], sum, &context);
                before.push(row);
            }
        }
    }
}

#[test]
fn a_bound_on_keys_counts_those_that_are_forgotten() {
    let mut windows = windows(0);
    windows.iter_mut().for_each(|window| {
        window.keys_max = Some(1);
        window.spec.length_ms = WindowSpec::EVER;
    });
    let mut owner = WindowOwner::new(&windows);
    let row = |offset| Asks {
        key: Some(offset),
        time: 1,
        late: false,
        id: None,
        partition: 0,
        offset,
        value: None,
    };
    let rows: Vec<Asks> = (0..2_000).map(row).collect();
    answer(&mut owner, &rows, &DataType::Int64, None);
    assert!(owner.keys() <= crate::key_group::KEY_GROUPS as usize, "one a key group");
    assert_eq!(owner.keys() as u64 + owner.forgotten(), 2_000);
}

/// Whatever keys and ids are, and whether a row has one: an owner that moves answers as one that stays.
#[test]
fn owners_of_keys_of_every_type_go_on_where_they_were() {
    let types = [DataType::Utf8, DataType::Int64, DataType::UInt64];
    let bits = |found: Vec<Vec<Option<f64>>>| -> Vec<Option<u64>> {
        found.into_iter().flatten().map(|answer| answer.map(f64::to_bits)).collect()
    };
    for seed in 1..=48 {
        let key_type = &types[seed as usize % 3];
        let id_type = types.get(seed as usize / 3 % 4);
        let history_ms = [0, 100, 0, 15][seed as usize % 4];
        let windows = windows(history_ms);
        let specs: Vec<WindowSpec> = windows.iter().map(|window| window.spec).collect();
        let pieces = WindowPieces::new("windows_0".to_owned(), key_type, id_type, &specs, &[]);
        let in_order = history_ms == 0 && seed % 8 < 4;
        let make = || WindowOwner::new(&windows).with_rows_in_order(in_order);
        let (mut stayed, mut moved) = (make(), make());
        let epochs = epochs(seed, history_ms, id_type).into_iter().enumerate();
        for (epoch, (rows, watermark)) in epochs {
            let wanted = bits(answer(&mut stayed, &rows, key_type, id_type));
            let found = bits(answer(&mut moved, &rows, key_type, id_type));
            assert_eq!(found, wanted, "seed {seed}, epoch {epoch}");
            stayed.forget(watermark);
            moved.forget(watermark);
            if epoch % 3 == 1 {
                let left = moved.export(&pieces, 0..crate::key_group::KEY_GROUPS).unwrap();
                moved = make();
                for piece in left {
                    let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
                    moved.import(&pieces, &piece).unwrap();
                }
            }
        }
    }
}
