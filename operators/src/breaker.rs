//! Keeps rows from a model whose runs fail, and lets few of them try it again after a while.
//!
//! Whoever has a [`Breaker`] looks from time to time at how many runs of the model have succeeded and failed
//! on all workers since the last look, and tells it. In which order they ended within a look is not known: a
//! look with a success in it has no row of failures, so that nothing opens but for failures that did come
//! in a row. It opens a look later for that at most.

/// When a breaker opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerLimits {
    /// So many runs that fail in a row open it. 1 or more.
    pub failures: u64,
    /// For so long no row goes to the model then.
    pub open_ms: u64,
    /// So many of [`IDS`] ids try it after that.
    pub trial_weight: u32,
    /// So many of their runs that succeed close it; one that fails opens it again. 1 or more.
    pub trial_runs: u64,
}

/// What weights are shares of.
pub const IDS: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All rows go to the model.
    Closed,
    /// None do.
    Open,
    /// Those of a few ids do.
    HalfOpen,
}

#[derive(Clone, Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    Closed { failed_in_a_row: u64 },
    Open { until_ms: u64 },
    HalfOpen { succeeded: u64 },
}

impl Breaker {
    /// One that is closed.
    pub fn new(limits: BreakerLimits) -> Self {
        Breaker { limits, phase: Phase::Closed { failed_in_a_row: 0 } }
    }

    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Of how many of [`IDS`] ids rows go to the model now.
    pub fn weight(&self) -> u32 {
        match self.state() {
            BreakerState::Closed => IDS,
            BreakerState::Open => 0,
            BreakerState::HalfOpen => self.limits.trial_weight,
        }
    }

