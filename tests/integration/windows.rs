//! Keyed windows on several workers, against a naive evaluation.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use driftline_jobs::enriched::{Enriched, enriched};
use driftline_operators::accounting::Counters;
use driftline_operators::deliver::deliver;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::window::{Aggregate, WindowSpec};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;

use crate::support::{Memory, Random, Row, Scripted, Setting, chunks, config, ways};

const LENGTH_MS: i64 = 50;
const LATENESS_MS: i64 = 30;

fn window(name: &str, aggregate: Aggregate, key: &str) -> FeatureDeclaration {
    let spec = WindowSpec { aggregate, length_ms: LENGTH_MS, history_ms: 1_000_000 };
    FeatureDeclaration {
        name: name.to_owned(),
        definition: Definition::Window {
            key: key.to_owned(),
            value: Some("value".to_owned()),
            spec,
        },
        default: None,
        allow_null: true,
    }
}

fn declared() -> Vec<FeatureDeclaration> {
    vec![
        window("sum", Aggregate::Sum, "key"),
        window("mean", Aggregate::Mean, "key"),
        window("count_by_parity", Aggregate::Count, "id % 2"),
    ]
}

/// Values of `sum`, `mean` and `count_by_parity` by id.
type Found = BTreeMap<i64, [Option<f64>; 3]>;

fn run(
    way: timely::CommunicationConfig,
    partitions: &[Vec<Row>],
    seed: u64,
    lateness: i64,
) -> (Found, Counters) {
    let setting = Setting {
        partitions: partitions.len(),
        allowed_lateness_ms: lateness,
        ..Setting::new(declared)
    };
    let chunks = chunks(partitions, &mut Random::new(seed));
    let memory = Memory::default();
    let (shared, sink) = (setting.clone(), memory.clone());
    let guards = timely::execute(config(way), move |worker| {
        let probe = ProbeHandle::new();
        let source = Scripted::share(&chunks, worker.index(), worker.peers());
        worker.dataflow::<u64, _, _>(|scope| {
            let schema = shared.plan().enriched_schema(&crate::support::layout());
            let events = shared.events(source);
            let Enriched { rows, .. } = enriched(scope, events, probe.clone());
            let failure = shared.failure.clone();
            deliver(rows, "Test", schema, Box::new(sink.clone()), |_| (), failure)
                .probe_with(&probe);
        });
        while !probe.done() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|end| end.unwrap());
    assert_eq!(setting.failure.message(), None);
    let mut found = Found::new();
    for batch in memory.batches() {
        let ids = batch.column(1).as_primitive::<Int64Type>();
        let values: Vec<_> = (0..3)
            .map(|i| batch.column(batch.num_columns() - 3 + i).as_primitive::<Float64Type>())
            .collect();
        for row in 0..batch.num_rows() {
            let value = |i: usize| values[i].is_valid(row).then(|| values[i].value(row));
            let twice = found.insert(ids.value(row), [value(0), value(1), value(2)]);
            assert!(twice.is_none(), "row {} came twice", ids.value(row));
        }
    }
    (found, setting.counters)
}

/// The definition, taken literally. Sums are of small whole numbers of quarters: exact in any order.
fn naive(partitions: &[Vec<Row>], lateness: i64) -> Found {
    let mut rows: Vec<(Row, bool)> = Vec::new();
    for partition in partitions {
        for (at, row) in partition.iter().enumerate() {
            let before = partition[..at].iter().map(|r| r.time).max();
            rows.push((row.clone(), before.is_some_and(|highest| row.time < highest - lateness)));
        }
    }
    let parity = |row: &Row| Some((row.id % 2).to_string());
    let evaluate = |row: &Row, key: &dyn Fn(&Row) -> Option<String>| -> Option<Vec<f64>> {
        let own = key(row)?;
        let inside = |(other, late): &&(Row, bool)| {
            (!late || other.id == row.id)
                && key(other).as_ref() == Some(&own)
                && other.time > row.time - LENGTH_MS
                && (other.time, other.id) <= (row.time, row.id)
        };
        Some(rows.iter().filter(inside).filter_map(|(other, _)| other.value).collect())
    };
    rows.iter()
        .map(|(row, _)| {
            let by_key = evaluate(row, &|r| r.key.clone());
            let sum = by_key.as_ref().filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>());
            let mean = by_key.as_ref().zip(sum).map(|(v, sum)| sum / v.len() as f64);
            let count = evaluate(row, &parity).map(|v| v.len() as f64);
            (row.id, [sum, mean, count])
        })
        .collect()
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
        partitions[partition].push(Row { time, id, key, value });
    }
    partitions
}

#[test]
fn equal_a_naive_evaluation_for_any_number_of_workers() {
    for seed in 1..=6 {
        let keys = [1, 7, 500][seed as usize % 3];
        let partitions = random_rows(seed, keys, 700, LATENESS_MS as u64);
        let expected = naive(&partitions, LATENESS_MS);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let (found, _) = run(way, &partitions, seed, LATENESS_MS);
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn late_rows_change_nothing_for_the_others() {
    for seed in 10..=13 {
        let partitions = random_rows(seed, 5, 500, 40);
        let expected = naive(&partitions, 4);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let (found, counters) = run(way, &partitions, seed, 4);
            assert!(counters.late() > 20, "{name}: too few late rows to prove anything");
            let late = |partition: &[Row], at: usize| {
                partition[..at].iter().any(|r| partition[at].time < r.time - 4)
            };
            for partition in &partitions {
                for at in (0..partition.len()).filter(|&at| !late(partition, at)) {
                    let id = partition[at].id;
                    assert_eq!(found[&id], expected[&id], "{name}, row {id}");
                }
            }
            assert_eq!(found.len(), expected.len(), "{name}");
        }
    }
}

#[test]
fn keys_spread_over_the_workers() {
    let partitions = random_rows(99, 4_000, 12_000, 0);
    let (_, counters) = run(timely::CommunicationConfig::Process(2), &partitions, 99, 0);
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
