//! What the sources of a live run share over all workers of the process.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::begin::Place;
use super::empty::{Looks, TopicPartition};
use super::passed::Passed;
use crate::kafka::Health;

/// Whether the end of the input has come, and whether tables have been read so far that events can
/// begin.
pub struct Live {
    pub health: Arc<Health>,
    /// Where there is nothing to read of the events.
    pub passed: Passed,
    /// Which partitions stay empty.
    pub looks: Looks,
    /// The input ends when nothing has come for so long and everything that there is has been read.
    until_quiet_for: Option<Duration>,
    /// Partitions of the events that are not known to be read to their end. Tables are read as far as
    /// events need them.
    behind: AtomicUsize,
    /// Partitions of eager tables that have not been read to their end once.
    loading: AtomicUsize,
    /// The last epoch under which any worker has read of an eager table before they were.
    eager_read_by: AtomicU64,
    last_came: Mutex<Instant>,
    caught_up: AtomicBool,
    /// When the first event came of any partition.
    began: OnceLock<Instant>,
    /// Of the events, by the name of the partition.
    newest: Mutex<BTreeMap<String, Arc<Newest>>>,
}

/// The newest message that was read of a partition.
#[derive(Default)]
struct Newest {
    /// Its own time, ms; 0 before the first that has one.
    time_ms: AtomicI64,
    is_at_end: AtomicBool,
}

impl Live {
    /// `events` partitions are of the events, `eager` of eager tables.
    pub fn new(
        health: Arc<Health>,
        until_quiet_for: Option<Duration>,
        events: usize,
        eager: usize,
    ) -> Self {
        Live {
            health,
            passed: Passed::default(),
            looks: Looks::default(),
            until_quiet_for,
            behind: AtomicUsize::new(events),
            loading: AtomicUsize::new(eager),
            eager_read_by: AtomicU64::new(0),
            last_came: Mutex::new(Instant::now()),
            caught_up: AtomicBool::new(false),
            began: OnceLock::new(),
            newest: Mutex::default(),
        }
    }

    /// One more partition of the events is read.
    pub fn joined(&self) {
        self.behind.fetch_add(1, Relaxed);
    }

    /// An event has come, with its time.
    pub fn event_came(&self, now: Instant) {
        self.began.get_or_init(|| now);
    }

    /// By the name of each partition of the events how old (ms) the newest message is that was read of
    /// it, by its own time; 0 for a partition that was read to its end.
    pub fn message_lags_ms(&self, now_ms: i64) -> Vec<(String, i64)> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let lags = newest.iter().filter_map(|(name, newest)| {
            let time_ms = newest.time_ms.load(Relaxed);
            match newest.is_at_end.load(Relaxed) {
                true => Some((name.clone(), 0)),
                // Nothing is known of a partition before its first message.
                false => (time_ms > 0).then(|| (name.clone(), (now_ms - time_ms).max(0))),
            }
        });
        lags.collect()
    }

    pub fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }

    /// Whether events have to wait for eager tables.
    pub fn is_loading(&self) -> bool {
        self.loading.load(Acquire) > 0
    }

    /// A worker reads of an eager table under `epoch`.
    pub fn eager_table_read_by(&self, epoch: u64) {
        if self.is_loading() {
            self.eager_read_by.fetch_max(epoch, Relaxed);
        }
    }

    /// The last epoch under which any worker has read of one before all were loaded.
    pub fn eager_tables_read_by(&self) -> u64 {
        self.eager_read_by.load(Relaxed)
    }

    pub fn has_caught_up(&self) -> bool {
        let Some(quiet) = self.until_quiet_for else { return false };
        if !self.caught_up.load(Relaxed)
            && self.behind.load(Relaxed) == 0
            && !self.health.is_in_doubt()
            && self.last_came.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= quiet
        {
            self.caught_up.store(true, Relaxed);
        }
        self.caught_up.load(Relaxed)
    }

    /// When the end of the input may have come for all that is known now.
    pub fn quiet_at(&self) -> Option<Instant> {
        let quiet = self.until_quiet_for.filter(|_| !self.caught_up.load(Relaxed))?;
        let last_came = *self.last_came.lock().unwrap_or_else(PoisonError::into_inner);
        last_came.checked_add(quiet)
    }

    fn something_came(&self) {
        if self.until_quiet_for.is_some() {
            *self.last_came.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// How far one partition has been read.
pub struct Reach {
    live: Arc<Live>,
    of: Of,
    is_at_end: bool,
    /// The number of the partition, of the events.
    number: Option<u32>,
    /// The offset behind the last message.
    read_to: u64,
    place: TopicPartition,
    looked_at: LookedAt,
    newest: Arc<Newest>,
}

/// Whether it is looked at if the partition stays empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookedAt {
    Not,
    UnderWay,
    /// It does.
    Empty,
}

/// What a partition is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    Events,
    Table,
    /// A table that events begin behind.
    EagerTable,
}

