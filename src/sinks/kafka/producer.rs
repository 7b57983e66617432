//! The producer of a run, and what becomes of the messages that it is given.

use std::fmt::Display;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use driftline_operators::dead_letter::Reason;
use driftline_operators::reasons::{First, Reasons};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message as _};

use super::Messages;
use super::again::{Again, Resent};
use super::message::{Message, Refused, is_of_a_record};
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
    pub headers: Option<OwnedHeaders>,
    /// In ms since 1970; now, if nothing is said.
    pub time_ms: Option<i64>,
}

/// Messages that belong together: acknowledged when all of them are.
pub struct Batch {
    left: AtomicUsize,
    /// Rows that are dead letters, as their topic refuses what they were to be.
    refused: Mutex<Reasons>,
    /// What the messages are, and what may be sent in their place.
    messages: Option<Arc<dyn Messages>>,
    /// Rows with the places of the records that are acknowledged with it.
    records: Option<RecordBatch>,
}

/// Which message of which batch one is.
pub struct Ticket {
    pub batch: Arc<Batch>,
    pub row: u32,
    /// The time that it was sent with, if it has one of its own: the client does not tell it again.
    pub time_ms: Option<i64>,
}

impl Batch {
    /// One to which messages are handed over until [`Batch::done`] says that these are all.
    pub fn new(messages: Option<Arc<dyn Messages>>, records: Option<RecordBatch>) -> Arc<Self> {
        let (left, refused) = (AtomicUsize::new(1), Mutex::default());
        Arc::new(Batch { left, refused, messages, records })
    }

    pub fn messages(&self) -> Option<&dyn Messages> {
        self.messages.as_deref()
    }

    /// Where the records of its rows came from, as far as they came from records.
    pub fn records(&self) -> Option<&RecordBatch> {
        self.records.as_ref()
    }

    /// One of its rows is a dead letter.
    pub fn refuse(&self, reason: Reason, first: First) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).add(reason, first);
    }

    /// Which are, once the batch is acknowledged.
    pub fn refused(&self) -> Reasons {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One message is acknowledged, or all have been handed over.
    pub fn done(&self) {
        self.left.fetch_sub(1, AcqRel);
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
    /// Where messages go that a topic refuses and that may be of the batch of another it refuses.
    again: Again,
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
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        self.heard.fetch_add(1, Relaxed);
        let Err((error, message)) = result else { return ticket.batch.done() };
        match error.rdkafka_error_code() {
            Some(Code::PurgeQueue | Code::PurgeInflight) => {}
            Some(code) if is_of_a_record(code) => {
                let message = Message::delivered(message, ticket.time_ms);
                self.again.send(Refused { message, ticket: *ticket, code });
            }
            // The batch is never acknowledged: what it holds is not settled, and the run ends.
            code => self.told.0.refused(not_taken(message.topic(), code, error)),
        }
    }
}

/// Why a message of `topic` can never be sent.
pub fn not_taken(topic: &str, code: Option<Code>, error: &dyn Display) -> String {
    match code {
        Some(Code::TopicAuthorizationFailed) => {
            format!("{topic}: not authorised to write to the topic; ask for WRITE on it")
        }
        _ => format!("{topic}: a message was not taken: {error}"),
    }
}

/// Of every producer of a run.
pub fn settings(cluster: &Cluster) -> ClientConfig {
    cluster.config(&[
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
    ])
}

impl Producer {
    /// # Errors
    /// If a property is not one of librdkafka's.
    pub fn new(cluster: &Cluster) -> Result<Self, SinkError> {
        let deliveries = Deliveries {
            told: Told(cluster.health.clone()),
            heard: AtomicU64::new(0),
            again: Again::start(cluster),
        };
        let inner = BaseProducer::from_config_and_context(&settings(cluster), deliveries)
            .map_err(|error| failed("kafka", cluster.failed(&error)))?;
        Ok(Producer { inner: Arc::new(inner), health: cluster.health.clone() })
    }

    /// Hands over the message of row `row`, as one of `batch`.
    ///
    /// # Errors
    /// If the producer can send nothing any more.
    pub fn send(&self, message: Outgoing, batch: &Arc<Batch>, row: usize) -> Result<(), SinkError> {
        let Outgoing { topic, key, value, headers, time_ms } = message;
        let ticket = Ticket { batch: batch.clone(), row: row as u32, time_ms };
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(ticket));
        (record.key, record.payload, record.timestamp) = (key, value, time_ms);
        record.headers = headers;
        batch.left.fetch_add(1, AcqRel);
        loop {
            let Err((error, given_back)) = self.inner.send(record) else { return Ok(()) };
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => {
                    if let Some(why) = self.health.refusal() {
                        return Err(failed(topic, why));
                    }
                    record = given_back;
                    self.inner.poll(ROOM_INTERVAL);
                }
                Some(code) if is_of_a_record(code) => {
                    let message = Message::given_back(&given_back);
                    let ticket = *given_back.delivery_opaque;
                    self.inner.context().again.send(Refused { message, ticket, code });
                    return Ok(());
                }
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

    /// Messages that are not acknowledged.
    pub fn in_flight(&self) -> u64 {
        u64::try_from(self.inner.in_flight_count()).unwrap_or(0) + self.resent().waiting()
    }

    /// What became of messages that their topics had refused.
    pub fn resent(&self) -> &Resent {
        self.inner.context().again.resent()
    }
}