    /// At `now_ms`, of a clock that does not go back, so many runs have succeeded and failed since the last
    /// look. The state that it comes to, if that is another. To be told without runs, too: it stays open by
    /// the clock alone.
    pub fn observe(&mut self, now_ms: u64, successes: u64, failures: u64) -> Option<BreakerState> {
        let open = Phase::Open { until_ms: now_ms.saturating_add(self.limits.open_ms) };
        let next = match &mut self.phase {
            Phase::Closed { failed_in_a_row } => {
                let is_a_row = successes == 0;
                let longer = failed_in_a_row.saturating_add(failures);
                *failed_in_a_row = if is_a_row { longer } else { 0 };
                (*failed_in_a_row >= self.limits.failures).then_some(open)
            }
            // Runs that end now were begun before it opened.
            Phase::Open { until_ms } => {
                (now_ms >= *until_ms).then_some(Phase::HalfOpen { succeeded: 0 })
            }
            Phase::HalfOpen { .. } if failures > 0 => Some(open),
            Phase::HalfOpen { succeeded } => {
                *succeeded = succeeded.saturating_add(successes);
                let closed = Phase::Closed { failed_in_a_row: 0 };
                (*succeeded >= self.limits.trial_runs).then_some(closed)
            }
        };
        self.phase = next?;
        Some(self.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BreakerLimits =
        BreakerLimits { failures: 5, open_ms: 1_000, trial_weight: 100, trial_runs: 20 };

    #[test]
    fn it_opens_tries_and_closes() {
        use BreakerState::{Closed, HalfOpen, Open};
        let mut breaker = Breaker::new(LIMITS);
        assert_eq!((breaker.state(), breaker.weight()), (Closed, 10_000));
        assert_eq!(breaker.observe(0, 0, 4), None);
        assert_eq!(breaker.observe(10, 1, 4), None, "a success between them");
        assert_eq!(breaker.observe(20, 0, 4), None);
        assert_eq!(breaker.observe(30, 0, 0), None);
        assert_eq!(breaker.observe(40, 0, 1), Some(Open));
        assert_eq!(breaker.weight(), 0);
        assert_eq!(breaker.observe(1_039, 3, 3), None);
        assert_eq!(breaker.observe(1_040, 0, 9), Some(HalfOpen), "of before it opened");
        assert_eq!(breaker.weight(), 100);
        assert_eq!(breaker.observe(1_050, 19, 1), Some(Open));
        assert_eq!(breaker.observe(2_050, 0, 0), Some(HalfOpen));
        assert_eq!(breaker.observe(2_060, 19, 0), None, "none are left of the trial before");
        assert_eq!(breaker.observe(90_000, 1, 0), Some(Closed));
        assert_eq!(breaker.observe(90_010, 0, 4), None);
    }

    #[test]
    fn limits_may_be_as_wide_as_numbers_go() {
        let wide = BreakerLimits { failures: u64::MAX, open_ms: u64::MAX, ..LIMITS };
        let mut breaker = Breaker::new(wide);
        assert_eq!(breaker.observe(1, 0, u64::MAX - 1), None);
        assert_eq!(breaker.observe(2, 0, u64::MAX), Some(BreakerState::Open));
        assert_eq!(breaker.observe(u64::MAX - 1, 0, 0), None);
    }

    /// A look: when, successes, failures.
    type Look = (u64, u64, u64);

    /// The states behind each look, found from all looks as the definition has it: from where a state
    /// began, the first look at which its condition holds ends it.
    fn by_definition(limits: BreakerLimits, looks: &[Look]) -> Vec<BreakerState> {
        let mut states = Vec::new();
        let mut state = BreakerState::Closed;
        let mut begin = 0;
        while begin < looks.len() {
            let seen = |end: usize| &looks[begin..=end];
            let ends = |end: &usize| match state {
                BreakerState::Closed => (begin..=*end).any(|from| {
                    let stretch = &looks[from..=*end];
                    stretch.iter().all(|look| look.1 == 0)
                        && stretch.iter().map(|look| look.2).sum::<u64>() >= limits.failures
                }),
                BreakerState::Open => looks[*end].0 - looks[begin - 1].0 >= limits.open_ms,
                BreakerState::HalfOpen => {
                    let succeeded: u64 = seen(*end).iter().map(|look| look.1).sum();
                    looks[*end].2 > 0 || succeeded >= limits.trial_runs
                }
            };
            let end = (begin..looks.len()).find(ends).unwrap_or(looks.len());
            states.extend((begin..end).map(|_| state));
            if end == looks.len() {
                break;
            }
            state = match state {
                BreakerState::Closed => BreakerState::Open,
                BreakerState::Open => BreakerState::HalfOpen,
                BreakerState::HalfOpen if looks[end].2 > 0 => BreakerState::Open,
                BreakerState::HalfOpen => BreakerState::Closed,
            };
            states.push(state);
            begin = end + 1;
        }
        states
    }

    fn numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    #[test]
    fn it_is_as_its_definition_says() {
        let mut changes = [0; 3];
        for seed in 1..2_000u64 {
            let mut next = numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let limits = BreakerLimits {
                failures: 1 + next(6),
                open_ms: next(60),
                trial_weight: 100,
                trial_runs: 1 + next(8),
            };
            let (mut now, share) = (next(1_000), 1 + next(4));
            let mut looks: Vec<Look> = Vec::new();
            for _ in 0..60 {
                now += next(20);
                let runs = |count: u64, of: u64| if of == 0 { count } else { 0 };
                let successes = runs(1 + next(4), next(2));
                let failures = runs(1 + next(3), next(1 + share));
                looks.push((now, successes, failures));
            }
            let mut breaker = Breaker::new(limits);
            let mut before = BreakerState::Closed;
            for (look, wanted) in looks.iter().zip(by_definition(limits, &looks)) {
                let (now, successes, failures) = *look;
                let told = breaker.observe(now, successes, failures);
                assert_eq!(breaker.state(), wanted, "seed {seed}, {limits:?}, at {look:?}");
                assert_eq!(told, (wanted != before).then_some(wanted), "seed {seed}");
                changes[wanted as usize] += u64::from(told.is_some());
                before = wanted;
            }
        }
        assert!(changes.iter().all(|&count| count > 1_000), "{changes:?}");
    }
}
