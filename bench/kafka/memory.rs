//! Resident memory of a live run over time, and then with a broker that stands still.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::PARTITIONS;
use crate::broker::Broker;
use crate::events::Messages;
use crate::run::{EVENTS, Run, WEATHER, empty_results, memory_mib};
use crate::throughput::TREES;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// How often while the broker stands still.
const STALLS: usize = 6;

/// Sends years to a run for so many seconds, and prints what it holds. The broker is stopped if
/// `KAFKA_PID` says which process it is.
pub fn measure(broker: &Broker, seconds: u64) -> Result<()> {
    broker.empty_topic(EVENTS, PARTITIONS)?;
    broker.empty_topic(WEATHER, 1)?;
    empty_results(broker, PARTITIONS)?;
    let run = Run::start(broker, TREES, "earliest", &["--workers", "2"])?;
    let (begun, mut seen) = (Instant::now(), Instant::now());
    println!("| seconds | MiB |");
    println!("| --- | --- |");
    let mut year = 0;
    while begun.elapsed().as_secs() < seconds {
        broker.send(EVENTS, &Messages::of_year(year, false)?)?;
        year += 1;
        if seen.elapsed() >= INTERVAL {
            seen = Instant::now();
            println!("| {} | {:.0} |", begun.elapsed().as_secs(), memory_mib(run.id())?.0);
        }
    }
    if let Ok(process) = std::env::var("KAFKA_PID") {
        signal("STOP", &process)?;
        for stalled in 1..=STALLS {
            std::thread::sleep(INTERVAL);
            let seconds = INTERVAL.as_secs() * stalled as u64;
            println!("| broker stopped, {seconds} | {:.0} |", memory_mib(run.id())?.0);
        }
        signal("CONT", &process)?;
    }
    let (now, most) = memory_mib(run.id())?;
    println!("\n{year} years of events sent; {now:.0} MiB at the end, {most:.0} at most");
    run.stop()?;
    Ok(())
}

fn signal(name: &str, process: &str) -> Result<()> {
    if !Command::new("kill").args([format!("-{name}").as_str(), process]).status()?.success() {
        bail!("process {process} (KAFKA_PID) cannot be sent {name}");
    }
    Ok(())
}
