//! Predictions on request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use driftline::model::{Model, ModelError, Scores, Task};
use driftline::run::prepare::read_parquet;
use driftline::{Feature, JobBuilder, Model as ModelSection, Pipeline, PredictError, Window};
use std::sync::Arc;

use crate::support::{ROWS, assert_as_replayed, departures, first_feature, flights, ids, scores};

const FEATURES: [&str; 2] = ["dep_delay", "distance"];

#[test]
fn requests_in_order_give_what_a_replay_gives_whatever_their_size() {
    let events = departures();
    for workers in [1, 2] {
        let pipeline = Pipeline::new(flights()).workers(workers);
        let predictor = pipeline.predictor(&events.schema()).unwrap();
        let (mut from, mut results) = (0, Vec::new());
        for rows in [1, 1, 1, 7, 300, 1, 20_000, 9_001].into_iter().cycle() {
            let rows = rows.min(ROWS - from);
            let predicted = predictor.predict_batch(&events.slice(from, rows)).unwrap();
            let predictions = predicted.predictions;
            assert_eq!(predictions.num_rows(), rows);
            assert_eq!((predicted.dead_letters.num_rows(), predicted.skipped), (0, 0));
            // In the order of the rows.
            assert!(ids(&predictions) == ids(&events.slice(from, rows)), "order from {from}");
            results.push(predictions);
            from += rows;
            if from == ROWS {
                break;
            }
        }
        let all = concat_batches(results[0].schema_ref(), &results).unwrap();
        assert_as_replayed(&scores(&all), &format!("{workers} workers"));
        let summary = predictor.close().unwrap();
        assert_eq!(summary.account.predictions, ROWS as u64);
    }
}

#[test]
fn threads_get_their_own_rows() {
    let events = departures();
    let predictor = Pipeline::new(flights()).predictor(&events.schema()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (predictor, events) = (&predictor, &events);
            scope.spawn(move || {
                for request in 0..50 {
                    let rows = events.slice(thread * 10_000 + request * 20, 1 + request % 20);
                    let predicted = predictor.predict_batch(&rows).unwrap();
                    assert!(ids(&predicted.predictions) == ids(&rows), "request {request}");
                    assert_eq!(predicted.dead_letters.num_rows(), 0);
                }
            });
        }
    });
}

/// With the features that an export has, and without the model's past.
#[test]
fn given_features_are_scored_as_the_features_of_events_are() {
    let folder = tempfile::tempdir().unwrap();
    let exported = folder.path().join("features");
    let events = driftline::OwnEvents::batches(departures().schema(), [departures()]);
    Pipeline::new(flights()).events(events).export(&exported).unwrap();
    let features = read_parquet(&exported.join("part-00000.parquet")).unwrap();
    let predictor = Pipeline::new(flights()).predictor_on_features(&features.schema()).unwrap();
    // In any order, since nothing remembers anything.
    let backwards = (0..features.num_rows() as u32).rev().collect::<Vec<_>>();
    let backwards = take_record_batch(&features, &UInt32Array::from(backwards)).unwrap();
    let predicted = predictor.predict_batch(&backwards).unwrap();
    assert_as_replayed(&scores(&predicted.predictions), "features");
}

