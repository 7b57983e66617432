//! Micro-batches on several workers: what a model that takes notes was asked, against the rows that
//! there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float32Type, Float64Type, Int64Type, UInt32Type};
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::gate::Order;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::Task;
use driftline_operators::watched::Watched;

use crate::input::{Event, Input, Shape};
use crate::job::{Job, Results, place, place_of, required, vectors};
use crate::models::{Calls, RowByRow};
use crate::record::{Came, Origin, origins};
use crate::seeds::{all_are_run, seeds};
use crate::support::{Random, Setting};
use crate::ways::ways;

fn declared() -> Vec<FeatureDeclaration> {
    let value = required("value", Definition::Column("value".to_owned()));
    vec![FeatureDeclaration { allow_null: true, ..value }, place()]
}

/// The vector of a row follows from where it is from, and from nothing else.
fn vector(place: f64, task: Task) -> Vec<f32> {
    let place = place as f32;
    match task {
        Task::Regression => vec![place],
        Task::Binary => vec![place + 0.5, -place],
        Task::Multiclass => vec![-place, place, place - 0.5],
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    max_rows: usize,
    timeout: Duration,
    task: Task,
    order: Order,
    pads_single_rows: bool,
}

impl Case {
    fn of_seed(seed: u64) -> Self {
        let mut random = Random::new(seed + 1_000);
        let mut any = |bound: u64| random.below(bound) as usize;
        Case {
            max_rows: [1, 2, 7, 64, 100_000][seed as usize % 5],
            timeout: Duration::from_secs([0, 3_600][any(2)]),
            task: [Task::Regression, Task::Binary, Task::Multiclass][any(3)],
            order: [Order::EventTime, Order::EventTime, Order::Epoch][any(3)],
            pads_single_rows: any(2) == 0,
        }
    }

    fn job(&self, calls: &Calls) -> Job {
        let setting = Setting {
            order: self.order,
            partitions: Input::PARTITIONS,
            allowed_lateness_ms: 20,
            ..Setting::new(declared)
        };
        let (task, calls) = (self.task, calls.clone());
        Job {
            setting,
            filter: None,
            warm_up_from: i64::MIN,
            from: i64::MIN,
            to: i64::MAX,
            first_offsets: Vec::new(),
            drift: None,
            inputs: ["value", "place"].map(str::to_owned).to_vec(),
            bounds: BatchBounds { max_rows: self.max_rows, timeout: self.timeout },
            dependence: match self.pads_single_rows {
                true => BatchDependence::PadSingleRow,
                false => BatchDependence::Invariant,
            },
            make_model: Arc::new(move |worker| {
                let score = move |row: &[Option<f64>]| Ok(vector(row[1].unwrap(), task));
                Box::new(RowByRow::new(worker, task, score, calls.clone()))
            }),
        }
    }
}

/// The rows to be scored: by which epoch they come, and the order of a home's rows.
type Due<'a> = BTreeMap<Origin, ((u64, i64, Option<i64>), &'a Event)>;

fn due<'a>(input: &'a Input, job: &Job) -> Due<'a> {
    let epochs = match job.setting.order {
        Order::EventTime => job.setting.released(&input.chunks, &Input::UNOPENED),
        Order::Epoch | Order::Arrival => input.epochs(),
    };
    let timed = input.events().filter_map(|(origin, event)| Some((origin, event, event.time?)));
    timed
        .map(|(origin, event, time)| (origin, ((epochs[&origin], time, event.id), event)))
        .collect()
}

