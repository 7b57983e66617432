//! A program's own code that panics ends the run with an error, on any number of workers.

use std::error::Error;

use arrow::array::RecordBatch;
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
        Ok(Scores { predictions: vec![0.0; features.num_rows()], input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

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
        .function(SqlFunction::of_numbers("bad", 1, |_| panic!("the function gives up")))
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
fn a_function_a_model_a_source_or_a_sink_that_panics_ends_the_run() {
    let good = "CAST(distance AS DOUBLE)";
    assert_ends("function", || pipeline("bad(distance)", false), "the function gives up");
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
fn those_who_wait_for_predictions_are_told() {
    for workers in [1, 2] {
        let pipeline = pipeline("bad(distance)", false).workers(workers);
        let predictor = pipeline.predictor(&departures().schema()).unwrap();
        let predict = move || predictor.predict_batch(&departures().slice(0, 10)).err();
        let error = in_time("request", predict).unwrap();
        assert!(
            matches!(&error, PredictError::Stopped(why) if why.contains("gives up")),
            "{error}"
        );
    }
}
