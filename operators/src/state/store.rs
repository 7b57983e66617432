//! The seam to where pieces are kept, and when what was saved counts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use super::{Piece, StateError};
use crate::accounting::state as account;
use crate::run::Run;

/// Where pieces are kept, as bytes.
///
/// A state is whole or is none: what is put is not there before it is complete, and whoever is killed
/// on the way leaves the state before it.
pub trait StateStore: Send + Sync {
    /// Takes a piece of the state that is being saved, from any worker. There may be several of one part
    /// and key group: all of them are kept.
    ///
    /// # Errors
    /// Whatever keeps it from being kept; it ends the run.
    fn put(&self, part: &str, group: u64, bytes: Vec<u8>) -> Result<(), StateError>;

    /// Everything has been put: from now on it is the state.
    ///
    /// # Errors
    /// As [`StateStore::put`]; the state is then the one before.
    fn complete(&self) -> Result<(), StateError>;

    /// The parts that the state has pieces of.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn parts(&self) -> Result<Vec<String>, StateError>;

    /// The pieces of some key groups of a part.
    ///
    /// # Errors
    /// If the store cannot be read.
    fn pieces(&self, part: &str, groups: Range<u64>) -> Result<Vec<Vec<u8>>, StateError>;
}

/// What a run goes on from, and where it leaves its state if it is stopped.
#[derive(Clone, Default)]
pub struct StateParts {
    pub restore: Option<Arc<dyn StateStore>>,
    pub save: Option<Arc<Saving>>,
}

/// The state that a run leaves. Its workers add pieces as their parts come to the end of an input that
/// has no end; who has waited for all of them finishes it.
pub struct Saving {
    store: Arc<dyn StateStore>,
    /// Some worker has found its input stopped.
    is_stopped: AtomicBool,
    /// The last epoch that is in the state.
    epoch: AtomicU64,
}

impl Saving {
    pub fn to(store: Arc<dyn StateStore>) -> Self {
        Saving { store, is_stopped: AtomicBool::new(false), epoch: AtomicU64::new(0) }
    }

    /// An input was stopped, behind this epoch; all workers say the same.
    pub fn stopped_at(&self, epoch: u64) {
        self.epoch.store(epoch, SeqCst);
        self.is_stopped.store(true, SeqCst);
    }

    /// The last epoch of an input that was stopped.
    pub fn last_epoch(&self) -> Option<u64> {
        self.is_stopped.load(SeqCst).then(|| self.epoch.load(SeqCst))
    }

    /// Pieces of the groups of a worker, of an input that was stopped.
    ///
    /// # Errors
    /// If they cannot be encoded or put.
    pub fn add(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<(), StateError> {
        let mut pieces = pieces.into_iter();
        pieces.try_for_each(|piece| self.store.put(&piece.part, piece.group, piece.encode()?))
    }

    /// All workers have come to their end: adds the account of the run, and makes what was added the
    /// state. Not where the run has failed, or came to the end of its input: returns whether it is.
    ///
    /// # Errors
    /// If the account cannot be put, or the state not completed.
    pub fn finish(&self, run: &Run) -> Result<bool, StateError> {
        if run.failure.is_set() || self.last_epoch().is_none() {
            return Ok(false);
        }
        self.add([account::export(&run.counters)?])?;
        self.store.complete()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// The parts that were put, and whether they are the state.
    #[derive(Default)]
    struct Parts(Mutex<(Vec<String>, bool)>);

    impl StateStore for Parts {
        fn put(&self, part: &str, _group: u64, _bytes: Vec<u8>) -> Result<(), StateError> {
            self.0.lock().unwrap().0.push(part.to_owned());
            Ok(())
        }

        fn complete(&self) -> Result<(), StateError> {
            self.0.lock().unwrap().1 = true;
            Ok(())
        }

        fn parts(&self) -> Result<Vec<String>, StateError> {
            Ok(self.0.lock().unwrap().0.clone())
        }

        fn pieces(&self, _part: &str, _groups: Range<u64>) -> Result<Vec<Vec<u8>>, StateError> {
            Ok(Vec::new())
        }
    }

    #[test]
    fn only_a_run_that_was_stopped_and_has_not_failed_leaves_a_state() {
        for (is_stopped, has_failed) in [(true, false), (true, true), (false, false)] {
            let (store, run) = (Arc::new(Parts::default()), Run::new(Arc::new(Still)));
            let saving = Saving::to(store.clone());
            if is_stopped {
                saving.stopped_at(7);
                saving.add([account::export(&run.counters).unwrap()]).unwrap();
                assert_eq!(saving.last_epoch(), Some(7));
            }
            if has_failed {
                // On another worker, behind the one that has put its pieces.
                run.failure.report("a sink is gone");
            }
            let is_whole = is_stopped && !has_failed;
            assert_eq!(saving.finish(&run).unwrap(), is_whole);
            assert_eq!(store.0.lock().unwrap().1, is_whole);
            assert_eq!(
                store.parts().unwrap().len(),
                usize::from(is_stopped) + usize::from(is_whole)
            );
        }
    }
}
