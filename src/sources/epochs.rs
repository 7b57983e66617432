//! The epochs of a process, which its workers share.
//!
//! A worker that has nothing stands at the epoch that comes next, and holds all later ones up: when
//! another takes that epoch it has to go on, so it is woken.

use std::cell::Cell;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use driftline_operators::wake::Wake;

/// How often workers that sleep are woken while another takes one epoch after the other.
const WAKE_INTERVAL: Duration = Duration::from_millis(1);

/// Each chunk has an epoch of its own, whichever worker reads it.
#[derive(Clone, Default)]
pub struct Epochs(Arc<Shared>);

#[derive(Default)]
struct Shared {
    taken: AtomicU64,
    sleepers: Mutex<Vec<Arc<Sleeper>>>,
}

struct Sleeper {
    sleeps: AtomicBool,
    wake: Wake,
}

/// One worker's view of them.
pub struct WorkerEpochs {
    shared: Epochs,
    me: Option<Arc<Sleeper>>,
    /// The epoch that this worker has last been told to be next.
    stands_at: Cell<u64>,
    /// Whether it has taken epochs that those who sleep do not know of, and when they were last told.
    has_news: Cell<bool>,
    told: Cell<Option<Instant>>,
}

impl WorkerEpochs {
    pub fn new(shared: Epochs) -> Self {
        let (stands_at, has_news, told) = Default::default();
        WorkerEpochs { shared, me: None, stands_at, has_news, told }
    }

    /// `wake` is called when another worker takes an epoch while this one sleeps.
    pub fn wake_with(&mut self, wake: Wake) {
        let me = Arc::new(Sleeper { sleeps: AtomicBool::new(false), wake });
        let mut sleepers = self.shared.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.push(me.clone());
        self.me = Some(me);
    }

    /// The epoch of the next chunk, as far as it is known.
    pub fn next(&self) -> u64 {
        self.shared.0.taken.load(SeqCst) + 1
    }

    /// The same, and this worker goes on to it.
    pub fn stand(&self) -> u64 {
        self.stands_at.set(self.next());
        if self.has_news.get() && self.told.get().is_none_or(|at| at.elapsed() >= WAKE_INTERVAL) {
            self.tell();
        }
        self.stands_at.get()
    }

    pub fn take(&self) -> u64 {
        self.has_news.set(true);
        self.shared.0.taken.fetch_add(1, SeqCst) + 1
    }

    /// Wakes those who sleep if this worker has taken epochs since.
    pub fn tell(&self) {
        if !self.has_news.replace(false) {
            return;
        }
        self.told.set(Some(Instant::now()));
        let sleepers = self.shared.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        for sleeper in sleepers.iter() {
            let is_me = self.me.as_ref().is_some_and(|me| Arc::ptr_eq(me, sleeper));
            if !is_me && sleeper.sleeps.swap(false, SeqCst) {
                (sleeper.wake)();
            }
        }
    }

    /// This worker is about to sleep. Whether it may: not if the epoch at which it stands has been
    /// taken. Whoever takes it from now on sees that it sleeps.
    pub fn may_sleep(&self) -> bool {
        let Some(me) = &self.me else { return false };
        me.sleeps.store(true, SeqCst);
        self.next() == self.stands_at.get()
    }

    /// It does not sleep any more.
    pub fn awake(&self) {
        if let Some(me) = &self.me {
            me.sleeps.store(false, SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    fn worker(shared: &Epochs) -> (WorkerEpochs, std::sync::mpsc::Receiver<()>) {
        let (sender, woken) = channel();
        let sender = Mutex::new(sender);
        let mut epochs = WorkerEpochs::new(shared.clone());
        epochs.wake_with(Arc::new(move || {
            // Nobody listens at the end.
            let _ = sender.lock().unwrap().send(());
        }));
        (epochs, woken)
    }

    #[test]
    fn a_worker_sleeps_only_at_an_epoch_that_nobody_has_taken() {
        let shared = Epochs::default();
        let ((taker, _), (idle, woken)) = (worker(&shared), worker(&shared));
        assert_eq!(idle.stand(), 1);
        // Taken between the look and the sleep.
        assert_eq!(taker.take(), 1);
        assert!(!idle.may_sleep());
        idle.awake();
        assert_eq!(idle.stand(), 2);
        assert!(idle.may_sleep());
        taker.tell();
        assert!(woken.try_recv().is_ok());
        // Of nothing new nobody is told, nor who does not sleep.
        assert!(idle.may_sleep());
        taker.tell();
        idle.awake();
        taker.take();
        taker.tell();
        assert!(woken.try_recv().is_err());
    }

    /// One takes epochs at any pace, the others sleep for as long as nobody wakes them: a wake that is
    /// lost is a worker that stands still.
    #[test]
    fn nobody_sleeps_through_an_epoch() {
        const EPOCHS: u64 = 20_000;
        let shared = Epochs::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (idle, woken) = worker(&shared);
                scope.spawn(move || {
                    while idle.stand() <= EPOCHS {
                        if idle.may_sleep() {
                            let slept = woken.recv_timeout(Duration::from_secs(60));
                            assert_ne!(slept, Err(RecvTimeoutError::Timeout), "a wake was lost");
                        }
                        idle.awake();
                    }
                });
            }
            let (taker, _) = worker(&shared);
            let mut random = fastrand::Rng::with_seed(3);
            for _ in 0..EPOCHS {
                taker.take();
                taker.stand();
                (0..random.u32(..200)).for_each(|_| std::hint::spin_loop());
                if random.u8(..3) == 0 {
                    taker.tell();
                }
            }
            taker.tell();
        });
    }
}
