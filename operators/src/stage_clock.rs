//! Where the time of workers goes, by stage, for whoever wants to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::Clock;

/// A part of what a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the source to admitted rows.
    Read,
    Order,
    /// Windows and versions of tables, and what they are asked.
    Owner,
    Features,
    /// Scoring, or whatever a job does with rows.
    Work,
    Drift,
    /// What the sinks do on the worker's thread.
    Write,
}

impl Stage {
    pub const ALL: [(Stage, &'static str); 7] = [
        (Stage::Read, "read, decode, admit"),
        (Stage::Order, "order"),
        (Stage::Owner, "windows and as-of lookups"),
        (Stage::Features, "expressions, categories, static lookups"),
        (Stage::Work, "inference, predictions"),
        (Stage::Drift, "drift: panes and figures of windows"),
        (Stage::Write, "write"),
    ];
}

/// The time spent in each stage by all workers of a run; nothing is looked at unless it is on.
#[derive(Clone, Default)]
pub struct StageClock(Option<Arc<[AtomicU64; Stage::ALL.len()]>>);

impl StageClock {
    pub fn on() -> Self {
        StageClock(Some(Arc::default()))
    }

    /// By stage, in their order; nothing if it is not on.
    pub fn spent(&self) -> Vec<(&'static str, Duration)> {
        let cells = self.0.iter().flat_map(|cells| cells.iter());
        let of = |((_, name), ns): (&(Stage, &'static str), &AtomicU64)| {
            (*name, Duration::from_nanos(ns.load(Relaxed)))
        };
        Stage::ALL.iter().zip(cells).map(of).collect()
    }

    /// One worker's hand on it.
    pub fn timer(&self, clock: &Arc<dyn Clock>) -> StageTimer {
        StageTimer { clock: clock.clone(), spent: self.clone() }
    }
}

/// Times what one worker does.
#[derive(Clone)]
pub struct StageTimer {
    clock: Arc<dyn Clock>,
    spent: StageClock,
}

impl StageTimer {
    /// When something begins, if that matters.
    pub fn start(&self) -> Option<Duration> {
        self.spent.0.as_ref().map(|_| self.clock.now())
    }

    /// What was `started` is done.
    pub fn stop(&self, stage: Stage, started: Option<Duration>) {
        if let (Some(cells), Some(started)) = (&self.spent.0, started) {
            let took = self.clock.now().saturating_sub(started);
            cells[stage as usize].fetch_add(took.as_nanos() as u64, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every look at it is a ms later.
    struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now(&self) -> Duration {
            Duration::from_millis(self.0.fetch_add(1, Relaxed))
        }
    }

    #[test]
    fn each_stage_has_what_was_spent_in_it() {
        let clock: Arc<dyn Clock> = Arc::new(Ticking(AtomicU64::new(5)));
        let (off, on) = (StageClock::default(), StageClock::on());
        for spent in [&off, &on] {
            let timer = spent.timer(&clock);
            for (stage, times) in [(Stage::Write, 1), (Stage::Order, 3)] {
                for _ in 0..times {
                    let started = timer.start();
                    timer.stop(stage, started);
                }
            }
        }
        assert_eq!(off.spent(), []);
        let of = |wanted: Stage| {
            let (_, name) = Stage::ALL.iter().find(|(stage, _)| *stage == wanted).unwrap();
            on.spent().iter().find(|(known, _)| known == name).unwrap().1.as_millis()
        };
        assert_eq!([of(Stage::Order), of(Stage::Write), of(Stage::Read)], [3, 1, 0]);
    }
}
