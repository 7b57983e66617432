//! Weights of variants are changed a thousand times while events come, beside versions of a model.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use driftline::{
    EventSource, Job, ModelControl, ModelSwitched, Next, OwnEvents, Pipeline, RouteChange,
    RouteChanged, Since,
};
use driftline_operators::routes::assignment::bucket;

use crate::support::{ROWS, Scored, collecting, departures, job, root, scores};

/// So many changes of each route, of which the issue asks for a thousand.
const CHANGES: usize = 1_000;
/// The routes: of flights that are shorter than this, and of the others.
const SHORT: i64 = 800;
const ROUTES: [&str; 2] = ["short", "rest"];

fn head() -> String {
    r#"
[job]
name = "weights"
[event]
time = "event_time"
id = "event_id"
[sources.departures]
path = "DATA/departures.parquet"
[features.dep_delay]
column = "dep_delay"
default = 0.0
[features.distance]
column = "distance"
"#
    .to_owned()
}

/// What a model is given, in this order.
fn features_of(model: &str) -> &'static str {
    match model {
        "a" => r#"["dep_delay", "distance"]"#,
        _ => r#"["distance", "dep_delay"]"#,
    }
}

/// A job of two routes, each with two variants, of which the first has 9,000.
fn routed() -> Job {
    let mut text = head();
    for model in ["a", "b"] {
        text += &format!(
            "[models.{model}]\npath = \"DATA/models/minimal.onnx\"\nfeatures = {}\n",
            features_of(model)
        );
    }
    let when = [format!("when = \"distance < {SHORT}\"\n"), String::new()];
    for (route, when) in ROUTES.iter().zip(when) {
        text += &format!("[routes.{route}]\n{when}by = \"tailnum\"\n");
        for (variant, model, weight) in [("control", "a", 9_000), ("treatment", "b", 1_000)] {
            text += &format!(
                "[routes.{route}.variants.{variant}]\nmodel = \"{model}\"\nweight = {weight}\n"
            );
        }
    }
    job(&text)
}

/// What a model gives for each departure in a job that has no other.
fn alone(model: &str) -> Scored {
    let model = format!(
        "[model]\npath = \"DATA/models/minimal.onnx\"\nfeatures = {}\n",
        features_of(model)
    );
    let events = OwnEvents::batches(departures().schema(), [departures()]);
    let pipeline = Pipeline::new(job(&(head() + &model))).events(events);
    let (pipeline, predictions, ..) = collecting(pipeline);
    pipeline.run().unwrap();
    scores(&predictions.all())
}

/// Gives events as changes are made: so that those are under load, and all of them are made.
struct Paced {
    from: usize,
    changes: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl EventSource for Paced {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        let rows = 50.min(ROWS - self.from);
        if rows == 0 {
            self.is_over.store(true, Release);
            return Ok(Next::End);
        }
        while self.changes.load(Acquire) < 2 * CHANGES * self.from / ROWS {
            std::thread::sleep(Duration::from_micros(100));
        }
        let batch = departures().slice(self.from, rows);
        self.from += rows;
        Ok(Next::Events(batch))
    }
}

