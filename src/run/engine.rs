//! Starts the workers, and waits for the end.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use driftline_jobs::graph::Events;
use driftline_operators::clock::Clock;
use driftline_operators::features::refusals::Refused;
use driftline_operators::features::rules::Rule;
use driftline_operators::features::validity::OnFail;
use driftline_operators::guarded::panic_text;
use driftline_operators::run::Run;
use timely::dataflow::{ProbeHandle, Scope};
use timely::worker::Worker;
use timely::{CommunicationConfig, WorkerConfig};

use super::lateness::{self, foreseen};
use super::options::{Exchange, RunOptions};
use super::prepare::Prepared;
use super::progress::Progress;
use super::summary::late_versions;

/// How long a worker sleeps when there is nothing to do; signals and failures are seen after it.
const PARK: Duration = Duration::from_millis(5);

/// How long a worker that answers requests looks for the next one before it sleeps: it comes within that
/// time where a caller asks again at once, and to wake a thread takes as long.
const NEXT_REQUEST: Duration = Duration::from_micros(50);

/// The workers of a run, and what they share.
#[derive(Clone)]
pub struct Engine {
    prepared: Arc<Prepared>,
    options: RunOptions,
    pub run: Run,
}

/// Makes the rest of a worker's dataflow, given its index, the probe and its share of the events.
pub trait Build:
    for<'s> Fn(Scope<'s, u64>, usize, &ProbeHandle<u64>, Events) -> Result<()> + Send + Sync + 'static
{
}

impl<F> Build for F where
    F: for<'s> Fn(Scope<'s, u64>, usize, &ProbeHandle<u64>, Events) -> Result<()>
        + Send
        + Sync
        + 'static
{
}

