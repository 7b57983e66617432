//! How long an event takes from the moment it was due to be sent to the moment its prediction is read,
//! at a fixed rate. An event that cannot be sent in time counts from when it was due.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rdkafka::consumer::Consumer;
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Broker;
use crate::run::{EVENTS, PATIENCE, PREDICTIONS, Run, WEATHER, empty_results};
use crate::sender::Paced;
use crate::throughput::TREES;

/// How long events are sent before any of them counts, and then how long they do.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

/// The core of the program where it has one of its own; all else is on the other.
const OWN_CORE: &str = "0";
const OTHER_CORE: &str = "1";

pub fn measure(broker: &Broker, partitions: i32, pinned: bool, rates: &[u64]) -> Result<()> {
    if pinned {
        pin(std::process::id(), OTHER_CORE)?;
        let broker = std::env::var("KAFKA_PID").context("KAFKA_PID: whose broker is it?")?;
        pin(broker.parse()?, OTHER_CORE)?;
    }
    println!(
        "| partitions | events/s | model | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | in all |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for &rate in rates {
        let latencies = at_rate(broker, partitions, pinned, rate)?;
        let ms = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "| {partitions} | {rate} | trees | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {} |",
            ms(0.5),
            ms(0.9),
            ms(0.99),
            ms(0.999),
            latencies.max() as f64 / 1e3,
            latencies.len()
        );
    }
    Ok(())
}

/// Has all threads of a process, and those that they start, run on one core.
fn pin(process: u32, core: &str) -> Result<()> {
    let arguments = ["-a", "-c", "-p", core, &process.to_string()];
    let mut why = String::new();
    // A thread that ends meanwhile is an error to it.
    for _ in 0..10 {
        let pinned = Command::new("taskset").args(arguments).output().context("taskset")?;
        if pinned.status.success() {
            return Ok(());
        }
        why = String::from_utf8_lossy(&pinned.stderr).into_owned();
    }
    bail!("{why}")
}

fn at_rate(broker: &Broker, partitions: i32, pinned: bool, rate: u64) -> Result<Histogram<u64>> {
    broker.empty_topic(EVENTS, partitions)?;
    broker.empty_topic(WEATHER, 1)?;
    empty_results(broker, partitions)?;
    let count = (WARM_UP + MEASURED).as_secs() * rate;
    let events = Arc::new(Paced::new(count, rate)?);
    let run = Run::start(broker, TREES, "latest", &[])?;
    if pinned {
        pin(run.id(), OWN_CORE)?;
    }
    let begins = Instant::now() + Duration::from_secs(2);

    let stop = Arc::new(AtomicBool::new(false));
    let consumer = broker.consumer()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(PREDICTIONS, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let reader = {
        let (stop, events) = (stop.clone(), events.clone());
        std::thread::spawn(move || -> Result<Histogram<u64>> {
            let mut latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
            let in_year = events.in_year();
            let mut years = vec![0u64; in_year as usize];
            let mut read = 0;
            while read < count && !stop.load(Relaxed) {
                let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
                let (message, now) = (message?, Instant::now());
                read += 1;
                let headers = message.headers().context("headers")?;
                let id = headers.iter().find(|header| header.key == "id").context("an id")?;
                let id = std::str::from_utf8(id.value.context("an id")?)?.parse::<u64>()?;
                let event = years[id as usize] * in_year + id;
                years[id as usize] += 1;
                let due = events.due(begins, event);
                if due >= begins + WARM_UP {
                    let took = now.saturating_duration_since(due);
                    latencies.saturating_record(took.as_micros() as u64);
                }
            }
            Ok(latencies)
        })
    };

    events.send(broker, begins, |_| ())?;
    let waited = Instant::now();
    while !reader.is_finished() && waited.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    stop.store(true, Relaxed);
    let latencies = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let ended = run.stop()?;
    let line = ended.said.lines().find(|line| line.trim_start().starts_with("latency"));
    eprintln!("{rate} events/s, from being read to being handed over:{}", line.unwrap_or_default());
    Ok(latencies)
}
