//! Several streams read by one worker as one sequence of epochs, the earliest rows first.
//!
//! Every stream offers its next chunk, and the one with the lowest event time is read; of equal ones
//! tables come before events. For files the sequence depends on nothing but the files. Live input
//! that has nothing yet may have something earlier in a moment: nobody waits for it with events, but
//! tables are read on only as far as those events need that have come, so that rows of the future do
//! not fill the memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftline_operators::ingest::{Allowance, Polled, Source};
use driftline_operators::wake::Wake;
use driftline_operators::watermark::EVENTS;

use super::epochs::WorkerEpochs;
use super::feed::{Feed, Offer, Taken};
use super::kafka::begin::Place;
use super::kafka::joins::Joins;
use super::kafka::live::Live;
use super::{Partition, SourceError};
use crate::interrupt::Interrupt;

/// How long the dataflow leaves a source alone that has nothing yet, and does not tell when it has.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// How long it does at most: stops, partitions that have come and doubts about brokers wake nobody.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// A stream, or a partition of one.
pub struct MergedFeed {
    pub stream: usize,
    pub feed: Box<dyn Feed>,
    /// It is a partition of its own that can be read whenever it may: it is held back when it is ahead
    /// of the others of its stream.
    pub is_free: bool,
}

/// What live input has that files have not.
pub struct LiveInput {
    /// Whoever stops the run.
    pub stop: Interrupt,
    /// Whether events wait for tables to be read to their end.
    pub live: Arc<Live>,
    /// Streams of eager tables; they are read as soon as there is something.
    pub eager: Vec<bool>,
    /// Partitions of the events that come while the run is under way.
    pub joins: Joins,
    pub join: Join,
}

/// Opens one of them, if this worker is to read it.
pub type Join = Box<dyn Fn(u32, &Place) -> Result<Option<MergedFeed>, SourceError>>;

/// How far event time has come in a stream.
pub struct Progress {
    allowed_lateness_ms: i64,
    /// The highest event time (ms) of each unfinished partition.
    open: BTreeMap<u32, i64>,
}

impl Progress {
    /// `partitions`: those of the stream, by number.
    pub fn new<'a>(
        partitions: impl Iterator<Item = (u32, &'a Partition)>,
        allowed_lateness_ms: i64,
    ) -> Self {
        let open = partitions.map(|(number, partition)| (number, partition.floor)).collect();
        Progress { allowed_lateness_ms, open }
    }

    fn reached(&mut self, partition: u32, time: i64) {
        if let Some(highest) = self.open.get_mut(&partition) {
            *highest = time.max(*highest);
        }
    }

    fn joined(&mut self, partition: u32) {
        self.open.entry(partition).or_insert(i64::MIN);
    }

    fn finished(&mut self, partition: u32) {
        self.open.remove(&partition);
    }

    fn watermark(&self) -> i64 {
        let lowest = self.open.values().min();
        lowest.map_or(i64::MAX, |highest| highest.saturating_sub(self.allowed_lateness_ms))
    }
}

impl LiveInput {
    /// Whether a table is read whatever events have come.
    fn needs(&self, stream: usize) -> bool {
        self.eager[stream] || self.live.has_caught_up()
    }
}

/// Reads the feeds of a worker in turn.
pub struct Merge {
    feeds: Vec<MergedFeed>,
    /// By stream, of the partitions that this worker reads.
    progress: Vec<Progress>,
    epochs: WorkerEpochs,
    highest_event: i64,
    /// Partitions without a row have nothing to wait for: the first chunk says so.
    without_rows: Vec<u32>,
    live: Option<LiveInput>,
    /// The epoch that eager tables had been read by when the first event could be.
    loaded_by: Option<u64>,
    /// Partitions that have come and were looked at.
    joins_seen: usize,
    wake: Option<Wake>,
    has_ended: bool,
}

impl Merge {
    /// `progress`: by stream.
    pub fn new(
        feeds: Vec<MergedFeed>,
        mut progress: Vec<Progress>,
        without_rows: Vec<u32>,
    ) -> Self {
        for progress in &mut progress {
            without_rows.iter().for_each(|&partition| progress.finished(partition));
        }
        Merge {
            feeds,
            progress,
            epochs: WorkerEpochs::default(),
            highest_event: i64::MIN,
            without_rows,
            live: None,
            loaded_by: None,
            joins_seen: 0,
            wake: None,
            has_ended: false,
        }
    }