/// Each row has come out once, in its epoch, with the vector that is its own.
fn assert_own_scores(results: &Results, due: &Due, case: Case, name: &str) {
    let mut scored = 0;
    for came in results.predictions.all() {
        let rows = &came.rows;
        let (vectors, inputs) = (vectors(rows, "prediction"), vectors(rows, "model_input"));
        let column = |name| rows.column_by_name(name).unwrap().as_primitive::<Float32Type>();
        let (scores, confidences) = (column("score"), column("confidence"));
        for (row, origin) in origins(rows).into_iter().enumerate() {
            let ((epoch, ..), event) = &due[&origin];
            assert_eq!(came.epoch, *epoch, "{name}: the epoch of {origin:?}");
            let expected = vector(place_of(origin), case.task);
            assert_eq!(vectors[row], expected, "{name}: the prediction of {origin:?}");
            let (score, confidence) = match case.task {
                Task::Regression => (expected[0], None),
                Task::Binary => (expected[1], Some(expected[0])),
                Task::Multiclass => (expected[1], Some(expected[1])),
            };
            assert_eq!(scores.value(row), score, "{name}: the score of {origin:?}");
            let found = confidences.is_valid(row).then(|| confidences.value(row));
            assert_eq!(found, confidence, "{name}: the confidence of {origin:?}");
            let value = event.value.map_or(f32::NAN, |value| value as f32);
            let input = [value, place_of(origin) as f32].map(f32::to_bits);
            let found: Vec<u32> = inputs[row].iter().map(|value| value.to_bits()).collect();
            assert_eq!(found, input, "{name}: the input of {origin:?}");
            scored += 1;
        }
    }
    results.predictions.epochs(name);
    assert_eq!(scored, due.len(), "{name}: rows that came out");
    assert_eq!(results.counters.account().predictions, scored as u64, "{name}");
    assert_eq!(results.counters.account().pending, 0, "{name}");
}

/// Epoch, event time, late flag, and both features and the score of watched rows.
fn watched_rows(came: &Came) -> Vec<(u64, i64, bool, [Option<f64>; 3])> {
    let Came { epoch, rows, .. } = came;
    let times = rows.column(Watched::TIME).as_primitive::<Int64Type>();
    let late = rows.column(Watched::LATE).as_boolean();
    let values = |row: usize| {
        std::array::from_fn(|at| {
            let column = rows.column(Watched::FIRST + at).as_primitive::<Float64Type>();
            column.is_valid(row).then(|| column.value(row))
        })
    };
    (0..rows.num_rows())
        .map(|row| (*epoch, times.value(row), late.value(row), values(row)))
        .collect()
}

/// What drift watches is what was predicted, in the same order.
fn assert_watched(results: &Results, due: &Due, name: &str) {
    let (predicted, watched) = (results.predictions.all(), results.watched.all());
    let workers: BTreeSet<usize> = predicted.iter().map(|came| came.worker).collect();
    for worker in workers {
        let predicted = predicted.iter().filter(|came| came.worker == worker);
        let watched: Vec<_> = watched.iter().filter(|came| came.worker == worker).collect();
        let mut rows = watched.iter().flat_map(|came| watched_rows(came));
        for came in predicted {
            let column = |name| came.rows.column_by_name(name).unwrap();
            let status = column("status").as_string::<i32>();
            let scores = column("score").as_primitive::<Float32Type>();
            for (row, origin) in origins(&came.rows).into_iter().enumerate() {
                let ((epoch, time, _), event) = due[&origin];
                let late = status.value(row) == "degraded";
                let score = f64::from(scores.value(row));
                let values = [event.value, Some(place_of(origin)), Some(score)];
                let expected = (epoch, time, late, values);
                assert_eq!(rows.next(), Some(expected), "{name}: {origin:?}");
            }
        }
        assert_eq!(rows.next(), None, "{name}");
    }
}