impl Reach {
    /// Of a partition of which nothing has been read.
    pub fn new(live: Arc<Live>, of: Of, place: &Place) -> Self {
        let newest = Arc::new(Newest::default());
        if of == Of::Events {
            let mut all = live.newest.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(place.name(), newest.clone());
        }
        Reach {
            live,
            of,
            is_at_end: false,
            number: None,
            read_to: 0,
            place: (place.topic.clone(), place.partition),
            looked_at: LookedAt::Not,
            newest,
        }
    }

    /// The same, of a partition of the events that is read from `first`.
    #[must_use]
    pub fn from(self, number: u32, first: u64) -> Self {
        Reach { number: Some(number), read_to: first, ..self }
    }

    /// Messages before `offset` have come.
    pub fn read_to(&mut self, offset: u64) {
        self.read_to = offset;
    }

    /// There is no message between the last one and `offset`.
    pub fn ends_at(&self, offset: u64) {
        if let Some(number) = self.number {
            self.live.passed.add(number, self.read_to..offset);
        }
    }

    pub fn live(&self) -> &Live {
        &self.live
    }

    pub fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    /// Events have come, with their times.
    pub fn events_came(&self) {
        if self.of == Of::Events {
            self.live.event_came(Instant::now());
        }
    }

    /// Nobody knows at the moment whether there is more.
    pub fn in_doubt(&mut self) {
        if std::mem::replace(&mut self.looked_at, LookedAt::Not) != LookedAt::Not {
            self.live.looks.end(&self.place);
        }
    }

    /// Whether the partition, of which nothing ever came, is known to stay empty. It is looked at from
    /// the first event of any partition on.
    pub fn stays_empty(&mut self) -> bool {
        if self.is_at_end && self.live.has_begun() && self.looked_at != LookedAt::Empty {
            self.looked_at = match self.live.looks.is_empty(&self.place) {
                true => LookedAt::Empty,
                false => LookedAt::UnderWay,
            };
        }
        self.looked_at == LookedAt::Empty
    }

    /// Messages have come, the newest of them sent at `time_ms`.
    pub fn came(&mut self, time_ms: i64) {
        self.in_doubt();
        self.newest.time_ms.fetch_max(time_ms, Relaxed);
        self.newest.is_at_end.store(false, Relaxed);
        if std::mem::take(&mut self.is_at_end) && self.of == Of::Events {
            self.live.behind.fetch_add(1, Relaxed);
        }
        self.live.something_came();
    }

