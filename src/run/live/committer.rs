//! Commits the offsets of what is settled, again and again.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Result, anyhow};
use driftline_operators::settled::Settled;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::places::Places;
use crate::kafka::health::{Told, serve};
use crate::sources::SourceError;
use crate::sources::inputs::Topics;

/// The thread that does it. It ends when it is told to, or dropped.
pub struct Committer {
    stop: Sender<()>,
    last: Receiver<Result<()>>,
}

struct Committing {
    client: BaseConsumer<Told>,
    places: Places,
    settled: Settled,
    committed: BTreeMap<u32, u64>,
}

impl Committer {
    /// # Errors
    /// If there can be no client.
    pub fn start(
        topics: &Topics,
        interval: Duration,
        places: &Places,
        settled: &Settled,
    ) -> Result<Self, SourceError> {
        let mut committing = Committing {
            client: topics.cluster.consumer(&topics.group)?,
            places: places.clone(),
            settled: settled.clone(),
            committed: BTreeMap::new(),
        };
        let (stop, stopped) = channel();
        let (ended, last) = channel();
        std::thread::spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                // What could not be committed is tried again.
                let _ = committing.commit();
            }
            // Nobody waits any more if it took too long.
            let _ = ended.send(committing.commit());
        });
        Ok(Committer { stop, last })
    }

    /// Commits what is settled by now, and ends.
    ///
    /// # Errors
    /// If it could not be committed `within` so long.
    pub fn stop(self, within: Duration) -> Result<()> {
        drop(self.stop);
        let last = self.last.recv_timeout(within);
        last.unwrap_or_else(|_| Err(anyhow!("no broker has answered within {within:.1?}")))
    }
}

impl Committing {
    /// Commits what is settled and was not committed before.
    fn commit(&mut self) -> Result<()> {
        serve(&self.client);
        let mut list = TopicPartitionList::new();
        let mut new = self.settled.offsets();
        new.retain(|(number, offset)| self.committed.get(number) != Some(offset));
        for (number, offset) in &new {
            let Some(place) = self.places.get(*number) else { continue };
            let offset = Offset::Offset(*offset as i64);
            list.add_partition_offset(&place.topic, place.partition, offset)?;
        }
        if list.count() > 0 {
            self.client.commit(&list, CommitMode::Sync)?;
            self.committed.extend(new);
        }
        Ok(())
    }
}
