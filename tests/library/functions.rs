//! Features in Rust.

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMillisecondType};
use driftline::run::prepare::read_parquet;
use driftline::{OwnEvents, Pipeline, SqlFunction};

use crate::support::{ROWS, departures, job};

const JOB: &str = r#"
[job]
name = "own"
[event]
time = "event_time"
id = "event_id"
[sources.departures]
path = "DATA/departures.parquet"
[features.pace]
sql = "pace(distance, dep_delay) + 1"
[features.worst_of_ten]
window = { key = "carrier", value = "dep_delay", function = "worst_of_ten", length = "3h" }
"#;

/// The worst of the last ten values of a window.
fn worst_of_ten(rows: &mut dyn Iterator<Item = (i64, f64)>) -> Option<f64> {
    let rows: Vec<f64> = rows.map(|(_, value)| value).collect();
    rows.iter().rev().take(10).copied().max_by(f64::total_cmp)
}

fn pace(values: &[f64]) -> f64 {
    values[0] / (values[1].abs() + 1.0)
}

fn text(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|value| value.unwrap_or("").to_owned()).collect()
}

fn numbers(batch: &RecordBatch, name: &str) -> Vec<Option<f64>> {
    let column = cast(batch.column_by_name(name).unwrap(), &DataType::Float64).unwrap();
    column.as_primitive::<Float64Type>().iter().collect()
}

#[test]
fn functions_over_columns_and_over_windows() {
    let events = departures();
    let (ids, carriers) = (text(&events, "event_id"), text(&events, "carrier"));
    let (delays, distances) = (numbers(&events, "dep_delay"), numbers(&events, "distance"));
    let times = events.column_by_name("event_time").unwrap();
    let times = cast(times, &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None));
    let times = times.unwrap().as_primitive::<TimestampMillisecondType>().clone();

    let mut of_carrier: BTreeMap<&str, Vec<(i64, f64)>> = BTreeMap::new();
    let mut expected: BTreeMap<String, [Option<u64>; 2]> = BTreeMap::new();
    for row in 0..ROWS {
        let seen = of_carrier.entry(&carriers[row]).or_default();
        seen.extend(delays[row].map(|delay| (times.value(row), delay)));
        let inside = |(time, _): &&(i64, f64)| *time > times.value(row) - 3 * 3_600_000;
        let last = seen.iter().rev().take_while(inside).take(10).map(|(_, delay)| *delay);
        let pace = delays[row].zip(distances[row]).map(|(delay, far)| pace(&[far, delay]) + 1.0);
        let worst = last.max_by(f64::total_cmp);
        expected.insert(ids[row].clone(), [pace, worst].map(|v| v.map(f64::to_bits)));
    }

    for workers in [1, 2, 4] {
        let folder = tempfile::tempdir().unwrap();
        Pipeline::new(job(JOB))
            .workers(workers)
            .events(OwnEvents::batches(events.schema(), [events.clone()]))
            .function(SqlFunction::of_numbers("pace", 2, pace))
            .window_function("worst_of_ten", worst_of_ten)
            .export(folder.path().join("features"))
            .unwrap();
        let mut found = BTreeMap::new();
        for worker in 0..workers {
            let part = folder.path().join(format!("features/part-{worker:05}.parquet"));
            let part = read_parquet(&part).unwrap();
            let (pace, worst) = (numbers(&part, "pace"), numbers(&part, "worst_of_ten"));
            let values = pace.into_iter().zip(worst);
            let bits = values.map(|(a, b)| [a, b].map(|v| v.map(f64::to_bits)));
            found.extend(text(&part, "event_id").into_iter().zip(bits));
        }
        assert_eq!(found, expected, "{workers} workers");
    }
}

#[test]
fn a_function_that_the_program_does_not_bring_is_named() {
    let with = |pipeline: Pipeline| {
        let folder = tempfile::tempdir().unwrap();
        let error = pipeline.export(folder.path().join("features")).err().unwrap();
        format!("{error:#}")
    };
    let error = with(Pipeline::new(job(JOB)).window_function("worst_of_ten", worst_of_ten));
    assert!(error.contains("features.pace") && error.contains("'pace'"), "{error}");
    let own = SqlFunction::of_numbers("pace", 2, pace);
    let error = with(Pipeline::new(job(JOB)).function(own));
    assert!(
        error.contains("features.worst_of_ten: there is no function \"worst_of_ten\""),
        "{error}"
    );
}
