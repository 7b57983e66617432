//! Commits the offsets of what is settled and durable, again and again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Result, anyhow};
use driftline_operators::reports::Reports;
use driftline_operators::settled::Committable;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::places::Places;
use crate::kafka::health::{Told, serve};
use crate::sources::SourceError;
use crate::sources::inputs::Topics;
use crate::sources::kafka::commit_note::CommitNote;
use crate::sources::kafka::passed::Passed;

/// The thread that does it. It ends when it is told to, or dropped.
pub struct Committer {
    stop: Sender<()>,
    last: Receiver<Result<()>>,
}

struct Committing {
    client: BaseConsumer<Told>,
    places: Places,
    reports: Reports,
    passed: Passed,
    committed: BTreeMap<u32, u64>,
}

/// What is told of attempts to commit.
struct Attempts {
    group: String,
    failures: CommitFailures,
    /// How often in succession it has failed by now.
    failed: u64,
}

/// How often offsets could not be committed.
#[derive(Clone, Default)]
pub struct CommitFailures(Arc<AtomicU64>);

impl CommitFailures {
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Committer {
    /// # Errors
    /// If there can be no client.
    pub fn start(
        topics: &Topics,
        interval: Duration,
        places: &Places,
        reports: &Reports,
        failures: CommitFailures,
    ) -> Result<Self, SourceError> {
        let mut committing = Committing {
            client: topics.cluster.consumer(&topics.group)?,
            places: places.clone(),
            reports: reports.clone(),
            passed: topics.live.passed.clone(),
            committed: BTreeMap::new(),
        };
        let mut attempts = Attempts { group: topics.group.clone(), failures, failed: 0 };
        let (stop, stopped) = channel();
        let (ended, last) = channel();
        std::thread::spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let ended = committing.commit();
                if let Some(line) = attempts.told(&ended) {
                    say!("{line}");
                }
            }
            let last = committing.commit();
            // What the run ends with is an error, if it failed.
            let _ = attempts.told(&last);
            // Nobody waits any more if it took too long.
            let _ = ended.send(last.map(|_| ()));
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

impl Attempts {
    /// Counts what came of an attempt; what there is to be said, once when it begins to fail and once
    /// when it works again.
    fn told(&mut self, ended: &Result<bool>) -> Option<String> {
        match ended {
            Ok(false) => None,
            Ok(true) => {
                let failed = std::mem::take(&mut self.failed);
                (failed > 0).then(|| {
                    format!(
                        "kafka: offsets are committed again, after {failed} attempts that failed"
                    )
                })
            }
            Err(error) => {
                self.failures.0.fetch_add(1, Relaxed);
                self.failed += 1;
                let group = &self.group;
                (self.failed == 1).then(|| {
                    format!(
                        "warning: kafka: offsets of group {group:?} could not be committed: {}; trying again; until it works, lag stays, and a run that starts anew reads again what came after the last ones",
                        why(error)
                    )
                })
            }
        }
    }
}

impl Committing {
    /// Commits what is settled and durable and was not committed before; whether there was any.
    fn commit(&mut self) -> Result<bool> {
        serve(&self.client);
        let mut new = self.reports.committable();
        for Committable { partition, offset, is_settled_to, .. } in &mut new {
            if *is_settled_to {
                *offset = self.passed.over(*partition, *offset);
            }
        }
        // Where a stretch without messages was passed over, durable places may lie before its end.
        new.retain(|of| self.committed.get(&of.partition).is_none_or(|done| *done < of.offset));
        let mut list = TopicPartitionList::new();
        let mut notes = Vec::new();
        for Committable { partition, offset, highest, .. } in &new {
            let Some(place) = self.places.get(*partition) else { continue };
            let offset = Offset::Offset(*offset as i64);
            list.add_partition_offset(&place.topic, place.partition, offset)?;
            notes.push(CommitNote::of_highest(*highest));
        }
        if list.count() == 0 {
            return Ok(false);
        }
        for (mut committed, note) in list.elements().into_iter().zip(notes) {
            if let Some(note) = note {
                committed.set_metadata(note.to_string());
            }
        }
        self.client.commit(&list, CommitMode::Sync)?;
        self.committed.extend(new.into_iter().map(|of| (of.partition, of.offset)));
        Ok(true)
    }
}

/// The error, with what to do about it where that is known.
fn why(error: &anyhow::Error) -> String {
    use RDKafkaErrorCode as Code;
    let code = error.downcast_ref::<KafkaError>().and_then(KafkaError::rdkafka_error_code);
    let advice = match code {
        Some(Code::UnknownMemberId | Code::IllegalGeneration | Code::RebalanceInProgress) => {
            "; another consumer has joined the group: give the job a group of its own (sources.NAME.group)"
        }
        Some(Code::GroupAuthorizationFailed) => "; ask for READ on the group",
        _ => "",
    };
    format!("{error}{advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_each_and_told_once_until_it_works_again() {
        let failures = CommitFailures::default();
        let mut attempts =
            Attempts { group: "g".to_owned(), failures: failures.clone(), failed: 0 };
        let failed = || Err(anyhow!("no coordinator"));
        for (ended, line) in [
            (Ok(true), None),
            (failed(), Some("offsets of group \"g\" could not be committed: no coordinator")),
            (failed(), None),
            (Ok(false), None),
            (failed(), None),
            (Ok(true), Some("offsets are committed again, after 3 attempts that failed")),
            (Ok(true), None),
            (failed(), Some("could not be committed")),
        ] {
            let told = attempts.told(&ended);
            assert_eq!(told.is_some(), line.is_some(), "{told:?}");
            assert!(line.is_none_or(|line| told.unwrap().contains(line)));
        }
        assert_eq!(failures.count(), 4);
    }
}