    /// There are no more messages at the moment.
    pub fn at_end(&mut self) {
        self.newest.is_at_end.store(true, Relaxed);
        if std::mem::replace(&mut self.is_at_end, true) {
            return;
        }
        match self.of {
            Of::Events => {
                self.live.behind.fetch_sub(1, Relaxed);
            }
            Of::Table => {}
            // Events wait for the first time only.
            Of::EagerTable => {
                self.of = Of::Table;
                self.live.loading.fetch_sub(1, Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(quiet: Option<Duration>, events: usize, eager: usize) -> Arc<Live> {
        Arc::new(Live::new(Arc::new(Health::new("b:1")), quiet, events, eager))
    }

    fn place(partition: i32) -> Place {
        Place { partition, ..Place::unknown("t") }
    }

    #[test]
    fn the_end_has_come_when_all_events_are_read_and_none_has_come_for_long() {
        let live = live(Some(Duration::ZERO), 2, 0);
        let mut reaches = [0, 1].map(|_| Reach::new(live.clone(), Of::Events, &place(0)));
        let mut table = Reach::new(live.clone(), Of::Table, &place(0));
        table.at_end();
        reaches[0].at_end();
        reaches[0].at_end();
        assert!(!live.has_caught_up());
        reaches[1].at_end();
        reaches[0].came(0);
        assert!(!live.has_caught_up());
        table.came(0);
        reaches[0].at_end();
        assert!(live.quiet_at().is_some_and(|at| at <= Instant::now()));
        assert!(live.has_caught_up());
        assert_eq!(live.quiet_at(), None);
        // What comes afterwards is too late.
        reaches[0].came(0);
        assert!(live.has_caught_up());
    }

    #[test]
    fn there_is_no_end_without_quiet_or_while_brokers_may_be_away() {
        let endless = live(None, 0, 0);
        assert!(!endless.has_caught_up());
        assert_eq!(endless.quiet_at(), None);
        let busy = live(Some(Duration::from_secs(3_600)), 0, 0);
        assert!(!busy.has_caught_up());
        let cut_off = live(Some(Duration::ZERO), 0, 0);
        cut_off.health.away();
        assert!(!cut_off.has_caught_up());
        cut_off.health.back();
        assert!(cut_off.has_caught_up());
    }

    #[test]
    fn whether_a_partition_stays_empty_is_looked_at_from_the_first_event_on_and_anew_after_a_doubt()
    {
        let live = live(None, 2, 0);
        let start = Instant::now();
        let answered = |reach: &mut Reach| {
            for seconds in [0, 5] {
                let asked = start + Duration::from_secs(seconds);
                live.looks.under_way().iter().for_each(|of| live.looks.asked(of, asked, true));
            }
            reach.stays_empty()
        };
        let mut reach = Reach::new(live.clone(), Of::Table, &place(0));
        reach.at_end();
        // Nothing waits while no event has come.
        assert!(!reach.stays_empty() && live.looks.under_way().is_empty());
        Reach::new(live.clone(), Of::Table, &place(1)).events_came();
        assert!(!live.has_begun());
        live.event_came(start);
        assert!(!reach.stays_empty() && answered(&mut reach));
        reach.in_doubt();
        assert!(!reach.stays_empty() && answered(&mut reach));
        reach.came(0);
        // It has more, for all that is known.
        assert!(!reach.stays_empty() && live.looks.under_way().is_empty());
    }

    #[test]
    fn events_wait_for_the_first_end_of_each_partition_of_an_eager_table() {
        let live = live(None, 1, 2);
        let mut tables = [0, 1].map(|_| Reach::new(live.clone(), Of::EagerTable, &place(0)));
        tables[0].at_end();
        tables[0].came(0);
        tables[0].at_end();
        assert!(live.is_loading());
        tables[1].came(0);
        tables[1].at_end();
        assert!(!live.is_loading());
        tables[1].came(0);
        assert!(!live.is_loading());
    }

    #[test]
    fn messages_are_as_old_as_the_newest_that_was_read_until_the_end() {
        let live = live(None, 2, 0);
        let mut reaches = [0, 1].map(|number| Reach::new(live.clone(), Of::Events, &place(number)));
        Reach::new(live.clone(), Of::Table, &Place::unknown("u")).came(5);
        assert_eq!(live.message_lags_ms(1_000), []);
        reaches[0].came(700);
        reaches[0].came(600);
        reaches[1].at_end();
        let lags = |first| vec![("t/0".to_owned(), first), ("t/1".to_owned(), 0)];
        assert_eq!(live.message_lags_ms(1_000), lags(300));
        assert_eq!(live.message_lags_ms(600), lags(0));
        reaches[0].at_end();
        assert_eq!(live.message_lags_ms(1_000), lags(0));
        reaches[0].came(900);
        assert_eq!(live.message_lags_ms(1_000), lags(100));
    }
}
