//! A stream that is one partition and is read by one reader, as one of several that are merged.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array};
use driftline_operators::admit::{event_times, highest};
use driftline_operators::chunk::{Chunk, Undecoded};
use driftline_operators::too_early::FutureHorizon;
use driftline_operators::wake::Wake;

use super::feed::{Feed, Offer, Taken};
use super::idle::Silence;
use super::in_time_order::InTimeOrder;
use super::{SourceError, failed};

/// Longer than anybody sleeps.
const NEVER: Duration = Duration::from_secs(3_600);

/// What reads the partition.
pub trait Reader {
    /// What has come since the last time.
    ///
    /// # Errors
    /// Whatever keeps the partition from being read on.
    fn read(&mut self) -> Result<Came, SourceError>;

    /// Whether a partition of which nothing ever came is known to stay empty.
    fn stays_empty(&mut self) -> bool {
        false
    }

    /// No records, in the form that they come in.
    fn none(&self) -> Records;

    /// `wake` has the reader asked again at once.
    fn wake_with(&mut self, _wake: Wake) {}

    /// By when a reader of which nothing has come is to be asked again, though it wakes nobody: at
    /// once where it does not wake for whatever comes, and `None` where it does.
    fn due(&self, now: Instant) -> Option<Instant> {
        Some(now)
    }
}

pub enum Came {
    Records(Box<Records>),
    /// Nothing yet, but it will not be long.
    Pending,
    /// Nothing yet of live input that has more.
    Fetching,
    /// Nothing, and nobody knows whether something will.
    Nothing,
    End,
}

/// Records of the partition in order.
pub struct Records {
    /// The columns of the stream, `[rows]`.
    pub rows: RecordBatch,
    /// The position of each row in the partition, `[rows]`.
    pub offsets: UInt64Array,
    /// The bytes that each row came as, if it did.
    pub raw: Option<ArrayRef>,
    /// What came around them, of messages.
    pub envelopes: Option<ArrayRef>,
    /// Rows of a table that say that their key has nothing any more, `[rows]`.
    pub deleted: Option<BooleanArray>,
    /// Records that are no events.
    pub undecoded: Vec<Undecoded>,
    /// When each row was sent (ms), of messages, `[rows]`.
    pub sent: Option<Int64Array>,
}

/// What is the same for all chunks of the partition.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    pub stream: usize,
    pub partition: u32,
    /// The column of event time.
    pub time_column: usize,
    pub future: Option<FutureHorizon>,
}

/// Keeps what has come until it is taken.
pub struct OnePartition<R> {
    place: Place,
    reader: R,
    ended: bool,
    silence: Silence,
    /// Rows are known to be before those that are read, or may be.
    has_history: bool,
    highest: i64,
    waiting: Option<Waiting>,
    /// It is new to the run, and that has to be said.
    has_joined: bool,
    /// It had more, and had not got it.
    is_fetching: bool,
}

/// A chunk that is offered.
struct Waiting {
    offer: Offer,
    chunk: Chunk,
}

impl<R: Reader> OnePartition<R> {
    /// A partition that nothing comes of for `idle_timeout` is idle; it has been silent since `now`.
    pub fn new(place: Place, reader: R, idle_timeout: Option<Duration>, now: Instant) -> Self {
        OnePartition {
            place,
            reader,
            ended: false,
            silence: Silence::new(idle_timeout, now),
            has_history: true,
            highest: i64::MIN,
            waiting: None,
            has_joined: false,
            is_fetching: false,
        }
    }

    /// The same partition, of which nothing with a time is before what is read, unless
    /// `has_history`. While nothing has come of it either, nothing waits for it once that was made
    /// sure of; it is as one that was idle when its first row comes.
    #[must_use]
    pub fn with_history(self, has_history: bool) -> Self {
        OnePartition { has_history, ..self }
    }

    /// The same partition, which joins a run that is under way.
    #[must_use]
    pub fn joining(self) -> Self {
        OnePartition { has_joined: true, ..self }
    }

