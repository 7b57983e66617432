//! Tells when rows wait in the order gate for a partition that brings nothing.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use driftline_operators::holding::Held;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::run::Run;
use driftline_operators::watermark::EVENTS;

use crate::config::Job;
use crate::run::numbers::thousands;
use crate::run::prepare::inputs::as_of_tables;
use crate::sources::kafka::live::Live;

/// How long the gate only grows before it is said.
const SAID_AFTER: Duration = Duration::from_secs(5);
/// How long rows wait before it is said where no others have joined them: that may be all there is.
const SAID_AFTER_ANYWAY: Duration = Duration::from_secs(30);
/// It is said again after twice as long each time, whether or not it was over meanwhile.
const SAID_AGAIN_AT_LEAST: Duration = Duration::from_secs(3_600);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What rows wait for at the moment, if they do.
#[derive(Clone, Default)]
pub struct Holds(Arc<Mutex<Option<Hold>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub since: Instant,
    pub rows: u64,
    /// Whether there are more of them than when it began.
    has_grown: bool,
    /// Names of the partitions that they wait for.
    pub partitions: Vec<String>,
}

impl Holds {
    pub fn now(&self) -> Option<Hold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be said of it, once it has lasted for some time.
    pub fn words(&self) -> Option<String> {
        let hold = self.now().filter(|hold| hold.since.elapsed() >= said_after(hold.has_grown))?;
        let waited = hold.since.elapsed().as_secs();
        let rows = rows_have(hold.rows);
        Some(format!("{rows} waited {waited} s for a record of {}", named(&hold.partitions)))
    }

    fn set(&self, hold: Option<Hold>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hold;
    }
}

/// The thread that looks, until it is dropped.
pub struct HoldWatcher {
    _stop: Sender<()>,
}

pub struct HoldWatching {
    pub run: Run,
    pub live: Arc<Live>,
    pub holds: Holds,
    pub names: PartitionNames,
    pub advice: Advice,
}

/// What helps, by stream.
pub struct Advice {
    /// The stream of each partition; those that come later are of the events.
    pub streams: Vec<usize>,
    by_stream: Vec<String>,
    /// Nothing is said while this may still end it.
    pub idle_timeout: Duration,
}

impl Advice {
    /// `streams`: that of each partition.
    pub fn new(job: &Job, streams: Vec<usize>) -> Self {
        let of_table = |name: &String| {
            format!(
                "set tables.{name}.idle_timeout_ms, tables.{name}.eager = true, or job.order = \"arrival\""
            )
        };
        let events = "set event.idle_timeout_ms, or job.order = \"arrival\"".to_owned();
        let tables = as_of_tables(job).map(|(name, ..)| of_table(name));
        let timeouts = as_of_tables(job).map(|(.., versions)| versions.idle_timeout_ms);
        let timeouts = timeouts.chain(std::iter::once(job.event.idle_timeout_ms));
        Advice {
            streams,
            by_stream: std::iter::once(events).chain(tables).collect(),
            idle_timeout: Duration::from_millis(timeouts.flatten().max().unwrap_or(0)),
        }
    }

    fn of(&self, partition: u32) -> &str {
        let stream = self.streams.get(partition as usize).copied().unwrap_or(EVENTS);
        &self.by_stream[stream]
    }
}

impl HoldWatcher {
    pub fn start(watching: HoldWatching) -> Self {
        let (stop, stopped) = channel();
        std::thread::spawn(move || {
            let mut watch = HoldWatch::new(Instant::now(), watching.advice.idle_timeout);
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                watching.look(&mut watch);
            }
        });
        HoldWatcher { _stop: stop }
    }
}

impl HoldWatching {
    fn look(&self, watch: &mut HoldWatch) {
        let rows = self.run.counters.gate_rows();
        let held = self.run.holding.held().filter(|held| rows > 0 && !held.partitions.is_empty());
        // What may come is not known while brokers are away.
        let held = held.filter(|_| !self.live.health.is_in_doubt());
        let has_grown = held.as_ref().is_some_and(|held| rows > held.rows_at_rise);
        let partitions = held.as_ref().map_or(&[][..], |held| &held.partitions);
        let names: Vec<String> =
            partitions.iter().filter_map(|partition| self.names.get(*partition)).collect();
        let now = Instant::now();
        match watch.look(now, held.as_ref(), has_grown) {
            Some(Said::Holds(waited)) => {
                let (rows, names) = (rows_have(rows), named(&names));
                let advice = partitions.first().map_or("", |partition| self.advice.of(*partition));
                let waited = waited.as_secs();
                say!("{names}: {rows} waited {waited} s for a record of it; {advice}");
            }
            Some(Said::Over(waited)) => {
                say!("rows wait no longer, after {} s", waited.as_secs());
            }
            None => {}
        }
        let since = watch.since;
        self.holds.set(held.map(|_| Hold { since, rows, has_grown, partitions: names }));
    }
}

