//! A loop that reads messages and writes others, and does nothing else: what Kafka costs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use driftline::config::Job;
use driftline::kafka::Cluster;
use driftline::sinks::kafka::Producer;
use driftline::sinks::kafka::producer::{Batch, Outgoing};
use driftline::sources::kafka;
use driftline::sources::kafka::begin::Place;
use driftline::sources::kafka::queue::{Item, Queue};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Broker;
use crate::{PARTITIONS, root};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Written {
    Values,
    /// The headers of a prediction.
    WithHeaders,
}

/// The bytes of a prediction's value: here so many of the event's, again and again.
const VALUE_BYTES: usize = 320;
/// Messages that are taken at once.
const MOST: usize = 1_024;
const HEADERS: [(&str, &str); 10] = [
    ("content-type", "application/json"),
    ("ce_specversion", "1.0"),
    ("ce_type", "driftline.prediction"),
    ("ce_source", "flights-live"),
    ("ce_id", "AA-301-2013-01-01T11:00Z"),
    ("ce_time", "2013-01-01T10:58:00.000Z"),
    ("id", "AA-301-2013-01-01T11:00Z"),
    ("model", "arrival-delay"),
    ("version", "1"),
    ("status", "ok"),
];

/// Reads all of a topic, and for each message writes one. How many.
pub fn run(broker: &Broker, from: &str, to: &str, written: Option<Written>) -> Result<u64> {
    let mut job = Job::load(&root().join("jobs/flights-live.toml"))?;
    job.kafka.bootstrap_servers = broker.servers.clone();
    let cluster = Cluster::new(&job.kafka, "bench");
    let client = Arc::new(cluster.consumer("bench")?);
    let places: Vec<Place> =
        (0..PARTITIONS).map(|partition| Place { partition, ..Place::unknown(from) }).collect();
    let queues = places.iter().map(|place| Queue::split(&client, from, place.partition));
    let mut queues = queues.collect::<Option<Vec<_>>>().context("a queue")?;
    kafka::assign(&client, places.iter())?;
    let producer = Producer::new(&cluster)?;
    let mut taken = Taken::default();
    let (mut messages, mut ended) = (0, 0);
    let mut sent: Vec<Arc<Batch>> = Vec::new();
    while ended < queues.len() {
        let mut none = true;
        for queue in &mut queues {
            let batch = Batch::new(None, None);
            taken.clear();
            queue.take(MOST, |item| {
                match item {
                    Item::Message(message) => {
                        messages += 1;
                        none = false;
                        if written.is_some() {
                            taken.add(message.key(), message.value().unwrap_or(b"{}"));
                        }
                    }
                    Item::End(_) => ended += 1,
                    Item::Error(_) => {}
                }
                true
            });
            for (key, value) in taken.messages() {
                let headers = match written {
                    Some(Written::WithHeaders) => Some(headers()),
                    _ => None,
                };
                let value = Some(value);
                let message = Outgoing { topic: to, key, value, headers, time_ms: None };
                producer.send(message, &batch, 0)?;
            }
            batch.done();
            sent.push(batch);
        }
        producer.serve();
        if none {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    while !sent.iter().all(|batch| batch.is_acknowledged()) {
        std::thread::sleep(Duration::from_millis(1));
        producer.serve();
    }
    Ok(messages)
}

fn headers() -> OwnedHeaders {
    let none = OwnedHeaders::new_with_capacity(HEADERS.len());
    HEADERS
        .iter()
        .fold(none, |headers, &(key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Writes a message with headers for each that comes from now on, as soon as it comes.
pub fn run_for_ever(broker: &Broker, from: &str, to: &str) -> Result<()> {
    let mut job = Job::load(&root().join("jobs/flights-live.toml"))?;
    job.kafka.bootstrap_servers = broker.servers.clone();
    let cluster = Cluster::new(&job.kafka, "bench");
    let client = cluster.consumer("bench")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(from, partition, Offset::Beginning)?;
    }
    client.assign(&list)?;
    let producer = Producer::new(&cluster)?;
    let (mut value, mut sent) = (Vec::new(), VecDeque::new());
    loop {
        let message = client.poll(Duration::from_millis(100));
        // Where a partition ends is told each time.
        let at_end = matches!(message, Some(Err(KafkaError::PartitionEOF(_))));
        if let Some(message) = message.filter(|_| !at_end) {
            let message = message?;
            value.clear();
            let payload = message.payload().unwrap_or(b"{}");
            value.extend(payload.iter().cycle().take(VALUE_BYTES));
            let (key, value) = (message.key(), Some(value.as_slice()));
            let batch = Batch::new(None, None);
            let message =
                Outgoing { topic: to, key, value, headers: Some(headers()), time_ms: None };
            producer.send(message, &batch, 0)?;
            batch.done();
            sent.push_back(batch);
        }
        producer.serve();
        while sent.pop_front_if(|batch: &mut Arc<Batch>| batch.is_acknowledged()).is_some() {}
    }
}

/// Keys and values, without an allocation for each.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    /// Where each key ends, if there is one, and each value.
    ends: Vec<(Option<usize>, usize)>,
}

impl Taken {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn add(&mut self, key: Option<&[u8]>, value: &[u8]) {
        self.bytes.extend(key.unwrap_or_default());
        let key_end = key.map(|_| self.bytes.len());
        self.bytes.extend(value.iter().cycle().take(VALUE_BYTES));
        self.ends.push((key_end, self.bytes.len()));
    }

    fn messages(&self) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (key_end, end))| {
            let key = key_end.map(|key_end| &self.bytes[start..key_end]);
            (key, &self.bytes[key_end.unwrap_or(start)..*end])
        })
    }
}
