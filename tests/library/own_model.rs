//! Models of a program.

use std::collections::BTreeSet;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, Float64Type};
use driftline::model::{Model, ModelError, Scores, Task};
use driftline::{Feature, JobBuilder, Model as ModelSection, OwnEvents, Pipeline};

use crate::support::{ROWS, collecting, departures, ids};

/// The sum of its features; batches with a distance over 2,500 are refused.
struct Sum {
    distance: usize,
}

impl Model for Sum {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let column = |at: usize| features.column(at).as_primitive::<Float64Type>();
        if column(self.distance).values().iter().any(|&distance| distance > 2_500.0) {
            return Err(ModelError::Refused("too far".to_owned()));
        }
        let sum = |row: usize| (0..features.num_columns()).map(|at| column(at).value(row)).sum();
        let sums = (0..features.num_rows()).map(|row: usize| -> f64 { sum(row) });
        Ok(Scores { predictions: sums.map(|sum| sum as f32).collect(), input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

fn job() -> JobBuilder {
    JobBuilder::new("own-model", "event_time")
        .id("event_id")
        .feature("distance", Feature::column("distance"))
        .feature("dep_delay", Feature::column("dep_delay").default(0.0))
        .model(ModelSection::own("sum", ["dep_delay", "distance"]).version("7"))
}

fn pipeline() -> Pipeline {
    Pipeline::new(job().build(".".as_ref()).unwrap()).model(|features| {
        let distance = features.iter().position(|feature| feature.name() == "distance");
        let distance =
            distance.ok_or_else(|| ModelError::Refused("there is no distance".to_owned()))?;
        Ok(Box::new(Sum { distance }))
    })
}

#[test]
fn it_scores_what_it_takes_and_the_rest_is_dead_letters() {
    let events = departures();
    let number = |name: &str| {
        let column = events.column_by_name(name).unwrap();
        let column = arrow::compute::cast(column, &arrow::datatypes::DataType::Float64).unwrap();
        column.as_primitive::<Float64Type>().clone()
    };
    let (delays, distances) = (number("dep_delay"), number("distance"));
    let expected = ids(&events).into_iter().enumerate().filter_map(|(row, id)| {
        let delay = if delays.is_valid(row) { delays.value(row) } else { 0.0 };
        let distance = distances.value(row);
        (distance <= 2_500.0).then_some((id, (delay + distance) as f32))
    });
    let expected: std::collections::BTreeMap<String, f32> = expected.collect();
    for workers in [1, 2] {
        let own = OwnEvents::batches(events.schema(), [events.clone()]);
        let (pipeline, predictions, letters, _) =
            collecting(pipeline().workers(workers).events(own));
        let summary = pipeline.run().unwrap();
        assert_eq!(summary.account.predictions as usize, expected.len());
        let predictions = predictions.all();
        let scores = predictions.column_by_name("score").unwrap().as_primitive::<Float32Type>();
        let found = ids(&predictions).into_iter().zip(scores.values().iter().copied());
        assert!(found.collect::<std::collections::BTreeMap<_, _>>() == expected, "{workers}");
        let versions = predictions.column_by_name("model_version").unwrap().as_string::<i32>();
        assert_eq!(versions.value(0), "7");
        let letters = letters.all();
        assert_eq!(letters.num_rows(), ROWS - expected.len());
        let details = letters.column_by_name("detail").unwrap().as_string::<i32>();
        assert_eq!(details.value(0), "too far");
    }
}

/// Refuses as [`Sum`] does, and says that it took too long.
struct Slow {
    sum: Sum,
    limit: Option<Duration>,
}

impl Model for Slow {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let Some(limit) = self.limit else { return self.sum.score(features) };
        self.sum
            .score(features)
            .map_err(|_| ModelError::Overstayed { limit_ms: limit.as_millis() as u64 })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }

    fn limit_runs(&mut self, limit: Duration) -> Result<(), ModelError> {
        self.limit = Some(limit);
        Ok(())
    }
}

/// With a far flight in many micro-batches, and in some of them several.
#[test]
fn rows_whose_runs_overstay_are_dead_letters() {
    let events = departures();
    let job = job().set("model.run_timeout_ms", 250).set("realtime_ml.max_batch_size", 64);
    let make =
        |_: &[_]| Ok(Box::new(Slow { sum: Sum { distance: 1 }, limit: None }) as Box<dyn Model>);
    let pipeline = Pipeline::new(job.build(".".as_ref()).unwrap()).model(make);
    let own = OwnEvents::batches(events.schema(), [events.clone()]);
    let (pipeline, predictions, letters, _) = collecting(pipeline.events(own));
    pipeline.run().unwrap();
    let (scored, letters) = (ids(&predictions.all()), letters.all());
    assert_eq!(scored.len() + letters.num_rows(), ROWS);
    let distances = events.column_by_name("distance").unwrap();
    let distances = arrow::compute::cast(distances, &arrow::datatypes::DataType::Float64).unwrap();
    let distances = distances.as_primitive::<Float64Type>().values();
    let far: BTreeSet<String> = ids(&events)
        .into_iter()
        .zip(distances)
        .filter(|(_, d)| **d > 2_500.0)
        .map(|it| it.0)
        .collect();
    assert!(scored.iter().all(|id| !far.contains(id)));
    let details = letters.column_by_name("detail").unwrap().as_string::<i32>();
    let (mut alone, mut untried) = (0, 0);
    for detail in details.iter().flatten() {
        match detail {
            "the run took longer than run_timeout_ms = 250" => alone += 1,
            other => {
                let ends = "runs of its micro-batch took longer than run_timeout_ms = 250";
                assert!(other.starts_with("not tried again: ") && other.ends_with(ends), "{other}");
                untried += 1;
            }
        }
    }
    assert!(alone > 0 && untried > 0, "{alone} and {untried}");
}

#[test]
fn one_that_cannot_be_made_ends_the_run_before_it_begins() {
    let own = OwnEvents::batches(departures().schema(), [departures()]);
    let refusing = pipeline().model(|_features| Err(ModelError::Refused("no weights".to_owned())));
    let (pipeline, ..) = collecting(refusing.events(own));
    let error = format!("{:#}", pipeline.run().err().unwrap());
    assert!(error.contains("no weights"), "{error}");
}

/// Says `task` and `width`, and gives `given` numbers a row where a batch has a row of far away.
struct Wrong {
    task: Task,
    width: usize,
    given: usize,
}

impl Model for Wrong {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let distances = features.column(1).as_primitive::<Float64Type>();
        let is_far = distances.values().iter().any(|&distance| distance > 2_500.0);
        let numbers = features.num_rows() * if is_far { self.given } else { self.width };
        Ok(Scores { predictions: vec![0.5; numbers], input: None })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn task(&self) -> Task {
        self.task
    }
}

fn run_wrong(task: Task, width: usize, given: usize) -> Result<(usize, Vec<String>), String> {
    let own = OwnEvents::batches(departures().schema(), [departures()]);
    let make = move |_: &[_]| Ok(Box::new(Wrong { task, width, given }) as Box<dyn Model>);
    let (pipeline, predictions, letters, _) = collecting(pipeline().model(make).events(own));
    pipeline.run().map_err(|error| format!("{error:#}"))?;
    let details = letters.all().column_by_name("detail").unwrap().clone();
    let details = details.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    Ok((predictions.all().num_rows(), details))
}

#[test]
fn rows_that_are_not_answered_one_for_one_are_dead_letters() {
    let far = arrow::compute::cast(
        departures().column_by_name("distance").unwrap(),
        &arrow::datatypes::DataType::Float64,
    );
    let far = far.unwrap();
    let far = far.as_primitive::<Float64Type>().values().iter().filter(|&&d| d > 2_500.0).count();
    for (task, width, given) in [
        (Task::Regression, 1, 0),
        (Task::Regression, 1, 2),
        (Task::Binary, 2, 1),
        (Task::Multiclass, 3, 4),
    ] {
        let name = format!("{task:?} of {width}, given {given}");
        let (predicted, details) = run_wrong(task, width, given).unwrap();
        assert_eq!((predicted, details.len()), (ROWS - far, far), "{name}");
        let wanted = format!("the model gave {given} numbers for 1 rows");
        assert!(details.iter().all(|detail| detail.starts_with(&wanted)), "{name}: {details:?}");
    }
}

#[test]
fn a_task_with_predictions_of_another_width_is_an_error_at_the_start() {
    for (task, width) in
        [(Task::Binary, 1), (Task::Binary, 3), (Task::Multiclass, 1), (Task::Regression, 0)]
    {
        let error = run_wrong(task, width, width).unwrap_err();
        let wanted = format!("predictions of {width} numbers, and its task is {task:?}");
        assert!(error.contains(&wanted), "{error}");
    }
}

/// Its first feature by 3, which no float holds.
struct Third;

impl Model for Third {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let Scores { predictions, input } = self.score_doubles(features)?;
        Ok(Scores { predictions: predictions.into_iter().map(|x| x as f32).collect(), input })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }

    fn gives_doubles(&self) -> bool {
        true
    }

    fn score_doubles(&mut self, features: &RecordBatch) -> Result<Scores<f64>, ModelError> {
        let first = features.column(0).as_primitive::<Float64Type>();
        Ok(Scores { predictions: first.values().iter().map(|x| x / 3.0).collect(), input: None })
    }
}

#[test]
fn doubles_come_out_as_they_are() {
    let distances = departures().column_by_name("distance").unwrap().clone();
    let distances = arrow::compute::cast(&distances, &arrow::datatypes::DataType::Float64).unwrap();
    let wanted = |row: usize| distances.as_primitive::<Float64Type>().value(row) / 3.0;
    let expected: std::collections::BTreeMap<String, f64> =
        ids(&departures()).into_iter().enumerate().map(|(row, id)| (id, wanted(row))).collect();
    let job = JobBuilder::new("doubles", "event_time")
        .id("event_id")
        .feature("distance", Feature::column("distance"))
        .model(ModelSection::own("third", ["distance"]))
        .build(".".as_ref());
    let pipeline = Pipeline::new(job.unwrap()).model(|_features| Ok(Box::new(Third)));
    for workers in [1, 3] {
        let own = OwnEvents::batches(departures().schema(), [departures()]);
        let (pipeline, predictions, ..) = collecting(pipeline.clone().workers(workers).events(own));
        pipeline.run().unwrap();
        let rows = predictions.all();
        let scores = rows.column_by_name("score").unwrap().as_primitive::<Float64Type>();
        assert!(
            rows.column_by_name("confidence").unwrap().as_primitive::<Float64Type>().null_count()
                == ROWS
        );
        let found: std::collections::BTreeMap<String, f64> =
            ids(&rows).into_iter().zip(scores.values().iter().copied()).collect();
        assert_eq!(found, expected);
    }
    let predictor = pipeline.predictor(&departures().schema()).unwrap();
    let some = departures().slice(0, 100);
    let predicted = predictor.predict_batch(&some).unwrap().predictions;
    let scores = predicted.column_by_name("score").unwrap().as_primitive::<Float64Type>();
    let found: std::collections::BTreeMap<String, f64> =
        ids(&predicted).into_iter().zip(scores.values().iter().copied()).collect();
    assert!(found.len() == 100 && found.iter().all(|(id, score)| expected[id] == *score));
}
