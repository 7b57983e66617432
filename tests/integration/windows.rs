//! Keyed windows on several workers, against a naive evaluation.

use std::collections::BTreeMap;

use driftline_operators::accounting::Counters;
use driftline_operators::admit::LatePolicy;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::window::{Aggregate, WindowSpec};

use crate::record::Recorded;
use crate::seeds::seeds;
use crate::support::{Random, Row, Scripted, Setting, chunks, last_columns, layout};
use crate::ways::{Way, run_features, ways};

const LENGTH_MS: i64 = 50;
const LATENESS_MS: i64 = 30;

/// What a window is over; the first is a column, the second is one of another type, the third an
/// expression: three keys, three side trips.
const BY_KEY: &str = "key";
const BY_PARITY: &str = "id % 2";
const BY_TRIPLE: &str = "concat('t', id % 3)";

/// Looks back for ever, as if there were no length.
const SINCE_EVER: &str = "since_ever";

/// The features: name, aggregate, key, and whether it has a value.
const FEATURES: [(&str, Aggregate, &str, bool); 10] = [
    ("sum", Aggregate::Sum, BY_KEY, true),
    ("mean", Aggregate::Mean, BY_KEY, true),
    ("values", Aggregate::Count, BY_PARITY, true),
    ("rows", Aggregate::Count, BY_PARITY, false),
    ("min", Aggregate::Min, BY_TRIPLE, true),
    ("max", Aggregate::Max, BY_TRIPLE, true),
    ("std", Aggregate::Std, BY_KEY, true),
    ("since_last", Aggregate::TimeSinceLast, BY_KEY, false),
    (SINCE_EVER, Aggregate::TimeSinceLast, BY_KEY, false),
    ("since_last_of_triple", Aggregate::TimeSinceLast, BY_TRIPLE, false),
];

/// Late rows are scored, and read as far back as they like.
fn with_history() -> Vec<FeatureDeclaration> {
    declared(1_000_000)
}

fn without_history() -> Vec<FeatureDeclaration> {
    declared(0)
}

fn declared(history_ms: i64) -> Vec<FeatureDeclaration> {
    let declare = move |(name, aggregate, key, has_value): (&str, Aggregate, &str, bool)| {
        let is_ever = name == SINCE_EVER;
        let length_ms = if is_ever { WindowSpec::EVER } else { LENGTH_MS };
        let (spec, keys_max) =
            (WindowSpec { aggregate, length_ms, history_ms }, is_ever.then_some(1_000_000));
        let value = has_value.then(|| "value".to_owned());
        FeatureDeclaration {
            name: name.to_owned(),
            definition: Definition::Window { key: key.to_owned(), value, spec, keys_max },
            default: None,
            allow_null: true,
        }
    };
    FEATURES.into_iter().map(declare).collect()
}

/// The features by id.
type Found = BTreeMap<i64, [Option<f64>; FEATURES.len()]>;

fn run(
    way: Way,
    partitions: &[Vec<Row>],
    seed: u64,
    lateness: i64,
    late: LatePolicy,
) -> (Found, Counters) {
    let setting = Setting {
        partitions: partitions.len(),
        allowed_lateness_ms: lateness,
        late,
        ..Setting::new(if late == LatePolicy::Score { with_history } else { without_history })
    };
    let chunks = chunks(partitions, &mut Random::new(seed));
    let (recorded, name) = (Recorded::default(), format!("seed {seed}, {way:?}"));
    let mut due = setting.released(&chunks, &[]);
    run_features(way, &setting, &recorded, &name, move |worker, workers| {
        Scripted::share(&chunks, worker, workers)
    });
    assert_eq!(setting.failure.message(), None, "{name}");
    if late != LatePolicy::Score {
        let epochs = recorded.epochs(&name);
        due.retain(|row, _| epochs.contains_key(row));
    }
    recorded.assert_epochs(&due, &name);
    recorded.assert_in_order(&layout(), &name);
    (last_columns(&recorded), setting.counters)
}

fn key_of(row: &Row, key: &str) -> Option<String> {
    match key {
        BY_KEY => row.key.clone(),
        BY_PARITY => Some((row.id % 2).to_string()),
        _ => Some((row.id % 3).to_string()),
    }
}

