//! Which message of a partition is the first of an instant.
//!
//! Brokers know it but for transactions: their markers count as messages, with the time at which they
//! were written. Of messages of the past brokers name the first marker behind that instant, which may
//! be far before the first message.

use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::look::{From, look};
use super::queue::Item;
use crate::kafka::Cluster;
use crate::kafka::cluster::ANSWER_TIMEOUT;
use crate::kafka::health::Told;
use crate::sources::{SourceError, failed};

/// For each partition of the list the offset of the first message with a time not before `millis`, or
/// of the end of the partition, if there are only others from where the broker points to; `None`
/// where the broker knows of none at all.
///
/// # Errors
/// If the cluster does not answer.
pub fn first_of_instant(
    cluster: &Cluster,
    client: &Arc<BaseConsumer<Told>>,
    list: &TopicPartitionList,
    millis: i64,
) -> Result<TopicPartitionList, SourceError> {
    let failed_by = |error: KafkaError| cluster.failed(&error);
    let mut asked = list.clone();
    asked.set_all_offsets(Offset::Offset(millis.max(0))).map_err(failed_by)?;
    let mut found = client.offsets_for_times(asked, ANSWER_TIMEOUT).map_err(failed_by)?;
    let pointed_to = found.elements().into_iter().filter_map(|place| match place.offset() {
        Offset::Offset(offset) => {
            Some((place.topic().to_owned(), place.partition(), offset as u64))
        }
        _ => None,
    });
    let pointed_to: Vec<(String, i32, u64)> = pointed_to.collect();
    let from: Vec<From> = pointed_to
        .iter()
        .map(|(topic, partition, offset)| From { topic, partition: *partition, offset: *offset })
        .collect();
    let mut first: Vec<u64> = from.iter().map(|from| from.offset).collect();
    look(cluster, client, &from, |at, item| match item {
        Item::Message(message) => {
            first[at] = message.offset();
            message.time_ms() < millis
        }
        Item::End(end) => {
            first[at] = end;
            false
        }
        Item::Error(_) => true,
    })?;
    for ((topic, partition, _), first) in pointed_to.iter().zip(first) {
        let offset = Offset::Offset(first as i64);
        let set = found.set_partition_offset(topic, *partition, offset);
        set.map_err(|error| failed(format!("{topic}/{partition}"), error))?;
    }
    Ok(found)
}
