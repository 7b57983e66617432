//! As-of tables on several workers, against a naive evaluation.

use std::collections::BTreeMap;

use driftline_operators::accounting::Counters;
use driftline_operators::admit::LatePolicy;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::gate::Order;

use crate::record::{Origin, Recorded, epochs_of_chunks};
use crate::seeds::{all_are_run, seeds};
use crate::support::{
    MakeChunk, Partition, Random, Row, Scripted, Setting, TestTable, VersionRow, chunks_of,
    last_columns, layout,
};
use crate::ways::{Way, run_features, ways};

const EVENT_LATENESS_MS: i64 = 30;
const TABLE_LATENESS_MS: i64 = 60;
const MAX_AGE_MS: i64 = 40;

fn lookup(name: &str, table: usize, key: &str, column: Option<&str>) -> FeatureDeclaration {
    let (key, column) = (key.to_owned(), column.map(str::to_owned));
    FeatureDeclaration {
        name: name.to_owned(),
        definition: Definition::AsOf { table, key, column },
        default: None,
        allow_null: true,
    }
}

/// Two lookups by the key, one with another key of the same table, one of a table with a maximum age.
fn declared() -> Vec<FeatureDeclaration> {
    vec![
        lookup("value", 0, "key", Some("value")),
        lookup("age", 0, "key", None),
        lookup("other", 0, "concat('k', id % 5)", Some("value")),
        lookup("young", 1, "key", Some("value")),
    ]
}

const FEATURES: usize = 4;

/// The features by id.
type Found = BTreeMap<i64, [Option<f64>; FEATURES]>;

fn setting(events: usize, late: LatePolicy) -> Setting {
    let mut young = TestTable { allowed_lateness_ms: TABLE_LATENESS_MS, ..TestTable::new("young") };
    young.table.max_age_ms = Some(MAX_AGE_MS);
    let table = TestTable {
        partitions: 2,
        allowed_lateness_ms: TABLE_LATENESS_MS,
        ..TestTable::new("table")
    };
    Setting {
        partitions: events,
        allowed_lateness_ms: EVENT_LATENESS_MS,
        late,
        tables: vec![table, young],
        ..Setting::new(declared)
    }
}

/// Chunks of the partitions, of which each time the furthest behind comes next, or any.
fn cut(partitions: &[Partition], seed: u64, in_step: bool) -> (Vec<MakeChunk>, Vec<u32>) {
    let chunks = chunks_of(partitions, 25, &mut Random::new(seed), |open, random| {
        if open.is_empty() {
            return None;
        }
        match in_step {
            true => open.iter().min_by_key(|(_, time)| *time).map(|(partition, _)| *partition),
            false => Some(open[random.below(open.len() as u64) as usize].0),
        }
    });
    let is_unopened = |&p: &u32| partitions[p as usize].len() == 0;
    (chunks, (0..partitions.len() as u32).filter(is_unopened).collect())
}

/// By which epoch events are to come out.
fn due(setting: &Setting, chunks: &[MakeChunk], unopened: &[u32]) -> BTreeMap<Origin, u64> {
    match setting.order {
        Order::EventTime => setting.released(chunks, unopened),
        Order::Epoch | Order::Arrival => {
            let is_event =
                |((partition, _), _): &(Origin, u64)| (*partition as usize) < setting.partitions;
            epochs_of_chunks(chunks).into_iter().filter(is_event).collect()
        }
    }
}

fn run(
    way: Way,
    partitions: &[Partition],
    setting: &Setting,
    seed: u64,
    in_step: bool,
) -> (Found, Counters) {
    let setting = Setting { counters: Counters::default(), ..setting.clone() };
    let (chunks, unopened) = cut(partitions, seed, in_step);
    let (recorded, name) = (Recorded::default(), format!("seed {seed}, {way:?}"));
    let mut due = due(&setting, &chunks, &unopened);
    run_features(way, &setting, &recorded, &name, move |worker, workers| {
        Scripted::share_without(&chunks, worker, workers, &unopened)
    });
    assert_eq!(setting.failure.message(), None, "{name}");
    if setting.late != LatePolicy::Score {
        let epochs = recorded.epochs(&name);
        due.retain(|row, _| epochs.contains_key(row));
    }
    recorded.assert_epochs(&due, &name);
    if setting.order != Order::Arrival {
        recorded.assert_in_order(&layout(), &name);
    }
    (last_columns(&recorded), setting.counters)
}

/// The definition, taken literally, over all versions there ever are.
fn naive(partitions: &[Partition]) -> Found {
    naive_of(partitions, |_event, _version| true)
}

/// As [`naive`], over the versions that have come by the epoch in which the event comes out: all that
/// there are for it where tables are eager, or versions late.
fn naive_by_epoch(partitions: &[Partition], setting: &Setting, seed: u64, in_step: bool) -> Found {
    let (chunks, unopened) = cut(partitions, seed, in_step);
    let due = due(setting, &chunks, &unopened);
    let came = epochs_of_chunks(&chunks);
    naive_of(partitions, |event, version| came[&version] <= due[&event])
}

