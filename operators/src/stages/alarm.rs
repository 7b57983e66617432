//! Operators that are to have a turn after a while.

use std::time::{Duration, Instant};

use timely::scheduling::Activator;

/// The next activation of an operator that something else may activate meanwhile.
pub(super) struct Alarm {
    activator: Activator,
    due: Option<Instant>,
}

impl Alarm {
    pub fn new(activator: Activator) -> Self {
        Alarm { activator, due: None }
    }

    /// Rings after `delay`, or before if it is set already: an alarm each time would be ever more of
    /// them.
    pub fn set(&mut self, delay: Duration) {
        if delay.is_zero() {
            return self.activator.activate();
        }
        let now = Instant::now();
        let due = now + delay;
        if !self.due.is_some_and(|set| now < set && set <= due) {
            self.due = Some(due);
            self.activator.activate_after(delay);
        }
    }
}
