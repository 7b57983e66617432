//! Hints that the registry may mean another version by now: it is asked before its interval is over.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between the beginnings of two questions there is so much time at least, however many hints come.
const QUESTIONS_APART: Duration = Duration::from_secs(1);

/// Whoever has one may give hints; those that come before the registry is asked are one.
#[derive(Clone, Default)]
pub struct Hints(Arc<Call>);

#[derive(Default)]
struct Call {
    called: Mutex<Called>,
    changed: Condvar,
}

#[derive(Default)]
struct Called {
    is_hinted: bool,
    is_stopped: bool,
}

impl Hints {
    /// The registry is to be asked at once.
    pub fn give(&self) {
        self.lock().is_hinted = true;
        self.0.changed.notify_all();
    }

    /// Nobody asks any more.
    pub(super) fn stop(&self) {
        self.lock().is_stopped = true;
        self.0.changed.notify_all();
    }

    /// Waits for a hint, or for the interval to be over, after a question that began at `asked`; `false` if
    /// no other is to be asked. A hint that comes while a question is under way has another one asked: what
    /// the registry means may have changed behind the answer.
    pub(super) fn wait(&self, asked: Instant, interval: Duration) -> bool {
        let began = Instant::now();
        let mut called = self.lock();
        while !called.is_stopped {
            let mut left = interval.saturating_sub(began.elapsed());
            if called.is_hinted {
                left = left.min(QUESTIONS_APART.saturating_sub(asked.elapsed()));
            }
            if left.is_zero() {
                called.is_hinted = false;
                return true;
            }
            let waited = self.0.changed.wait_timeout(called, left);
            called = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, Called> {
        self.0.called.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn hints_before_a_question_are_one() {
        let hints = Hints::default();
        let long_ago = Instant::now() - QUESTIONS_APART;
        (0..1_000).for_each(|_| hints.give());
        assert!(hints.wait(long_ago, HOUR));
        let soon = Duration::from_millis(20);
        let began = Instant::now();
        assert!(hints.wait(began, soon), "the interval is over");
        assert!(began.elapsed() >= soon, "of the thousand none is left");
        hints.stop();
        assert!(!hints.wait(long_ago, HOUR));
    }

    #[test]
    fn a_hint_right_behind_a_question_waits() {
        let hints = Hints::default();
        let asked = Instant::now();
        hints.give();
        assert!(hints.wait(asked, HOUR));
        let apart = asked.elapsed();
        assert!(apart >= QUESTIONS_APART && apart < 20 * QUESTIONS_APART, "{apart:?}");
    }

    #[test]
    fn who_waits_hears_a_hint_and_the_end() {
        let hints = Hints::default();
        let asker = {
            let (hints, long_ago) = (hints.clone(), Instant::now() - QUESTIONS_APART);
            std::thread::spawn(move || (0..).take_while(|_| hints.wait(long_ago, HOUR)).count())
        };
        hints.give();
        while hints.lock().is_hinted {
            std::thread::sleep(Duration::from_millis(1));
        }
        hints.stop();
        assert_eq!(asker.join().unwrap(), 1);
    }
}
