//! Many cases of one kind: as many as the environment says, each from a seed of its own, each watched
//! for panics, time and memory.
//!
//! `FUZZ_SEED`, `FUZZ_FIRST` (case), `FUZZ_CASES` and `FUZZ_SECONDS` say what is run; a failure says
//! how to run its case alone. What ends the process (the end of the stack) says nothing: `FUZZ_TRACE=1`
//! has each case named before it is run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::allocation;
use crate::random::Random;

/// Longer than any case may take.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);
/// More than any case may hold at a time.
const CASE_BYTES_MAX: usize = 512 << 20;
/// Of an input in a message.
const SHOWN_BYTES: usize = 600;

/// One campaign at a time: they share a count of memory, and two cores.
static ALONE: Mutex<()> = Mutex::new(());

/// What a case was given, for the message of a failure.
#[derive(Default)]
pub struct Given(pub Vec<u8>);

/// Panics that become errors are no news.
fn quiet_where_guarded() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !driftline_operators::guarded::is_guarded() {
                report(panic);
            }
        }));
    });
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs `case` as often as the environment says, else `cases` times.
///
/// # Panics
/// At the first case that fails, with what it takes to see it again.
pub fn run(
    name: &'static str,
    cases: u64,
    case: impl Fn(&mut Random, &mut Given) -> Result<(), String>,
) {
    quiet_where_guarded();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = variable("FUZZ_SEED").unwrap_or(1);
    let first = variable("FUZZ_FIRST").unwrap_or(0);
    let seconds = variable("FUZZ_SECONDS").map(Duration::from_secs);
    let most = variable("FUZZ_CASES").unwrap_or(if seconds.is_some() { u64::MAX } else { cases });
    let trace = variable("FUZZ_TRACE").is_some();
    let started = Instant::now();
    let watch = Watch::start(name, seed);
    let (mut number, mut slowest) = (first, (Duration::ZERO, first));
    while number - first < most && seconds.is_none_or(|limit| started.elapsed() < limit) {
        watch.begin(number);
        if trace {
            eprintln!("{name}: case {number}");
        }
        let (held, began) = (allocation::watch(), Instant::now());
        let mut given = Given::default();
        let mut random = Random::new(seed, number);
        let done = catch_unwind(AssertUnwindSafe(|| case(&mut random, &mut given)));
        slowest = slowest.max((began.elapsed(), number));
        let taken = allocation::most().saturating_sub(held);
        let fault = match done {
            Err(panic) => Some(format!("panicked: {}", panic_text(panic.as_ref()))),
            Ok(Err(wrong)) => Some(wrong),
            Ok(Ok(())) if taken > CASE_BYTES_MAX => {
                Some(format!("held {} MiB at a time", taken >> 20))
            }
            Ok(Ok(())) => None,
        };
        if let Some(fault) = fault {
            panic!("{}", report(name, seed, number, &fault, &given.0));
        }
        number += 1;
    }
    let (done, spent) = (number - first, started.elapsed());
    let (longest, at) = slowest;
    eprintln!(
        "{name}: {done} cases from {first} of seed {seed} in {spent:.1?}; the longest, {at}, took {longest:.1?}"
    );
    assert!(done > 0, "{name}: not a single case was run");
}

fn report(name: &str, seed: u64, number: u64, fault: &str, given: &[u8]) -> String {
    let path = keep(name, seed, number, given);
    let shown = &given[..given.len().min(SHOWN_BYTES)];
    format!(
        "{name}: {fault}\n  seed {seed}, case {number}: FUZZ_SEED={seed} FUZZ_FIRST={number} \
         FUZZ_CASES=1 cargo test --test fuzz {name}\n  {} bytes, in {}: \"{}\"",
        given.len(),
        path.display(),
        shown.escape_ascii()
    )
}

/// Keeps the input of a case that failed.
fn keep(name: &str, seed: u64, number: u64, given: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("driftline-fuzz-{name}-{seed}-{number}"));
    let _ = std::fs::write(&path, given);
    path
}

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Ends the process when a case takes too long: nothing else ends a loop.
struct Watch {
    started: Instant,
    /// The case, and when it began (ms since the start).
    case: Arc<(AtomicU64, AtomicU64)>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn start(name: &'static str, seed: u64) -> Self {
        let started = Instant::now();
        let case = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let (watched, until) = (case.clone(), over.clone());
        std::thread::spawn(move || {
            while !until.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(200));
                let began = Duration::from_millis(watched.1.load(SeqCst));
                if !until.load(SeqCst) && started.elapsed().saturating_sub(began) > CASE_TIME_MAX {
                    let number = watched.0.load(SeqCst);
                    eprintln!("{}", report(name, seed, number, "takes too long", b""));
                    std::process::abort();
                }
            }
        });
        Watch { started, case, over }
    }

    fn begin(&self, number: u64) {
        self.case.0.store(number, SeqCst);
        self.case.1.store(self.started.elapsed().as_millis() as u64, SeqCst);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}