    /// A merge of live input.
    pub fn live(feeds: Vec<MergedFeed>, progress: Vec<Progress>, live: LiveInput) -> Self {
        Merge { live: Some(live), ..Merge::new(feeds, progress, Vec::new()) }
    }

    fn take(&mut self, number: usize) -> Result<Polled, SourceError> {
        let MergedFeed { stream, feed, .. } = &mut self.feeds[number];
        let epoch = self.epochs.take();
        if let Some(live) = self.live.as_ref().filter(|live| live.eager[*stream]) {
            live.live.eager_table_read_by(epoch);
        }
        let Taken { mut chunk, highest } = feed.take(epoch)?;
        let progress = &mut self.progress[*stream];
        progress.reached(chunk.partition, highest);
        chunk.finished.iter().for_each(|&partition| progress.finished(partition));
        if *stream == EVENTS {
            self.highest_event = self.highest_event.max(highest);
        }
        chunk.finished.append(&mut self.without_rows);
        Ok(Polled::Chunk(Box::new(chunk)))
    }

    fn end(&mut self) -> Polled {
        self.feeds.clear();
        self.has_ended = true;
        Polled::End
    }

    /// Takes up partitions that have come.
    fn join(&mut self) -> Result<(), SourceError> {
        let Some(live) = &self.live else { return Ok(()) };
        for (number, place) in live.joins.after(self.joins_seen) {
            self.joins_seen += 1;
            let Some(mut joined) = (live.join)(number, &place)? else { continue };
            if let Some(wake) = &self.wake {
                joined.feed.wake_with(wake.clone());
            }
            self.progress[EVENTS].joined(number);
            self.feeds.push(joined);
        }
        Ok(())
    }

    /// Whether more may come, however little there is.
    fn goes_on(&self) -> bool {
        self.live.as_ref().is_some_and(|live| !live.live.has_caught_up())
    }

    /// Whether there is nothing more, and will not be.
    fn is_over(&self) -> bool {
        self.has_ended || (self.feeds.is_empty() && !self.goes_on())
    }

    fn is_stopped(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.stop.is_set())
    }

    /// Whether events have to wait until eager tables have been read and are through the graph.
    fn waits_for_tables(&mut self, allowance: &Allowance) -> bool {
        let Some(live) = &self.live else { return false };
        if live.live.is_loading() {
            return true;
        }
        let read_by = live.live.eager_tables_read_by();
        let loaded_by = *self.loaded_by.get_or_insert_with(|| self.epochs.next().max(read_by + 1));
        allowance.complete_before < loaded_by
    }

    /// How long nobody has to ask again: until something is due of partitions of which nothing has
    /// come, if that is all there is, as those wake whoever asks.
    fn wait(&self, offers: &[Offered], now: Instant) -> Duration {
        let mut wait = SLEEP_MAX;
        for (offered, merged) in offers.iter().zip(&self.feeds) {
            wait = match offered.offer {
                Offer::Nothing { .. } => {
                    wait.min(merged.feed.due(now).saturating_duration_since(now))
                }
                Offer::End => wait,
                // What it waits for tells nobody when it comes.
                _ => POLL_INTERVAL,
            };
        }
        wait.max(POLL_INTERVAL)
    }
}

impl Source for Merge {
    fn next_epoch(&self) -> Option<u64> {
        (!self.is_over()).then(|| self.epochs.next())
    }

    fn counts_epochs(&self) -> bool {
        self.live.is_some()
    }

    fn epoch_seen(&mut self, epoch: u64) {
        self.epochs.seen(epoch);
    }

    fn wake_with(&mut self, wake: Wake) {
        self.feeds.iter_mut().for_each(|merged| merged.feed.wake_with(wake.clone()));
        self.wake = Some(wake);
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        if self.is_stopped() {
            return Ok(self.end());
        }
        self.join()?;
        let now = Instant::now();
        let waits = self.waits_for_tables(allowance);
        let offers = self.feeds.iter_mut().map(|merged| {
            let MergedFeed { stream, feed, is_free } = merged;
            let offer = match waits && *stream == EVENTS {
                true => Offer::Waits,
                false => feed.offer(now)?,
            };
            Ok(Offered { stream: *stream, is_free: *is_free, offer })
        });
        let offers = offers.collect::<Result<Vec<Offered>, _>>()?;
        let highest_event = self.highest_event.max(allowance.event_time);
        let needed = |stream: usize| {
            stream == EVENTS
                || self.live.as_ref().is_some_and(|live| live.needs(stream))
                || self.progress[stream].watermark() <= highest_event
        };
        match choose(&offers, needed, allowance, self.live.is_some()) {
            Choice::Take(feed) => self.take(feed),
            Choice::Held(partition) => Ok(Polled::Held(partition)),
            Choice::End if !self.goes_on() => Ok(self.end()),
            Choice::End | Choice::Wait => Ok(Polled::Wait(self.wait(&offers, now))),
        }
    }
}

