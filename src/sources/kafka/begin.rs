//! Where a run begins in each partition.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::commit_note::CommitNote;
use super::instant::first_of_instant;
use crate::config::job::{Start, Topics};
use crate::kafka::Cluster;
use crate::kafka::cluster::ANSWER_TIMEOUT;
use crate::kafka::health::Told;
use crate::sources::{SourceError, failed};

/// How often a coordinator that comes up is asked.
const COORDINATOR_INTERVAL: Duration = Duration::from_millis(200);
/// How often a partition is asked for that not all brokers know.
const NEW_INTERVAL: Duration = Duration::from_millis(100);

/// A partition of a topic, and where a run begins in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    /// The offset that is read first.
    pub read_from: u64,
    /// The offset that is scored first; what is read before it feeds windows.
    pub first: u64,
    /// The offset of the first record that was there.
    pub low: u64,
    /// Whether an event is known to be before the beginning, or may be.
    pub has_history: bool,
    /// The highest event time (ms) of the records before `first`, as a run has noted it that ended there.
    pub noted_highest: Option<i64>,
}

impl Place {
    /// Of a topic that nobody has been asked about.
    pub fn unknown(topic: &str) -> Self {
        let topic = topic.to_owned();
        Place {
            topic,
            partition: 0,
            read_from: 0,
            first: 0,
            low: 0,
            has_history: false,
            noted_highest: None,
        }
    }

    pub fn name(&self) -> String {
        format!("{}/{}", self.topic, self.partition)
    }
}

/// Where the events begin. What differs from what the job says is told on standard error.
///
/// # Errors
/// If a topic is missing, or the cluster does not answer.
pub fn events(
    cluster: &Cluster,
    client: &Arc<BaseConsumer<Told>>,
    topics: &Topics,
) -> Result<Vec<Place>, SourceError> {
    let list = partitions(cluster, client, topics.names.iter().map(String::as_str))?;
    let asked = match topics.start {
        Start::Committed => committed(client, &list).map_err(|error| cluster.failed(&error))?,
        Start::Instant(millis) => first_of_instant(cluster, client, &list, millis)?,
        Start::Earliest | Start::Latest => list.clone(),
    };
    check_offsets(topics, &list)?;
    // What is of an open transaction is there, and may be what a group has committed.
    let asking = cluster.asking(&topics.group)?;
    let mut places = Vec::new();
    for found in asked.elements() {
        let (topic, partition) = (found.topic(), found.partition());
        let (low, high) = ends(cluster, &asking, topic, partition, ANSWER_TIMEOUT)?;
        let stable = || Ok(ends(cluster, client, topic, partition, ANSWER_TIMEOUT)?.1);
        let explicit = topics.start_offsets.get(&(topic.to_owned(), partition));
        if let Some(&offset) = explicit.filter(|&&offset| offset > high) {
            let message = format!("offset {offset} (start_offsets) is behind its end, {high}");
            return Err(failed(format!("{topic}/{partition}"), message));
        }
        let wanted = match (explicit, topics.start, found.offset()) {
            (Some(&offset), ..) => offset,
            (None, Start::Latest, _) => stable()?,
            (None, Start::Committed | Start::Instant(_), Offset::Offset(offset)) => offset as u64,
            (None, Start::Instant(_), _) => stable()?,
            (None, Start::Committed | Start::Earliest, _) => low,
        };
        let first = within(wanted, low, high, &format!("{topic}/{partition}"));
        let is_committed = explicit.is_none() && topics.start == Start::Committed;
        let note = is_committed.then(|| CommitNote::parse(found.metadata())).flatten();
        places.push(Place {
            topic: topic.to_owned(),
            partition,
            read_from: first,
            first,
            low,
            has_history: first > low,
            // Where the run begins before it, the topic is not the one that it was.
            noted_highest: note.filter(|_| first >= wanted).map(|note| note.highest_event_time_ms),
        });
    }
    Ok(places)
}

