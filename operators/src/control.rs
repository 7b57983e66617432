//! Which state of control holds for a row: it says which model scores it.
//!
//! States are numbered, and the greatest of those that hold counts. A run begins with 0. A switch is
//! told in an epoch to all workers, as marks are, and each of them finds the same rows for it:
//!
//! - in order of event time those at or after the watermark as of that epoch, with which it is
//!   recorded; a late row that passes the gate at once takes the state of then. What was recorded can
//!   be scheduled, and holds for the same rows again;
//! - in the other orders those of epochs so far ahead that none of them can have been read before all
//!   workers have been told.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gate::Order;

/// How rows have their turn to be worked off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// They leave under it.
    pub epoch: u64,
    /// The state of control that holds for them.
    pub control: u64,
}

/// The rows from which on a state of control holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// An event time (ms).
    EventTime(i64),
    Epoch(u64),
}

/// A state of control, and since when it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    pub control: u64,
    pub since: Since,
    /// The epoch that it was told in; of one that was scheduled, that which has passed its event time.
    pub epoch: u64,
}

/// The states of control as one worker knows them, the same on every one.
#[derive(Clone, Debug)]
pub struct Controls {
    order: Order,
    /// How many epochs ahead a switch is told where epochs decide.
    lead: u64,
    /// The least that a row can have whose turn comes after the last complete epoch.
    current: u64,
    /// Those that hold for some of the rows to come.
    to_come: Vec<Switched>,
    /// Those of the rows that the last complete epoch has let go: from which event time (ms) on.
    of_last: Vec<(i64, u64)>,
    /// What has been decided and not been asked for.
    decided: Vec<Switched>,
}

impl Controls {
    /// `epochs_in_flight_max`: a row is read only when all epochs that are further behind its own are
    /// through the graph.
    pub fn new(order: Order, epochs_in_flight_max: u64) -> Self {
        Controls {
            order,
            lead: epochs_in_flight_max.saturating_add(1),
            current: 0,
            to_come: Vec::new(),
            of_last: vec![(i64::MIN, 0)],
            decided: Vec::new(),
        }
    }

    /// The same with states that hold from event times (ms) on, as they were recorded.
    #[must_use]
    pub fn with_schedule(mut self, schedule: &[(i64, u64)]) -> Self {
        let scheduled = schedule.iter();
        self.to_come = scheduled
            .map(|&(time, control)| Switched { control, since: Since::EventTime(time), epoch: 0 })
            .collect();
        self
    }

    /// The state for rows of an epoch that is not complete, where epochs decide.
    pub fn of_epoch(&self, epoch: u64) -> u64 {
        let holds =
            |switched: &&Switched| matches!(switched.since, Since::Epoch(from) if from <= epoch);
        let to_come = self.to_come.iter().filter(holds).map(|switched| switched.control);
        to_come.fold(self.current, u64::max)
    }

    /// An epoch is complete, in which switches to `told` have been told, and the job's watermark as of
    /// it is `watermark` (ms). The least state that a row can have whose turn comes later.
    pub fn complete(&mut self, epoch: u64, watermark: i64, told: &[u64]) -> u64 {
        if self.to_come.is_empty() && told.is_empty() {
            self.of_last.clear();
            self.of_last.push((i64::MIN, self.current));
            return self.current;
        }
        let since = match self.order {
            Order::EventTime => Since::EventTime(watermark),
            Order::Epoch | Order::Arrival => Since::Epoch(epoch.saturating_add(self.lead)),
        };
        let told = told.iter().map(|&control| Switched { control, since, epoch });
        self.to_come.extend(told.clone());
        if self.order != Order::EventTime {
            self.decided.extend(told);
        }
        self.of_last = match self.order {
            Order::EventTime => vec![(i64::MIN, self.current)],
            Order::Epoch | Order::Arrival => vec![(i64::MIN, self.of_epoch(epoch))],
        };
        let holds = |switched: &mut Switched| match switched.since {
            Since::EventTime(from) => from <= watermark,
            Since::Epoch(from) => from <= epoch.saturating_add(1),
        };
        let mut holding: Vec<Switched> = self.to_come.extract_if(.., holds).collect();
        holding.sort_by_key(|switched| match switched.since {
            Since::EventTime(from) => (from, switched.control),
            Since::Epoch(from) => (i64::MIN, from),
        });
        for switched in holding {
            self.current = self.current.max(switched.control);
            if let Since::EventTime(from) = switched.since {
                self.of_last.push((from, self.current));
                self.decided.push(Switched { epoch, ..switched });
            }
        }
        self.current
    }

    /// The states of the rows that the last complete epoch has let go, in order of their event times
    /// (ms).
    pub fn of_released(&self, times: &[i64]) -> Vec<(u64, Range<usize>)> {
        let mut parts = Vec::with_capacity(self.of_last.len());
        let mut from = 0;
        for (at, &(_, control)) in self.of_last.iter().enumerate() {
            let next = self.of_last.get(at + 1).map(|&(time, _)| time);
            let to = next.map_or(times.len(), |next| times.partition_point(|&time| time < next));
            if to > from {
                parts.push((control, from..to));
                from = to;
            }
        }
        parts
    }

    /// What has been decided since the last time.
    pub fn decided(&mut self) -> Vec<Switched> {
        std::mem::take(&mut self.decided)
    }
}

/// Switches that are to be told, by whichever worker of the process reads next; and what became of
/// them.
#[derive(Clone, Default)]
pub struct ControlFeed(Arc<Feed>);

#[derive(Default)]
struct Feed {
    is_waiting: AtomicBool,
    waiting: Mutex<Vec<u64>>,
    decided: Mutex<Vec<Switched>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlFeed {
    /// Everything is there for a state: let it hold as soon as may be.
    pub fn switch_to(&self, control: u64) {
        lock(&self.0.waiting).push(control);
        self.0.is_waiting.store(true, Ordering::Release);
    }

    /// The switches that nobody has told yet.
    pub fn take(&self) -> Vec<u64> {
        // Nearly always there is none, and this is asked for every chunk.
        if !self.0.is_waiting.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut waiting = lock(&self.0.waiting);
        self.0.is_waiting.store(false, Ordering::Release);
        std::mem::take(&mut *waiting)
    }

    /// It is decided since when states hold.
    pub fn note(&self, decided: Vec<Switched>) {
        if !decided.is_empty() {
            lock(&self.0.decided).extend(decided);
        }
    }

    /// All that has been decided, in that order.
    pub fn decided(&self) -> Vec<Switched> {
        lock(&self.0.decided).clone()
    }

    /// The state for rows of an event time (ms), as far as is decided; where epochs decide, the newest.
    pub fn at(&self, time: i64) -> u64 {
        let holds = |switched: &&Switched| match switched.since {
            Since::EventTime(from) => from <= time,
            Since::Epoch(_) => true,
        };
        let decided = lock(&self.0.decided);
        decided.iter().filter(holds).map(|switched| switched.control).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
