//! How far before its beginning a partition has to be read, so that windows hold what they would have
//! held.
//!
//! Messages carry the time at which they were sent, which need not be that of their event, so event
//! times themselves are looked at: rows of a partition are in order but for the lateness that the job
//! allows, and the offset is found by halving.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use driftline_operators::admit::{event_times, highest};
use driftline_operators::too_early::FutureHorizon;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::begin::Place;
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
    /// Rows beyond it count for nothing.
    pub future: FutureHorizon,
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
    let looking = Looking { cluster, client, time, future: reach.future };
    let halvings = places.iter().map(|place| Halving { behind: place.low, of_use: place.first });
    let mut halvings: Vec<Halving> = halvings.collect();
    let last = halvings.iter().map(|halving| Stretch {
        from: halving.behind.max(halving.of_use.saturating_sub(LOOKED_AT)),
        to: halving.of_use,
    });
    let reached = looking.highest(places, &last.collect::<Vec<_>>())?;
    // All partitions take each step together: a step is one answer of the cluster.
    while halvings.iter().zip(&reached).any(|(halving, reached)| halving.next(*reached).is_some()) {
        let steps = halvings.iter().zip(&reached).zip(places.iter());
        let stretches = steps.map(|((halving, reached), place)| match halving.next(*reached) {
            Some(middle) => Stretch { from: middle, to: place.first.min(middle + LOOKED_AT) },
            None => Stretch { from: 0, to: 0 },
        });
        let stretches: Vec<Stretch> = stretches.collect();
        let found = looking.highest(places, &stretches)?;
        for ((halving, reached), found) in halvings.iter_mut().zip(&reached).zip(found) {
            let (Some(middle), Some(reached)) = (halving.next(*reached), *reached) else {
                continue;
            };
            let of_use_from = reach.of_use_from(reached);
            halving.narrow(middle, found.is_some_and(|at| reach.all_before(at, of_use_from)));
        }
    }
    for ((place, halving), reached) in places.iter_mut().zip(&halvings).zip(&reached) {
        if reached.is_some() {
            place.read_from = halving.behind;
        }
    }
    client.unassign().map_err(|error| cluster.failed(&error))?;
    Ok(reached)
}

/// The search for the highest offset before which nothing is of use.
#[derive(Clone, Copy, Debug)]
struct Halving {
    /// Nothing before it is of use.
    behind: u64,
    /// Something before it may be.
    of_use: u64,
}

impl Halving {
    /// The offset to look at next, if there is something before the beginning and it is worth it.
    fn next(&self, reached: Option<i64>) -> Option<u64> {
        let is_wide = self.of_use.saturating_sub(self.behind) > LOOKED_AT;
        (reached.is_some() && is_wide).then(|| self.behind + (self.of_use - self.behind) / 2)
    }

    fn narrow(&mut self, middle: u64, is_behind: bool) {
        match is_behind {
            true => self.behind = middle,
            false => self.of_use = middle,
        }
    }
}

/// Offsets of a partition, [from, to).
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from: u64,
    to: u64,
}

struct Looking<'a> {
    cluster: &'a Cluster,
    client: &'a BaseConsumer<Told>,
    /// The column of event time, as JSON has it.
    time: SchemaRef,
    future: FutureHorizon,
}

impl Looking<'_> {
    /// The highest event time of the messages of a stretch of each place, if one has any.
    fn highest(
        &self,
        places: &[Place],
        stretches: &[Stretch],
    ) -> Result<Vec<Option<i64>>, SourceError> {
        let named = |error: &dyn std::fmt::Display| failed("reading back", error);
        let mut columns = Vec::new();
        let mut list = TopicPartitionList::new();
        let mut missing = BTreeSet::new();
        let mut sent: Vec<Vec<Option<i64>>> = vec![Vec::new(); places.len()];
        for (at, (place, stretch)) in places.iter().zip(stretches).enumerate() {
            columns.push(JsonColumns::new(self.time.clone()).map_err(|e| named(&e))?);
            if stretch.from < stretch.to {
                let offset = Offset::Offset(stretch.from as i64);
                let added = list.add_partition_offset(&place.topic, place.partition, offset);
                added.map_err(|e| named(&e))?;
                missing.insert(at);
            }
        }
        if !missing.is_empty() {
            self.client.assign(&list).map_err(|e| self.cluster.failed(&e))?;
        }
        let asked = Instant::now();
        while !missing.is_empty() {
            if asked.elapsed() > ANSWER_TIMEOUT {
                return Err(named(&"messages before the beginning could not be read in time"));
            }
            let message = match self.client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // What is last need not be a message. The topic is not told.
                    let is_of = |at: &&usize| places[**at].partition == partition;
                    let ended: Vec<usize> = missing.iter().filter(is_of).copied().collect();
                    if let [only] = ended.as_slice() {
                        missing.remove(only);
                    }
                    continue;
                }
                _ => continue,
            };
            let of = |at: &usize| {
                let place = &places[*at];
                (place.topic.as_str(), place.partition) == (message.topic(), message.partition())
            };
            let Some(at) = missing.iter().copied().find(of) else { continue };
            let offset = message.offset() as u64;
            if offset < stretches[at].to {
                // What is no event has no time.
                if columns[at].push(message.payload().unwrap_or_default()).is_ok() {
                    sent[at].push(message.timestamp().to_millis().filter(|&time| time >= 0));
                }
            }
            if offset + 1 >= stretches[at].to {
                missing.remove(&at);
            }
        }
        let of = |(mut columns, sent): (JsonColumns, Vec<Option<i64>>)| {
            let times = event_times(columns.finish()?.column(0))?;
            Ok(highest(&self.future.counted(&times, &Int64Array::from(sent))))
        };
        let found: Result<Vec<_>, ArrowError> = columns.into_iter().zip(sent).map(of).collect();
        found.map_err(|error| named(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_is_found_by_halving_and_nothing_of_use_is_left_out() {
        for (low, first) in [(0, 0), (0, 10), (5, 1_000), (0, 100_000), (99_000, 100_000)] {
            for of_use in [low, (low + first) / 2, first] {
                let (mut asked, mut halving) = (0, Halving { behind: low, of_use: first });
                while let Some(middle) = halving.next(Some(0)) {
                    asked += 1;
                    halving.narrow(middle, middle <= of_use);
                }
                let found = halving.behind;
                assert!(found <= of_use.max(low), "{low}..{first}: {found} for {of_use}");
                assert!(of_use - found <= LOOKED_AT, "{low}..{first}: {found} for {of_use}");
                assert!(asked <= 17);
            }
        }
        assert_eq!(Halving { behind: 0, of_use: 1_000 }.next(None), None);
    }
}