/// What the group has committed. A coordinator that is about to come up is waited for.
fn committed(
    client: &BaseConsumer<Told>,
    list: &TopicPartitionList,
) -> KafkaResult<TopicPartitionList> {
    use RDKafkaErrorCode as Code;
    let asked = Instant::now();
    loop {
        let answer = client.committed_offsets(list.clone(), ANSWER_TIMEOUT);
        let code = answer.as_ref().err().and_then(KafkaError::rdkafka_error_code);
        let comes_up = matches!(
            code,
            Some(
                Code::NotCoordinator
                    | Code::CoordinatorLoadInProgress
                    | Code::CoordinatorNotAvailable
            )
        );
        if !comes_up || asked.elapsed() > ANSWER_TIMEOUT {
            return answer;
        }
        std::thread::sleep(COORDINATOR_INTERVAL);
    }
}

/// Whether there is a partition for each offset that the job names.
fn check_offsets(topics: &Topics, list: &TopicPartitionList) -> Result<(), SourceError> {
    for (topic, partition) in topics.start_offsets.keys() {
        if list.find_partition(topic, *partition).is_none() {
            let message = "start_offsets names it, and there is no such partition";
            return Err(failed(format!("{topic}/{partition}"), message));
        }
    }
    Ok(())
}

/// The offset to begin at where `wanted` is: between the ends of the partition.
fn within(wanted: u64, low: u64, high: u64, name: &str) -> u64 {
    if wanted < low {
        let gone = low - wanted;
        say!(
            "warning: {name}: offsets {wanted} to {} (at most {gone} records) are not there any more; the run begins at {low}",
            low - 1
        );
    } else if wanted > high {
        say!(
            "warning: {name}: it ends at {high}, before offset {wanted}: it is not the topic that it was; the run begins at {low}"
        );
        return low;
    }
    wanted.max(low)
}

/// A table is read from its beginning.
///
/// # Errors
/// As [`events`].
pub fn table(
    cluster: &Cluster,
    client: &BaseConsumer<Told>,
    topic: &str,
) -> Result<Vec<Place>, SourceError> {
    let list = partitions(cluster, client, std::iter::once(topic))?;
    let place = |partition: i32| {
        let (low, _) = ends(cluster, client, topic, partition, ANSWER_TIMEOUT)?;
        let (read_from, first) = (low, low);
        Ok(Place { partition, read_from, first, low, ..Place::unknown(topic) })
    };
    list.elements().iter().map(|found| place(found.partition())).collect()
}

fn partitions<'a>(
    cluster: &Cluster,
    client: &BaseConsumer<Told>,
    topics: impl Iterator<Item = &'a str>,
) -> Result<TopicPartitionList, SourceError> {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..cluster.new_partitions(client, topic)? {
            list.add_partition(topic, partition as i32);
        }
    }
    Ok(list)
}

/// The offset of the first message that is there, and the one behind the last. A partition that was made
/// a moment ago, or whose leader is about to change, is waited for: not all brokers know of it then.
///
/// # Errors
/// If the cluster does not answer.
fn ends(
    cluster: &Cluster,
    client: &BaseConsumer<Told>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<(u64, u64), SourceError> {
    let asked = Instant::now();
    loop {
        let error = match client.fetch_watermarks(topic, partition, timeout) {
            Ok((low, high)) => return Ok((low.max(0) as u64, high.max(0) as u64)),
            Err(error) => error,
        };
        let is_new = error.rdkafka_error_code().is_some_and(is_known_soon);
        if !is_new || asked.elapsed() > timeout {
            return Err(cluster.failed(&error));
        }
        std::thread::sleep(NEW_INTERVAL);
        // What the client has heard is asked for anew, whatever comes of it.
        let _ = client.fetch_metadata(Some(topic), timeout);
    }
}

fn is_known_soon(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownPartition
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::ReplicaNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_begins_where_there_is_something() {
        assert_eq!(within(7, 5, 9, "t/0"), 7);
        assert_eq!(within(9, 5, 9, "t/0"), 9);
        assert_eq!(within(3, 5, 9, "t/0"), 5);
        assert_eq!(within(10, 5, 9, "t/0"), 5);
        assert_eq!(within(0, 0, 0, "t/0"), 0);
    }
}
