//! The progress bar: rows, rate, event time reached, time left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use driftline_operators::accounting::Counters;
use indicatif::{ProgressBar, ProgressStyle};

use super::numbers::thousands;
use super::prepare::Prepared;
use crate::config::duration::instant_text;

const REDRAW: Duration = Duration::from_millis(100);

/// A bar on standard error until it is dropped, drawn by a thread of its own; nothing where it is not wanted or standard
/// error is no terminal.
pub struct Progress {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    pub fn start(wanted: bool, prepared: &Prepared, counters: Counters) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let total = prepared.inputs.total_rows();
        let thread = wanted.then(|| {
            let stop = stop.clone();
            std::thread::spawn(move || draw(total, &counters, &stop))
        });
        Progress { stop, thread }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn draw(total: Option<u64>, counters: &Counters, stop: &AtomicBool) {
    let bar = match total {
        Some(rows) => ProgressBar::new(rows)
            .with_style(style("{bar:30} {human_pos}/{human_len} events  {msg}  {eta} left")),
        None => ProgressBar::no_length().with_style(style("{spinner} {human_pos} events  {msg}")),
    };
    while !stop.load(Ordering::Acquire) {
        let read = counters.account().read;
        let rate = read as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        let reached = counters.highest_event_time();
        let reached = reached.map_or_else(|| "the start".to_owned(), to_the_minute);
        bar.set_position(read);
        bar.set_message(format!("{}/s  at {reached}", thousands(rate as u64)));
        std::thread::park_timeout(REDRAW);
    }
    bar.finish_and_clear();
}

fn to_the_minute(time: i64) -> String {
    instant_text(time.saturating_sub(time.rem_euclid(60_000)))
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
