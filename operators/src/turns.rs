//! How long the turns of operators take: while one goes on, all others of its worker wait.

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

impl Turns {
    pub fn of(clock: Arc<dyn Clock>) -> Self {
        Turns(Arc::new(Inner { clock, longest: Default::default() }))
    }

    /// Takes a turn of an operator.
    pub fn take<T>(&self, operator: Operator, turn: impl FnOnce() -> T) -> T {
        let began = self.0.clock.now();
        let done = turn();
        let took = self.0.clock.now().saturating_sub(began).as_nanos() as u64;
        let longest = &self.0.longest[operator as usize];
        if longest.load(Relaxed) < took {
            longest.fetch_max(took, Relaxed);
        }
        done
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

    /// A clock that turns set forward.
    #[derive(Default)]
    struct SetForward(AtomicU64);

    impl Clock for SetForward {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.load(Relaxed))
        }
    }

    #[test]
    fn the_longest_turn_of_each_operator_is_kept() {
        let clock = Arc::new(SetForward::default());
        let turns = Turns::of(clock.clone());
        for (operator, ms) in [
            (Operator::Sinks, 2),
            (Operator::Home, 5),
            (Operator::Sinks, 7),
            (Operator::Sinks, 3),
            (Operator::Finish, 0),
        ] {
            turns.take(operator, || clock.0.fetch_add(ms, Relaxed));
        }
        let ms = Duration::from_millis;
        assert_eq!(turns.longest(), [(Operator::Home, ms(5)), (Operator::Sinks, ms(7))]);
    }
}
