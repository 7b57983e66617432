//! The partitions of the events that a live run reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sources::kafka::begin::Place;

/// By number; more may come.
#[derive(Clone)]
pub struct Places {
    places: Arc<Mutex<BTreeMap<u32, Place>>>,
    numbers: Arc<JoinNumbers>,
}

/// The numbers of partitions that come while a run reads.
///
/// They follow from the topic and the partition and from what was there at the beginning: whoever finds a
/// partition gives it the number that all others give it, whatever else they have found.
struct JoinNumbers {
    /// The first of them.
    first: u32,
    /// Topics, in order of their names, and how many partitions each had at the beginning.
    topics: Vec<(String, u32)>,
}

impl JoinNumbers {
    /// The number of a partition that was not there; none if its topic was not.
    fn of(&self, place: &Place) -> Option<u32> {
        let topics = self.topics.len() as u32;
        let at = self.topics.iter().position(|(topic, _)| *topic == place.topic)?;
        let round = u32::try_from(place.partition).ok()?.checked_sub(self.topics[at].1)?;
        // The next partition of each topic in turn, and not each time in the same order: those of one topic
        // fall to more than one worker.
        Some(self.first + round * topics + (at as u32 + round) % topics)
    }
}

impl Places {
    /// `partitions`: how many there are of all streams, which are numbered before those that come.
    pub fn new(places: impl IntoIterator<Item = (u32, Place)>, partitions: usize) -> Self {
        let places: BTreeMap<u32, Place> = places.into_iter().collect();
        let mut topics: BTreeMap<String, u32> = BTreeMap::new();
        for place in places.values() {
            *topics.entry(place.topic.clone()).or_default() += 1;
        }
        let numbers =
            JoinNumbers { first: partitions as u32, topics: topics.into_iter().collect() };
        Places { places: Arc::new(Mutex::new(places)), numbers: Arc::new(numbers) }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u32, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, number: u32) -> Option<Place> {
        self.places().get(&number).cloned()
    }

    pub fn all(&self) -> Vec<Place> {
        self.places().values().cloned().collect()
    }

    /// Adds a partition that has come. Its number, if it is of a topic that was there.
    pub fn join(&self, place: Place) -> Option<u32> {
        let number = self.numbers.of(&place)?;
        self.places().insert(number, place);
        Some(number)
    }

    /// Partitions by topic.
    pub fn by_topic(&self) -> BTreeMap<String, usize> {
        let mut topics = BTreeMap::new();
        for place in self.places().values() {
            *topics.entry(place.topic.clone()).or_default() += 1;
        }
        topics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn place(topic: &str, partition: i32) -> Place {
        Place { partition, ..Place::unknown(topic) }
    }

    /// Topics with so many partitions, and a table beside them.
    fn places(topics: &[(&str, i32)]) -> Places {
        let all = topics
            .iter()
            .flat_map(|(topic, count)| (0..*count).map(move |partition| place(topic, partition)));
        let all: Vec<(u32, Place)> = (0..).zip(all).collect();
        let count = all.len() + 1;
        Places::new(all, count)
    }

    #[test]
    fn a_partition_that_comes_has_the_same_number_whoever_finds_it_and_whatever_came_before() {
        let topics = [("b", 2), ("a", 1), ("c", 3)];
        let all: Vec<Place> = topics
            .iter()
            .flat_map(|(topic, count)| (*count..count + 9).map(move |at| place(topic, at)))
            .collect();
        let (forward, backward) = (places(&topics), places(&topics));
        let mut numbers: Vec<u32> =
            all.iter().map(|of| forward.join(of.clone()).unwrap()).collect();
        let back: Vec<u32> =
            all.iter().rev().map(|of| backward.join(of.clone()).unwrap()).collect();
        assert!(numbers.iter().eq(back.iter().rev()));
        for (number, place) in numbers.iter().zip(&all) {
            assert_eq!(forward.get(*number).as_ref(), Some(place));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (7..7 + 27).collect::<Vec<u32>>());
        assert_eq!(forward.by_topic(), topics.map(|(t, n)| (t.to_owned(), n as usize + 9)).into());
        // What was there, and what is of no topic of the run.
        assert_eq!((forward.join(place("b", 1)), forward.join(place("d", 0))), (None, None));
    }

    #[test]
    fn the_new_partitions_of_one_topic_fall_to_more_than_one_worker() {
        for count in 1..5 {
            let topics: Vec<(String, i32)> = (0..count).map(|at| (format!("t{at}"), 2)).collect();
            let named: Vec<(&str, i32)> = topics.iter().map(|(t, n)| (t.as_str(), *n)).collect();
            let places = places(&named);
            let numbers = (2..18).map(|partition| places.join(place("t0", partition)).unwrap());
            let workers: BTreeSet<u32> = numbers.map(|number| number % 2).collect();
            assert_eq!(workers.len(), 2, "{count} topics");
        }
    }
}
