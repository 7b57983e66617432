//! Up to which epoch results are durable that are of no single record, such as drift: offsets of records
//! of later epochs are not committed.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// What each worker of a process says of it. Of a run whose offsets nobody commits nothing is kept.
#[derive(Clone, Default)]
pub struct DurableEpochs(Option<Arc<Workers>>);

struct Workers {
    /// By worker, the epoch before which all is durable; 0 at first.
    before: Vec<AtomicU64>,
    taken: AtomicUsize,
}

/// The place of one worker.
pub struct DurableEpoch {
    workers: Arc<Workers>,
    worker: usize,
}

impl DurableEpochs {
    pub fn of(workers: usize) -> Self {
        let before = (0..workers).map(|_| AtomicU64::new(0)).collect();
        DurableEpochs(Some(Arc::new(Workers { before, taken: AtomicUsize::new(0) })))
    }

    /// A place for one more worker, if account is kept.
    pub fn worker(&self) -> Option<DurableEpoch> {
        let workers = self.0.clone()?;
        let worker = workers.taken.fetch_add(1, AcqRel);
        (worker < workers.before.len()).then_some(DurableEpoch { workers, worker })
    }

    /// The epoch before which all is durable on all workers; [`u64::MAX`] where no account is kept.
    pub fn before(&self) -> u64 {
        let workers = self.0.iter().flat_map(|workers| &workers.before);
        workers.map(|before| before.load(Acquire)).min().unwrap_or(u64::MAX)
    }
}

impl DurableEpoch {
    /// All before `epoch` is durable on this worker.
    pub fn is_before(&self, epoch: u64) {
        self.workers.before[self.worker].store(epoch, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_worker_counts_and_one_that_has_not_begun_is_the_slowest() {
        assert_eq!(DurableEpochs::default().before(), u64::MAX);
        let epochs = DurableEpochs::of(2);
        let first = epochs.worker().unwrap();
        first.is_before(7);
        assert_eq!(epochs.before(), 0);
        let second = epochs.worker().unwrap();
        second.is_before(5);
        assert_eq!(epochs.before(), 5);
        second.is_before(9);
        assert_eq!(epochs.before(), 7);
        assert!(epochs.worker().is_none() && DurableEpochs::default().worker().is_none());
    }
}
