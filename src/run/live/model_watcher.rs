//! Looks after the models of a job that has several: says once why rows of one have failed, and keeps rows from
//! one whose runs fail one after the other.

use std::collections::{BTreeMap, BTreeSet};
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
/// Causes that are said, of all models together.
const CAUSES_TOLD_MAX: usize = 100;

/// The thread that looks, until it is dropped.
pub struct ModelWatcher {
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

impl ModelWatcher {
    /// `limits`: by place, of models that have a breaker.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(
        limits: Vec<(usize, BreakerLimits)>,
        models: Arc<RunModels>,
        counters: Counters,
    ) -> Result<Self> {
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
            let mut told = BTreeSet::new();
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let by_model = counters.batches_by_model();
                for (model, batches) in &by_model {
                    tell_causes(model, &batches.causes, &mut told);
                }
                let runs = by_model.into_iter().map(|(model, batches)| (model, batches.runs));
                let runs: BTreeMap<ModelIdentity, (u64, u64)> = runs.collect();
                let now = models.all_current();
                for watched in &mut all {
                    watched.look(began.elapsed(), &now[watched.place], &runs, &models);
                }
            }
        })?;
        Ok(ModelWatcher { _stop: stop })
    }
}

/// Says why rows of a model have failed, once each.
fn tell_causes(
    model: &ModelIdentity,
    causes: &BTreeMap<String, u64>,
    told: &mut BTreeSet<(ModelIdentity, String)>,
) {
    for (cause, rows) in causes {
        if told.len() < CAUSES_TOLD_MAX && told.insert((model.clone(), cause.clone())) {
            let ModelIdentity { name, version } = model;
            say!("model {name} version {version} has failed on {rows} rows so far: {cause}");
        }
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
