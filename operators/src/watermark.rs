//! How far event time has come: per partition, per stream, as of an epoch.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::communication::Pull;
use timely::dataflow::channels::Message;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::InputHandleCore;

use crate::admit::EVENTS;

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
    /// Nothing has come from the partition for so long that nothing waits for it.
    Idle,
    /// Nothing more will come from the partition.
    Finished,
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
    idle: bool,
}

#[derive(Clone, Debug)]
struct StreamState {
    allowed_lateness_ms: i64,
    holds_events: bool,
    watermark: i64,
    /// The highest event time seen, of finished partitions too.
    highest: i64,
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
        let partitions = streams
            .iter()
            .enumerate()
            .flat_map(|(stream, bounds)| bounds.floors.iter().map(move |&floor| (stream, floor)));
        let open = (0..)
            .zip(partitions)
            .map(|(number, (stream, highest))| (number, Partition { stream, highest, idle: false }))
            .collect();
        let streams = streams.iter().map(|bounds| StreamState {
            allowed_lateness_ms: bounds.allowed_lateness_ms,
            holds_events: bounds.holds_events,
            watermark: i64::MIN,
            highest: i64::MIN,
        });
        let mut watermarks = Watermarks { open, streams: streams.collect(), job: i64::MIN };
        for stream in 0..watermarks.streams.len() {
            watermarks.raise(stream);
        }
        watermarks
    }

    pub fn apply(&mut self, mark: Mark) {
        let Some(partition) = self.open.get_mut(&mark.partition) else { return };
        let stream = partition.stream;
        match mark.reached {
            Reached::Time(time) => {
                partition.highest = time.max(partition.highest);
                partition.idle = false;
                let state = &mut self.streams[stream];
                state.highest = time.max(state.highest);
            }
            Reached::Idle => partition.idle = true,
            Reached::Finished => drop(self.open.remove(&mark.partition)),
        }
        self.raise(stream);
    }

    fn of<'a>(&'a self, stream: usize) -> impl Iterator<Item = (u32, &'a Partition)> + 'a {
        let of_stream = move |(_, partition): &(&u32, &Partition)| partition.stream == stream;
        self.open.iter().filter(of_stream).map(|(number, partition)| (*number, partition))
    }

    fn raise(&mut self, stream: usize) {
        let active = self.of(stream).filter(|(_, p)| !p.idle).map(|(_, p)| p.highest).min();
        let is_open = self.of(stream).next().is_some();
        let state = &self.streams[stream];
        let watermark = match active {
            Some(lowest) => lowest.saturating_sub(state.allowed_lateness_ms),
            None if is_open && state.highest > i64::MIN => state.highest.saturating_add(1),
            None if is_open => i64::MIN,
            None => i64::MAX,
        };
        let state = &mut self.streams[stream];
        state.watermark = state.watermark.max(watermark);
        let waited_for = (0..self.streams.len()).filter(|&stream| self.is_waited_for(stream));
        let lowest = waited_for.map(|stream| self.streams[stream].watermark).min();
        self.job = self.job.max(lowest.unwrap_or(i64::MAX));
    }

    /// Whether events wait for a stream: not for one that is idle as a whole, but for the events.
    fn is_waited_for(&self, stream: usize) -> bool {
        let is_idle = || {
            let mut open = self.of(stream).peekable();
            open.peek().is_some() && open.all(|(_, partition)| partition.idle)
        };
        self.streams[stream].holds_events && (stream == EVENTS || !is_idle())
    }

    /// The watermark of one stream (ms).
    pub fn of_stream(&self, stream: usize) -> i64 {
        self.streams[stream].watermark
    }

    /// The watermark of the job (ms): the lowest of the events' and of the tables that events wait
    /// for.
    pub fn of_job(&self) -> i64 {
        self.job
    }

    /// The partitions that hold the watermark of the job where it is.
    pub fn holding(&self) -> Vec<u32> {
        let waited_for =
            self.open.iter().filter(|(_, p)| !p.idle && self.is_waited_for(p.stream)).map(
                |(&number, p)| {
                    let lateness = self.streams[p.stream].allowed_lateness_ms;
                    (p.highest.saturating_sub(lateness), number)
                },
            );
        let waited_for: Vec<(i64, u32)> = waited_for.collect();
        let lowest = waited_for.iter().map(|(watermark, _)| *watermark).min();
        let holds = waited_for.into_iter().filter(|(watermark, _)| Some(*watermark) == lowest);
        holds.map(|(_, partition)| partition).collect()
    }

    /// The partitions whose highest event time is more than `skew_max_ms` above the lowest of the
    /// other active partitions of their stream.
    pub fn ahead(&self, skew_max_ms: i64) -> Vec<u32> {
        let lowest_of: Vec<Option<i64>> = (0..self.streams.len())
            .map(|stream| self.of(stream).filter(|(_, p)| !p.idle).map(|(_, p)| p.highest).min())
            .collect();
        let is_ahead = |partition: &Partition| {
            lowest_of[partition.stream]
                .is_some_and(|lowest| partition.highest.saturating_sub(skew_max_ms) > lowest)
        };
        self.open.iter().filter(|(_, p)| is_ahead(p)).map(|(&number, _)| number).collect()
    }
}

/// How far an operator of this worker has come; to be looked at by others of the same worker.
#[derive(Clone)]
pub struct Progress {
    epoch: Rc<Cell<u64>>,
    watermarks: Rc<RefCell<Watermarks>>,
}

impl Progress {
    pub fn new(watermarks: Watermarks) -> Self {
        Progress { epoch: Rc::default(), watermarks: Rc::new(RefCell::new(watermarks)) }
    }

