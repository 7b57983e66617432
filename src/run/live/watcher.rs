//! Looks after the cluster: whether it can be reached, how far behind the run is, whether topics have got
//! more partitions, and whether those of which nothing ever came stay empty.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use driftline_operators::partition_names::PartitionNames;
use driftline_operators::reports::Reports;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::places::Places;
use crate::kafka::health::{Told, serve};
use crate::service::Lags;
use crate::sources::SourceError;
use crate::sources::inputs::Topics;
use crate::sources::kafka::begin::Place;
use crate::sources::kafka::empty;
use crate::sources::kafka::ends::ends;

/// How often it is looked whether a client has doubts, and brokers are asked about empty partitions.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long the cluster has to answer; of many partitions all together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the broker of a partition has, where it is asked for that one alone.
const ONE_TIMEOUT: Duration = Duration::from_millis(500);

/// The thread that does it, until it is dropped.
pub struct Watcher {
    _stop: Sender<()>,
}

pub struct Watching {
    pub topics: Topics,
    pub places: Places,
    pub names: PartitionNames,
    pub reports: Reports,
    pub lags: Lags,
    pub refresh_interval: Duration,
}

impl Watcher {
    /// # Errors
    /// If there can be no client.
    pub fn start(watching: Watching) -> Result<Self, SourceError> {
        let client = watching.topics.cluster.asking(&watching.topics.group)?;
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            let mut refreshed_at: Option<Instant> = None;
            let mut silent = BTreeSet::new();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                serve(&client);
                watching.look_at_empty(&client);
                if watching.topics.cluster.health.is_in_doubt() {
                    watching.ask(&client);
                } else if refreshed_at.is_none_or(|at| at.elapsed() >= watching.refresh_interval) {
                    refreshed_at = Some(Instant::now());
                    watching.refresh(&client, &mut silent);
                }
            }
        });
        Ok(Watcher { _stop: stop })
    }
}

impl Watching {
    /// Whether the cluster can be reached.
    fn ask(&self, client: &BaseConsumer<Told>) {
        let health = &self.topics.cluster.health;
        let topics = self.places.by_topic();
        let topic = topics.keys().next().map(String::as_str);
        match client.fetch_metadata(topic, ANSWER_TIMEOUT) {
            Ok(_) => health.back(),
            Err(_) => {
                health.away();
                self.lags.replace(Vec::new());
            }
        }
    }

    /// Asks about partitions of which nothing ever came.
    fn look_at_empty(&self, client: &BaseConsumer<Told>) {
        let looks = &self.topics.live.looks;
        let under_way = looks.under_way();
        if under_way.is_empty() {
            return;
        }
        let asked = Instant::now();
        let all = under_way.iter().map(|(topic, partition)| (topic.as_str(), *partition));
        let found = ends(client, all, empty::ANSWER_TIMEOUT).unwrap_or_default();
        let in_time = asked.elapsed() <= empty::ANSWER_TIMEOUT;
        for (at, of) in under_way.iter().enumerate() {
            let has_answered = in_time && found.get(at).is_some_and(Option::is_some);
            looks.asked(of, asked, has_answered);
        }
    }

    /// `silent`: the partitions whose broker did not answer when it was asked for them alone.
    fn refresh(&self, client: &BaseConsumer<Told>, silent: &mut BTreeSet<u32>) {
        for (topic, known) in self.places.by_topic() {
            let count = self.topics.cluster.partitions(client, &topic, ANSWER_TIMEOUT);
            for partition in known..count.unwrap_or(known) {
                self.join(Place { partition: partition as i32, ..Place::unknown(&topic) });
            }
        }
        let passed = &self.topics.live.passed;
        let settled = self.reports.settled().into_iter();
        let settled = settled.map(|(number, offset)| (number, passed.over(number, offset)));
        let settled: BTreeMap<u32, u64> = settled.collect();
        let places = settled.keys().filter_map(|&number| Some((number, self.places.get(number)?)));
        let places: Vec<(u32, Place)> = places.collect();
        let all = places.iter().map(|(_, place)| (place.topic.as_str(), place.partition));
        let found = match ends(client, all, ANSWER_TIMEOUT) {
            Ok(found) => {
                let numbers = places.iter().map(|(number, _)| *number);
                numbers.zip(found).filter_map(|(number, end)| Some((number, end?))).collect()
            }
            // One broker that is away must not hide what the others know.
            Err(_) => one_by_one(&places, silent, ANSWER_TIMEOUT, |place, timeout| {
                let ends = client.fetch_watermarks(&place.topic, place.partition, timeout);
                ends.ok().and_then(|(_, high)| u64::try_from(high).ok())
            }),
        };
        let lags = places.into_iter().filter_map(|(number, place)| {
            let end: &u64 = found.get(&number)?;
            Some(((place.topic, place.partition), end.saturating_sub(settled[&number])))
        });
        self.lags.replace(lags.collect());
    }

    /// Has a partition that has come since read from its beginning.
    fn join(&self, place: Place) {
        let Some(number) = self.places.join(place.clone()) else { return };
        say!("{}: a new partition, read from its beginning", place.name());
        self.names.joined(number, place.name());
        self.topics.live.joined();
        self.topics.joins.add(number, place);
    }
}

/// The ends of places, asked for one by one and `within` so long in all, those that were silent when
/// they were asked before last. `ask` may take as long as it is given.
fn one_by_one(
    places: &[(u32, Place)],
    silent: &mut BTreeSet<u32>,
    within: Duration,
    mut ask: impl FnMut(&Place, Duration) -> Option<u64>,
) -> BTreeMap<u32, u64> {
    let began = Instant::now();
    let mut places: Vec<&(u32, Place)> = places.iter().collect();
    places.sort_by_key(|(number, _)| silent.contains(number));
    let mut found = BTreeMap::new();
    for (number, place) in places {
        let left = within.saturating_sub(began.elapsed()).min(ONE_TIMEOUT);
        if left.is_zero() {
            break;
        }
        match ask(place, left) {
            Some(end) => {
                found.insert(*number, end);
                silent.remove(number);
            }
            None => {
                silent.insert(*number);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_do_not_answer_hide_no_others_and_take_no_more_time_than_there_is() {
        let place = |partition| Place { partition, ..Place::unknown("t") };
        let places: Vec<(u32, Place)> = (0..12).map(|n| (n, place(n as i32))).collect();
        let is_away = |number: u32| number.is_multiple_of(2);
        let (mut silent, within) = (BTreeSet::new(), Duration::from_millis(20));
        let mut found = BTreeMap::new();
        // Each that is away takes all the time of a round.
        for round in 0..=6 {
            let mut waited = 0;
            found = one_by_one(&places, &mut silent, within, |place, timeout| {
                if !is_away(place.partition as u32) {
                    return Some(place.partition as u64 * 10);
                }
                std::thread::sleep(timeout);
                waited += 1;
                None
            });
            assert_eq!(waited, 1, "round {round}");
        }
        let there = (0..12).filter(|n| !is_away(*n));
        assert_eq!(found, there.map(|n| (n, u64::from(n) * 10)).collect());
        assert_eq!(silent, (0..12).filter(|n| is_away(*n)).collect());
    }
}
