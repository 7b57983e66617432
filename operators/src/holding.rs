//! What holds the rows that wait in order gates, to be looked at from outside of the graph.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::watermark::{EVENTS, Watermarks};

/// The watermark of the job as the gates of a process last saw it.
#[derive(Clone, Default)]
pub struct Holding(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Of a replay nobody asks.
    is_watched: AtomicBool,
    held: Mutex<Option<(u64, Held)>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The watermark of the job (ms).
    pub watermark: i64,
    /// Rows that waited when it rose to where it is.
    pub rows_at_rise: u64,
    /// The highest event time (ms) seen.
    pub highest: i64,
    /// The partitions that hold it where it is, if others are ahead of them.
    pub partitions: Vec<u32>,
}

impl Holding {
    /// From now on somebody asks.
    pub fn watch(&self) {
        self.0.is_watched.store(true, Relaxed);
    }

    /// A gate has come to the end of an epoch. `waiting`: rows that wait in all gates.
    pub fn note(&self, epoch: u64, watermarks: &Watermarks, waiting: u64) {
        if !self.0.is_watched.load(Relaxed) {
            return;
        }
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|(known, _)| *known > epoch) {
            return;
        }
        let watermark = watermarks.of_job();
        // Before the first epoch nothing waited.
        let (before, rows) =
            held.as_ref().map_or((i64::MIN, 0), |(_, held)| (held.watermark, held.rows_at_rise));
        let mut partitions = watermarks.holding();
        if partitions.len() == watermarks.active() {
            partitions.clear();
        }
        let now = Held {
            watermark,
            rows_at_rise: if watermark == before { rows } else { waiting },
            highest: watermarks.highest(EVENTS),
            partitions,
        };
        *held = Some((epoch, now));
    }

    /// As of the last epoch; `None` before the first.
    pub fn held(&self) -> Option<Held> {
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().map(|(_, held)| held.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermark::{Mark, Reached, StreamBounds};

    #[test]
    fn who_holds_the_watermark_and_how_many_rows_waited_when_it_rose() {
        let bounds =
            StreamBounds { allowed_lateness_ms: 0, holds_events: true, floors: vec![i64::MIN; 2] };
        let mut watermarks = Watermarks::new(&[bounds]);
        let holding = Holding::default();
        holding.note(1, &watermarks, 5);
        assert_eq!(holding.held(), None);
        holding.watch();
        let mut reached = |partition, time| {
            watermarks.apply(Mark { partition, reached: Reached::Time(time) });
            watermarks.clone()
        };
        let held = |watermark, rows_at_rise, highest, partition| {
            Some(Held { watermark, rows_at_rise, highest, partitions: vec![partition] })
        };
        holding.note(2, &reached(0, 70), 5);
        assert_eq!(holding.held(), held(i64::MIN, 0, 70, 1));
        let after = reached(1, 60);
        holding.note(3, &after, 2);
        assert_eq!(holding.held(), held(60, 2, 70, 1));
        let later = reached(0, 90);
        holding.note(5, &later, 9);
        // A worker that is behind.
        holding.note(4, &after, 7);
        assert_eq!(holding.held(), held(60, 2, 90, 1));
        holding.note(6, &reached(1, 90), 3);
        let level = Held { watermark: 90, rows_at_rise: 3, highest: 90, partitions: vec![] };
        assert_eq!(holding.held(), Some(level));
    }
}