/// Rows are applied as they are asked for, so that one that is not late may come behind others.
#[test]
fn a_row_behind_others_sees_its_whole_window_whatever_becomes_of_late_ones() {
    for late in ["score", "dead_letter", "skip"] {
        let job = JobBuilder::new("behind", "t")
            .set("event.allowed_lateness_ms", 60_000)
            .set("event.late", late)
            .feature("n", Feature::window(Window::count("k", "1h")))
            .model(ModelSection::own("n", ["n"]))
            .build(".".as_ref())
            .unwrap();
        let rows = |time: i64| {
            let columns: [(&str, ArrayRef); 2] = [
                ("t", Arc::new(Int64Array::from(vec![time]))),
                ("k", Arc::new(StringArray::from(vec!["a"]))),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let pipeline = Pipeline::new(job).model(first_feature());
        let predictor = pipeline.predictor(&rows(0).schema()).unwrap();
        let counted = [0, 3_610_000, 3_599_000].map(|time| {
            let predicted = predictor.predict_batch(&rows(time)).unwrap().predictions;
            predicted.column_by_name("score").unwrap().as_primitive::<Float32Type>().value(0)
        });
        assert_eq!(counted, [1.0, 1.0, 2.0], "late = {late}");
    }
}

#[test]
fn given_features_need_not_have_the_column_that_events_are_spread_by() {
    let fields = FEATURES.map(|name| Field::new(name, DataType::Float64, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let numbers = || Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0])) as ArrayRef;
    let rows = RecordBatch::try_new(schema.clone(), vec![numbers(), numbers()]).unwrap();
    for shard_by in ["key", "id", "origin"] {
        let job = JobBuilder::new("spread", "event_time")
            .id("event_id")
            .key("tailnum")
            .set("job.shard_by", shard_by)
            .feature("dep_delay", Feature::column("dep_delay"))
            .feature("distance", Feature::column("distance"))
            .model(ModelSection::own("first", FEATURES))
            .build(".".as_ref())
            .unwrap();
        let pipeline = Pipeline::new(job).model(first_feature()).workers(2);
        let predictor = pipeline.predictor_on_features(&schema).unwrap();
        let predicted = predictor.predict_batch(&rows).unwrap().predictions;
        let scores = predicted.column_by_name("score").unwrap().as_primitive::<Float32Type>();
        assert_eq!(scores.values(), &[1.0, 2.0, 3.0], "shard_by {shard_by}");
    }
}

#[test]
fn features_without_id_key_and_time_are_scored_and_bad_ones_are_dead_letters() {
    let job = crate::support::job(
        r#"
[job]
name = "plain"
[event]
time = "event_time"
id = "event_id"
filter = "distance > 0"
[sources.departures]
path = "DATA/departures.parquet"
[features.dep_delay]
column = "dep_delay"
default = 1.5
[features.distance]
sql = "distance * 2"
[model]
path = "DATA/models/minimal.onnx"
features = ["dep_delay", "distance"]
"#,
    );
    let fields = FEATURES.map(|name| Field::new(name, DataType::Float64, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let predictor = Pipeline::new(job).predictor_on_features(&schema).unwrap();
    let delays = Float64Array::from(vec![Some(1.5), None, Some(3.0)]);
    let distances = Float64Array::from(vec![Some(10.0), Some(10.0), None]);
    let rows = RecordBatch::try_new(schema, vec![Arc::new(delays), Arc::new(distances)]).unwrap();
    let predicted = predictor.predict_batch(&rows).unwrap();
    assert_eq!(predicted.predictions.num_rows(), 2);
    let scores = predicted.predictions.column_by_name("score").unwrap().slice(0, 2);
    // The default is what the first row has.
    assert_eq!(scores.slice(0, 1).to_data(), scores.slice(1, 1).to_data());
    let details = predicted.dead_letters.column_by_name("detail").unwrap().as_string::<i32>();
    assert_eq!(details.value(0), "feature \"distance\" is null and has no default");
}

/// The first feature, NaN where it is null.
struct FirstOrNan;

impl Model for FirstOrNan {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let first = features.column(0).as_primitive::<Float64Type>().iter();
        let predictions = first.map(|value| value.map_or(f32::NAN, |value| value as f32)).collect();
        Ok(Scores { predictions, input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

#[test]
fn a_prediction_that_is_no_number_is_a_dead_letter_and_harms_no_other_row() {
    let job = JobBuilder::new("numbers", "event_time")
        .id("event_id")
        .feature("dep_delay", Feature::column("dep_delay").allow_null())
        .feature("distance", Feature::column("distance").default(1.0))
        .model(ModelSection::own("first", FEATURES))
        .build(".".as_ref())
        .unwrap();
    let fields = FEATURES.map(|name| Field::new(name, DataType::Float64, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let delays = [Some(1.0), None, Some(3.0), Some(f64::INFINITY), Some(f64::NAN), Some(6.0)];
    let delays = Arc::new(Float64Array::from(delays.to_vec()));
    let distances = Arc::new(Float64Array::from(vec![f64::NAN; 6]));
    let rows = RecordBatch::try_new(schema.clone(), vec![delays, distances]).unwrap();
    for workers in [1, 2] {
        let pipeline = Pipeline::new(job.clone()).workers(workers);
        let pipeline = pipeline.model(|_features| Ok(Box::new(FirstOrNan)));
        let predictor = pipeline.predictor_on_features(&schema).unwrap();
        let predicted = predictor.predict_batch(&rows).unwrap();
        let scores = predicted.predictions.column_by_name("score").unwrap();
        assert_eq!(scores.as_primitive::<Float32Type>().values(), &[1.0, 3.0, 6.0]);
        let letter = |name| predicted.dead_letters.column_by_name(name).unwrap().as_string::<i32>();
        assert!(letter("reason").iter().all(|reason| reason == Some("scoring_failed")));
        let details: Vec<&str> = letter("detail").iter().flatten().collect();
        let null = "the model's prediction is NaN; feature \"dep_delay\" is null";
        let infinite = "the model's prediction is infinite (inf); feature \"dep_delay\" is inf";
        assert_eq!(details, [null, infinite, null]);
        let account = predictor.close().unwrap().account;
        assert_eq!((account.predictions, account.dead_letters, account.pending), (3, 3, 0));
    }
}

#[test]
fn skipped_rows_are_counted_and_an_empty_request_is_answered() {
    let mut job = flights();
    job.event.filter = Some("origin = 'JFK'".to_owned());
    let events = departures().slice(0, 1_000);
    let origins = events.column_by_name("origin").unwrap().as_string_opt::<i32>().cloned();
    let origins = origins.unwrap_or_else(|| {
        let texts = arrow::compute::cast(events.column_by_name("origin").unwrap(), &DataType::Utf8);
        texts.unwrap().as_string::<i32>().clone()
    });
    let jfk = origins.iter().filter(|origin| *origin == Some("JFK")).count();
    let predictor = Pipeline::new(job).predictor(&events.schema()).unwrap();
    let predicted = predictor.predict_batch(&events).unwrap();
    assert_eq!((predicted.predictions.num_rows(), predicted.skipped), (jfk, 1_000 - jfk));
    let nothing = predictor.predict_batch(&events.slice(0, 0)).unwrap();
    assert_eq!((nothing.predictions.num_rows(), nothing.dead_letters.num_rows()), (0, 0));
    assert_eq!(nothing.predictions.schema(), predicted.predictions.schema());
}

#[test]
fn a_row_of_which_the_filter_is_unknown_is_skipped() {
    let mut job = flights();
    job.event.filter = Some("CASE WHEN origin = 'JFK' THEN NULL ELSE origin = 'LGA' END".into());
    let events = departures().slice(0, 1_000);
    let origins = arrow::compute::cast(events.column_by_name("origin").unwrap(), &DataType::Utf8);
    let origins = origins.unwrap();
    let of = |airport| origins.as_string::<i32>().iter().filter(|o| *o == Some(airport)).count();
    assert!(of("JFK") > 0 && of("LGA") > 0);
    let predictor = Pipeline::new(job).predictor(&events.schema()).unwrap();
    let predicted = predictor.predict_batch(&events).unwrap();
    let found = (predicted.predictions.num_rows(), predicted.skipped);
    assert_eq!(found, (of("LGA"), 1_000 - of("LGA")));
}

#[test]
fn what_does_not_fit_is_an_error_that_leaves_the_predictor_at_work() {
    let events = departures();
    let predictor = Pipeline::new(flights()).predictor(&events.schema()).unwrap();
    let ids: StringArray = ["a"].into_iter().map(Some).collect();
    let other = RecordBatch::try_from_iter([("event_id", Arc::new(ids) as _)]).unwrap();
    let error = predictor.predict_batch(&other).unwrap_err();
    assert!(matches!(error, PredictError::Rows(_)), "{error}");
    let error = predictor.predict_batch_within(&events, Duration::from_micros(1)).unwrap_err();
    assert!(matches!(error, PredictError::Timeout(_)), "{error}");
    let predicted = predictor.predict_batch(&events.slice(0, 10)).unwrap();
    assert_eq!(predicted.predictions.num_rows(), 10);
    // They come months behind what timed out, and say so.
    let scores = scores(&predicted.predictions);
    assert!(scores.values().all(|(status, _)| status == "degraded"), "{scores:?}");

    let no_time = events.project(&[0]).unwrap();
    let error = Pipeline::new(flights()).predictor(&no_time.schema()).err().unwrap();
    assert!(error.to_string().contains("event_time"), "{error}");
    let error = Pipeline::new(flights()).predictor_on_features(&no_time.schema()).err().unwrap();
    assert!(error.to_string().contains("which is a feature of the model"), "{error}");
}

/// Holds up its worker until it is let go.
struct Stuck(Arc<AtomicBool>);

impl Model for Stuck {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        while self.0.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Scores { predictions: vec![0.0; features.num_rows()], input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

#[test]
fn rows_that_nobody_waits_for_any_more_do_not_pile_up() {
    let stuck = Arc::new(AtomicBool::new(false));
    let job = JobBuilder::new("stuck", "event_time")
        .feature("distance", Feature::column("distance"))
        .model(ModelSection::own("stuck", ["distance"]))
        .build(".".as_ref())
        .unwrap();
    let held = stuck.clone();
    let pipeline = Pipeline::new(job)
        .rows_waiting_max(1_000)
        .model(move |_features| Ok(Box::new(Stuck(held.clone()))));
    let predictor = pipeline.predictor(&departures().schema()).unwrap();
    stuck.store(true, Ordering::Release);
    let ask = |rows| {
        predictor.predict_batch_within(&departures().slice(0, rows), Duration::from_millis(1))
    };
    // The first may be taken before the worker is held up by it.
    let refused = (0..1_000).find_map(|n| match ask(100).unwrap_err() {
        PredictError::Timeout(_) => None,
        PredictError::Busy { waiting } => Some((n, waiting)),
        other => panic!("{other}"),
    });
    let (taken, waiting) = refused.expect("some are refused");
    assert_eq!(waiting, 1_000);
    assert!((10..=20).contains(&taken), "{taken} requests were taken");
    stuck.store(false, Ordering::Release);
    let ask_for_long = || {
        let rows = departures().slice(0, 5_000);
        let predicted = predictor.predict_batch_within(&rows, Duration::from_secs(60));
        predicted.map(|predicted| predicted.predictions.num_rows())
    };
    // One request of more than may wait is taken when nothing else waits.
    let answered = (0..10_000).find_map(|_| match ask_for_long() {
        Err(PredictError::Busy { .. }) => {
            std::thread::sleep(Duration::from_millis(1));
            None
        }
        answered => Some(answered.unwrap()),
    });
    assert_eq!(answered, Some(5_000));
}

/// Takes its time for each run, once it is told to: it is tried before.
struct Slow(Duration, Arc<AtomicBool>);

impl Model for Slow {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        if self.1.load(Ordering::Acquire) {
            std::thread::sleep(self.0);
        }
        Ok(Scores { predictions: vec![0.0; features.num_rows()], input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

#[test]
fn rows_that_no_run_could_begin_with_in_time_are_dead_letters_but_not_of_replays() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let pipeline = |timeout_ms: i64, run: Duration| {
        let is_slow = is_slow.clone();
        let job = JobBuilder::new("slow", "event_time")
            .id("event_id")
            .feature("distance", Feature::column("distance"))
            .model(ModelSection::own("slow", ["distance"]))
            .set("realtime_ml.request_timeout_ms", timeout_ms)
            .set("realtime_ml.max_batch_size", 1)
            .build(".".as_ref())
            .unwrap();
        Pipeline::new(job).model(move |_features| Ok(Box::new(Slow(run, is_slow.clone()))))
    };
    let rows = departures().slice(0, 3);
    let late = pipeline(1_000, Duration::from_millis(1_200));
    let predictor = late.predictor(&rows.schema()).unwrap();
    is_slow.store(true, Ordering::Release);
    let predicted = predictor.predict_batch(&rows).unwrap();
    assert_eq!(ids(&predicted.predictions), ids(&rows)[..1]);
    assert_eq!(ids(&predicted.dead_letters), ids(&rows)[1..]);
    for (column, text) in [("reason", "timed_out"), ("detail", "not scored within 1000 ms")] {
        let letters = predicted.dead_letters.column_by_name(column).unwrap();
        assert_eq!(letters.as_string::<i32>().value(0), text);
    }
    let replayed = pipeline(1, Duration::from_millis(2));
    let own = driftline::OwnEvents::batches(rows.schema(), [rows.clone()]);
    let (replayed, predictions, letters, _) = crate::support::collecting(replayed.events(own));
    replayed.run().unwrap();
    assert_eq!((predictions.all().num_rows(), letters.is_empty()), (3, true));
}

#[test]
fn a_job_that_cannot_run_is_an_error_at_the_start() {
    let mut job = flights();
    job.model.as_mut().unwrap().path = "none.onnx".into();
    let error = Pipeline::new(job).predictor(&departures().schema()).err().unwrap();
    assert!(format!("{error:#}").contains("none.onnx"), "{error:#}");
}
