//! A program's own code that panics ends the run with an error, on any number of workers; a function in
//! SQL that does costs the row.

use std::error::Error;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use driftline::model::{Model, ModelError, Scores, Task};
use driftline::{
    EventSource, Feature, FunctionSink, JobBuilder, Model as ModelSection, Next, OwnEvents,
    Pipeline, PredictError, SqlFunction,
};

use crate::support::{collecting, departures, in_time};

/// Zero for each row; batches of a few hundred rows and more make it panic, if it is to.
struct Zero {
    panics: bool,
}

impl Model for Zero {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        // Those that it is tried with have 1,024 rows, or no more than 256.
        assert!(!self.panics || features.num_rows() != 500, "the model gives up");
        Ok(Scores { predictions: vec![0f32; features.num_rows()].into(), input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

/// The function panics from here on.
const FAR: f64 = 2_700.0;

fn pipeline(sql: &str, model_panics: bool) -> Pipeline {
    let mut job = JobBuilder::new("panics", "event_time")
        .id("event_id")
        .feature("distance", Feature::sql(sql))
        .model(ModelSection::own("zero", ["distance"]))
        .build(".".as_ref())
        .unwrap();
    job.realtime.bounds.max_rows = 500;
    Pipeline::new(job)
        .model(move |_features| Ok(Box::new(Zero { panics: model_panics })))
        .function(SqlFunction::of_numbers("bad", 1, |of| {
            assert!(of[0] < FAR, "the function gives up");
            of[0]
        }))
        .events(OwnEvents::batches(departures().schema(), [departures()]))
}

#[track_caller]
fn assert_ends(name: &str, make: impl Fn() -> Pipeline, wanted: &str) {
    for workers in [1, 2, 4] {
        let pipeline = make().workers(workers);
        let name = format!("{name}, {workers} workers");
        let error = in_time(&name, move || pipeline.run().err()).expect(&name).to_string();
        assert!(error.starts_with("worker "), "{name}: {error}");
        assert!(error.ends_with(&format!(" has panicked: {wanted}")), "{name}: {error}");
    }
}

#[test]
fn a_model_a_source_or_a_sink_that_panics_ends_the_run() {
    let good = "CAST(distance AS DOUBLE)";
    assert_ends("model", || collecting(pipeline(good, true)).0, "the model gives up");

    struct Panicking;
    impl EventSource for Panicking {
        fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
            panic!("the source gives up")
        }
    }
    let source = || pipeline(good, false).events(OwnEvents::new(departures().schema(), Panicking));
    assert_ends("source", source, "the source gives up");

    let sink = || {
        pipeline(good, false).predictions(|_worker, _schema| {
            Ok(Box::new(FunctionSink::new("mine", |_batch| panic!("the sink gives up"))))
        })
    };
    assert_ends("sink", sink, "the sink gives up");
}

#[test]
fn a_function_that_panics_costs_the_rows_it_panics_on() {
    for workers in [1, 2, 4] {
        let pipeline = collecting(pipeline("bad(distance)", false).workers(workers)).0;
        let name = format!("function, {workers} workers");
        let summary = in_time(&name, move || pipeline.run()).expect(&name);
        let distances = departures();
        let distances = distances.column_by_name("distance").unwrap();
        let distances = cast(distances, &DataType::Float64).unwrap();
        let far = distances.as_primitive::<Float64Type>().values().iter();
        let far = far.filter(|distance| **distance >= FAR).count();
        assert!(far > 1, "there are none");
        assert_eq!(summary.account.dead_letters, far as u64, "{name}");
        let text = summary.to_string();
        let line = format!("distance: {far} rows null (the function gives up)");
        assert!(text.contains(&line), "{name}: {text}");
    }
}

#[test]
fn those_who_wait_for_predictions_are_told() {
    for workers in [1, 2] {
        let pipeline = pipeline("CAST(distance AS DOUBLE)", true).workers(workers);
        let predictor = pipeline.predictor(&departures().schema()).unwrap();
        let predict = move || predictor.predict_batch(&departures().slice(0, 1_000)).err();
        let error = in_time("request", predict).unwrap();
        assert!(
            matches!(&error, PredictError::Stopped(why) if why.contains("gives up")),
            "{error}"
        );
    }
}
