//! How well a run did: success, latency, and whether the targets of its job were met.

use std::time::Duration;

use driftline_operators::accounting::Account;
use driftline_operators::latency::LatencyFigures;

use super::numbers::thousands;
use crate::config::Job;

/// The share of the rows to be scored that were.
pub fn success(account: &Account) -> String {
    let tried = account.predictions + account.dead_letters;
    match (tried, account.dead_letters) {
        (0, _) => "no row to score".to_owned(),
        (_, 0) => "100 % of the rows to score".to_owned(),
        _ => {
            // Rounded down: only all is 100 %.
            let share = (account.predictions as f64 / tried as f64 * 1e5).floor() / 1e3;
            format!("{share:.3} % of the rows to score, the others are dead letters")
        }
    }
}

/// From being read to being handed over to the sink.
pub fn latency(figures: &LatencyFigures) -> String {
    let ms = |duration: Duration| format!("{:.1} ms", duration.as_secs_f64() * 1e3);
    format!(
        "mean {}, p50 {}, p95 {}, p99 {}, max {}",
        ms(figures.mean),
        ms(figures.p50),
        ms(figures.p95),
        ms(figures.p99),
        ms(figures.max)
    )
}

/// The job's target for throughput, if it sets one, and whether the run met it.
pub fn throughput_target(job: &Job, account: &Account, took: Duration) -> Option<String> {
    let target = job.realtime.throughput_target_per_second?;
    let met = account.read as f64 >= target as f64 * took.as_secs_f64();
    let word = if met { "met" } else { "missed" };
    Some(format!("target {} events/s: {word}", thousands(target)))
}

/// The target (ms) for the latency of each row, if there is one, and whether the run met it.
pub fn latency_target(max_latency_ms: Option<u64>, figures: &LatencyFigures) -> Option<String> {
    let target = thousands(max_latency_ms?);
    Some(match figures.beyond_target {
        0 => format!("target {target} ms: met"),
        beyond => {
            let share = (beyond as f64 / figures.rows as f64 * 1e3).ceil() / 10.0;
            format!("target {target} ms: missed by {} rows ({share:.1} %)", thousands(beyond))
        }
    })
}
