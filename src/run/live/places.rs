//! The partitions of the events that a live run reads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sources::kafka::begin::Place;

/// By number; more may come.
#[derive(Clone)]
pub struct Places(Arc<Mutex<BTreeMap<u32, Place>>>);

impl Places {
    pub fn new(places: impl IntoIterator<Item = (u32, Place)>) -> Self {
        Places(Arc::new(Mutex::new(places.into_iter().collect())))
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u32, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, number: u32) -> Option<Place> {
        self.places().get(&number).cloned()
    }

    pub fn all(&self) -> Vec<Place> {
        self.places().values().cloned().collect()
    }

    pub fn add(&self, number: u32, place: Place) {
        self.places().insert(number, place);
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
