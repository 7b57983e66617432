//! How far before its beginning a partition has to be read, so that windows hold what they would have
//! held.
//!
//! Messages carry the time at which they were sent, which need not be that of their event, so event
//! times themselves are looked at: rows of a partition are in order but for the lateness that the job
//! allows, and the offset is found by halving.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use driftline_operators::admit::{event_times, highest};
use driftline_operators::too_early::FutureHorizon;
use rdkafka::consumer::BaseConsumer;

use super::begin::Place;
use super::look::{From, look};
use super::queue::Item;
use crate::kafka::Cluster;
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
    client: &Arc<BaseConsumer<Told>>,
    places: &mut [Place],
    time: SchemaRef,
    reach: Reach,
) -> Result<Vec<Option<i64>>, SourceError> {
    let looking = Looking { cluster, client, time, future: reach.future };
    let halvings = places.iter().map(|place| Halving { behind: place.low, of_use: place.first });
    let mut halvings: Vec<Halving> = halvings.collect();
    let reached = looking.reached(places)?;
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
    client: &'a Arc<BaseConsumer<Told>>,
    /// The column of event time, as JSON has it.
    time: SchemaRef,
    future: FutureHorizon,
}

impl Looking<'_> {
    /// What event times have reached at the beginning of each place: of the last messages before it,
    /// however many markers and aborted messages follow them.
    fn reached(&self, places: &[Place]) -> Result<Vec<Option<i64>>, SourceError> {
        let mut reached = vec![None; places.len()];
        let mut looked_at = LOOKED_AT;
        loop {
            let is_open = |place: &Place| place.first.saturating_sub(place.low) > looked_at / 4;
            let last = places.iter().zip(&reached).map(|(place, reached)| match reached {
                None if looked_at == LOOKED_AT || is_open(place) => Stretch {
                    from: place.low.max(place.first.saturating_sub(looked_at)),
                    to: place.first,
                },
                _ => Stretch { from: 0, to: 0 },
            });
            let last: Vec<Stretch> = last.collect();
            if last.iter().all(|stretch| stretch.from >= stretch.to) {
                return Ok(reached);
            }
            for (reached, found) in reached.iter_mut().zip(self.highest(places, &last)?) {
                *reached = reached.or(found);
            }
            looked_at = looked_at.saturating_mul(4);
        }
    }

    /// The highest event time of the messages of a stretch of each place, if one has any.
    fn highest(
        &self,
        places: &[Place],
        stretches: &[Stretch],
    ) -> Result<Vec<Option<i64>>, SourceError> {
        let named = |error: &dyn std::fmt::Display| failed("reading back", error);
        let new = || JsonColumns::new(self.time.clone());
        let columns: Result<Vec<_>, _> = places.iter().map(|_| new()).collect();
        let mut columns = columns.map_err(|error| named(&error))?;
        let mut sent: Vec<Vec<Option<i64>>> = vec![Vec::new(); places.len()];
        // Which of the places are looked at.
        let looked_at =
            stretches.iter().enumerate().filter(|(_, stretch)| stretch.from < stretch.to);
        let looked_at: Vec<usize> = looked_at.map(|(at, _)| at).collect();
        let from = looked_at.iter().map(|&at| From {
            topic: &places[at].topic,
            partition: places[at].partition,
            offset: stretches[at].from,
        });
        let from: Vec<From> = from.collect();
        look(self.cluster, self.client, &from, |which, item| {
            let at = looked_at[which];
            // What is last need not be a message.
            let Item::Message(message) = item else { return true };
            if message.offset() < stretches[at].to {
                // What is no event has no time.
                if columns[at].push(message.value().unwrap_or_default()).is_ok() {
                    sent[at].push(message.sent_ms());
                }
            }
            message.offset() + 1 < stretches[at].to
        })?;
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