/// How old a version is at a row (µs); negative if it begins later.
fn age_us(row: &Row, version: &VersionRow) -> i64 {
    (row.time - version.time) * 1_000 + row.us - version.us
}

/// The definition over the versions that are there for an event.
fn naive_of(partitions: &[Partition], is_there: impl Fn(Origin, Origin) -> bool) -> Found {
    let of_table = |wanted: usize| -> Vec<(Origin, &VersionRow)> {
        let rows = (0..).zip(partitions).filter_map(|(number, partition)| match partition {
            Partition::Versions(table, rows) if *table == wanted => Some((number, rows)),
            _ => None,
        });
        let placed = rows.flat_map(|(number, rows)| {
            (0..).zip(rows).map(move |(offset, row)| ((number, offset), row))
        });
        placed.collect()
    };
    let tables = [of_table(0), of_table(1)];
    let as_of = |table: usize, key: Option<&str>, event: Origin, row: &Row| {
        let candidates = tables[table].iter().filter(|(_, row)| Some(row.key.as_str()) == key);
        let candidates = candidates.filter(|(version, _)| is_there(event, *version));
        let not_after = candidates.map(|(_, row)| *row).filter(|version| age_us(row, version) >= 0);
        not_after.max_by_key(|row| (row.time, row.us, row.sequence))
    };
    let mut found = Found::new();
    for (number, partition) in (0..).zip(partitions) {
        let Partition::Events(rows) = partition else { continue };
        for (offset, row) in (0..).zip(rows) {
            let (event, key) = ((number, offset), row.key.as_deref());
            let own = as_of(0, key, event, row);
            let age = own.filter(|v| v.value.is_some()).map(|v| age_us(row, v) as f64 / 1e3);
            let other = as_of(0, Some(&format!("k{}", row.id % 5)), event, row);
            let young = as_of(1, key, event, row).filter(|v| age_us(row, v) <= MAX_AGE_MS * 1_000);
            let value = |version: Option<&VersionRow>| version.and_then(|version| version.value);
            found.insert(row.id, [value(own), age, value(other), value(young)]);
        }
    }
    found
}

/// Some µs, few enough for ties.
fn quarter(random: &mut Random) -> i64 {
    random.below(4) as i64 * 250
}

/// Events and versions in disorder: ties, times within one ms, null keys, deletes, corrections of equal `valid_from`,
/// rows that come twice, keys that the tables lack, events before the first version.
fn random_partitions(seed: u64, keys: u64, disorder: [u64; 2]) -> Vec<Partition> {
    let mut random = Random::new(seed);
    let mut events = vec![Vec::new(); 2];
    // As many rows as keys can show themselves in.
    let rows = if keys > 1_000 { 3_000 } else { 500 };
    for id in 0..rows {
        let key = (random.below(15) != 0).then(|| format!("k{}", random.below(keys + 1)));
        let time = id / 2 - random.below(disorder[0] + 1) as i64;
        let us = quarter(&mut random);
        events[random.below(2) as usize].push(Row { time, us, id, key, value: None });
    }
    let mut tables = vec![vec![Vec::new(); 2], vec![Vec::new(); 1]];
    for (table, partitions) in tables.iter_mut().enumerate() {
        let count = partitions.len() as u64;
        for sequence in 0..rows / 3 {
            let row = VersionRow {
                key: format!("k{}", random.below(keys)),
                time: 20 + sequence * 3 / 2 - random.below(disorder[1] + 1) as i64,
                us: quarter(&mut random),
                sequence,
                value: (random.below(6) != 0).then(|| (table as i64 * 1_000 + sequence) as f64),
            };
            let times = if random.below(8) == 0 { 2 } else { 1 };
            for _ in 0..times {
                partitions[random.below(count) as usize].push(row.clone());
            }
        }
    }
    let events = events.into_iter().map(Partition::Events);
    let versions = tables.into_iter().enumerate().flat_map(|(table, partitions)| {
        partitions.into_iter().map(move |rows| Partition::Versions(table, rows))
    });
    events.chain(versions).collect()
}

#[test]
fn equal_a_naive_evaluation_for_any_number_of_workers_and_order_of_chunks() {
    for seed in seeds(1..=8) {
        let keys = [1, 4, 60, 2_000][seed as usize % 4];
        let disorder = [EVENT_LATENESS_MS as u64, TABLE_LATENESS_MS as u64];
        let partitions = random_partitions(seed, keys, disorder);
        let expected = naive(&partitions);
        for way in ways() {
            for in_step in [true, false] {
                let name = format!("seed {seed}, {way:?}, in step {in_step}");
                let setting = setting(2, LatePolicy::Score);
                let (found, counters) = run(way, &partitions, &setting, seed, in_step);
                assert_eq!(counters.late(), 0, "{name}");
                assert_eq!(found, expected, "{name}");
            }
        }
    }
}

