//! How far partitions go.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::health::Told;

/// The end of each partition, asked for together; `None` of those whose broker does not say. For a
/// client that reads what is committed it is where the first open transaction begins.
///
/// # Errors
/// If nothing is known of some of them within that time.
pub fn ends<'a>(
    client: &BaseConsumer<Told>,
    places: impl Iterator<Item = (&'a str, i32)> + Clone,
    timeout: Duration,
) -> KafkaResult<Vec<Option<u64>>> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places.clone() {
        // The end is the offset of a time that stands for it.
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    if list.count() == 0 {
        return Ok(Vec::new());
    }
    let found = client.offsets_for_times(list, timeout)?;
    let end = |(topic, partition)| {
        let place = found.find_partition(topic, partition).filter(|place| place.error().is_ok())?;
        match place.offset() {
            Offset::Offset(end) => u64::try_from(end).ok(),
            _ => None,
        }
    };
    Ok(places.map(end).collect())
}
