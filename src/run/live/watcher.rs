//! Looks after the cluster: whether it can be reached, how far behind the run is, and whether topics have
//! got more partitions.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use driftline_operators::partition_names::PartitionNames;
use driftline_operators::settled::Settled;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::places::Places;
use crate::kafka::health::{Told, serve};
use crate::service::Lags;
use crate::sources::SourceError;
use crate::sources::inputs::Topics;
use crate::sources::kafka::begin::Place;

/// How often it is looked whether a client has doubts.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the cluster has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The thread that does it, until it is dropped.
pub struct Watcher {
    _stop: Sender<()>,
}

pub struct Watching {
    pub topics: Topics,
    pub places: Places,
    pub names: PartitionNames,
    pub settled: Settled,
    pub lags: Lags,
    pub refresh_interval: Duration,
}

impl Watcher {
    /// # Errors
    /// If there can be no client.
    pub fn start(watching: Watching) -> Result<Self, SourceError> {
        let client = watching.topics.cluster.consumer(&watching.topics.group)?;
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            let mut refreshed_at: Option<Instant> = None;
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                serve(&client);
                if watching.topics.cluster.health.is_in_doubt() {
                    watching.ask(&client);
                } else if refreshed_at.is_none_or(|at| at.elapsed() >= watching.refresh_interval) {
                    refreshed_at = Some(Instant::now());
                    watching.refresh(&client);
                }
            }
        });
        Ok(Watcher { _stop: stop })
    }
}

impl Watching {
    /// Whether the cluster can be reached.
    fn ask(&self, client: &BaseConsumer<Told>) {
        let health = &self.topics.cluster.health;
        let topics = self.places.by_topic();
        let topic = topics.keys().next().map(String::as_str);
        match client.fetch_metadata(topic, ANSWER_TIMEOUT) {
            Ok(_) => health.back(),
            Err(_) => health.away(),
        }
    }

    fn refresh(&self, client: &BaseConsumer<Told>) {
        for (topic, known) in self.places.by_topic() {
            let count = self.topics.cluster.partitions(client, &topic, ANSWER_TIMEOUT);
            for partition in known..count.unwrap_or(known) {
                self.join(Place { partition: partition as i32, ..Place::unknown(&topic) });
            }
        }
        for (number, offset) in self.settled.offsets() {
            let Some(place) = self.places.get(number) else { continue };
            let ends = client.fetch_watermarks(&place.topic, place.partition, ANSWER_TIMEOUT);
            let Ok((_, high)) = ends else { return };
            let lag = u64::try_from(high).unwrap_or(0).saturating_sub(offset);
            self.lags.set(&place.topic, place.partition, lag);
        }
    }

    /// Has a partition that has come since read from its beginning.
    fn join(&self, place: Place) {
        eprintln!("{}: a new partition, read from its beginning", place.name());
        let number = self.names.joined(place.name());
        self.settled.joined(number);
        self.topics.live.joined();
        self.places.add(number, place.clone());
        self.topics.joins.add(number, place);
    }
}
