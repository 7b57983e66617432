//! Driftline as a library: a job made in code, events and a sink of one's own, features in Rust, and
//! predictions on request.
//!
//! Payments of a few customers are scored for risk. `cargo run --release -p driftline-example`

mod payments;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use driftline::{
    Feature, FunctionSink, Job, JobBuilder, Model, OwnEvents, Pipeline, SqlFunction, Window,
};

fn main() -> Result<()> {
    stream()?;
    on_request()
}

/// The job in code. The model has been made for flights, which is all the same to this example.
fn job() -> Result<Job> {
    let models = concat!(env!("CARGO_MANIFEST_DIR"), "/../../data/flights/models/minimal.onnx");
    let job = JobBuilder::new("payments", "paid_at")
        .id("payment_id")
        .key("customer")
        .feature("distance_km", Feature::sql("great_circle_km(lat, lon, shop_lat, shop_lon)"))
        .feature(
            "amount_trend",
            Feature::window(Window::function("trend", "customer", "amount", "1d")).default(0.0),
        )
        .model(Model::onnx(models, ["amount_trend", "distance_km"]).name("risk").version("1"))
        .set("realtime_ml.max_batch_size", 64)
        .build(".".as_ref())?;
    Ok(job)
}

/// The job with the functions that its features call.
fn pipeline() -> Result<Pipeline> {
    Ok(Pipeline::new(job()?)
        .function(SqlFunction::of_numbers("great_circle_km", 4, great_circle_km))
        .window_function("trend", trend))
}

/// The haversine formula on a sphere of 6,371 km.
fn great_circle_km(place: &[f64]) -> f64 {
    let [lat, lon, to_lat, to_lon] = [0, 1, 2, 3].map(|at| place[at].to_radians());
    let of = |angle: f64| (angle / 2.0).sin().powi(2);
    let haversine = of(to_lat - lat) + lat.cos() * to_lat.cos() * of(to_lon - lon);
    2.0 * 6_371.0 * haversine.sqrt().asin()
}

/// The slope of a least-squares line through the amounts of a window, per hour; null below two.
fn trend(rows: &mut dyn Iterator<Item = (i64, f64)>) -> Option<f64> {
    let rows: Vec<(f64, f64)> =
        rows.map(|(time, amount)| (time as f64 / 3_600_000.0, amount)).collect();
    let n = rows.len() as f64;
    let mean_of = |of: fn(&(f64, f64)) -> f64| rows.iter().map(of).sum::<f64>() / n;
    let (mean_time, mean_amount) = (mean_of(|row| row.0), mean_of(|row| row.1));
    let spread: f64 = rows.iter().map(|row| (row.0 - mean_time).powi(2)).sum();
    let together: f64 = rows.iter().map(|row| (row.0 - mean_time) * (row.1 - mean_amount)).sum();
    (spread > 0.0).then(|| together / spread)
}

/// Events from an iterator, predictions into memory, on two workers.
fn stream() -> Result<()> {
    let risky = Arc::new(AtomicUsize::new(0));
    let seen = risky.clone();
    let summary = pipeline()?
        .workers(2)
        .events(OwnEvents::batches(payments::schema(), payments::days(7)))
        .predictions(move |_worker, _schema| {
            let seen = seen.clone();
            let count_risky = move |predictions: RecordBatch| {
                let scores = predictions.column_by_name("score").ok_or("no score")?;
                let scores = scores.as_primitive::<Float32Type>().values();
                let risky = scores.iter().filter(|score| **score > 0.5).count();
                seen.fetch_add(risky, Ordering::Relaxed);
                Ok(())
            };
            Ok(Box::new(FunctionSink::new("risky payments", count_risky)))
        })
        .dead_letters(|_worker, _schema| {
            let show = |letters: RecordBatch| {
                eprintln!("{} payments could not be scored", letters.num_rows());
                Ok(())
            };
            Ok(Box::new(FunctionSink::new("dead letters", show)))
        })
        .run()?;
    print!("{summary}");
    println!("risky payments: {}", risky.load(Ordering::Relaxed));
    Ok(())
}

/// Batches that are scored one by one; windows remember the payments before.
fn on_request() -> Result<()> {
    let predictor = pipeline()?.predictor(&payments::schema())?;
    for day in payments::days(2) {
        let first = predictor.predict_batch(&day.slice(0, 1))?;
        let rest = predictor.predict_batch(&day.slice(1, day.num_rows() - 1))?;
        let scored = first.predictions.num_rows() + rest.predictions.num_rows();
        println!("a day of {} payments: {scored} scored on request", day.num_rows());
    }
    let account = predictor.close()?.account;
    println!(
        "{} read, {} scored, {} missing",
        account.read,
        account.predictions,
        account.missing()
    );
    Ok(())
}
