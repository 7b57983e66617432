//! How long a request takes, by the number of its rows: departures through the flights job, one
//! request after the other, and from four threads at once; and beside them what two threads need to
//! hand something over and back, which no request can do without. `cargo bench --bench requests`, or
//! with `-- logistic 1 32` one line of it: model, threads, rows.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use arrow::array::RecordBatch;
use driftline::run::prepare::read_parquet;
use driftline::{Job, Pipeline, Predictor};

const WARM_UP: usize = 200;
const REQUESTS: usize = 5_000;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let events = read_parquet(&root.join("data/flights/departures.parquet"))?;
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    println!("model     threads  rows  p50 µs  p99 µs   rows/s");
    if wanted.is_empty() || wanted[0] == "bare" {
        report("bare", 1, 1, hand_over());
    }
    for model in ["trees", "logistic"] {
        for (threads, rows) in [(1, 1), (1, 32), (1, 1_024), (4, 1), (4, 32)] {
            let line = [model.to_owned(), threads.to_string(), rows.to_string()];
            if !wanted.is_empty() && wanted != line {
                continue;
            }
            let mut job = Job::load(&root.join("jobs/flights.toml"))?;
            let file = job.model.as_mut().expect("the flights job has a model");
            file.path = root.join(format!("data/flights/models/{model}.onnx"));
            let predictor = Pipeline::new(job).predictor(&events.schema())?;
            report(model, threads, rows, measure(&predictor, &events, threads, rows)?);
        }
    }
    Ok(())
}

/// A number handed to a thread that waits for it, and back.
fn hand_over() -> (Vec<Duration>, Duration) {
    let (ask, asked) = mpsc::channel::<u64>();
    let (answer, answered) = mpsc::channel::<u64>();
    let other = std::thread::spawn(move || {
        for number in asked {
            if answer.send(number).is_err() {
                return;
            }
        }
    });
    let (mut took, started) = (Vec::with_capacity(REQUESTS), Instant::now());
    for number in 0..REQUESTS as u64 {
        let asked = Instant::now();
        if ask.send(number).is_err() || answered.recv().is_err() {
            break;
        }
        took.push(asked.elapsed());
    }
    drop(ask);
    let all = started.elapsed();
    other.join().expect("it does not panic");
    (took, all)
}

/// The durations of the requests, and the time they took in all.
fn measure(
    predictor: &Predictor,
    events: &RecordBatch,
    threads: usize,
    rows: usize,
) -> Result<(Vec<Duration>, Duration)> {
    let requests = REQUESTS.min(events.num_rows() / rows / threads - WARM_UP);
    let ask = |thread: usize| -> Result<(Vec<Duration>, Instant)> {
        let first = thread * (WARM_UP + requests) * rows;
        let mut took = Vec::with_capacity(requests);
        let mut started = Instant::now();
        for request in 0..WARM_UP + requests {
            if request == WARM_UP {
                started = Instant::now();
            }
            let batch = events.slice(first + request * rows, rows);
            let asked = Instant::now();
            predictor.predict_batch(&batch)?;
            if request >= WARM_UP {
                took.push(asked.elapsed());
            }
        }
        Ok((took, started))
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..threads).map(|thread| scope.spawn(move || ask(thread))).collect();
        let (mut all, mut first) = (Vec::new(), Instant::now());
        for asked in asking {
            let (took, started) = asked.join().expect("no thread panics")?;
            all.extend(took);
            first = first.min(started);
        }
        Ok((all, first.elapsed()))
    })
}

fn report(model: &str, threads: usize, rows: usize, (mut took, all): (Vec<Duration>, Duration)) {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let rate = (took.len() * rows) as f64 / all.as_secs_f64();
    println!("{model:<9} {threads:>7} {rows:>5} {:>7.0} {:>7.0} {rate:>8.0}", at(0.5), at(0.99));
}
