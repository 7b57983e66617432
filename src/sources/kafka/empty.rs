//! Whether partitions of which nothing ever came stay empty.
//!
//! That nothing comes is no sign of it: a broker may be standing still. So brokers are asked for the
//! ends of these partitions again and again, and only while they answer at once does nothing count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a broker has been asked and has answered by when a partition of which nothing ever came is
/// taken to stay empty: producers that begin do so on all partitions at about the same time, and none
/// of these must be late because another came a moment before.
const EMPTY_FOR: Duration = Duration::from_secs(1);
/// A broker that takes longer to answer may have stood still.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// A topic and one of its partitions.
pub type TopicPartition = (String, i32);

/// The partitions that are looked at; shared by those who read them and who asks brokers.
#[derive(Clone, Default)]
pub struct Looks(Arc<Mutex<BTreeMap<TopicPartition, Look>>>);

#[derive(Default)]
struct Look {
    /// When the first was asked of the answers that all came at once since.
    since: Option<Instant>,
    is_over: bool,
}

impl Looks {
    fn looks(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Look>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the partition stays empty; it is looked at until that is known.
    pub fn is_empty(&self, of: &TopicPartition) -> bool {
        let mut looks = self.looks();
        match looks.get(of) {
            Some(look) => look.is_over,
            None => {
                looks.insert(of.clone(), Look::default());
                false
            }
        }
    }

    /// Nobody looks at it any more; should anybody ask again, it is looked at anew.
    pub fn end(&self, of: &TopicPartition) {
        self.looks().remove(of);
    }

    /// Those that brokers have to be asked about.
    pub fn under_way(&self) -> Vec<TopicPartition> {
        let looks = self.looks();
        looks.iter().filter(|(_, look)| !look.is_over).map(|(of, _)| of.clone()).collect()
    }

    /// A broker was `asked` about a partition, and did or did not answer at once.
    pub fn asked(&self, of: &TopicPartition, asked: Instant, has_answered: bool) {
        if let Some(look) = self.looks().get_mut(of) {
            look.since = has_answered.then(|| look.since.unwrap_or(asked));
            let for_long = |since| asked.saturating_duration_since(since) >= EMPTY_FOR;
            look.is_over |= look.since.is_some_and(for_long);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_empty_when_its_broker_has_answered_at_once_for_long_enough() {
        let looks = Looks::default();
        let [first, second] = [0, 1].map(|partition| ("t".to_owned(), partition));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // Nobody has asked to know.
        looks.asked(&first, at(0), true);
        assert!(looks.under_way().is_empty());
        assert!(!looks.is_empty(&first) && !looks.is_empty(&second));
        assert_eq!(looks.under_way(), [first.clone(), second.clone()]);
        for ms in [100, 600, 1_099] {
            looks.asked(&first, at(ms), true);
            looks.asked(&second, at(ms), ms != 600);
            assert!(!looks.is_empty(&first) && !looks.is_empty(&second));
        }
        looks.asked(&first, at(1_100), true);
        looks.asked(&second, at(1_100), true);
        assert!(looks.is_empty(&first) && !looks.is_empty(&second));
        assert_eq!(looks.under_way(), std::slice::from_ref(&second));
        // What is known stays known.
        looks.asked(&first, at(1_200), false);
        looks.asked(&second, at(2_098), true);
        assert!(looks.is_empty(&first) && !looks.is_empty(&second));
        looks.asked(&second, at(2_099), true);
        assert!(looks.is_empty(&second));
        looks.end(&first);
        assert!(!looks.is_empty(&first));
        looks.asked(&first, at(9_000), true);
        assert!(!looks.is_empty(&first));
    }
}
