//! The producer of a run, and what becomes of the messages that it is given.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use arrow::array::RecordBatch;
use driftline_operators::ingest::Wake;
use driftline_operators::settled::Settled;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use crate::kafka::events::EventQueue;
use crate::kafka::health::Told;
use crate::kafka::{Cluster, Health};
use crate::sinks::{SinkError, failed};

/// How long to hear of deliveries before looking again whether there is room in the producer.
const ROOM_INTERVAL: Duration = Duration::from_millis(1);

/// An idempotent producer, which tries again for ever; shared by all sinks of a run. What becomes of
/// messages is heard of in [`Producer::serve`].
#[derive(Clone)]
pub struct Producer {
    inner: Arc<BaseProducer<Deliveries>>,
    health: Arc<Health>,
}

/// A message for a topic.
pub struct Outgoing<'a> {
    pub topic: &'a str,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: OwnedHeaders,
    /// In ms since 1970; now, if nothing is said.
    pub time_ms: Option<i64>,
}

/// What became of a message that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    Over,
    /// It is larger than the cluster takes.
    TooLarge,
}

/// Messages that belong together: acknowledged when all of them are.
pub struct Batch {
    left: AtomicUsize,
    refused: AtomicU64,
    /// Rows with the places of the records that are settled with it.
    records: Option<RecordBatch>,
    settled: Settled,
    wake: Wake,
}

impl Batch {
    /// One to which messages are handed over until [`Batch::done`] says that these are all.
    pub fn new(records: Option<RecordBatch>, settled: Settled, wake: Wake) -> Arc<Self> {
        let (left, refused) = (AtomicUsize::new(1), AtomicU64::new(0));
        Arc::new(Batch { left, refused, records, settled, wake })
    }

    /// So many of its rows are dead letters, as what they were to be is too large.
    pub fn refuse(&self, rows: u64) {
        self.refused.fetch_add(rows, Relaxed);
    }

    /// How many are, once the batch is acknowledged.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Has those looked after who wait for it.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// One message is acknowledged, or all have been handed over.
    pub fn done(&self) {
        if self.left.fetch_sub(1, AcqRel) == 1 {
            if let Some(records) = &self.records {
                self.settled.settle_rows(records);
            }
            self.wake();
        }
    }

    pub fn is_acknowledged(&self) -> bool {
        self.left.load(Acquire) == 0
    }
}

/// What hears of deliveries.
struct Deliveries {
    told: Told,
    /// How often.
    heard: AtomicU64,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.told.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.fetch_add(1, Relaxed);
        self.told.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        use rdkafka::Message;
        self.heard.fetch_add(1, Relaxed);
        let Err((error, message)) = result else { return batch.done() };
        let code = error.rdkafka_error_code();
        if matches!(code, Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)) {
            return;
        }
        // The batch is never acknowledged: what it holds is not settled, and the run ends.
        let topic = message.topic();
        self.told.0.refused(match code {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                format!("{topic}: not authorised to write to the topic; ask for WRITE on it")
            }
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
                format!("{topic}: a message is larger than the topic takes (max.message.bytes); raise it, or lower message.max.bytes in kafka.properties")
            }
            _ => format!("{topic}: a message was not taken: {error}"),
        });
    }
}

impl Producer {
    /// # Errors
    /// If a property is not one of librdkafka's.
    pub fn new(cluster: &Cluster) -> Result<Self, SinkError> {
        let config = cluster.config(&[
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
            // What comes while a request is under way goes with the next one: nobody waits when there
            // is little, and there are few requests when there is much.
            ("linger.ms", "0"),
            ("max.in.flight", "1"),
            ("compression.type", "lz4"),
            ("batch.num.messages", "10000"),
            // What is under way is bounded by the run: the producer never has to say no.
            ("queue.buffering.max.messages", "10000000"),
            ("queue.buffering.max.kbytes", "2097151"),
        ]);
        let deliveries =
            Deliveries { told: Told(cluster.health.clone()), heard: AtomicU64::new(0) };
        let inner = BaseProducer::from_config_and_context(&config, deliveries)
            .map_err(|error| failed("kafka", cluster.failed(&error)))?;
        Ok(Producer { inner: Arc::new(inner), health: cluster.health.clone() })
    }

    /// Hands a message over, as one of `batch`.
    ///
    /// # Errors
    /// If the producer can send nothing any more.
    pub fn send(&self, message: Outgoing, batch: &Arc<Batch>) -> Result<Handed, SinkError> {
        let Outgoing { topic, key, value, headers, time_ms } = message;
        let mut record = BaseRecord::with_opaque_to(topic, batch.clone()).headers(headers);
        (record.key, record.payload, record.timestamp) = (key, value, time_ms);
        loop {
            batch.left.fetch_add(1, AcqRel);
            let Err((error, given_back)) = self.inner.send(record) else { return Ok(Handed::Over) };
            batch.left.fetch_sub(1, AcqRel);
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => {
                    if let Some(why) = self.health.refusal() {
                        return Err(failed(topic, why));
                    }
                    record = given_back;
                    self.inner.poll(ROOM_INTERVAL);
                }
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => return Ok(Handed::TooLarge),
                _ => return Err(failed(topic, error)),
            }
        }
    }

    /// Hears of all deliveries (and errors) that there are by now.
    pub fn serve(&self) {
        let heard = || self.inner.context().heard.load(Relaxed);
        loop {
            let before = heard();
            self.inner.poll(Duration::ZERO);
            if heard() == before {
                return;
            }
        }
    }

    /// Where deliveries are told of.
    pub(super) fn events(&self) -> EventQueue {
        EventQueue::main(self.inner.client())
    }

    /// Messages that are not acknowledged.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }
}
