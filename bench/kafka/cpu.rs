//! CPU that an event takes at a fixed rate, of programs and of a bare loop that waits for each message,
//! and writes one with the headers of a prediction: what is above it is the program's own.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::PARTITIONS;
use crate::broker::Broker;
use crate::run::{EVENTS, Run, WEATHER, cpu_s, empty_results};
use crate::sender::Paced;
use crate::throughput::TREES;

const WARM_UP_S: u64 = 5;
const MEASURED_S: u64 = 20;
/// Turns, so that a slow minute falls on all.
const TURNS: usize = 3;

/// Prints medians for each of `programs`, the first of which is what the others are compared with.
pub fn measure(broker: &Broker, rate: u64, programs: &[String]) -> Result<()> {
    let events = Paced::new((WARM_UP_S + MEASURED_S) * rate, rate)?;
    let (mut bare, mut of) = (Vec::new(), vec![Vec::new(); programs.len()]);
    for _ in 0..TURNS {
        bare.push(at_rate(broker, &events, rate, Measured::start_bare)?);
        for (program, found) in programs.iter().zip(&mut of) {
            found.push(at_rate(broker, &events, rate, |broker| Measured::start(broker, program))?);
        }
    }
    println!("| at {rate} events/s | µs of CPU an event | above the bare loop | of the first's |");
    println!("| --- | --- | --- | --- |");
    let bare = median(bare);
    println!("| bare loop | {bare:.0} | | |");
    let above: Vec<f64> = of.into_iter().map(|found| median(found) - bare).collect();
    for (program, own) in programs.iter().zip(&above) {
        println!("| {program} | {:.0} | {own:.0} | {:.2} |", own + bare, own / above[0]);
    }
    Ok(())
}

enum Measured {
    Bare(Child),
    Program(Run),
}

impl Measured {
    fn start(broker: &Broker, program: &str) -> Result<Self> {
        Ok(Measured::Program(Run::start_program(program, broker, TREES, "latest", &[])?))
    }

    fn start_bare(broker: &Broker) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare").env("KAFKA_BOOTSTRAP", &broker.servers).stdout(Stdio::null());
        Ok(Measured::Bare(command.spawn()?))
    }

    fn id(&self) -> u32 {
        match self {
            Measured::Bare(child) => child.id(),
            Measured::Program(run) => run.id(),
        }
    }

    fn stop(self) -> Result<()> {
        match self {
            Measured::Bare(mut child) => {
                child.kill()?;
                child.wait()?;
            }
            Measured::Program(run) => drop(run.stop()?),
        }
        Ok(())
    }
}

/// µs of CPU an event.
fn at_rate(
    broker: &Broker,
    events: &Paced,
    rate: u64,
    start: impl FnOnce(&Broker) -> Result<Measured>,
) -> Result<f64> {
    broker.empty_topic(EVENTS, PARTITIONS)?;
    broker.empty_topic(WEATHER, 1)?;
    empty_results(broker, PARTITIONS)?;
    let measured = start(broker)?;
    let mut before = None;
    events.send(broker, Instant::now() + Duration::from_secs(2), |event| {
        if event == WARM_UP_S * rate {
            before = Some(cpu_s(measured.id()));
        }
    })?;
    let used = cpu_s(measured.id())? - before.context("events to be warm")??;
    measured.stop()?;
    Ok(used * 1e6 / (MEASURED_S * rate) as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
