//! Partitions that topics of the events get while a run reads them.

use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError};

use super::begin::Place;

/// Those that have been found so far, with their numbers; shared by whoever looks for them and the
/// workers, each of which reads its own.
#[derive(Clone, Default)]
pub struct Joins {
    found: Arc<Mutex<Vec<(u32, Place)>>>,
    count: Arc<AtomicUsize>,
}

impl Joins {
    pub fn add(&self, number: u32, place: Place) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.push((number, place));
        self.count.store(found.len(), Release);
    }

    /// Those that came after the first `seen`.
    pub fn after(&self, seen: usize) -> Vec<(u32, Place)> {
        if self.count.load(Acquire) <= seen {
            return Vec::new();
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found[seen..].to_vec()
    }
}