/// Changes the weights of a route until the run is over, to what cannot be now and then.
fn change_until(models: &ModelControl, route: &str, paced: &AtomicUsize, is_over: &AtomicBool) {
    let mut random = fastrand::Rng::with_seed(route.len() as u64);
    while !is_over.load(Acquire) {
        let control = random.u32(..=10_000);
        let weights = [("control", control), ("treatment", 10_000 - control)];
        match models.set_weights(route, &weights) {
            Ok(()) => paced.fetch_add(1, Release),
            Err(error) => {
                assert!(format!("{error:#}").contains("no run"), "{error:#}");
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        if control.is_multiple_of(16) {
            assert!(models.set_weights(route, &[("control", 9_999)]).is_err());
            assert!(models.set_weights(route, &[("absent", 10_000)]).is_err());
            assert!(models.set_weights("absent", &weights).is_err());
        }
        std::thread::sleep(Duration::from_micros(random.u64(..2_000)));
    }
}

/// Switches between versions of the first model until the run is over.
fn switch_until(models: &ModelControl, is_over: &AtomicBool) {
    let mut version = 2;
    while !is_over.load(Acquire) {
        let file: PathBuf = root().join("data/flights/models/minimal.onnx");
        if models.switch_model("a", &version.to_string(), file).is_ok() {
            version += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last of what holds since before an event time.
fn holding<T>(all: &[T], time: i64, since: impl Fn(&T) -> Since) -> Option<&T> {
    all.iter().rev().find(|it| match since(it) {
        Since::EventTime(since) => since <= time,
        Since::Epoch(_) => panic!("in order of event time"),
    })
}

struct Predicted {
    id: String,
    time: i64,
    route: String,
    variant: String,
    model: (String, String),
}

fn predicted(rows: &RecordBatch) -> Vec<Predicted> {
    let text = |name| rows.column_by_name(name).unwrap().as_string::<i32>();
    let [ids, routes, variants] = ["event_id", "route", "variant"].map(text);
    let (names, versions) = (text("model_name"), text("model_version"));
    let times = rows.column_by_name("event_time").unwrap();
    let times = times.as_primitive::<TimestampMillisecondType>().values();
    let row = |row: usize| Predicted {
        id: ids.value(row).to_owned(),
        time: times[row],
        route: routes.value(row).to_owned(),
        variant: variants.value(row).to_owned(),
        model: (names.value(row).to_owned(), versions.value(row).to_owned()),
    };
    (0..rows.num_rows()).map(row).collect()
}

/// What is hashed of each departure, and its distance, by id.
fn events() -> std::collections::BTreeMap<String, (String, i64)> {
    let rows = departures();
    let text = |name| rows.column_by_name(name).unwrap().as_string::<i32>().clone();
    let (ids, tails) = (text("event_id"), text("tailnum"));
    let distances = rows.column_by_name("distance").unwrap();
    let distance = |row: usize| match distances.as_primitive_opt::<Float64Type>() {
        Some(distances) => distances.value(row) as i64,
        None => {
            let all = arrow::compute::cast(distances, &arrow::datatypes::DataType::Int64);
            all.unwrap().as_primitive::<Int64Type>().value(row)
        }
    };
    let hashed = |row: usize| match tails.is_valid(row) {
        true => tails.value(row).to_owned(),
        false => ids.value(row).to_owned(),
    };
    let event = |row: usize| (ids.value(row).to_owned(), (hashed(row), distance(row)));
    (0..rows.num_rows()).map(event).collect()
}

/// The weight of `control` among what was recorded of a route.
fn recorded(changed: &[RouteChanged], route: &str) -> Vec<(Since, u32)> {
    let of = |changed: &RouteChanged| match &changed.change {
        RouteChange::Weights(weights) if weights.route == route => {
            Some((changed.since, weights.weights[0].1))
        }
        _ => None,
    };
    changed.iter().filter_map(of).collect()
}

#[test]
fn each_event_is_scored_once_by_the_variant_that_is_recorded_for_it() {
    let (by_a, by_b, events) = (alone("a"), alone("b"), events());
    for workers in [1, 2] {
        let (changes, is_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let source = Paced { from: 0, changes: changes.clone(), is_over: is_over.clone() };
        let events_of = OwnEvents::new(departures().schema(), source);
        let pipeline = Pipeline::new(routed()).workers(workers).events(events_of);
        let (pipeline, predictions, ..) = collecting(pipeline);
        let models = pipeline.models();
        assert!(models.set_weights("rest", &[("control", 10_000)]).is_err(), "before the run");
        let summary = std::thread::scope(|scope| {
            for route in ROUTES {
                let (models, changes, is_over) = (&models, &changes, &is_over);
                scope.spawn(move || change_until(models, route, changes, is_over));
            }
            scope.spawn(|| switch_until(&models, &is_over));
            pipeline.run().unwrap()
        });
        let account = summary.account;
        assert_eq!((account.read, account.predictions), (ROWS as u64, ROWS as u64));
        let (changed, switched) = (models.routes_changed(), models.switched());
        let of_routes = ROUTES.map(|route| recorded(&changed, route));
        let told: usize = of_routes.iter().map(Vec::len).sum();
        assert!(told <= changes.load(Relaxed));
        assert!(told > CHANGES * 3 / 2 && switched.len() > 5, "{told}, {}", switched.len());
        let all = predictions.all();
        let (found, mut seen) = (scores(&all), BTreeSet::new());
        assert_eq!((all.num_rows(), found.len()), (ROWS, ROWS));
        for row in predicted(&all) {
            let (hashed, distance) = &events[&row.id];
            let of = usize::from(*distance >= SHORT);
            let holds = holding(&of_routes[of], row.time, |(since, _)| *since);
            let control = holds.map_or(9_000, |(_, control)| *control);
            let is_control = bucket(ROUTES[of], hashed) < control;
            let version = holding(&switched, row.time, |it: &ModelSwitched| it.since);
            let version = version.map_or("1", |it| it.model.version.as_str());
            let (variant, model, by) = match is_control {
                true => ("control", ("a", version), &by_a),
                false => ("treatment", ("b", "1"), &by_b),
            };
            let name = format!("{workers} workers: {} at {}", row.id, row.time);
            assert_eq!((&*row.route, &*row.variant), (ROUTES[of], variant), "{name}");
            assert_eq!((&*row.model.0, &*row.model.1), model, "{name}");
            assert_eq!(found[&row.id], by[&row.id], "{name}");
            seen.insert((of, holds.map(|(since, _)| format!("{since:?}"))));
        }
        // Not all are for some rows: several may be told before the same one.
        assert!(seen.len() > 300, "{}", seen.len());
    }
}