/// What a feed offers.
#[derive(Clone, Copy, Debug)]
struct Offered {
    stream: usize,
    is_free: bool,
    offer: Offer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Take(usize),
    Wait,
    Held(u32),
    End,
}

/// Which of the feeds to read. `needed` says whether events that have come need more of a stream; it
/// counts only while live input has nothing, and always where everything `is_live`.
fn choose(
    offers: &[Offered],
    needed: impl Fn(usize) -> bool,
    allowance: &Allowance,
    is_live: bool,
) -> Choice {
    let has = |wanted: Offer| offers.iter().position(|offered| offered.offer == wanted);
    // What else there is depends on how fast a file is read: the order of epochs must not.
    if has(Offer::Pending).is_some() {
        return Choice::Wait;
    }
    if let Some(feed) = has(Offer::News) {
        return Choice::Take(feed);
    }
    let silent = offers.iter().filter_map(|offered| match offered.offer {
        Offer::Nothing { partition } => Some(partition),
        _ => None,
    });
    let silent: Vec<u32> = silent.collect();
    let rows = offers.iter().enumerate().filter_map(|(feed, offered)| match offered.offer {
        Offer::Rows { partition, lowest } => {
            Some((lowest, offered.stream == EVENTS, feed, partition))
        }
        _ => None,
    });
    let mut rows: Vec<(i64, bool, usize, u32)> = rows.collect();
    rows.sort_unstable();
    let is_allowed = |feed: usize, partition: u32| match offers[feed].is_free {
        true => allowance.allows(partition),
        false => allowance.holds_back(partition),
    };
    let is_needed = |feed: usize| (silent.is_empty() && !is_live) || needed(offers[feed].stream);
    let allowed = || rows.iter().filter(|(.., feed, partition)| is_allowed(*feed, *partition));
    if let Some((_, _, feed, _)) = allowed().find(|(_, _, feed, _)| is_needed(*feed)) {
        return Choice::Take(*feed);
    }
    // Live input that may be read can still bring what everything waits for.
    let may_come = is_live || silent.iter().any(|&partition| allowance.holds_back(partition));
    match rows.first() {
        Some((.., partition)) if !may_come && allowed().next().is_none() => {
            Choice::Held(*partition)
        }
        None if silent.is_empty() && has(Offer::Waits).is_none() => Choice::End,
        _ => Choice::Wait,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt64Array};
    use arrow::datatypes::Int64Type;
    use driftline_operators::chunk::Chunk;

    use super::*;
    use crate::kafka::Health;

    fn rows(partition: u32, lowest: i64) -> Offer {
        Offer::Rows { partition, lowest }
    }

    /// Of feeds that are a stream each.
    fn chosen(offers: &[Offer], needed: impl Fn(usize) -> bool, allowance: &Allowance) -> Choice {
        let offered = |(stream, &offer): (usize, &Offer)| Offered { stream, is_free: false, offer };
        let offers: Vec<Offered> = offers.iter().enumerate().map(offered).collect();
        choose(&offers, needed, allowance, false)
    }

    fn only(partitions: &[u32]) -> Allowance {
        Allowance { only: Some(partitions.to_vec()), ..Allowance::default() }
    }

    /// With all allowed and nothing needed.
    fn free(offers: &[Offer]) -> Choice {
        chosen(offers, |stream| stream == EVENTS, &Allowance::default())
    }

    #[test]
    fn the_earliest_is_read_and_tables_come_before_events() {
        assert_eq!(free(&[rows(0, 5), rows(1, 6)]), Choice::Take(0));
        assert_eq!(free(&[rows(0, 6), rows(1, 6)]), Choice::Take(1));
        assert_eq!(free(&[rows(0, 6), rows(1, 5), rows(2, 5)]), Choice::Take(1));
        assert_eq!(free(&[Offer::End, rows(1, 5)]), Choice::Take(1));
        assert_eq!(free(&[Offer::End, Offer::End]), Choice::End);
    }

    #[test]
    fn a_file_that_is_being_read_is_waited_for_and_news_goes_first() {
        assert_eq!(free(&[Offer::Pending, rows(1, 5)]), Choice::Wait);
        assert_eq!(free(&[Offer::Pending, Offer::News]), Choice::Wait);
        assert_eq!(free(&[rows(0, 5), Offer::News]), Choice::Take(1));
        let held = chosen(&[rows(0, 5), Offer::News], |_| true, &only(&[7]));
        assert_eq!(held, Choice::Take(1));
    }

    #[test]
    fn what_is_not_allowed_is_passed_over_until_nothing_is_left() {
        let offers = [rows(0, 5), rows(1, 6)];
        assert_eq!(chosen(&offers, |_| true, &only(&[1])), Choice::Take(1));
        assert_eq!(chosen(&offers, |_| true, &only(&[7])), Choice::Held(0));
        // A feed that offers its next rows has no others.
        let ahead = Allowance { ahead: vec![0], ..Allowance::default() };
        assert_eq!(chosen(&offers, |_| true, &ahead), Choice::Take(0));
    }

    #[test]
    fn while_live_input_has_nothing_tables_are_read_as_far_as_events_need() {
        let silent = |partition| Offer::Nothing { partition };
        assert_eq!(free(&[silent(0), rows(1, 5)]), Choice::Wait);
        assert_eq!(
            chosen(&[silent(0), rows(1, 5)], |_| true, &Allowance::default()),
            Choice::Take(1)
        );
        assert_eq!(free(&[rows(0, 9), silent(1), rows(2, 5)]), Choice::Take(0));
        assert_eq!(free(&[silent(0)]), Choice::Wait);
        // The table that everything waits for may still come.
        assert_eq!(chosen(&[rows(0, 9), silent(1)], |_| true, &only(&[1])), Choice::Wait);
        assert_eq!(chosen(&[rows(0, 9), silent(1)], |_| true, &only(&[7])), Choice::Held(0));
    }

    #[test]
    fn a_stream_is_as_far_as_its_slowest_partition() {
        let partition = |floor| Partition { stream: 1, name: String::new(), floor };
        let partitions = [partition(10), partition(20)];
        let mut progress = Progress::new((3..).zip(&partitions), 5);
        assert_eq!(progress.watermark(), 5);
        progress.reached(3, 100);
        progress.reached(9, 0);
        assert_eq!(progress.watermark(), 15);
        progress.finished(4);
        progress.reached(3, 90);
        assert_eq!(progress.watermark(), 95);
        progress.finished(3);
        assert_eq!(progress.watermark(), i64::MAX);
    }

    /// Chunks of one time each; `None` where the stream has nothing for one poll.
    struct Scripted {
        partition: u32,
        times: std::collections::VecDeque<Option<i64>>,
        due_in: Duration,
    }

    fn scripted(stream: usize, times: &[Option<i64>]) -> (MergedFeed, Progress) {
        let partition = Partition { stream, name: String::new(), floor: i64::MIN };
        let number = stream as u32;
        let times = times.iter().copied().collect();
        let feed = Box::new(Scripted { partition: number, times, due_in: Duration::ZERO });
        let progress = Progress::new(std::iter::once((number, &partition)), 10);
        (MergedFeed { stream, feed, is_free: false }, progress)
    }

    impl Feed for Scripted {
        fn offer(&mut self, _now: Instant) -> Result<Offer, SourceError> {
            let partition = self.partition;
            Ok(match self.times.front() {
                None => Offer::End,
                Some(Some(lowest)) => Offer::Rows { partition, lowest: *lowest },
                Some(None) => {
                    self.times.pop_front();
                    Offer::Nothing { partition }
                }
            })
        }

        fn take(&mut self, epoch: u64) -> Result<Taken, SourceError> {
            let highest = self.times.pop_front().flatten().unwrap();
            let times: ArrayRef = Arc::new(Int64Array::from(vec![highest]));
            let rows = RecordBatch::try_from_iter([("time", times)]).unwrap();
            let (stream, offsets) = (self.partition as usize, UInt64Array::from(vec![0]));
            let chunk = Chunk::new(epoch, stream, self.partition, rows, offsets);
            Ok(Taken { chunk, highest })
        }

        fn due(&self, now: Instant) -> Instant {
            now + self.due_in
        }
    }

    /// A merge of live events of two partitions, of which nothing comes, or a row of the second.
    fn idle(due_in: [Duration; 2], row: Option<i64>) -> Merge {
        let feeds =
            due_in.into_iter().zip([None, row]).enumerate().map(|(number, (due_in, row))| {
                let times = row.map_or(vec![None; 100], |row| vec![Some(row)]).into();
                let feed = Box::new(Scripted { partition: number as u32, times, due_in });
                MergedFeed { stream: EVENTS, feed, is_free: true }
            });
        let live = LiveInput {
            stop: Interrupt::default(),
            live: Arc::new(Live::new(Arc::new(Health::new("b:1")), None, 2, 0)),
            eager: vec![false],
            joins: Joins::default(),
            join: Box::new(|_, _| Ok(None)),
        };
        let progress = Progress::new(std::iter::empty(), 0);
        Merge::live(feeds.collect(), vec![progress], live)
    }

    /// All that was read is through the graph: tables are loaded.
    fn through() -> Allowance {
        Allowance { complete_before: u64::MAX, ..Allowance::default() }
    }

    fn waits(merge: &mut Merge) -> Duration {
        merge.next_epoch();
        match merge.poll(&through()).unwrap() {
            Polled::Wait(wait) => wait,
            _ => Duration::ZERO,
        }
    }

    #[test]
    fn what_wakes_is_left_alone_until_something_is_due() {
        let (ms, hour) = (Duration::from_millis, Duration::from_secs(3_600));
        for (due_in, wait) in [
            ([hour, hour], SLEEP_MAX),
            ([hour, ms(40)], ms(40)),
            ([ms(30), hour], ms(30)),
            ([hour, ms(0)], POLL_INTERVAL),
        ] {
            let mut merge = idle(due_in, None);
            assert_eq!(waits(&mut merge), wait, "{due_in:?}");
        }
        // Rows that are there and may not be read yet become so without a word.
        let mut merge = idle([hour, hour], Some(5));
        merge.next_epoch();
        let nothing = Allowance { only: Some(Vec::new()), ..through() };
        let polled = merge.poll(&nothing).unwrap();
        assert!(matches!(polled, Polled::Wait(wait) if wait == POLL_INTERVAL));
    }

    #[test]
    fn a_live_worker_goes_on_behind_the_epochs_of_others_and_does_not_wait_for_them() {
        let hour = Duration::from_secs(3_600);
        let mut merge = idle([hour; 2], Some(5));
        assert!(merge.counts_epochs());
        merge.epoch_seen(6);
        assert_eq!(merge.next_epoch(), Some(7));
        let polled = merge.poll(&through()).unwrap();
        assert!(matches!(polled, Polled::Chunk(chunk) if chunk.epoch == 7));
        // The same one as this worker's own.
        merge.epoch_seen(7);
        assert_eq!((merge.next_epoch(), waits(&mut merge)), (Some(8), SLEEP_MAX));
        merge.epoch_seen(9);
        assert_eq!((merge.next_epoch(), waits(&mut merge)), (Some(10), SLEEP_MAX));
    }

    #[test]
    fn a_table_is_read_a_little_further_than_live_events_that_have_come() {
        let events = [None, Some(25), None, None, None, None, Some(60)];
        let table = [Some(0), Some(20), Some(30), Some(40), Some(50), Some(90)];
        let (feeds, progress) = [scripted(0, &events), scripted(1, &table)].into_iter().unzip();
        let mut merge = Merge::new(feeds, progress, vec![7]);
        let mut order = Vec::new();
        loop {
            match merge.poll(&Allowance::default()).unwrap() {
                Polled::Chunk(chunk) => {
                    assert_eq!(chunk.epoch, 1 + order.iter().flatten().count() as u64);
                    assert_eq!(chunk.finished, if chunk.epoch == 1 { vec![7] } else { vec![] });
                    let times = chunk.rows.column(0).as_primitive::<Int64Type>();
                    order.push(Some((chunk.stream, times.value(0))));
                }
                Polled::Wait(_) => order.push(None),
                Polled::Held(_) => panic!("everything is allowed"),
                Polled::End => break,
            }
        }
        let expected = [
            Some((1, 0)),
            Some((1, 20)),
            Some((0, 25)),
            Some((1, 30)),
            Some((1, 40)),
            // The table's watermark is at 30, beyond the event.
            None,
            None,
            Some((1, 50)),
            Some((0, 60)),
            Some((1, 90)),
        ];
        assert_eq!(order, expected);
        assert!(merge.next_epoch().is_none());
    }
}
