//! Topics of the broker, and what is asked of it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::PARTITIONS;
use crate::events::Messages;

const TIMEOUT: Duration = Duration::from_secs(30);

pub struct Broker {
    pub servers: String,
    runtime: tokio::runtime::Runtime,
    admin: AdminClient<DefaultClientContext>,
}

impl Broker {
    pub fn new(servers: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let admin = ClientConfig::new().set("bootstrap.servers", servers).create()?;
        Ok(Broker { servers: servers.to_owned(), runtime, admin })
    }

    /// An empty topic; one that was there is emptied.
    pub fn empty_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        self.runtime.block_on(self.admin.delete_topics(&[name], &options))?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for _ in 0..100 {
            let made = self.runtime.block_on(self.admin.create_topics([&topic], &options))?;
            match made.first() {
                Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Some(Err((_, code))) => return Err(anyhow!("{name}: {code}")),
                _ => return Ok(()),
            }
        }
        Err(anyhow!("{name} does not go away"))
    }

    pub fn consumer(&self) -> Result<BaseConsumer> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("group.id", "bench");
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        Ok(config.create()?)
    }

    /// Sends messages as fast as the broker takes them.
    pub fn send(&self, topic: &str, messages: &Messages) -> Result<()> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.servers).set("linger.ms", "20");
        config.set("compression.type", "lz4").set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create()?;
        for at in 0..messages.len() {
            let mut record = BaseRecord::to(topic).payload(messages.value(at));
            record.key = messages.key(at);
            while let Err((error, given_back)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = given_back;
                producer.poll(Duration::from_millis(10));
            }
        }
        producer.flush(TIMEOUT)?;
        Ok(())
    }

    /// Messages of a topic, and the seconds between the first and the last of them, as the producer
    /// had it.
    pub fn span(&self, topic: &str) -> Result<(u64, f64)> {
        let consumer = self.consumer()?;
        let (mut messages, mut first, mut last) = (0, i64::MAX, i64::MIN);
        for partition in 0..PARTITIONS {
            let (low, high) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
            messages += (high - low) as u64;
            for offset in [low, high - 1].into_iter().filter(|_| high > low) {
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
                consumer.assign(&list)?;
                let message = consumer.poll(TIMEOUT).context("a message")??;
                let time = message.timestamp().to_millis().context("a time")?;
                (first, last) = (first.min(time), last.max(time));
            }
        }
        Ok((messages, (last - first).max(1) as f64 / 1e3))
    }
}
