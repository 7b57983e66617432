//! How long an event takes from the moment it was due to be sent to the moment its prediction is read,
//! at a fixed rate. An event that cannot be sent in time counts from when it was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use rdkafka::consumer::Consumer;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::broker::Broker;
use crate::events::Messages;
use crate::run::{EVENTS, PATIENCE, PREDICTIONS, Run, WEATHER, empty_results};
use crate::throughput::TREES;

/// How long events are sent before any of them counts, and then how long they do.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

/// Events a second above which the sender waits for others to join.
const LINGER_ABOVE: u64 = 5_000;

pub fn measure(broker: &Broker, partitions: i32, rates: &[u64]) -> Result<()> {
    println!(
        "| partitions | events/s | model | p50 ms | p90 ms | p99 ms | p99.9 ms | max ms | in all |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for &rate in rates {
        let latencies = at_rate(broker, partitions, rate)?;
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

fn at_rate(broker: &Broker, partitions: i32, rate: u64) -> Result<Histogram<u64>> {
    broker.empty_topic(EVENTS, partitions)?;
    broker.empty_topic(WEATHER, 1)?;
    empty_results(broker, partitions)?;
    let count = (WARM_UP + MEASURED).as_secs() * rate;
    // Event time goes on, so that no event is late.
    let in_year = Messages::of_year(0, true)?.len() as u64;
    let years = (0..count.div_ceil(in_year)).map(|year| Messages::of_year(year as i64, true));
    let years = years.collect::<Result<Vec<_>>>()?;
    let run = Run::start(broker, TREES, "latest", &[])?;
    let begins = Instant::now() + Duration::from_secs(2);
    let due = move |event: u64| begins + Duration::from_secs_f64(event as f64 / rate as f64);

    let stop = Arc::new(AtomicBool::new(false));
    let consumer = broker.consumer()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(PREDICTIONS, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let reader = {
        let stop = stop.clone();
        std::thread::spawn(move || -> Result<Histogram<u64>> {
            let mut latencies = Histogram::new_with_bounds(1, 600_000_000, 3)?;
            // Ids repeat with every year.
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
                if due(event) >= begins + WARM_UP {
                    let took = now.saturating_duration_since(due(event));
                    latencies.saturating_record(took.as_micros() as u64);
                }
            }
            Ok(latencies)
        })
    };

    let mut config = ClientConfig::new();
    // A sender of many events a second sends them together, if they come within a millisecond.
    let linger_ms = if rate > LINGER_ABOVE { "1" } else { "0" };
    config.set("bootstrap.servers", &broker.servers).set("linger.ms", linger_ms);
    config.set("queue.buffering.max.messages", "10000000").set("compression.type", "lz4");
    // As the program does.
    config.set("max.in.flight", "1");
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> = config.create()?;
    for event in 0..count {
        let wait = due(event).saturating_duration_since(Instant::now());
        if wait > Duration::from_micros(50) {
            std::thread::sleep(wait);
        }
        let (year, at) = (&years[(event / in_year) as usize], (event % in_year) as usize);
        let mut record = BaseRecord::to(EVENTS).payload(year.value(at));
        record.key = year.key(at);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(PATIENCE)?;
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