/// The definition, taken literally. Values are small whole numbers of quarters: sums are exact in any
/// order.
fn naive(partitions: &[Vec<Row>], lateness: i64) -> Found {
    let mut rows: Vec<(Row, bool)> = Vec::new();
    for partition in partitions {
        for (at, row) in partition.iter().enumerate() {
            let before = partition[..at].iter().map(|r| r.time).max();
            rows.push((row.clone(), before.is_some_and(|highest| row.time < highest - lateness)));
        }
    }
    let evaluate = |row: &Row, (name, aggregate, key, has_value): (&str, Aggregate, &str, bool)| {
        let own = key_of(row, key)?;
        let inside = |(other, late): &&(Row, bool)| {
            (!late || other.id == row.id)
                && key_of(other, key).as_ref() == Some(&own)
                && (name == SINCE_EVER || other.time > row.time - LENGTH_MS)
                && (other.time, other.id) <= (row.time, row.id)
        };
        let window: Vec<&Row> = rows.iter().filter(inside).map(|(other, _)| other).collect();
        if aggregate == Aggregate::TimeSinceLast {
            let before = window.iter().filter(|other| other.id != row.id);
            return before.map(|other| (row.time - other.time) as f64).min_by(f64::total_cmp);
        }
        let values: Vec<f64> = match has_value {
            true => window.iter().filter_map(|other| other.value).collect(),
            false => window.iter().map(|_| 1.0).collect(),
        };
        let (n, sum) = (values.len() as f64, values.iter().sum::<f64>());
        match aggregate {
            Aggregate::Count => Some(n),
            Aggregate::Sum => (n > 0.0).then_some(sum),
            Aggregate::Mean => (n > 0.0).then_some(sum / n),
            Aggregate::Min => values.into_iter().min_by(f64::total_cmp),
            Aggregate::Max => values.into_iter().max_by(f64::total_cmp),
            _ => (n > 1.0).then(|| {
                let squares = values.iter().map(|value| (value - sum / n).powi(2)).sum::<f64>();
                (squares / (n - 1.0)).sqrt()
            }),
        }
    };
    rows.iter()
        .map(|(row, _)| (row.id, std::array::from_fn(|feature| evaluate(row, FEATURES[feature]))))
        .collect()
}

/// Equal to the last bit, a deviation to 1e-12.
fn assert_equal(found: &Found, expected: &Found, name: &str) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (id, expected) in expected {
        for (at, (feature, aggregate, ..)) in FEATURES.into_iter().enumerate() {
            let (found, expected) = (found[id][at], expected[at]);
            let near = |(found, expected): (f64, f64)| (found - expected).abs() <= 1e-12 * expected;
            let is_equal = match aggregate {
                Aggregate::Std if expected.is_some() => found.zip(expected).is_some_and(near),
                _ => found.map(f64::to_bits) == expected.map(f64::to_bits),
            };
            assert!(is_equal, "{name}, row {id}, {feature}: {found:?}, expected {expected:?}");
        }
    }
}

/// Partitions in disorder of up to `disorder` ms, with ties, null keys and null values.
fn random_rows(seed: u64, keys: u64, rows: i64, disorder: u64) -> Vec<Vec<Row>> {
    let mut random = Random::new(seed);
    let mut partitions = vec![Vec::new(); 3];
    for id in 0..rows {
        let key = (random.below(15) != 0).then(|| format!("k{}", random.below(keys)));
        let value = (random.below(10) != 0).then(|| random.below(400) as f64 / 4.0 - 50.0);
        let time = id / 3 - random.below(disorder + 1) as i64;
        let partition = random.below(3) as usize;
        partitions[partition].push(Row { time, us: 0, id, key, value });
    }
    partitions
}

#[test]
fn equal_a_naive_evaluation_for_any_number_of_workers() {
    for seed in seeds(1..=6) {
        let keys = [1, 7, 500][seed as usize % 3];
        let partitions = random_rows(seed, keys, 700, LATENESS_MS as u64);
        let expected = naive(&partitions, LATENESS_MS);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let (found, _) = run(way, &partitions, seed, LATENESS_MS, LatePolicy::Score);
            assert_equal(&found, &expected, &name);
        }
    }
}

#[test]
fn late_rows_change_nothing_for_the_others() {
    for seed in seeds(10..=13) {
        let partitions = random_rows(seed, 5, 500, 40);
        let expected = naive(&partitions, 4);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let (found, counters) = run(way, &partitions, seed, 4, LatePolicy::Score);
            assert!(counters.late() > 20, "{name}: too few late rows to prove anything");
            assert_equal(&found, &expected, &name);
        }
    }
}

/// With no late rows to be scored, what the watermark has passed is forgotten, keys included.
#[test]
fn what_is_forgotten_is_not_missed() {
    for seed in seeds(20..=21) {
        let partitions = random_rows(seed, 300, 2_000, 40);
        let all = naive(&partitions, 4);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let (found, counters) = run(way, &partitions, seed, 4, LatePolicy::Skip);
            let mut expected = all.clone();
            expected.retain(|id, _| found.contains_key(id));
            assert!(expected.len() < 1_900 && expected.len() > 500, "{name}: {}", expected.len());
            assert_equal(&found, &expected, &name);
            let states = counters.window_states().into_iter().filter(|(key, ..)| key == BY_KEY);
            let keys: u64 = states.map(|(.., state)| state.keys_most).sum();
            assert!(keys < 200, "{name}: {keys} of 300 keys were held at once");
        }
    }
}

#[test]
fn keys_spread_over_the_workers() {
    let partitions = random_rows(99, 4_000, 12_000, 0);
    let (_, counters) = run(Way::Threads(2), &partitions, 99, 0, LatePolicy::Score);
    let held: Vec<u64> = counters
        .window_states()
        .into_iter()
        .filter(|(key, ..)| key == "key")
        .map(|(.., state)| state.keys_most)
        .collect();
    let total: u64 = held.iter().sum();
    assert_eq!(held.len(), 2);
    assert!(total > 3_000, "{held:?}");
    assert!(held.iter().all(|&keys| keys * 10 <= total * 6), "{held:?}");
}
