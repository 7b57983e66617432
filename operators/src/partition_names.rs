//! What partitions are called, by number.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The names (a path, a topic and its partition) of all partitions of a run. There may come more.
#[derive(Clone, Debug, Default)]
pub struct PartitionNames(Arc<Names>);

#[derive(Debug, Default)]
struct Names {
    /// Of those that were there at the beginning, which are numbered from 0 on.
    first: Vec<String>,
    joined: RwLock<BTreeMap<u32, String>>,
}

impl PartitionNames {
    /// The name of a partition; none if there is no such partition.
    pub fn get(&self, partition: u32) -> Option<String> {
        if let Some(name) = self.0.first.get(partition as usize) {
            return Some(name.clone());
        }
        let joined = self.0.joined.read().unwrap_or_else(PoisonError::into_inner);
        joined.get(&partition).cloned()
    }

    /// One more partition.
    pub fn joined(&self, partition: u32, name: String) {
        let mut joined = self.0.joined.write().unwrap_or_else(PoisonError::into_inner);
        joined.insert(partition, name);
    }
}

impl<T: IntoIterator<Item = String>> From<T> for PartitionNames {
    fn from(names: T) -> Self {
        let first = names.into_iter().collect();
        PartitionNames(Arc::new(Names { first, joined: RwLock::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_join_may_have_any_number_behind_the_first() {
        let names = PartitionNames::from(["t/0".to_owned(), "t/1".to_owned()]);
        names.clone().joined(5, "t/3".to_owned());
        let named = [0, 1, 2, 5].map(|number| names.get(number));
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(named, [name("t/0"), name("t/1"), None, name("t/3")]);
    }
}
