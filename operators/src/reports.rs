//! What workers tell whoever is outside of the graph, who commits offsets and measures: how far the
//! records are that each reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::settled::{Committable, Settled};

/// A worker tells no more often: nobody asks more often, and it takes a look at each partition.
const TELL_INTERVAL: Duration = Duration::from_millis(50);

/// What each worker of this process has last told. Of a run whose offsets nobody commits nothing is
/// kept.
#[derive(Clone, Default)]
pub struct Reports(Option<Arc<[Mutex<Report>]>>);

/// How far the records are that one worker reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How far offsets may be committed, by partition.
    pub committable: Vec<Committable>,
    /// By partition, the offset before which all is settled.
    pub settled: Vec<(u32, u64)>,
    /// Records that were read and are not settled.
    pub unsettled: u64,
}

impl Reports {
    pub fn of(workers: usize) -> Self {
        Reports(Some((0..workers).map(|_| Mutex::default()).collect()))
    }

    /// Whether anybody asks.
    pub fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    fn each(&self) -> impl Iterator<Item = MutexGuard<'_, Report>> {
        let reports = self.0.iter().flat_map(|reports| reports.iter());
        reports.map(|report| report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn committable(&self) -> Vec<Committable> {
        self.each().flat_map(|report| report.committable.clone()).collect()
    }

    pub fn settled(&self) -> Vec<(u32, u64)> {
        self.each().flat_map(|report| report.settled.clone()).collect()
    }

    pub fn unsettled(&self) -> u64 {
        self.each().map(|report| report.unsettled).sum()
    }

    fn tell(&self, worker: usize, report: Report) {
        if let Some(of_worker) = self.0.as_ref().and_then(|reports| reports.get(worker)) {
            *of_worker.lock().unwrap_or_else(PoisonError::into_inner) = report;
        }
    }
}

/// A worker's end of them. What it knows when it is dropped is the last that it tells.
pub struct Reporter {
    reports: Reports,
    worker: usize,
    settled: Settled,
    /// Results of the epochs before it are durable, of all workers.
    durable_before: u64,
    is_due: bool,
    told_at: Option<Instant>,
}

impl Reporter {
    /// `waits_for_epochs`: whether there are results of no record, for which commits wait by epoch.
    pub fn new(reports: Reports, worker: usize, settled: Settled, waits_for_epochs: bool) -> Self {
        let durable_before = if waits_for_epochs { 0 } else { u64::MAX };
        Reporter { reports, worker, settled, durable_before, is_due: true, told_at: None }
    }

    /// All is durable of the epochs before `epoch`, of which there is none at the end.
    pub fn durable_before(&mut self, epoch: Option<u64>) {
        let epoch = epoch.unwrap_or(u64::MAX);
        self.is_due |= epoch > self.durable_before;
        self.durable_before = self.durable_before.max(epoch);
    }

    /// Tells what is new, unless it has just told: then after how long it is to be called again.
    pub fn tell(&mut self) -> Option<Duration> {
        if !self.reports.are_kept() {
            return None;
        }
        self.is_due |= self.settled.has_changed();
        if !self.is_due {
            return None;
        }
        let now = Instant::now();
        let since = self.told_at.map(|told| now.saturating_duration_since(told));
        if let Some(rest) = since.and_then(|since| TELL_INTERVAL.checked_sub(since)) {
            return Some(rest);
        }
        self.told_at = Some(now);
        self.tell_now();
        None
    }

    fn tell_now(&mut self) {
        self.is_due = false;
        let report = Report {
            committable: self.settled.committable(self.durable_before),
            settled: self.settled.offsets(),
            unsettled: self.settled.unsettled(),
        };
        self.reports.tell(self.worker, report);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.tell_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_tell_is_added_up_and_the_last_word_is_told_at_the_end() {
        let reports = Reports::of(2);
        let settled = [Settled::of([(0, 4), (2, 5)]), Settled::of([(1, 6)])];
        let reporter =
            |worker: usize| Reporter::new(reports.clone(), worker, settled[worker].clone(), false);
        let mut reporters = [0, 1].map(reporter);
        assert_eq!((reports.settled(), reports.unsettled()), (vec![], 0));
        assert_eq!(reporters[0].tell(), None);
        assert_eq!(reports.settled(), [(0, 4), (2, 5)]);
        drop(reporters);
        assert_eq!(reports.settled(), [(0, 4), (2, 5), (1, 6)]);
        assert_eq!(reports.committable().iter().map(|of| of.offset).collect::<Vec<_>>(), [4, 5, 6]);
    }

    #[test]
    fn a_worker_tells_when_something_is_new_and_not_again_at_once() {
        let (reports, settled) = (Reports::of(1), Settled::of([(0, 4)]));
        let mut reporter = Reporter::new(reports.clone(), 0, settled.clone(), true);
        assert_eq!((reporter.tell(), reporter.tell()), (None, None));
        reporter.durable_before(Some(3));
        assert!(reporter.tell().is_some_and(|rest| rest <= TELL_INTERVAL));
        std::thread::sleep(TELL_INTERVAL);
        assert_eq!(reporter.tell(), None);
        reporter.durable_before(Some(2));
        assert_eq!((reporter.tell(), reporter.durable_before), (None, 3));
        settled.settle(0, [4]);
        assert!(reporter.tell().is_some());
        reporter.durable_before(None);
        assert_eq!(reporter.durable_before, u64::MAX);
        let mut nobody = Reporter::new(Reports::default(), 0, settled, true);
        nobody.durable_before(Some(7));
        assert_eq!(nobody.tell(), None);
    }
}
