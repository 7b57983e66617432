//! Runs of ONNX Runtime that take too long are ended: one thread looks after all models of the process,
//! from the first one that has such a limit on.
//!
//! ONNX Runtime looks between two nodes of a graph whether it is to end: a node is never left in its middle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use driftline_operators::model::ModelError;
use ort::session::{HasSelectedOutputs, RunOptions};

use super::outputs::refused;

/// Runs of one session, one after the other.
pub struct Runs {
    options: Arc<Options>,
    limited: Option<Arc<Limited>>,
}

impl Runs {
    /// They take as long as they take.
    pub fn new(options: RunOptions<HasSelectedOutputs>) -> Self {
        Runs { options: Arc::new(Options(options)), limited: None }
    }

    /// From now on a run takes no longer than `limit`.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn limit_to(&mut self, limit: Duration) -> Result<(), ModelError> {
        let options = self.options.clone();
        let limited = Arc::new(Limited { options, limit, over_at: AtomicU64::new(IDLE) });
        WATCHDOG.watch(&limited)?;
        self.limited = Some(limited);
        Ok(())
    }

    /// # Errors
    /// If the run fails, or was ended.
    pub fn run<'a, T>(
        &'a self,
        run: impl FnOnce(&'a RunOptions<HasSelectedOutputs>) -> ort::Result<T>,
    ) -> Result<T, ModelError> {
        let Options(options) = &*self.options;
        let Some(limited) = &self.limited else { return run(options).map_err(refused) };
        let over_at = limited.begin();
        let answer = run(options);
        if limited.end(over_at) == Ended::Itself {
            return answer.map_err(refused);
        }
        // The word that ended this run must not end the next one.
        options.unterminate().map_err(refused)?;
        // A run that came to its end all the same has its answer.
        let limit_ms = limited.limit.as_millis() as u64;
        answer.map_err(|_| ModelError::Overstayed { limit_ms })
    }
}

/// Of the runs of a session. One worker runs with them; who looks after it may `terminate`.
struct Options(RunOptions<HasSelectedOutputs>);

// SAFETY: they are not `Sync` as outputs could be in them that several runs would write to. There are none
// in these, and one worker alone runs with them. ONNX Runtime has `terminate` for being called from another
// thread while a run goes on.
unsafe impl Sync for Options {}

/// No run is under way.
const IDLE: u64 = 0;
/// A run is being ended, and has been told so.
const ENDING: u64 = u64::MAX - 1;
const ENDED: u64 = u64::MAX;

/// What a worker shares with the thread that looks after its runs.
struct Limited {
    options: Arc<Options>,
    limit: Duration,
    /// When the time of the run under way is over, in ns of [`now`]; or one of the words above.
    over_at: AtomicU64,
}

/// How a run came to its end.
#[derive(PartialEq, Eq)]
enum Ended {
    Itself,
    ByLimit,
}

impl Limited {
    /// A run begins; when its time is over.
    fn begin(&self) -> u64 {
        let limit = u64::try_from(self.limit.as_nanos()).unwrap_or(u64::MAX);
        let over_at = now().saturating_add(limit).min(ENDING - 1);
        self.over_at.store(over_at, Ordering::Release);
        over_at
    }

    /// It is over, and nobody will end it any more.
    fn end(&self, over_at: u64) -> Ended {
        let ended =
            self.over_at.compare_exchange(over_at, IDLE, Ordering::AcqRel, Ordering::Acquire);
        if ended.is_ok() {
            return Ended::Itself;
        }
        while self.over_at.load(Ordering::Acquire) != ENDED {
            std::thread::yield_now();
        }
        self.over_at.store(IDLE, Ordering::Release);
        Ended::ByLimit
    }

    /// Ends the run under way if its time is over; for how long nothing else is to be done. A run that
    /// begins behind this look has the whole limit before it.
    fn look(&self) -> Duration {
        let (over_at, now) = (self.over_at.load(Ordering::Acquire), now());
        if matches!(over_at, IDLE | ENDING | ENDED) {
            return self.limit;
        }
        if over_at > now {
            return Duration::from_nanos(over_at - now);
        }
        let claimed =
            self.over_at.compare_exchange(over_at, ENDING, Ordering::AcqRel, Ordering::Acquire);
        if claimed.is_ok() {
            // Were it not to, the run would go on, and its worker wait for it as it does without a limit.
            let _ = self.options.0.terminate();
            self.over_at.store(ENDED, Ordering::Release);
        }
        self.limit
    }
}

/// In ns, since the first time that somebody asked; never 0.
fn now() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_nanos() as u64 + 1
}

/// The thread that looks after all of them, and whom it looks after.
struct Watchdog {
    watched: Mutex<Watched>,
    changed: Condvar,
}

struct Watched {
    models: Vec<Weak<Limited>>,
    has_thread: bool,
}

static WATCHDOG: Watchdog = Watchdog {
    watched: Mutex::new(Watched { models: Vec::new(), has_thread: false }),
    changed: Condvar::new(),
};

impl Watchdog {
    fn watch(&'static self, limited: &Arc<Limited>) -> Result<(), ModelError> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if !watched.has_thread {
            let thread = std::thread::Builder::new().name("run-timeout".to_owned());
            thread.spawn(|| self.look_after_all()).map_err(|error| {
                ModelError::Refused(format!("no thread for run_timeout_ms: {error}"))
            })?;
            watched.has_thread = true;
        }
        watched.models.push(Arc::downgrade(limited));
        self.changed.notify_all();
        Ok(())
    }

    fn look_after_all(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            watched.models.retain(|model| model.strong_count() > 0);
            let models = watched.models.iter().filter_map(Weak::upgrade);
            watched = match models.map(|model| model.look()).min() {
                Some(wait) => {
                    let waited = self.changed.wait_timeout(watched, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}
