//! `job.partition_skew_max_ms`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use driftline::{Feature, JobBuilder, Model as ModelSection, Pipeline};

use crate::support::{collecting, first_feature, in_time, scores, write_parquet};

const ROWS: i64 = 1_000;

fn events(name: &str, time: impl Fn(i64) -> i64) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("t", Arc::new(Int64Array::from_iter_values((0..ROWS).map(time)))),
        (
            "event_id",
            Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| format!("{name}{n}")))),
        ),
        ("k", Arc::new(StringArray::from_iter_values((0..ROWS).map(|_| "x")))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// The footers say of both files that their times are those from 0 to 999.
#[test]
fn files_that_are_further_apart_than_they_look_are_read_to_their_end() {
    let even = events("a", |n| n);
    let late_rise = events("b", |n| if n == ROWS - 1 { n } else { n / 500 });
    for workers in [1, 2] {
        for skew in [None, Some(0), Some(100)] {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            std::fs::create_dir(at("events")).unwrap();
            write_parquet(&at("events/a.parquet"), &even);
            write_parquet(&at("events/b.parquet"), &late_rise);
            // Only what is not all in Parquet is merged as it is read.
            let versions = "{\"k\": \"x\", \"at\": 0, \"v\": 7.0}\n";
            std::fs::write(at("versions.jsonl"), versions).unwrap();
            let job = JobBuilder::new("skew", "t")
                .id("event_id")
                .source("events")
                .set("job.epoch_rows_max", ROWS / 20)
                .set("job.epochs_in_flight_max", 1)
                .changing_table("versions", "versions.jsonl", "k", "at")
                .feature("v", Feature::lookup("versions", "k", "v"))
                .model(ModelSection::own("v", ["v"]));
            let job =
                skew.iter().fold(job, |job, skew| job.set("job.partition_skew_max_ms", *skew));
            let job = job.build(folder.path()).unwrap();
            let pipeline = Pipeline::new(job).model(first_feature()).workers(workers);
            let (pipeline, predictions, ..) = collecting(pipeline);
            let name = format!("{workers} workers, skew {skew:?}");
            in_time(&name, move || pipeline.run().map(|_| ())).expect(&name);
            let found = scores(&predictions.all());
            let all = concat_batches(&even.schema(), [&even, &late_rise]).unwrap();
            let ids = all.column_by_name("event_id").unwrap().as_string::<i32>().iter().flatten();
            let expected = ids.map(|id| (id.to_owned(), ("ok".to_owned(), 7f32.to_bits())));
            assert_eq!(found, expected.collect(), "{name}");
        }
    }
}
