//! How far event time has come: per partition, per stream, as of an epoch.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Capability;

/// What a source worker says of a partition in an epoch. Broadcast to every worker, so that all of
/// them compute the same watermark for the same epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    pub partition: u32,
    /// The highest event time (ms) of the partition so far.
    pub highest: i64,
    /// Nothing more will come from the partition.
    pub finished: bool,
}

/// The watermark of a stream: the lowest of its partitions' highest event times, less the allowed
/// lateness; it never falls, and is [`i64::MAX`] once all partitions are finished.
#[derive(Clone, Debug)]
pub struct Watermarks {
    allowed_lateness_ms: i64,
    /// The highest event time of each unfinished partition.
    open: BTreeMap<u32, i64>,
    watermark: i64,
}

impl Watermarks {
    /// `floors[p]`: the lowest event time that partition `p` can hold ([`i64::MIN`] if unknown).
    pub fn new(allowed_lateness_ms: i64, floors: &[i64]) -> Self {
        let open = floors.iter().enumerate().map(|(p, &floor)| (p as u32, floor)).collect();
        let mut watermarks = Watermarks { allowed_lateness_ms, open, watermark: i64::MIN };
        watermarks.raise();
        watermarks
    }

    pub fn apply(&mut self, mark: Mark) {
        if mark.finished {
            self.open.remove(&mark.partition);
        } else if let Some(highest) = self.open.get_mut(&mark.partition) {
            *highest = mark.highest.max(*highest);
        }
        self.raise();
    }

    fn raise(&mut self) {
        let lowest = self
            .open
            .values()
            .min()
            .map_or(i64::MAX, |highest| highest.saturating_sub(self.allowed_lateness_ms));
        self.watermark = self.watermark.max(lowest);
    }

    pub fn watermark(&self) -> i64 {
        self.watermark
    }
}

/// Epochs whose marks have come, in order: an operator's view of the watermark.
///
/// Every epoch has a mark, whatever rows it has, so its capability is the one to send under.
pub struct CompleteEpochs {
    watermarks: Watermarks,
    waiting: BTreeMap<u64, (Capability<u64>, Vec<Mark>)>,
}

impl CompleteEpochs {
    pub fn new(watermarks: Watermarks) -> Self {
        CompleteEpochs { watermarks, waiting: BTreeMap::new() }
    }

    pub fn insert(&mut self, capability: Capability<u64>, marks: impl IntoIterator<Item = Mark>) {
        let epoch = *capability.time();
        self.waiting.entry(epoch).or_insert_with(|| (capability, Vec::new())).1.extend(marks);
    }

    /// The next epoch, if it is complete, and the watermark after it.
    pub fn next(&mut self, complete: impl Fn(&u64) -> bool) -> Option<(Capability<u64>, i64)> {
        let entry = self.waiting.first_entry().filter(|entry| complete(entry.key()))?;
        let (capability, marks) = entry.remove();
        marks.into_iter().for_each(|mark| self.watermarks.apply(mark));
        Some((capability, self.watermarks.watermark()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(partition: u32, highest: i64, finished: bool) -> Mark {
        Mark { partition, highest, finished }
    }

    #[test]
    fn the_slowest_partition_rules_and_the_watermark_never_falls() {
        let mut marks = Watermarks::new(10, &[100, 200]);
        assert_eq!(marks.watermark(), 90);
        marks.apply(mark(0, 500, false));
        assert_eq!(marks.watermark(), 190);
        marks.apply(mark(0, 400, false));
        marks.apply(mark(1, 450, false));
        assert_eq!(marks.watermark(), 440);
        marks.apply(mark(0, 0, true));
        assert_eq!(marks.watermark(), 440);
        marks.apply(mark(1, 0, true));
        assert_eq!(marks.watermark(), i64::MAX);
    }
}
