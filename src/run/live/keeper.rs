//! What goes on beside the dataflow of a live run: offsets are committed, and it is looked after the
//! cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::settled::Settled;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::config::job::Kafka;
use crate::kafka::Health;
use crate::kafka::health::{Told, note};
use crate::service::Lags;
use crate::sources::SourceError;
use crate::sources::inputs::Topics;
use crate::sources::kafka::begin::Place;

/// How often a cluster that is away is asked whether it is back.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// How long it has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The thread that does it. It ends when it is told to, or dropped.
pub struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

struct Kept {
    client: BaseConsumer<Told>,
    health: Arc<Health>,
    places: BTreeMap<u32, Place>,
    settled: Settled,
    topics: Topics,
    names: PartitionNames,
    committed: BTreeMap<u32, u64>,
    commit_interval: Duration,
    refresh_interval: Duration,
    refreshed_at: Option<Instant>,
    lags: Lags,
}

impl Keeper {
    /// # Errors
    /// If there can be no client.
    pub fn start(
        reading: &Topics,
        kafka: &Kafka,
        places: &[(u32, Place)],
        settled: &Settled,
        names: &PartitionNames,
        lags: &Lags,
    ) -> Result<Self, SourceError> {
        let mut kept = Kept {
            client: reading.cluster.consumer(&reading.group)?,
            health: reading.cluster.health.clone(),
            places: places.iter().cloned().collect(),
            settled: settled.clone(),
            topics: reading.clone(),
            names: names.clone(),
            committed: BTreeMap::new(),
            commit_interval: kafka.commit_interval,
            refresh_interval: kafka.refresh_interval,
            refreshed_at: None,
            lags: lags.clone(),
        };
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut committed_at = Instant::now();
            while stopped.recv_timeout(kept.next_in(committed_at)) == Err(RecvTimeoutError::Timeout)
            {
                if kept.health.is_away() {
                    kept.ask();
                } else {
                    // What could not be committed is tried again.
                    let _ = kept.commit();
                    committed_at = Instant::now();
                    kept.refresh();
                }
            }
            kept.commit()
        });
        Ok(Keeper { stop, thread })
    }

    /// Commits what is settled by now, and ends.
    ///
    /// # Errors
    /// If it could not be committed.
    pub fn stop(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow!("the thread that commits offsets has panicked"))?
    }
}

impl Kept {
    fn next_in(&self, committed_at: Instant) -> Duration {
        match self.health.is_away() {
            true => ASK_INTERVAL,
            false => self.commit_interval.saturating_sub(committed_at.elapsed()),
        }
    }

    /// Whether the cluster is back.
    fn ask(&self) {
        let Some(place) = self.places.values().next() else { return };
        if self.client.fetch_metadata(Some(&place.topic), ANSWER_TIMEOUT).is_ok() {
            self.health.back();
        }
        self.serve();
    }

    /// Finds out how far behind the run is, and whether there are new partitions.
    fn refresh(&mut self) {
        if self.refreshed_at.is_some_and(|at| at.elapsed() < self.refresh_interval) {
            return;
        }
        self.refreshed_at = Some(Instant::now());
        self.look_for_partitions();
        for (number, offset) in self.settled.offsets() {
            let Some(place) = self.places.get(&number) else { continue };
            let ends = self.client.fetch_watermarks(&place.topic, place.partition, ANSWER_TIMEOUT);
            let Ok((_, high)) = ends else { return };
            let lag = u64::try_from(high).unwrap_or(0).saturating_sub(offset);
            self.lags.set(&place.topic, place.partition, lag);
        }
    }

    /// Has partitions that topics have got since read from their beginning.
    fn look_for_partitions(&mut self) {
        let topics: BTreeSet<String> =
            self.places.values().map(|place| place.topic.clone()).collect();
        for topic in topics {
            let count = self.topics.cluster.partitions(&self.client, &topic, ANSWER_TIMEOUT);
            let known = self.places.values().filter(|place| place.topic == topic).count();
            for partition in known..count.unwrap_or(0) {
                let place = Place { partition: partition as i32, ..Place::unknown(&topic) };
                let number = self.names.joined(place.name());
                eprintln!("{}: a new partition, read from its beginning", place.name());
                self.settled.joined(number);
                self.topics.live.joined();
                self.places.insert(number, place.clone());
                self.topics.joins.add(number, place);
            }
        }
    }

    /// Has the client tell of errors.
    fn serve(&self) {
        while let Some(event) = self.client.poll(Duration::ZERO) {
            if let Err(error) = event {
                note(&self.health, error.rdkafka_error_code(), &error.to_string());
            }
        }
    }

    /// Commits what is settled and was not committed before.
    fn commit(&mut self) -> Result<()> {
        self.serve();
        let mut list = TopicPartitionList::new();
        let new: Vec<(u32, u64)> = self.settled.offsets();
        let new: Vec<(u32, u64)> = new
            .into_iter()
            .filter(|(number, offset)| self.committed.get(number) != Some(offset))
            .collect();
        for (number, offset) in &new {
            let Some(place) = self.places.get(number) else { continue };
            let offset = Offset::Offset(*offset as i64);
            list.add_partition_offset(&place.topic, place.partition, offset)?;
        }
        if list.count() == 0 {
            return Ok(());
        }
        self.client.commit(&list, CommitMode::Sync)?;
        self.committed.extend(new);
        Ok(())
    }
}
