//! Jobs made in code.

use driftline::{Feature, Job, JobBuilder, Model, OwnEvents, Pipeline, Window};

use crate::support::{assert_as_replayed, collecting, departures, flights, root, scores};

const CARRIERS: [&str; 16] = [
    "9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV",
];

/// The flights job, without its source and its drift.
fn built() -> JobBuilder {
    let weather = |column| Feature::lookup("weather", "origin", column);
    let plane = |column| Feature::lookup("planes", "tailnum", column);
    JobBuilder::new("flights", "event_time")
        .id("event_id")
        .key("tailnum")
        .table("planes", "../data/flights/planes.parquet", "tailnum")
        .changing_table("weather", "../data/flights/weather.parquet", "origin", "valid_from")
        .set("tables.weather.max_age_ms", 21_600_000)
        .feature("dep_delay", Feature::column("dep_delay").default(0.0))
        .feature("distance", Feature::column("distance"))
        .feature("minute_of_day", Feature::sql("hour * 60 + minute"))
        .feature("weekday", Feature::sql("date_part('dow', event_time)"))
        .feature(
            "carrier_delay_1h",
            Feature::window(Window::aggregate("mean", "carrier", "dep_delay", "1h")).default(0.0),
        )
        .feature("origin_departures_1h", Feature::window(Window::count("origin", "1h")))
        .feature(
            "plane_idle_ms",
            Feature::window(Window::time_since_last("tailnum", "7 days")).default(604_800_000.0),
        )
        .feature("plane_idle_h", Feature::sql("plane_idle_ms / 3600000"))
        .feature("temp", weather("temp").default(55.0))
        .feature("wind_speed", weather("wind_speed").default(10.0))
        .feature("precip", weather("precip").default(0.0))
        .feature("visib", weather("visib").default(10.0))
        .feature("plane_year", plane("year").default(2001.0))
        .feature("plane_seats", plane("seats").default(149.0))
        .feature("plane_age", Feature::sql("date_part('year', event_time) - plane_year"))
        .feature("carrier_code", Feature::encode("carrier", CARRIERS, -1.0))
        .feature("origin_code", Feature::encode("origin", ["EWR", "JFK", "LGA"], -1.0))
        .set("features.dest_code.encode.column", "dest")
        .set("features.dest_code.encode.unseen", -1)
        .set("features.dest_code.encode.categories_file", "../data/flights/destinations.txt")
        .model(model().name("arrival-delay").version("1"))
        .set("realtime_ml.max_batch_size", 1_024)
}

fn model() -> Model {
    let features = flights().model.unwrap().features;
    Model::onnx("../data/flights/models/trees.onnx", features.iter().map(String::as_str))
}

#[test]
fn a_job_made_in_code_does_what_the_file_does() {
    let job = built().build(&root().join("jobs")).unwrap();
    let events = OwnEvents::batches(departures().schema(), [departures()]);
    let (pipeline, predictions, ..) = collecting(Pipeline::new(job).events(events));
    pipeline.run().unwrap();
    assert_as_replayed(&scores(&predictions.all()), "built");
}

#[test]
fn what_it_says_as_a_file_is_the_same_job() {
    let text = built().to_toml();
    let parsed = Job::parse(&text, &root().join("jobs")).unwrap();
    let built = built().build(&root().join("jobs")).unwrap();
    assert_eq!(format!("{parsed:?}"), format!("{built:?}"));
}

#[test]
fn it_is_checked_as_a_file_is() {
    let error = |job: JobBuilder| job.build(&root().join("jobs")).unwrap_err().to_string();
    let wrong = error(built().set("realtime_ml.max_batchsize", 5));
    assert!(wrong.contains("did you mean \"max_batch_size\"?"), "{wrong}");
    let wrong = error(built().feature("x", Feature::lookup("nowhere", "origin", "temp")));
    assert!(wrong.contains("features.x") && wrong.contains("[tables.nowhere]"), "{wrong}");
    let wrong = error(built().set("job.order", "random"));
    assert!(wrong.contains("event_time"), "{wrong}");
}

#[test]
fn a_job_without_a_source_says_so_when_nobody_brings_events() {
    let job = built().build(&root().join("jobs")).unwrap();
    let (pipeline, ..) = collecting(Pipeline::new(job));
    let error = format!("{:#}", pipeline.run().err().unwrap());
    assert!(error.contains("no section [sources.NAME]"), "{error}");
}
