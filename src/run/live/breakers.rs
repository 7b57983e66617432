//! Keeps rows from models whose runs fail: looks at how many of them have, and tells the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Result;
use driftline_operators::accounting::Counters;
use driftline_operators::breaker::{Breaker, BreakerLimits, BreakerState};
use driftline_operators::model::ModelIdentity;
use driftline_operators::routes::table;

use crate::run::switching::RunModels;

const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The thread that looks, until it is dropped.
pub struct BreakerWatcher {
    _stop: Sender<()>,
}

/// The breaker of a model.
struct Watched {
    place: usize,
    limits: BreakerLimits,
    breaker: Breaker,
    /// The version whose runs are counted, and how many there were at the last look.
    version: Option<ModelIdentity>,
    seen: (u64, u64),
}

impl BreakerWatcher {
    /// `limits`: by place, of models that have a breaker.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(
        limits: Vec<(usize, BreakerLimits)>,
        models: Arc<RunModels>,
        counters: Counters,
    ) -> Result<Option<Self>> {
        if limits.is_empty() {
            return Ok(None);
        }
        let watched = |(place, limits)| Watched {
            place,
            limits,
            breaker: Breaker::new(limits),
            version: None,
            seen: (0, 0),
        };
        let mut all: Vec<Watched> = limits.into_iter().map(watched).collect();
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("breakers".to_owned());
        thread.spawn(move || {
            let began = Instant::now();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let runs: BTreeMap<ModelIdentity, (u64, u64)> = counters
                    .batches_by_model()
                    .into_iter()
                    .map(|(model, batches)| (model, batches.runs))
                    .collect();
                let now = models.all_current();
                for watched in &mut all {
                    watched.look(began.elapsed(), &now[watched.place], &runs, &models);
                }
            }
        })?;
        Ok(Some(BreakerWatcher { _stop: stop }))
    }
}

impl Watched {
    fn look(
        &mut self,
        now: Duration,
        version: &ModelIdentity,
        runs: &BTreeMap<ModelIdentity, (u64, u64)>,
        models: &RunModels,
    ) {
        let (succeeded, failed) = runs.get(version).copied().unwrap_or_default();
        if self.version.as_ref() != Some(version) {
            // What was wrong with the one before is not wrong with this one.
            let was_closed = self.breaker.state() == BreakerState::Closed;
            self.breaker = Breaker::new(self.limits);
            let is_first = self.version.replace(version.clone()).is_none();
            if !is_first && !was_closed {
                models.set_breaker(self.place, table::Breaker::Closed);
            }
            self.seen = if is_first { (0, 0) } else { (succeeded, failed) };
        }
        let (succeeded_before, failed_before) =
            std::mem::replace(&mut self.seen, (succeeded, failed));
        let now_ms = now.as_millis() as u64;
        let came = self.breaker.observe(
            now_ms,
            succeeded.saturating_sub(succeeded_before),
            failed.saturating_sub(failed_before),
        );
        let (breaker, what) = match came {
            None => return,
            Some(BreakerState::Closed) => (table::Breaker::Closed, "scores again"),
            Some(BreakerState::Open) => (
                table::Breaker::Open,
                "is out of service: its runs fail one after the other (circuit breaker open)",
            ),
            Some(BreakerState::HalfOpen) => {
                (table::Breaker::HalfOpen(self.limits.trial_weight), "is tried with few ids")
            }
        };
        say!("model {} version {} {what}", version.name, version.version);
        models.set_breaker(self.place, breaker);
    }
}
