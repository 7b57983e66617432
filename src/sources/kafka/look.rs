//! Messages that are looked at before a run, of several partitions at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::queue::{Item, Queue};
use crate::kafka::Cluster;
use crate::kafka::cluster::ANSWER_TIMEOUT;
use crate::kafka::health::{Told, note, serve};
use crate::sources::{SourceError, failed};

/// How long to wait before it is looked again whether something has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// Messages that are taken of a partition before the next one has its turn.
const TURN: usize = 1_024;

/// A partition, and the offset from which on it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct From<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: u64,
}

/// Shows `see` the messages of partitions, by their position in `from`, until it has seen enough of
/// each, which it says by `false`; behind the end of a partition there is no more.
///
/// # Errors
/// If the cluster does not answer, or what is to be read is not there any more.
pub fn look(
    cluster: &Cluster,
    client: &Arc<BaseConsumer<Told>>,
    from: &[From],
    mut see: impl FnMut(usize, Item) -> bool,
) -> Result<(), SourceError> {
    let mut list = TopicPartitionList::new();
    let mut queues = Vec::new();
    for From { topic, partition, offset } in from {
        let name = || format!("{topic}/{partition}");
        let added = list.add_partition_offset(topic, *partition, Offset::Offset(*offset as i64));
        added.map_err(|error| failed(name(), error))?;
        let queue = Queue::split(client, topic, *partition);
        queues.push(Some(queue.ok_or_else(|| failed(name(), "there can be no queue of it"))?));
    }
    if queues.is_empty() {
        return Ok(());
    }
    client.assign(&list).map_err(|error| cluster.failed(&error))?;
    let mut came_at = Instant::now();
    while queues.iter().any(Option::is_some) {
        serve(client);
        let mut has_come = false;
        for (at, place) in queues.iter_mut().enumerate() {
            let Some(queue) = place else { continue };
            let (mut is_over, mut gone) = (false, None);
            queue.take(TURN, |item| {
                has_come = true;
                match item {
                    Item::Error(code) => gone = not_there(cluster, code),
                    Item::End(_) => {
                        see(at, item);
                        is_over = true;
                    }
                    Item::Message(_) => is_over = !see(at, item),
                }
                !is_over && gone.is_none()
            });
            if let Some(why) = gone {
                let From { topic, partition, .. } = from[at];
                return Err(failed(format!("{topic}/{partition}"), why));
            }
            if is_over {
                *place = None;
            }
        }
        if has_come {
            came_at = Instant::now();
        } else if came_at.elapsed() > ANSWER_TIMEOUT || cluster.health.refusal().is_some() {
            let nothing =
                rdkafka::error::KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut);
            return Err(cluster.failed(&nothing));
        } else {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
    client.unassign().map_err(|error| cluster.failed(&error))
}

/// What cannot be overcome; clients go on by themselves after all else.
fn not_there(cluster: &Cluster, code: RDKafkaErrorCode) -> Option<&'static str> {
    use RDKafkaErrorCode as Code;
    match code {
        Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::NoOffset => {
            Some("what was to be read first is not there any more; run the job again")
        }
        other => {
            note(&cluster.health, Some(other), &other.to_string());
            None
        }
    }
}
