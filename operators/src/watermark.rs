//! How far event time has come: per partition, per stream, as of an epoch.

mod epochs;
mod state;

#[cfg(test)]
mod tests;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use epochs::{EpochClock, Progress, Tick};
pub use state::clock_kind;

/// The stream of the events; as-of table `t` of a job is stream `t + 1`.
pub const EVENTS: usize = 0;

/// What a source worker says of a partition in an epoch. Broadcast to every worker, so that all of
/// them compute the same watermarks for the same epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub partition: u32,
    pub reached: Reached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reached {
    /// The highest event time (ms) of the partition so far; it is not, or no longer, idle.
    Time(i64),
    /// The lowest event time (ms) of rows of which some may be below all that were before them.
    From(i64),
    /// Nothing has come from the partition for so long that nothing waits for it.
    Idle,
    /// Nothing more will come from the partition.
    Finished,
    /// The partition is new, and one of this stream.
    Joined { stream: u32 },
}

/// From the lowest to the highest of some event times (ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first: i64,
    pub last: i64,
}

impl Span {
    /// That of no times.
    pub const NONE: Span = Span { first: i64::MAX, last: i64::MIN };

    /// That of the times of both.
    #[must_use]
    pub fn and(self, other: Span) -> Span {
        Span { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// A stream of the job, as far as watermarks are concerned.
#[derive(Clone, Debug)]
pub struct StreamBounds {
    pub allowed_lateness_ms: i64,
    /// Whether events wait for this stream: the events' own, and tables that are not eager.
    pub holds_events: bool,
    /// The lowest event time that each partition can hold ([`i64::MIN`] if unknown), in the order
    /// of their numbers.
    pub floors: Vec<i64>,
}

#[derive(Clone, Debug)]
struct Partition {
    stream: usize,
    highest: i64,
}

#[derive(Clone, Debug)]
struct StreamState {
    allowed_lateness_ms: i64,
    holds_events: bool,
    watermark: i64,
    /// The event times seen, of finished partitions too.
    seen: Span,
    /// How many partitions are unfinished.
    open: usize,
    /// Those of them that are not idle, the one that holds the others up first: highest event time
    /// and number.
    active: BTreeSet<(i64, u32)>,
}

impl StreamState {
    fn new(bounds: &StreamBounds) -> Self {
        StreamState {
            allowed_lateness_ms: bounds.allowed_lateness_ms,
            holds_events: bounds.holds_events,
            watermark: i64::MIN,
            seen: Span::NONE,
            open: 0,
            active: BTreeSet::new(),
        }
    }

    /// The lowest event time that an active partition has reached.
    fn lowest(&self) -> Option<i64> {
        self.active.first().map(|&(time, _)| time)
    }

    fn is_idle(&self) -> bool {
        self.open > 0 && self.active.is_empty()
    }
}

/// The watermarks of all streams.
///
/// A partition's is its highest event time less the allowed lateness of its stream. A stream's is
/// the lowest of its unfinished partitions', idle ones left out; it never falls, and is
/// [`i64::MAX`] once all partitions are finished. While all that is left of a stream is idle, it is
/// just above the highest event time seen.
#[derive(Clone, Debug)]
pub struct Watermarks {
    /// Unfinished partitions by number.
    open: BTreeMap<u32, Partition>,
    streams: Vec<StreamState>,
    job: i64,
}

impl Watermarks {
    /// `streams[0]` is that of the events; partitions are numbered through all streams.
    pub fn new(streams: &[StreamBounds]) -> Self {
        let mut watermarks = Watermarks {
            open: BTreeMap::new(),
            streams: streams.iter().map(StreamState::new).collect(),
            job: i64::MIN,
        };
        let partitions = streams
            .iter()
            .enumerate()
            .flat_map(|(stream, bounds)| bounds.floors.iter().map(move |&floor| (stream, floor)));
        for (number, (stream, highest)) in (0..).zip(partitions) {
            watermarks.open.insert(number, Partition { stream, highest });
            watermarks.streams[stream].open += 1;
            watermarks.streams[stream].active.insert((highest, number));
        }
        for stream in 0..watermarks.streams.len() {
            watermarks.raise(stream);
        }
        watermarks
    }

    pub fn apply(&mut self, mark: Mark) {
        if let Reached::Joined { stream } = mark.reached {
            return self.join(mark.partition, stream as usize);
        }
        let Some(partition) = self.open.get_mut(&mark.partition) else { return };
        let stream = partition.stream;
        let state = &mut self.streams[stream];
        if let Reached::From(time) = mark.reached {
            state.seen.first = time.min(state.seen.first);
            return;
        }
        state.active.remove(&(partition.highest, mark.partition));
        match mark.reached {
            Reached::Time(time) => {
                partition.highest = time.max(partition.highest);
                state.seen.last = time.max(state.seen.last);
                state.active.insert((partition.highest, mark.partition));
            }
            Reached::Idle | Reached::From(_) | Reached::Joined { .. } => {}
            Reached::Finished => {
                state.open -= 1;
                self.open.remove(&mark.partition);
            }
        }
        self.raise(stream);
    }

    fn join(&mut self, number: u32, stream: usize) {
        if let Entry::Vacant(vacant) = self.open.entry(number) {
            vacant.insert(Partition { stream, highest: i64::MIN });
            let state = &mut self.streams[stream];
            state.open += 1;
            state.active.insert((i64::MIN, number));
        }
    }

    fn raise(&mut self, stream: usize) {
        let state = &mut self.streams[stream];
        let watermark = match state.lowest() {
            Some(lowest) => lowest.saturating_sub(state.allowed_lateness_ms),
            None if state.open == 0 => i64::MAX,
            None if state.seen.last > i64::MIN => state.seen.last.saturating_add(1),
            None => i64::MIN,
        };
        state.watermark = state.watermark.max(watermark);
        let lowest = self.waited_for().map(|stream| stream.watermark).min();
        self.job = self.job.max(lowest.unwrap_or(i64::MAX));
    }

    /// The streams that events wait for: not one that is idle as a whole, but for the events.
    fn waited_for(&self) -> impl Iterator<Item = &StreamState> {
        let streams = self.streams.iter().enumerate();
        let waited_for = streams.filter(|(number, stream)| {
            stream.holds_events && (*number == EVENTS || !stream.is_idle())
        });
        waited_for.map(|(_, stream)| stream)
    }

    /// The watermark of one stream (ms).
    pub fn of_stream(&self, stream: usize) -> i64 {
        self.streams[stream].watermark
    }

    /// The highest event time (ms) seen in one stream; [`i64::MIN`] before the first.
    pub fn highest(&self, stream: usize) -> i64 {
        self.streams[stream].seen.last
    }

    /// How far the events of one stream reach: those seen, and the first ones of partitions that are yet
    /// to be read, where they are known.
    pub fn seen(&self, stream: usize) -> Span {
        let StreamState { seen, active, .. } = &self.streams[stream];
        let last = active.last().map_or(i64::MIN, |&(time, _)| time);
        Span { last: seen.last.max(last), ..*seen }
    }

    /// The watermark of the job (ms): the lowest of the events' and of the tables that events wait
    /// for.
    pub fn of_job(&self) -> i64 {
        self.job
    }

    /// The partitions that hold the watermark of the job where it is.
    pub fn holding(&self) -> Vec<u32> {
        let reached =
            |stream: &StreamState, time: i64| time.saturating_sub(stream.allowed_lateness_ms);
        let lowest_of = |stream: &StreamState| stream.lowest().map(|time| reached(stream, time));
        let lowest = self.waited_for().filter_map(lowest_of).min();
        let held = self.waited_for().flat_map(|stream| {
            let held = stream
                .active
                .iter()
                .take_while(move |(time, _)| Some(reached(stream, *time)) == lowest);
            held.map(|(_, partition)| *partition)
        });
        let mut held: Vec<u32> = held.collect();
        held.sort_unstable();
        held
    }

    /// How many partitions the watermark of the job follows from.
    pub fn active(&self) -> usize {
        self.waited_for().map(|stream| stream.active.len()).sum()
    }

    /// The partitions whose highest event time is more than `skew_max_ms` above the lowest of the
    /// other active partitions of their stream.
    pub fn ahead(&self, skew_max_ms: i64) -> Vec<u32> {
        let is_ahead = |partition: &Partition| {
            let lowest = self.streams[partition.stream].lowest();
            lowest.is_some_and(|lowest| partition.highest.saturating_sub(skew_max_ms) > lowest)
        };
        self.open.iter().filter(|(_, p)| is_ahead(p)).map(|(&number, _)| number).collect()
    }
}
