//! How much CPU time the turns of operators take: while one goes on, all others of its worker wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Clock;
use crate::core::parts::Operator;

/// The longest turn of each operator, of all workers of a run.
#[derive(Clone)]
pub struct Turns(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    longest: [AtomicU64; Operator::ALL.len()],
}

/// A turn that took no longer than this took no more CPU time either, and CPU time is known to it.
const FINE: Duration = Duration::from_millis(1);

/// Takes the turns of one operator of one worker.
pub struct Taking {
    turns: Turns,
    operator: Operator,
    /// When it was last looked how much CPU time the thread had taken, and how much it was.
    looked: Option<(Duration, Duration)>,
}

impl Taking {
    /// Takes a turn.
    pub fn turn<T>(&mut self, turn: impl FnOnce() -> T) -> T {
        let clock = self.turns.0.clock.clone();
        let began = clock.now();
        // Nearly always a turn is short: to know that takes no CPU time.
        let looked = self.looked.filter(|(at, _)| began.saturating_sub(*at) < FINE);
        let (_, before) = looked.unwrap_or_else(|| (began, clock.thread_time()));
        self.looked = looked.or(Some((began, before)));
        let done = turn();
        let mut took = clock.now().saturating_sub(began);
        if took > FINE {
            // What was taken since the look before the turn is little more than the turn.
            let after = clock.thread_time();
            took = took.min(after.saturating_sub(before));
            self.looked = None;
        }
        let longest = &self.turns.0.longest[self.operator as usize];
        let took = took.as_nanos() as u64;
        if longest.load(Relaxed) < took {
            longest.fetch_max(took, Relaxed);
        }
        done
    }
}

impl Turns {
    pub fn of(clock: Arc<dyn Clock>) -> Self {
        Turns(Arc::new(Inner { clock, longest: Default::default() }))
    }

    pub fn taking(&self, operator: Operator) -> Taking {
        Taking { turns: self.clone(), operator, looked: None }
    }

    /// Of the operators that have had a turn, in their order.
    pub fn longest(&self) -> Vec<(Operator, Duration)> {
        let of = |operator: Operator| {
            let ns = self.0.longest[operator as usize].load(Relaxed);
            (ns > 0).then_some((operator, Duration::from_nanos(ns)))
        };
        Operator::ALL.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that turns set forward, in µs: the time, and the CPU time.
    #[derive(Default)]
    struct SetForward([AtomicU64; 2]);

    impl SetForward {
        fn by(&self, time: u64, of_thread: u64) {
            self.0[0].fetch_add(time, Relaxed);
            self.0[1].fetch_add(of_thread, Relaxed);
        }
    }

    impl Clock for SetForward {
        fn now(&self) -> Duration {
            Duration::from_micros(self.0[0].load(Relaxed))
        }

        fn thread_time(&self) -> Duration {
            Duration::from_micros(self.0[1].load(Relaxed))
        }
    }

    #[test]
    fn the_longest_turn_of_each_operator_is_kept() {
        let clock = Arc::new(SetForward::default());
        let turns = Turns::of(clock.clone());
        let [mut sinks, mut again, mut home, mut finish] =
            [Operator::Sinks, Operator::Sinks, Operator::Home, Operator::Finish]
                .map(|operator| turns.taking(operator));
        sinks.turn(|| clock.by(2_000, 2_000));
        home.turn(|| clock.by(5_000, 5_000));
        again.turn(|| clock.by(7_000, 7_000));
        sinks.turn(|| clock.by(3_000, 3_000));
        finish.turn(|| ());
        let ms = Duration::from_millis;
        assert_eq!(turns.longest(), [(Operator::Home, ms(5)), (Operator::Sinks, ms(7))]);
    }

    #[test]
    fn time_that_others_had_is_not_in_it() {
        let clock = Arc::new(SetForward::default());
        let turns = Turns::of(clock.clone());
        let mut home = turns.taking(Operator::Home);
        // The thread had to wait.
        home.turn(|| clock.by(90_000, 2_000));
        assert_eq!(turns.longest(), [(Operator::Home, Duration::from_micros(2_000))]);
        // What it did before a turn is in it if that was less than a ms ago.
        home.turn(|| clock.by(100, 100));
        clock.by(300, 300);
        home.turn(|| clock.by(50_000, 3_000));
        assert_eq!(turns.longest(), [(Operator::Home, Duration::from_micros(3_400))]);
        home.turn(|| clock.by(100, 100));
        clock.by(1_000, 900);
        home.turn(|| clock.by(50_000, 4_000));
        assert_eq!(turns.longest(), [(Operator::Home, Duration::from_micros(4_000))]);
    }
}