    /// The same partition, of a stored table of which nothing was read yet, in order of time.
    /// `was_sorted` becomes true if it turns out not to have been in order.
    pub fn in_time_order(
        self,
        rows_max: usize,
        was_sorted: Arc<AtomicBool>,
    ) -> OnePartition<InTimeOrder<R>> {
        let OnePartition { place, reader, .. } = self;
        let reader = InTimeOrder::new(reader, &place.name, place.time_column, rows_max, was_sorted);
        OnePartition {
            place,
            reader,
            ended: self.ended,
            silence: self.silence,
            has_history: self.has_history,
            highest: self.highest,
            waiting: self.waiting,
            has_joined: self.has_joined,
            is_fetching: self.is_fetching,
        }
    }

    fn rows(&mut self, records: Records, now: Instant) -> Result<Waiting, SourceError> {
        let times = event_times(records.rows.column(self.place.time_column));
        let times = times.and_then(|times| match &self.place.future {
            Some(horizon) => {
                let sent = horizon.sent(&records.rows, records.sent.as_ref())?;
                Ok(horizon.counted(&times, &sent))
            }
            None => Ok(times),
        });
        let times = times.map_err(|error| failed(&self.place.name, error))?;
        // Records without event time hold nothing up: they are read at once.
        let reached = highest(&times);
        let lowest = reached.and_then(|_| arrow::compute::min(&times)).unwrap_or(i64::MIN);
        let highest = self.highest.max(reached.unwrap_or(i64::MIN));
        let mut chunk = self.chunk(records);
        self.highest = highest;
        self.is_fetching = false;
        chunk.was_idle = self.silence.broken(now);
        Ok(Waiting { offer: Offer::Rows { partition: self.place.partition, lowest }, chunk })
    }

    fn chunk(&self, records: Records) -> Chunk {
        let Records { rows, offsets, raw, envelopes, deleted, undecoded, sent } = records;
        Chunk {
            raw,
            envelopes,
            deleted,
            undecoded,
            highest_before: self.highest,
            sent,
            ..Chunk::new(0, self.place.stream, self.place.partition, rows, offsets)
        }
    }
}

impl<R: Reader> Feed for OnePartition<R> {
    fn offer(&mut self, now: Instant) -> Result<Offer, SourceError> {
        if let Some(waiting) = &self.waiting {
            return Ok(waiting.offer);
        }
        if self.ended {
            return Ok(Offer::End);
        }
        let partition = self.place.partition;
        if std::mem::take(&mut self.has_joined) {
            let chunk = Chunk { joined: true, ..self.chunk(self.reader.none()) };
            return Ok(self.waiting.insert(Waiting { offer: Offer::News, chunk }).offer);
        }
        let waiting = match self.reader.read()? {
            Came::Records(records) => self.rows(*records, now)?,
            Came::Pending => return Ok(Offer::Pending),
            Came::Fetching => {
                self.is_fetching = true;
                return Ok(Offer::Nothing { partition });
            }
            Came::Nothing => {
                // It may have been fetching until now, and not only when it was asked last.
                if std::mem::take(&mut self.is_fetching) {
                    self.silence.begins(now);
                }
                let never_had_a_row = !self.has_history && self.highest == i64::MIN;
                let becomes_idle = match never_had_a_row && self.reader.stays_empty() {
                    true => self.silence.is_final(),
                    false => self.silence.goes_on(now),
                };
                if !becomes_idle {
                    return Ok(Offer::Nothing { partition });
                }
                let chunk = Chunk { idle: vec![partition], ..self.chunk(self.reader.none()) };
                Waiting { offer: Offer::News, chunk }
            }
            Came::End => {
                // The end is an epoch of its own, in which the partition is finished.
                self.ended = true;
                let chunk = Chunk { finished: vec![partition], ..self.chunk(self.reader.none()) };
                Waiting { offer: Offer::News, chunk }
            }
        };
        Ok(self.waiting.insert(waiting).offer)
    }

    fn take(&mut self, epoch: u64) -> Result<Taken, SourceError> {
        let Some(Waiting { mut chunk, .. }) = self.waiting.take() else {
            return Err(failed(&self.place.name, "taken before it was offered"));
        };
        chunk.epoch = epoch;
        Ok(Taken { chunk, highest: self.highest })
    }

    fn wake_with(&mut self, wake: Wake) {
        self.reader.wake_with(wake);
    }

    fn due(&self, now: Instant) -> Instant {
        // What is fetched is not silent.
        let silence = self.silence.due().filter(|_| !self.is_fetching);
        let dues = [self.reader.due(now), silence];
        dues.into_iter().flatten().min().unwrap_or(now + NEVER)
    }
}