/// How a run came to its end.
pub struct Ended {
    pub failure: Option<String>,
    pub interrupted: bool,
    pub took: Duration,
    pub workers: usize,
    /// What the user should know of the data, and nothing failed on.
    pub warnings: Vec<String>,
    /// Rows that are null because SQL failed on them, by feature.
    pub refused: Vec<(String, Refused)>,
    /// By rule, what became of rows that failed it and how many did; those that some did.
    pub failed_rules: Vec<(String, OnFail, u64)>,
    /// How late rows were, for the summary.
    pub lateness: Vec<(&'static str, String)>,
    /// The most CPU time that a turn of each operator took.
    pub turns: Vec<(&'static str, Duration)>,
}

/// Time since 1970, as the system had it when the clock was made, and monotonic from there.
struct MonotonicClock {
    made: Instant,
    made_at: Duration,
}

impl MonotonicClock {
    fn start() -> Arc<dyn Clock> {
        let made_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Arc::new(MonotonicClock { made: Instant::now(), made_at })
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Duration {
        self.made_at + self.made.elapsed()
    }

    fn thread_time(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: it writes to a place of our own.
        let told = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        match told {
            0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
            _ => self.now(),
        }
    }
}

impl Engine {
    pub fn new(prepared: Arc<Prepared>, options: &RunOptions) -> Self {
        let options = options.clone();
        let run = Run {
            faults: options.faults.clone(),
            stages: options.stages.clone(),
            ..Run::new(MonotonicClock::start())
        };
        Engine { prepared, options, run }
    }

    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Runs the dataflow that `build` makes on every worker, until it is done, fails or is
    /// interrupted.
    ///
    /// # Errors
    /// If the workers cannot be started.
    pub fn start(&self, build: impl Build) -> Result<Ended> {
        for warning in self.prepared.inputs.doubts().found() {
            say!("warning: {warning}");
        }
        if let Some(warning) = foreseen(&self.prepared) {
            say!("warning: {warning}");
        }
        let started = Instant::now();
        let workers = self.options.workers.max(1);
        let progress =
            Progress::start(self.options.progress, &self.prepared, self.run.counters.clone());
        let config = timely::Config {
            communication: self.communication(workers),
            worker: WorkerConfig::default().idle_spin(self.idle_spin(workers)),
        };
        let engine = self.clone();
        let guards = timely::execute(config, move |worker| engine.work(worker, &build));
        let guards =
            guards.map_err(|error| anyhow!("the workers could not be started: {error}"))?;
        for ended in guards.join() {
            self.run.failure.check(ended);
        }
        drop(progress);
        for (table, files) in self.prepared.sorted() {
            self.run.counters.table_sorted(table, files);
        }
        let mut warnings = self.prepared.inputs.doubts().found();
        for warning in late_versions(&self.run.counters) {
            say!("warning: {warning}");
            warnings.push(warning);
        }
        let Prepared { job, partition_names, .. } = self.prepared.as_ref();
        let late = self.run.counters.lateness().so_far();
        Ok(Ended {
            lateness: lateness::lines(&job.event, partition_names, &late),
            turns: self
                .run
                .turns
                .longest()
                .into_iter()
                .map(|(of, took)| (of.name(), took))
                .collect(),
            failure: self.run.failure.message(),
            interrupted: self.options.interrupt.is_set(),
            took: started.elapsed(),
            workers,
            warnings,
            refused: self.prepared.refused(),
            failed_rules: self.failed_rules(),
        })
    }

    fn failed_rules(&self) -> Vec<(String, OnFail, u64)> {
        let failed = self.run.counters.failed_rules();
        let of_rule =
            |rule: &Rule| Some((rule.name.clone(), rule.on_fail, *failed.get(&rule.name)?));
        self.prepared.plan.rules.iter().filter_map(of_rule).collect()
    }

    /// How long a worker looks for something to do before it sleeps. Where there is no core for each of
    /// them, or rows come one by one, it would take the time from others.
    fn idle_spin(&self, workers: usize) -> Duration {
        let cores = available_parallelism().map_or(1, NonZero::get);
        if workers > cores || self.options.topics.reading().is_some() {
            return Duration::ZERO;
        }
        match self.options.on_request {
            true => NEXT_REQUEST,
            false => Duration::from_micros(WorkerConfig::DEFAULT_IDLE_SPIN_MICROS),
        }
    }

    fn communication(&self, workers: usize) -> CommunicationConfig {
        match self.options.exchange {
            Exchange::Threads => CommunicationConfig::Process(workers),
            Exchange::Bytes => CommunicationConfig::ProcessBinary(workers),
        }
    }

    /// One worker. The others would wait for one that panics, if they were not told.
    fn work(&self, worker: &mut Worker, build: &impl Build) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.step(worker, build))) {
            let (index, text) = (worker.index(), panic_text(panic.as_ref()));
            self.run.failure.report(format!("worker {index} has panicked: {text}"));
            resume_unwind(panic);
        }
    }

    /// Whether the run is interrupted, and what is under way not worth waiting for.
    fn is_over(&self) -> bool {
        if let Some(why) = self.options.topics.reading().and_then(|r| r.cluster.health.refusal()) {
            self.run.failure.report(why);
        }
        let Some(since) = self.options.interrupt.since() else { return false };
        let Some(drain) = self.options.drain else { return true };
        let is_over = since.elapsed() >= drain;
        if is_over {
            self.run.failure.report(format!(
                "stopped with {} records not acknowledged within {} s (kafka.shutdown_timeout_ms); they will be read again",
                self.run.reports.unsettled(),
                drain.as_secs_f64()
            ));
        }
        is_over
    }

    /// Makes the dataflow of a worker, and runs it to its end.
    fn step(&self, worker: &mut Worker, build: &impl Build) {
        let probe = ProbeHandle::<u64>::new();
        let (index, peers) = (worker.index(), worker.peers());
        let built = worker.dataflow::<u64, _, _>(|scope| {
            let events = self.prepared.events(index, peers, &self.options, &self.run)?;
            build(scope, index, &probe, events)
        });
        self.run.failure.check(built.map_err(|error| format!("{error:#}")));
        while !probe.done() && !self.run.failure.is_set() && !self.is_over() {
            worker.step_or_park(Some(PARK));
        }
        if !probe.done() {
            for dataflow in worker.installed_dataflows() {
                worker.drop_dataflow(dataflow);
            }
        }
    }
}
