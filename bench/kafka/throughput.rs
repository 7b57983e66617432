//! Events per second from topic to topic.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::PARTITIONS;
use crate::bare::{self, Written};
use crate::broker::Broker;
use crate::events::Messages;
use crate::run::{EVENTS, PREDICTIONS, Run, WEATHER, cpu_s, empty_results};

/// Copies of the year that are read.
const YEARS: i64 = 4;

/// A model, and what runs it.
pub const TREES: (&str, &str) = ("trees", "auto");
const TREES_ORT: (&str, &str) = ("trees", "onnxruntime");
const LOGISTIC: (&str, &str) = ("logistic", "auto");

/// What is measured, in each round once.
#[derive(Clone, Copy, PartialEq)]
enum Case {
    Bare(Option<Written>),
    Live((&'static str, &'static str), usize),
}

const WITH_HEADERS: Case = Case::Bare(Some(Written::WithHeaders));
const CASES: [Case; 9] = [
    Case::Bare(None),
    Case::Bare(Some(Written::Values)),
    WITH_HEADERS,
    Case::Live(TREES, 1),
    Case::Live(TREES, 2),
    Case::Live(TREES_ORT, 1),
    Case::Live(TREES_ORT, 2),
    Case::Live(LOGISTIC, 1),
    Case::Live(LOGISTIC, 2),
];

#[derive(Clone, Copy, Default)]
struct Figures {
    /// Events per second.
    rate: f64,
    /// Events per CPU-second of the process, without the broker.
    by_cpu: f64,
    /// Microseconds of a row in the model.
    model_us: f64,
}

/// Prints a table of medians, and gives the rate of one worker with trees.
pub fn measure(broker: &Broker, rounds: usize) -> Result<f64> {
    broker.empty_topic(EVENTS, PARTITIONS)?;
    broker.empty_topic(WEATHER, 1)?;
    for year in 0..YEARS {
        broker.send(EVENTS, &Messages::of_year(year, false)?)?;
    }
    let mut all = Vec::new();
    for _ in 0..rounds {
        let round = CASES.iter().map(|case| case.figures(broker));
        all.push(round.collect::<Result<Vec<Figures>>>()?);
    }
    let position = |case| CASES.iter().position(|other| *other == case).unwrap_or_default();
    let of = |case: Case, figure: fn(&Figures) -> f64| {
        let at = position(case);
        median(all.iter().map(|round| figure(&round[at])))
    };
    println!(
        "| what | events/s | events per CPU-second | µs of CPU an event | µs a row in the model |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for case in CASES {
        let [rate, by_cpu] = [of(case, |f| f.rate), of(case, |f| f.by_cpu)];
        let model = match case {
            Case::Bare(_) => String::new(),
            Case::Live(..) => format!("{:.1}", of(case, |f| f.model_us)),
        };
        println!("| {} | {rate:.0} | {by_cpu:.0} | {:.2} | {model} |", case.name(), 1e6 / by_cpu);
    }
    // Of the same round, as a machine has better and worse minutes.
    for model in [TREES, TREES_ORT] {
        let [bare, live] = [position(WITH_HEADERS), position(Case::Live(model, 1))];
        let ort = position(Case::Live(TREES_ORT, 1));
        let share = |round: &Vec<Figures>| {
            round[live].rate * (1.0 / round[bare].rate + round[ort].model_us / 1e6)
        };
        println!(
            "{}: {:.2} of what the bare loop with headers and ONNX Runtime allow together",
            Case::Live(model, 1).name(),
            median(all.iter().map(share))
        );
    }
    Ok(of(Case::Live(TREES, 1), |f| f.rate))
}

impl Case {
    fn name(self) -> String {
        match self {
            Case::Bare(None) => "bare loop: read only".to_owned(),
            Case::Bare(Some(Written::Values)) => "bare loop: read, and write values".to_owned(),
            Case::Bare(Some(Written::WithHeaders)) => {
                "bare loop: read, and write values with headers".to_owned()
            }
            Case::Live((model, engine), workers) => {
                let by = if engine == "auto" { "" } else { " run by ONNX Runtime" };
                let workers =
                    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
                format!("driftline, {model}{by}, {workers}")
            }
        }
    }

    fn figures(self, broker: &Broker) -> Result<Figures> {
        empty_results(broker, PARTITIONS)?;
        match self {
            Case::Bare(written) => {
                let (started, busy) = (Instant::now(), cpu_s(std::process::id())?);
                let messages = bare::run(broker, EVENTS, PREDICTIONS, written)? as f64;
                let rate = messages / started.elapsed().as_secs_f64();
                let by_cpu = messages / (cpu_s(std::process::id())? - busy);
                Ok(Figures { rate, by_cpu, ..Figures::default() })
            }
            Case::Live(model, workers) => {
                let options = ["--workers", &workers.to_string(), "--until-caught-up=1s"];
                let ended = Run::start(broker, model, "earliest", &options)?.wait()?;
                let (messages, seconds) = broker.span(PREDICTIONS)?;
                let model_us = ended.said.split(", ").find_map(|part| {
                    part.strip_suffix(" µs a row in the model").and_then(|us| us.parse().ok())
                });
                Ok(Figures {
                    rate: messages as f64 / seconds,
                    by_cpu: messages as f64 / ended.cpu_s,
                    model_us: model_us.context("the time of a row in the model")?,
                })
            }
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
