//! Whether the cluster can be reached, as its clients notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What the clients of a run know of the cluster. Changes are told on standard error.
#[derive(Default)]
pub struct Health {
    servers: String,
    /// A client has lost its brokers; it goes on trying. Nobody has asked yet whether that is so.
    is_in_doubt: AtomicBool,
    is_away: AtomicBool,
    outages: AtomicU64,
    /// Why the run cannot go on, if it cannot.
    refusal: Mutex<Option<String>>,
}

impl Health {
    pub fn new(servers: &str) -> Self {
        Health { servers: servers.to_owned(), ..Health::default() }
    }

    fn doubt(&self) {
        self.is_in_doubt.store(true, Relaxed);
    }

    /// Whether the cluster may be away.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt.load(Relaxed)
    }

    /// No broker has answered.
    pub fn away(&self) {
        self.doubt();
        if !self.is_away.swap(true, Relaxed) {
            self.outages.fetch_add(1, Relaxed);
            let servers = &self.servers;
            say!("warning: kafka: no broker of {servers} can be reached; trying again");
        }
    }

    /// A broker has answered.
    pub fn back(&self) {
        self.is_in_doubt.store(false, Relaxed);
        if self.is_away.swap(false, Relaxed) {
            say!("kafka: {} can be reached again", self.servers);
        }
    }

    /// Whether no broker has answered when it was asked.
    pub fn is_away(&self) -> bool {
        self.is_away.load(Relaxed)
    }

    /// How often the cluster was lost.
    pub fn outages(&self) -> u64 {
        self.outages.load(Relaxed)
    }

    /// Nothing will make the cluster do what it is asked for.
    pub fn refused(&self, why: String) {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    pub fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a client tells of itself.
#[derive(Clone)]
pub struct Told(pub Arc<Health>);

impl ClientContext for Told {
    /// What matters comes as an error; the rest is told again and again.
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        note(&self.0, error.rdkafka_error_code(), reason);
    }
}

impl ConsumerContext for Told {}

/// Takes down an error that is of no single record.
pub fn note(health: &Health, code: Option<RDKafkaErrorCode>, reason: &str) {
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::AllBrokersDown | Code::BrokerTransportFailure) => health.doubt(),
        Some(
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Fatal
            | Code::SSL,
        ) => health.refused(format!("kafka: {reason}")),
        // Of single brokers and connections: clients go on by themselves.
        _ => {}
    }
}

/// Has a client tell of errors that are of no single record.
pub fn serve(client: &BaseConsumer<Told>) {
    while let Some(event) = client.poll(Duration::ZERO) {
        if let Err(error) = event {
            note(&client.context().0, error.rdkafka_error_code(), &error.to_string());
        }
    }
}