#[test]
fn late_rows_look_up_at_their_own_time() {
    for seed in seeds(20..=23) {
        let partitions = random_partitions(seed, 4, [120, TABLE_LATENESS_MS as u64]);
        let expected = naive(&partitions);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let setting = setting(2, LatePolicy::Score);
            let (found, counters) = run(way, &partitions, &setting, seed, true);
            assert!(counters.late() > 20, "{name}: too few late rows to prove anything");
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn late_versions_are_counted_and_hold_from_then_on() {
    for seed in seeds(30..=32) {
        let partitions = random_partitions(seed, 4, [EVENT_LATENESS_MS as u64, 200]);
        let mut setting = setting(2, LatePolicy::Score);
        let expected = naive_by_epoch(&partitions, &setting, seed, true);
        for way in ways() {
            let (found, counters) = run(way, &partitions, &setting, seed, true);
            let late: u64 = counters.table_states().iter().map(|(_, s)| s.rows_late).sum();
            assert!(late > 20, "seed {seed}: too few late versions to prove anything");
            assert_eq!(found, expected, "seed {seed}, {way:?}");
        }
        // With enough lateness they are all in time.
        setting.tables.iter_mut().for_each(|table| table.allowed_lateness_ms = 200);
        let (found, counters) = run(Way::Threads(2), &partitions, &setting, seed, true);
        assert!(counters.table_states().iter().all(|(_, state)| state.rows_late == 0));
        assert_eq!(found, naive(&partitions), "seed {seed}");
    }
}

/// In order of epochs nothing waits for event time: what is there by the row's epoch is found.
#[test]
fn epoch_order_and_eager_tables_answer_as_of_the_epoch() {
    for order in [Order::Epoch, Order::EventTime] {
        let mut differing = 0;
        for seed in seeds(40..=47) {
            let partitions = random_partitions(seed, 4, [0, 0]);
            let mut setting = Setting { order, ..setting(2, LatePolicy::Score) };
            setting.tables.iter_mut().for_each(|table| table.table.eager = true);
            let expected = naive_by_epoch(&partitions, &setting, seed, false);
            differing += u64::from(expected != naive(&partitions));
            for way in ways() {
                let (found, _) = run(way, &partitions, &setting, seed, false);
                assert_eq!(found, expected, "seed {seed}, {way:?}, {order:?}");
            }
        }
        assert!(
            differing > 0 || !all_are_run(),
            "{order:?}: chunks out of step should make a difference"
        );
    }
}

/// In order of arrival the rows of a chunk are asked in order of event time, and stay as they came.
#[test]
fn in_arrival_order_each_row_has_its_own_answer() {
    for seed in seeds(60..=63) {
        let partitions = random_partitions(seed, 4, [EVENT_LATENESS_MS as u64, 0]);
        let mut setting = Setting { order: Order::Arrival, ..setting(2, LatePolicy::Score) };
        setting.tables.iter_mut().for_each(|table| table.table.eager = true);
        let expected = naive_by_epoch(&partitions, &setting, seed, false);
        let (found, _) = run(Way::Fused, &partitions, &setting, seed, false);
        assert_eq!(found, expected, "seed {seed}");
    }
}

/// Superseded versions go: what is held depends on the lateness, not on the length of the run.
#[test]
fn versions_held_are_bounded_by_the_lateness() {
    let keys = 4;
    let mut random = Random::new(50);
    let events = (0..4_000).map(|id| Row {
        time: id,
        us: 0,
        id,
        key: Some(format!("k{}", random.below(keys))),
        value: None,
    });
    let events: Vec<Row> = events.collect();
    let versions = |step: i64| -> Vec<VersionRow> {
        let rows = (0..4_000 / step).flat_map(|at| {
            (0..keys as i64).map(move |key| VersionRow {
                key: format!("k{key}"),
                time: at * step,
                us: 0,
                sequence: at,
                value: Some(at as f64),
            })
        });
        rows.collect()
    };
    let partitions = [
        Partition::Events(events),
        Partition::Versions(0, versions(10)),
        Partition::Versions(0, Vec::new()),
        Partition::Versions(1, versions(10)),
    ];
    for way in ways() {
        let mut setting = setting(1, LatePolicy::Skip);
        setting.tables[0].partitions = 2;
        let (found, counters) = run(way, &partitions[..], &setting, 51, true);
        assert_eq!(found.len(), 4_000);
        for (name, state) in counters.table_states() {
            let held: u64 = state.versions_most.values().sum();
            // Chunks hold up to 25 rows: 25 ms of events, 60 ms of versions of each key.
            let within = (EVENT_LATENESS_MS.max(TABLE_LATENESS_MS) + 60 + 25) as u64 / 10;
            assert!(held <= keys * (within + 2), "{way:?}: table {name} held {held} versions");
        }
    }
}
