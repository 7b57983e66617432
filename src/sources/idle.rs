//! When a live partition has been silent for too long.

use std::time::{Duration, Instant};

/// How long a partition has been silent, and whether that has been said.
#[derive(Clone, Debug)]
pub struct Silence {
    /// How long it may be; for ever where there is none.
    timeout: Option<Duration>,
    since: Instant,
    idle: bool,
}

impl Silence {
    /// A partition of which nothing has come by `now`.
    pub fn new(timeout: Option<Duration>, now: Instant) -> Self {
        Silence { timeout, since: now, idle: false }
    }

    /// Something has come. Whether the partition was idle until then.
    pub fn broken(&mut self, now: Instant) -> bool {
        self.since = now;
        std::mem::take(&mut self.idle)
    }

    /// What is silent now has not been so until `now`.
    pub fn begins(&mut self, now: Instant) {
        self.since = now;
    }

    /// Nothing has come by `now`. Whether the partition becomes idle with that; `true` once only.
    pub fn goes_on(&mut self, now: Instant) -> bool {
        let silent_for = now.saturating_duration_since(self.since);
        let becomes_idle = !self.idle && self.timeout.is_some_and(|timeout| silent_for >= timeout);
        self.idle |= becomes_idle;
        becomes_idle
    }

    /// When the partition becomes idle, if nothing comes by then.
    pub fn due(&self) -> Option<Instant> {
        let timeout = self.timeout.filter(|_| !self.idle)?;
        self.since.checked_add(timeout)
    }

    /// Nothing will come for all that is known. Whether the partition becomes idle with that; `true`
    /// once only.
    pub fn is_final(&mut self) -> bool {
        !std::mem::replace(&mut self.idle, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_becomes_idle_once_and_wakes_once() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut silence = Silence::new(Some(Duration::from_millis(100)), start);
        assert!(!silence.goes_on(at(99)));
        assert_eq!(silence.due(), Some(at(100)));
        assert!(silence.goes_on(at(100)));
        assert!(!silence.goes_on(at(500)));
        assert_eq!(silence.due(), None);
        assert!(silence.broken(at(510)));
        assert!(!silence.broken(at(520)));
        assert!(!silence.goes_on(at(619)));
        assert!(silence.goes_on(at(620)));
    }

    #[test]
    fn without_a_timeout_only_what_is_final_is_idle() {
        let start = Instant::now();
        let mut silence = Silence::new(None, start);
        assert!(!silence.goes_on(start + Duration::from_secs(1_000_000)));
        assert_eq!(silence.due(), None);
        assert!(silence.is_final() && !silence.is_final());
        assert!(!silence.goes_on(start + Duration::from_secs(2_000_000)));
        assert!(silence.broken(start) && !silence.broken(start));
        assert!(silence.is_final());
    }

    #[test]
    fn what_comes_in_time_keeps_a_partition_awake() {
        let start = Instant::now();
        let mut silence = Silence::new(Some(Duration::from_millis(100)), start);
        for tick in 1..10 {
            let now = start + Duration::from_millis(tick * 99);
            assert!(!silence.goes_on(now), "tick {tick}");
            assert!(!silence.broken(now), "tick {tick}");
        }
    }
}
