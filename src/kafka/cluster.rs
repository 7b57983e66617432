//! Clients of a cluster, and what is asked of it before a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::health::{Health, Told};
use crate::config::job::Kafka;
use crate::sources::{SourceError, failed};

/// How long a question to the cluster may take before a run.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a topic that was made may be unknown, and how often it is looked again.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(2);
const TOPIC_INTERVAL: Duration = Duration::from_millis(100);

/// KiB of fetched messages of a partition that may wait in a client.
const FETCHED_KB_MAX: u32 = 8 << 10;

/// The cluster that a job names.
#[derive(Clone)]
pub struct Cluster {
    kafka: Kafka,
    job: String,
    pub health: Arc<Health>,
}

impl Cluster {
    pub fn new(kafka: &Kafka, job: &str) -> Self {
        let health = Arc::new(Health::new(&kafka.bootstrap_servers));
        Cluster { kafka: kafka.clone(), job: job.to_owned(), health }
    }

    pub fn servers(&self) -> &str {
        &self.kafka.bootstrap_servers
    }

    /// What all clients have, `own`, and then what the job says.
    pub fn config(&self, own: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.kafka.bootstrap_servers)
            .set("client.id", format!("driftline-{}", self.job))
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "30000");
        for (key, value) in own {
            config.set(*key, *value);
        }
        for (key, value) in &self.kafka.properties {
            config.set(key, value);
        }
        config
    }

    /// A client that reads, and commits for `group`. Nothing is committed by itself, and nobody but
    /// the job says what it reads.
    ///
    /// # Errors
    /// If a property is not one of librdkafka's.
    pub fn consumer(&self, group: &str) -> Result<BaseConsumer<Told>, SourceError> {
        self.client(&self.consumer_config(group))
    }

    /// A client that asks how far partitions go, with what is of open transactions.
    ///
    /// # Errors
    /// As [`Cluster::consumer`].
    pub fn asking(&self, group: &str) -> Result<BaseConsumer<Told>, SourceError> {
        self.client(self.consumer_config(group).set("isolation.level", "read_uncommitted"))
    }

    fn client(&self, config: &ClientConfig) -> Result<BaseConsumer<Told>, SourceError> {
        BaseConsumer::from_config_and_context(config, Told(self.health.clone()))
            .map_err(|error| self.failed(&error))
    }

    fn consumer_config(&self, group: &str) -> ClientConfig {
        let fetched = FETCHED_KB_MAX.to_string();
        self.config(&[
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("queued.max.messages.kbytes", &fetched),
            ("queued.min.messages", "20000"),
            ("fetch.wait.max.ms", "50"),
            ("fetch.queue.backoff.ms", "5"),
        ])
    }

    /// As [`Cluster::partitions`], of a topic that may have been made a moment ago: not all brokers
    /// have heard of it then.
    ///
    /// # Errors
    /// As [`Cluster::partitions`].
    pub fn new_partitions(
        &self,
        client: &BaseConsumer<Told>,
        topic: &str,
    ) -> Result<usize, SourceError> {
        let asked = Instant::now();
        loop {
            let found = self.partitions(client, topic, ANSWER_TIMEOUT);
            if found.is_ok() || asked.elapsed() >= TOPIC_TIMEOUT {
                return found;
            }
            std::thread::sleep(TOPIC_INTERVAL);
        }
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// If it does not exist, may not be seen, or the cluster does not answer.
    pub fn partitions(
        &self,
        client: &BaseConsumer<Told>,
        topic: &str,
        timeout: Duration,
    ) -> Result<usize, SourceError> {
        let metadata = client.fetch_metadata(Some(topic), timeout);
        let metadata = metadata.map_err(|error| self.failed(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
        match (found, error) {
            (Some(found), None) if !found.partitions().is_empty() => Ok(found.partitions().len()),
            (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => Err(failed(
                topic,
                "not authorised to read what the topic is; ask for DESCRIBE on it",
            )),
            _ => {
                let servers = &self.kafka.bootstrap_servers;
                Err(failed(topic, format!("there is no such topic at {servers}; create it first")))
            }
        }
    }

    /// What kept the cluster from answering.
    pub fn failed(&self, error: &KafkaError) -> SourceError {
        let servers = &self.kafka.bootstrap_servers;
        if let Some(why) = self.health.refusal() {
            return failed(servers, why.trim_start_matches("kafka: "));
        }
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve,
            ) => failed(
                servers,
                "no broker can be reached; is it running? (kafka.bootstrap_servers names it)",
            ),
            _ => match error {
                KafkaError::ClientConfig(_, why, key, _) => {
                    failed(format!("kafka.properties.{key}"), why)
                }
                other => failed(servers, other),
            },
        }
    }
}