    /// The last complete epoch; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// The watermarks as of [`Progress::epoch`].
    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.watermarks.borrow()
    }
}

/// Epochs whose marks have come, in order: an operator's view of the watermarks.
///
/// Every epoch has a mark, whatever rows it has, so its capability is the one to send under.
pub struct CompleteEpochs {
    progress: Progress,
    waiting: BTreeMap<u64, (Capability<u64>, Vec<Mark>)>,
}

impl CompleteEpochs {
    pub fn new(watermarks: Watermarks) -> Self {
        Self::shown(Progress::new(watermarks))
    }

    /// Epochs whose completion is seen in `progress`.
    pub fn shown(progress: Progress) -> Self {
        CompleteEpochs { progress, waiting: BTreeMap::new() }
    }

    /// Takes the marks that have come, and for each epoch the capability for output `port`.
    pub fn read<P>(&mut self, marks: &mut InputHandleCore<u64, Vec<Mark>, P>, port: usize)
    where
        P: Pull<Message<u64, Vec<Mark>>>,
    {
        marks.for_each(|capability, container| {
            let Some(retained) = capability.retain_least(port) else { return };
            let epoch = *retained.time();
            self.waiting.entry(epoch).or_insert_with(|| (retained, Vec::new())).1.append(container);
        });
    }

    /// The next epoch, if it is complete; the watermarks are then as of it.
    pub fn next(&mut self, complete: impl Fn(&u64) -> bool) -> Option<Capability<u64>> {
        let entry = self.waiting.first_entry().filter(|entry| complete(entry.key()))?;
        let (capability, marks) = entry.remove();
        let mut watermarks = self.progress.watermarks.borrow_mut();
        marks.into_iter().for_each(|mark| watermarks.apply(mark));
        self.progress.epoch.set(*capability.time());
        Some(capability)
    }

    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.progress.watermarks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(floors: &[i64]) -> StreamBounds {
        StreamBounds { allowed_lateness_ms: 10, holds_events: true, floors: floors.to_vec() }
    }

    fn table(holds_events: bool) -> StreamBounds {
        StreamBounds { allowed_lateness_ms: 100, holds_events, floors: vec![i64::MIN] }
    }

    fn reached(partition: u32, time: i64) -> Mark {
        Mark { partition, reached: Reached::Time(time) }
    }

    fn finished(partition: u32) -> Mark {
        Mark { partition, reached: Reached::Finished }
    }

    fn idle(partition: u32) -> Mark {
        Mark { partition, reached: Reached::Idle }
    }

    #[test]
    fn the_slowest_partition_rules_and_the_watermark_never_falls() {
        let mut marks = Watermarks::new(&[events(&[100, 200])]);
        assert_eq!(marks.of_job(), 90);
        marks.apply(reached(0, 500));
        assert_eq!((marks.of_job(), marks.holding()), (190, vec![1]));
        marks.apply(reached(0, 400));
        marks.apply(reached(1, 450));
        assert_eq!(marks.of_job(), 440);
        marks.apply(finished(0));
        assert_eq!(marks.of_job(), 440);
        marks.apply(finished(1));
        assert_eq!((marks.of_job(), marks.holding()), (i64::MAX, vec![]));
    }

    #[test]
    fn events_wait_for_tables_that_are_not_eager() {
        let mut marks = Watermarks::new(&[events(&[0]), table(true), table(false)]);
        marks.apply(reached(0, 1_000));
        assert_eq!((marks.of_job(), marks.holding()), (i64::MIN, vec![1]));
        marks.apply(reached(1, 1_050));
        assert_eq!((marks.of_job(), marks.of_stream(EVENTS)), (950, 990));
        marks.apply(finished(1));
        assert_eq!((marks.of_job(), marks.holding()), (990, vec![0]));
    }

    #[test]
    fn an_idle_partition_holds_nothing_until_it_is_back() {
        let mut marks = Watermarks::new(&[events(&[0, 0]), table(true)]);
        marks.apply(reached(0, 1_000));
        marks.apply(reached(2, 500));
        assert_eq!((marks.of_job(), marks.holding()), (-10, vec![1]));
        marks.apply(idle(1));
        assert_eq!((marks.of_job(), marks.holding()), (400, vec![2]));
        marks.apply(idle(2));
        assert_eq!(marks.of_job(), 990);
        marks.apply(idle(0));
        assert_eq!(marks.of_job(), 1_001);
        marks.apply(reached(2, 800));
        marks.apply(reached(0, 2_000));
        assert_eq!((marks.of_job(), marks.holding()), (1_001, vec![2]));
        marks.apply(reached(2, 2_500));
        assert_eq!(marks.of_job(), 1_990);
    }

    #[test]
    fn a_finished_partition_has_been_seen_when_the_others_are_idle() {
        let mut marks = Watermarks::new(&[events(&[0, 0])]);
        marks.apply(reached(0, 1_000));
        marks.apply(reached(1, 500));
        marks.apply(finished(0));
        assert_eq!(marks.of_job(), 490);
        marks.apply(idle(1));
        assert_eq!((marks.of_job(), marks.holding()), (1_001, vec![]));
    }

    #[test]
    fn partitions_far_ahead_of_their_stream_are_known() {
        let mut marks = Watermarks::new(&[events(&[0, 0]), table(true)]);
        marks.apply(reached(0, 1_000));
        marks.apply(reached(2, 90_000));
        assert_eq!(marks.ahead(999), [0]);
        assert_eq!(marks.ahead(1_000), [] as [u32; 0]);
    }
}