fn said_after(has_grown: bool) -> Duration {
    if has_grown { SAID_AFTER } else { SAID_AFTER_ANYWAY }
}

fn rows_have(rows: u64) -> String {
    match rows {
        1 => "1 row has".to_owned(),
        rows => format!("{} rows have", thousands(rows)),
    }
}

/// Partitions by name, or the first of them and how many more there are.
fn named(partitions: &[String]) -> String {
    match partitions {
        [] => "another partition".to_owned(),
        [one] => one.clone(),
        [first, more @ ..] => format!("{first} and {} more", more.len()),
    }
}

/// When something is to be said.
struct HoldWatch {
    idle_timeout: Duration,
    since: Instant,
    watermark: Option<i64>,
    is_said: bool,
    /// How long nothing more is said after the next time.
    pause: Duration,
    paused_until: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Rows have waited for so long.
    Holds(Duration),
    /// They wait no longer.
    Over(Duration),
}

impl HoldWatch {
    fn new(now: Instant, idle_timeout: Duration) -> Self {
        HoldWatch {
            idle_timeout,
            since: now,
            watermark: None,
            is_said: false,
            pause: SAID_AFTER,
            paused_until: now,
        }
    }

    /// `held`: what holds rows, if any wait; whether the gate has grown since the watermark rose.
    fn look(&mut self, now: Instant, held: Option<&Held>, has_grown: bool) -> Option<Said> {
        let watermark = held.map(|held| held.watermark);
        let waited = now.saturating_duration_since(self.since);
        if watermark.is_none() || watermark != self.watermark {
            self.watermark = watermark;
            self.since = now;
            return std::mem::take(&mut self.is_said).then_some(Said::Over(waited));
        }
        if waited < self.idle_timeout + said_after(has_grown) || now < self.paused_until {
            return None;
        }
        self.is_said = true;
        self.pause = (self.pause * 2).min(SAID_AGAIN_AT_LEAST);
        self.paused_until = now + self.pause;
        Some(Said::Holds(waited))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(watermark: i64) -> Held {
        Held { watermark, rows_at_rise: 0, highest: 9, partitions: vec![2] }
    }

    /// What is said at each second of `held_at`, by second.
    fn said(held_at: impl Fn(u64) -> Option<i64>, seconds: u64) -> Vec<(u64, Said)> {
        let start = Instant::now();
        let mut watch = HoldWatch::new(start, Duration::ZERO);
        let look = |second: u64| {
            let held = held_at(second).map(held);
            let said = watch.look(start + Duration::from_secs(second), held.as_ref(), true);
            Some((second, said?))
        };
        (0..seconds).filter_map(look).collect()
    }

    #[test]
    fn it_is_said_at_doubling_intervals_and_when_it_is_over() {
        let secs = Duration::from_secs;
        let one = said(|second| (second < 60).then_some(i64::MIN), 200);
        let holds = [5, 15, 35].map(|at| (at, Said::Holds(secs(at))));
        assert_eq!(one[..3], holds);
        assert_eq!(one[3..], [(60, Said::Over(secs(60)))]);
        // A watermark that rises now and then is no matter, and what comes again is not said again
        // at once.
        assert_eq!(said(|second| Some(second as i64 / 5), 1_000), []);
        let often = said(|second| (second % 10 != 0).then_some(0), 1_000);
        assert!(often.len() <= 2 * 8, "{often:?}");
        let last = often.last().unwrap().0;
        assert!(last > 500, "{often:?}");
    }

    #[test]
    fn what_a_timeout_will_end_is_not_said() {
        let start = Instant::now();
        let mut watch = HoldWatch::new(start, Duration::from_secs(60));
        let at = |second| start + Duration::from_secs(second);
        let mut look = |second, grown| watch.look(at(second), Some(&held(0)), grown);
        assert_eq!([look(0, true), look(5, true), look(64, true)], [None, None, None]);
        assert_eq!(look(89, false), None);
        assert_eq!(look(89, true), Some(Said::Holds(Duration::from_secs(89))));
    }

    #[test]
    fn partitions_are_named_as_far_as_one_line_takes() {
        let all = ["a/0", "a/1", "a/2"].map(str::to_owned);
        assert_eq!(named(&all[..1]), "a/0");
        assert_eq!(named(&all), "a/0 and 2 more");
        assert_eq!(rows_have(1), "1 row has");
        assert_eq!(rows_have(12_345), "12,345 rows have");
    }
}
