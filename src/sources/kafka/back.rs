//! How far before its beginning a partition has to be read, so that windows hold what they would have
//! held.
//!
//! Messages carry the time at which they were sent, which need not be that of their event, so event
//! times themselves are looked at: rows of a partition are in order but for the lateness that the job
//! allows, and the offset is found by halving.

use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use driftline_operators::admit::{event_times, highest};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::begin::{Place, ends};
use crate::kafka::Cluster;
use crate::kafka::cluster::ANSWER_TIMEOUT;
use crate::kafka::health::Told;
use crate::sources::json::columns::JsonColumns;
use crate::sources::{SourceError, failed};

/// Messages that are looked at in one place: the highest time among them counts, as one may be late.
const LOOKED_AT: u64 = 64;

/// How far back (ms of event time) from a row windows read.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    pub windows_ms: i64,
    pub allowed_lateness_ms: i64,
}

impl Reach {
    /// The event time before which no row is of any use, where rows before the beginning have come as
    /// far as `reached` (ms).
    fn of_use_from(self, reached: i64) -> i64 {
        reached.saturating_sub(self.allowed_lateness_ms).saturating_sub(self.windows_ms)
    }

    /// Whether all rows before those that have come as far as `reached` are before `time`.
    fn all_before(self, reached: i64, time: i64) -> bool {
        reached.saturating_add(self.allowed_lateness_ms) < time
    }
}

/// Sets from where each place is read. What event times (ms) had reached at its beginning, by place;
/// `None` where nothing is before it.
///
/// # Errors
/// If the cluster does not answer.
pub fn reach_back(
    cluster: &Cluster,
    client: &BaseConsumer<Told>,
    places: &mut [Place],
    time: SchemaRef,
    reach: Reach,
) -> Result<Vec<Option<i64>>, SourceError> {
    let mut reached = Vec::new();
    for place in places {
        let (low, _) = ends(cluster, client, &place.topic, place.partition, ANSWER_TIMEOUT)?;
        let mut looking = Looking { cluster, client, place, time: &time };
        let at_beginning = looking.highest(low.max(place_before(place.first)), place.first)?;
        if let Some(at_beginning) = at_beginning {
            let of_use_from = reach.of_use_from(at_beginning);
            let read_from = first_of_use(low, place.first, |offset| {
                let first = looking.place.first;
                let highest = looking.highest(offset, first.min(offset + LOOKED_AT))?;
                Ok(highest.is_some_and(|highest| reach.all_before(highest, of_use_from)))
            })?;
            place.read_from = read_from;
        }
        reached.push(at_beginning);
    }
    client.unassign().map_err(|error| cluster.failed(&error))?;
    Ok(reached)
}

fn place_before(first: u64) -> u64 {
    first.saturating_sub(LOOKED_AT)
}

/// The highest offset found in [low, first] before which nothing is of use, where `is_behind` says of
/// an offset whether that is so.
fn first_of_use(
    low: u64,
    first: u64,
    mut is_behind: impl FnMut(u64) -> Result<bool, SourceError>,
) -> Result<u64, SourceError> {
    let (mut behind, mut of_use) = (low, first);
    while of_use - behind > LOOKED_AT {
        let middle = behind + (of_use - behind) / 2;
        if is_behind(middle)? {
            behind = middle;
        } else {
            of_use = middle;
        }
    }
    Ok(behind)
}

struct Looking<'a> {
    cluster: &'a Cluster,
    client: &'a BaseConsumer<Told>,
    place: &'a Place,
    /// The column of event time, as JSON has it.
    time: &'a SchemaRef,
}

impl Looking<'_> {
    /// The highest event time of messages with an offset in [from, to), if one has any.
    fn highest(&mut self, from: u64, to: u64) -> Result<Option<i64>, SourceError> {
        let named = |error: &dyn std::fmt::Display| failed(self.place.name(), error);
        let mut columns = JsonColumns::new(self.time.clone()).map_err(|e| named(&e))?;
        if from >= to {
            return Ok(None);
        }
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(from as i64);
        let added = list.add_partition_offset(&self.place.topic, self.place.partition, offset);
        added.and_then(|()| self.client.assign(&list)).map_err(|e| self.cluster.failed(&e))?;
        let asked = Instant::now();
        loop {
            if asked.elapsed() > ANSWER_TIMEOUT {
                return Err(named(&"the messages before the beginning could not be read in time"));
            }
            match self.client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if message.offset() as u64 >= to {
                        break;
                    }
                    // What is no event has no time.
                    let _ = columns.push(message.payload().unwrap_or_default());
                    if message.offset() as u64 + 1 >= to {
                        break;
                    }
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => break,
                _ => {}
            }
        }
        let rows = columns.finish().map_err(|e| named(&e))?;
        let times = event_times(rows.column(0)).map_err(|e| named(&e))?;
        Ok(highest(&times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_found_by_halving_and_nothing_of_use_is_left_out() {
        for (low, first) in [(0, 0), (0, 10), (5, 1_000), (0, 100_000), (99_000, 100_000)] {
            for of_use in [low, (low + first) / 2, first] {
                let mut asked = 0;
                let found = first_of_use(low, first, |offset| {
                    asked += 1;
                    Ok(offset <= of_use)
                });
                let found = found.unwrap();
                assert!(found <= of_use.max(low), "{low}..{first}: {found} for {of_use}");
                assert!(of_use - found <= LOOKED_AT, "{low}..{first}: {found} for {of_use}");
                assert!(asked <= 17);
            }
        }
    }
}