/// What the model of each worker was asked: batches within the bound, of all its rows in order.
fn assert_batches(results: &Results, calls: &Calls, due: &Due, case: Case, name: &str) {
    let predicted = results.predictions.all();
    let workers: BTreeSet<usize> = predicted.iter().map(|came| came.worker).collect();
    let mut homes: BTreeMap<i64, usize> = BTreeMap::new();
    let (mut batches, calls) = (0, calls.all());
    for worker in workers {
        let rows = predicted.iter().filter(|came| came.worker == worker);
        let rows: Vec<(Origin, u32)> = rows
            .flat_map(|came| {
                let sizes = came.rows.column_by_name("run_batch_rows").unwrap();
                let sizes = sizes.as_primitive::<UInt32Type>().values().to_vec();
                origins(&came.rows).into_iter().zip(sizes)
            })
            .collect();
        for pair in rows.windows(2) {
            let [before, after] = [pair[0].0, pair[1].0].map(|origin| (due[&origin].0, origin));
            assert!(before < after, "{name}: {after:?} came after {before:?}");
        }
        for id in rows.iter().filter_map(|(origin, _)| due[origin].1.id) {
            assert_eq!(*homes.entry(id).or_insert(worker), worker, "{name}: the home of {id}");
        }
        let mut rows = rows.into_iter();
        for call in calls.iter().filter(|call| call.worker == worker) {
            let mut places = call.places();
            assert!(!places.is_empty(), "{name}: the model was asked nothing");
            if case.pads_single_rows {
                assert!(places.len() > 1, "{name}: a row was scored alone");
                places.dedup();
            }
            assert!(places.len() <= case.max_rows, "{name}: {} rows in a batch", places.len());
            for place in &places {
                let (origin, size) = rows.next().unwrap();
                assert_eq!(place_of(origin), *place, "{name}: the order of what was asked");
                assert_eq!(size as usize, places.len(), "{name}: the batch of {origin:?}");
            }
            batches += 1;
        }
        assert_eq!(rows.next(), None, "{name}: predicted without being asked");
    }
    assert_eq!(results.counters.batch_sizes().batches(), batches, "{name}");
}

#[test]
fn each_row_is_asked_once_in_order_and_gets_its_own_score() {
    // Batches that were full, and those that held rows of several epochs.
    let (mut full, mut mixed) = (0, 0);
    for seed in seeds(1..=20) {
        let case = Case::of_seed(seed);
        let keys = [1, 7, 1_000_000][seed as usize % 3];
        let input = Input::random(seed, Shape { keys, ..Shape::default() });
        for way in ways() {
            let name = format!("seed {seed}, {way:?}, {case:?}");
            let calls = Calls::default();
            let job = case.job(&calls);
            let due = due(&input, &job);
            let results = job.run(way, &input.chunks, &name);
            assert_own_scores(&results, &due, case, &name);
            assert_watched(&results, &due, &name);
            assert_batches(&results, &calls, &due, case, &name);
            let epochs: BTreeMap<u64, u64> =
                due.iter().map(|(row, ((epoch, ..), _))| (place_of(*row) as u64, *epoch)).collect();
            for call in calls.all() {
                let places = call.places();
                full += u64::from(places.len() == case.max_rows && places.len() > 2);
                let of: BTreeSet<u64> = places.iter().map(|at| epochs[&(*at as u64)]).collect();
                mixed += u64::from(of.len() > 1);
            }
        }
    }
    assert!(!all_are_run() || full > 100 && mixed > 100, "{full} full, {mixed} of several epochs");
}

/// More rows than an activation may score, of as many keys, come at once.
#[test]
fn a_chunk_of_very_many_rows_is_scored_in_turns() {
    for seed in seeds(41..=42) {
        // Behind the last turn of a lone worker more rows wait than it may score in a step.
        let shape = Shape { rows: 30_000, keys: 1 << 40, chunk_rows: 60_000, disorder: 120 };
        let input = Input::random(seed, shape);
        let (max_rows, task) = ([256, 9_000][seed as usize % 2], Task::Binary);
        let timeout = Duration::from_secs(3_600);
        let case = Case { max_rows, timeout, task, order: Order::Epoch, ..Case::of_seed(seed) };
        for way in ways() {
            let name = format!("seed {seed}, {way:?}, {case:?}");
            let calls = Calls::default();
            let job = case.job(&calls);
            let due = due(&input, &job);
            let results = job.run(way, &input.chunks, &name);
            assert_own_scores(&results, &due, case, &name);
            assert_batches(&results, &calls, &due, case, &name);
        }
    }
}
