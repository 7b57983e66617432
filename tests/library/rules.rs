//! Rules of features and rows, where rows come by request.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use driftline::{Feature, Job, JobBuilder, Model, Pipeline, Predicted};

use crate::support::first_feature;

const ROWS: usize = 6;

fn job() -> Job {
    let delay = Feature::column("delay").default(1.0).valid("min", -60).valid("max", 600.5);
    JobBuilder::new("rules", "at")
        .id("id")
        .feature("delay", delay.valid("on_fail", "clip"))
        .feature("distance", Feature::column("distance").valid("min", 1))
        .check("in_range", "delay + distance < 5000")
        .check("not_seven", "distance <> 7")
        .set("checks.not_seven.on_fail", "flag")
        .model(Model::own("first", ["delay", "distance"]))
        .build(".".as_ref())
        .unwrap()
}

/// Events, which are features as well.
fn rows() -> RecordBatch {
    let numbers = |numbers: [f64; ROWS]| Arc::new(Float64Array::from(numbers.to_vec()));
    let columns: [(&str, ArrayRef); 4] = [
        ("at", Arc::new(Int64Array::from_iter_values(0..ROWS as i64))),
        ("id", Arc::new(StringArray::from(vec!["a", "b", "c", "d", "e", "f"]))),
        ("delay", numbers([f64::INFINITY, 5.0, 100.0, -61.0, f64::NAN, 0.0])),
        ("distance", numbers([10.0, 0.0, 4950.0, 7.0, 2.0, -1.0])),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Vec<&'a str> {
    rows.column_by_name(name).unwrap().as_string::<i32>().iter().flatten().collect()
}

fn scores(predicted: &Predicted) -> &[f32] {
    let scores = predicted.predictions.column_by_name("score").unwrap();
    scores.as_primitive::<Float32Type>().values()
}

#[test]
fn rules_hold_for_requests() {
    for workers in [1, 2] {
        let pipeline = Pipeline::new(job()).model(first_feature()).workers(workers);
        let predictor = pipeline.predictor(&rows().schema()).unwrap();
        let predicted = predictor.predict_batch(&rows()).unwrap();
        assert_eq!(texts(&predicted.predictions, "event_id"), ["a", "d", "e"]);
        assert_eq!(scores(&predicted), [600.5, -60.0, 1.0]);
        assert_eq!(texts(&predicted.predictions, "status"), ["ok", "degraded", "ok"]);
        let metadata = texts(&predicted.predictions, "metadata");
        let failed =
            ["\"failed_rules\":[\"delay.max\"]", "\"failed_rules\":[\"delay.min\",\"not_seven\"]"];
        assert!(metadata[0].contains(failed[0]) && metadata[1].contains(failed[1]), "{metadata:?}");
        assert!(!metadata[2].contains("failed_rules"), "{metadata:?}");
        assert_eq!(texts(&predicted.dead_letters, "event_id"), ["b", "c", "f"]);
        assert_eq!(texts(&predicted.dead_letters, "reason"), ["validation_failed"; 3]);
        let details = [
            "distance.min: 0 is not at least 1",
            "in_range: not true: delay + distance < 5000",
            "distance.min: -1 is not at least 1",
        ];
        assert_eq!(texts(&predicted.dead_letters, "detail"), details);
        let summary = predictor.close().unwrap();
        let counted: Vec<(&str, u64)> =
            summary.failed_rules.iter().map(|(rule, _, rows)| (rule.as_str(), *rows)).collect();
        let wanted = [
            ("delay.min", 1),
            ("delay.max", 1),
            ("distance.min", 2),
            ("in_range", 1),
            ("not_seven", 1),
        ];
        assert_eq!(counted, wanted);
    }
}

#[test]
fn rules_of_features_hold_for_features_that_are_given_and_checks_of_events_do_not() {
    let pipeline = Pipeline::new(job()).model(first_feature());
    let features = rows().project(&[2, 3]).unwrap();
    let predictor = pipeline.predictor_on_features(&features.schema()).unwrap();
    let predicted = predictor.predict_batch(&features).unwrap();
    assert_eq!(scores(&predicted), [600.5, 100.0, -60.0, 1.0]);
    let details = ["distance.min: 0 is not at least 1", "distance.min: -1 is not at least 1"];
    assert_eq!(texts(&predicted.dead_letters, "detail"), details);
}
