//! What partitions are called, by number.

use std::sync::{Arc, PoisonError, RwLock};

/// The names (a path, a topic and its partition) of all partitions of a run. There may come more.
#[derive(Clone, Debug, Default)]
pub struct PartitionNames(Arc<RwLock<Vec<String>>>);

impl PartitionNames {
    /// The name of a partition; none if there is no such partition.
    pub fn get(&self, partition: u32) -> Option<String> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(partition as usize).cloned()
    }

    /// One more partition. Its number.
    pub fn joined(&self, name: String) -> u32 {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        names.push(name);
        names.len() as u32 - 1
    }
}

impl<T: IntoIterator<Item = String>> From<T> for PartitionNames {
    fn from(names: T) -> Self {
        PartitionNames(Arc::new(RwLock::new(names.into_iter().collect())))
    }
}
