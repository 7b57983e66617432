//! What a live run takes from Kafka to Kafka, beside a bare loop that reads and writes the same, and how
//! long an event takes at a given rate. The broker is `KAFKA_BOOTSTRAP`. `scripts/bench.sh kafka`

mod bare;
mod broker;
mod cpu;
mod events;
mod latency;
mod memory;
mod run;
mod sender;
mod throughput;

use std::path::Path;

use anyhow::{Context, Result, bail};

use broker::Broker;

/// As the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of the topics of events and predictions.
const PARTITIONS: i32 = 4;

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo tells every benchmark that it is one.
    arguments.retain(|argument| argument != "--bench");
    let servers = std::env::var("KAFKA_BOOTSTRAP").context("KAFKA_BOOTSTRAP names no broker")?;
    let broker = Broker::new(&servers)?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["throughput"] => throughput::measure(&broker, 3).map(|_| ()),
        ["throughput", "--runs", runs] => throughput::measure(&broker, runs.parse()?).map(|_| ()),
        ["latency", "--partitions", partitions, "--pinned", rates @ ..] => {
            latency::measure(&broker, partitions.parse()?, true, &numbers(rates)?)
        }
        ["latency", "--partitions", partitions, rates @ ..] => {
            latency::measure(&broker, partitions.parse()?, false, &numbers(rates)?)
        }
        ["latency", rates @ ..] => latency::measure(&broker, PARTITIONS, false, &numbers(rates)?),
        // What another program is compared with comes first.
        ["cpu", rate, others @ ..] => {
            let programs = others.iter().map(|&program| Ok(program.to_owned()));
            let programs = programs.chain(std::iter::once(run::program()));
            cpu::measure(&broker, rate.parse()?, &programs.collect::<Result<Vec<_>>>()?)
        }
        // A process of its own, to be measured.
        ["bare"] => bare::run_for_ever(&broker, run::EVENTS, run::PREDICTIONS),
        ["memory", seconds] => memory::measure(&broker, seconds.parse()?),
        [] => {
            let peak = throughput::measure(&broker, 3)?;
            let shares = [0.1, 0.5, 0.8].map(|share| (peak * share) as u64);
            latency::measure(&broker, PARTITIONS, false, &[&[1_000], shares.as_slice()].concat())?;
            memory::measure(&broker, 600)
        }
        _ => {
            bail!(
                "there are throughput [--runs N], latency [--partitions N [--pinned]] RATE…, cpu RATE [PROGRAM…], memory SECONDS"
            )
        }
    }
}

fn numbers(texts: &[&str]) -> Result<Vec<u64>> {
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
