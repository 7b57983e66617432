//! The epochs of a live worker, which numbers its chunks itself.
//!
//! Two workers may read under the same epoch. A worker goes on behind whatever epoch it hears of, be
//! there something to read or not: it holds nobody up who is further.

/// The last epoch that the worker has read under, or has heard of.
#[derive(Debug, Default)]
pub struct WorkerEpochs {
    last: u64,
}

impl WorkerEpochs {
    /// The epoch of the next chunk, as far as it is known.
    pub fn next(&self) -> u64 {
        self.last + 1
    }

    /// A chunk is read.
    pub fn take(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Another worker has read under `epoch`.
    pub fn seen(&mut self, epoch: u64) {
        self.last = self.last.max(epoch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_goes_on_behind_what_it_has_taken_and_seen() {
        let mut epochs = WorkerEpochs::default();
        assert_eq!((epochs.next(), epochs.take(), epochs.next()), (1, 1, 2));
        epochs.seen(7);
        assert_eq!((epochs.next(), epochs.take()), (8, 8));
        epochs.seen(3);
        assert_eq!(epochs.next(), 9);
    }
}
