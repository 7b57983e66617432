//! Events per second from topic to topic.

use std::time::Instant;

use anyhow::Result;

use crate::bare::{self, Written};
use crate::broker::Broker;
use crate::events::Messages;
use crate::run::{EVENTS, PREDICTIONS, Run, WEATHER, empty_results};
use crate::{MODELS, PARTITIONS};

/// Copies of the year that are read.
const YEARS: i64 = 4;

struct Figures {
    what: String,
    rate: f64,
    /// By CPU-second of the process, without the broker.
    by_cpu: Option<f64>,
}

/// Prints a table, and gives the rate of one worker with trees.
pub fn measure(broker: &Broker, runs: usize) -> Result<f64> {
    broker.empty_topic(EVENTS, PARTITIONS)?;
    broker.empty_topic(WEATHER, 1)?;
    for year in 0..YEARS {
        broker.send(EVENTS, &Messages::of_year(year, false)?)?;
    }
    let mut rows = Vec::new();
    for (what, written) in [
        ("bare loop: read only", None),
        ("bare loop: read, and write values", Some(Written::Values)),
        ("bare loop: read, and write values with headers", Some(Written::WithHeaders)),
    ] {
        let once = || {
            empty_results(broker, PARTITIONS)?;
            let started = Instant::now();
            let messages = bare::run(broker, EVENTS, PREDICTIONS, written)?;
            let rate = messages as f64 / started.elapsed().as_secs_f64();
            Ok(Figures { what: what.to_owned(), rate, by_cpu: None })
        };
        rows.push(median(runs, once)?);
    }
    let mut peak = 0.0;
    for model in MODELS {
        for workers in [1, 2] {
            let figures = median(runs, || live(broker, model, workers))?;
            if (model, workers) == ("trees", 1) {
                peak = figures.rate;
            }
            rows.push(figures);
        }
    }
    println!("| what | events/s | events per CPU-second |");
    println!("| --- | --- | --- |");
    for Figures { what, rate, by_cpu } in &rows {
        let by_cpu = by_cpu.map_or_else(String::new, |by_cpu| format!("{by_cpu:.0}"));
        println!("| {what} | {rate:.0} | {by_cpu} |");
    }
    Ok(peak)
}

fn live(broker: &Broker, model: &str, workers: usize) -> Result<Figures> {
    empty_results(broker, PARTITIONS)?;
    let workers_text = workers.to_string();
    let options = ["--workers", &workers_text, "--until-caught-up=1s"];
    let ended = Run::start(broker, model, "earliest", &options)?.wait()?;
    let (messages, seconds) = broker.span(PREDICTIONS)?;
    let in_model = ended.said.split(", ").find(|part| part.ends_with("in the model"));
    eprintln!("{model}, {workers} workers: {}", in_model.unwrap_or_default());
    Ok(Figures {
        what: format!(
            "driftline, {model}, {workers} worker{}",
            if workers == 1 { "" } else { "s" }
        ),
        rate: messages as f64 / seconds,
        by_cpu: Some(messages as f64 / ended.cpu_s),
    })
}

fn median(runs: usize, mut once: impl FnMut() -> Result<Figures>) -> Result<Figures> {
    let mut all = (0..runs).map(|_| once()).collect::<Result<Vec<_>>>()?;
    all.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    Ok(all.swap_remove(runs / 2))
}
