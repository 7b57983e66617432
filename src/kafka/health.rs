//! Whether the cluster can be reached, as its clients notice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What the clients of a run know of the cluster. Changes are told on standard error.
#[derive(Default)]
pub struct Health {
    servers: String,
    is_away: AtomicBool,
    outages: AtomicU64,
    /// Why the run cannot go on, if it cannot.
    refusal: Mutex<Option<String>>,
}

impl Health {
    pub fn new(servers: &str) -> Self {
        Health { servers: servers.to_owned(), ..Health::default() }
    }

    /// No broker can be reached. Clients go on trying.
    pub fn away(&self, why: &str) {
        if !self.is_away.swap(true, Relaxed) {
            self.outages.fetch_add(1, Relaxed);
            let servers = &self.servers;
            eprintln!(
                "warning: kafka: no broker of {servers} can be reached ({why}); trying again"
            );
        }
    }

    /// A broker has answered.
    pub fn back(&self) {
        if self.is_away.swap(false, Relaxed) {
            eprintln!("kafka: {} can be reached again", self.servers);
        }
    }

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
        Some(Code::AllBrokersDown) => health.away(reason),
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
