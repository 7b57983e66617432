//! How long rows take from being read to having their prediction handed over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies above this are counted as this.
const HIGHEST: Duration = Duration::from_secs(86_400);
/// Significant decimal digits that are kept of each latency.
const DIGITS: u8 = 3;

/// The distribution of latencies over rows, shared by the workers of a run.
#[derive(Clone)]
pub struct Latencies(Arc<Mutex<Distribution>>);

/// The distribution of latencies, of one who counts alone.
pub(crate) struct Distribution {
    /// In µs.
    histogram: Histogram<u64>,
    target: Duration,
    beyond_target: u64,
    rows: u64,
    total_us: u128,
}

/// What is known of the latencies of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyFigures {
    pub rows: u64,
    pub mean: Duration,
    /// Half of the rows took no longer; to three digits, as the other two.
    pub p50: Duration,
    pub p95: Duration,
    pub p99: Duration,
    pub max: Duration,
    /// Rows that took longer than the target.
    pub beyond_target: u64,
}

impl Latencies {
    /// Rows that take longer than `target` are counted.
    pub fn new(target: Duration) -> Self {
        Distribution::new(target).into()
    }

    /// Rows that were read at the instants `read_at` (µs) of the run's clock were handed over `now`.
    pub fn handed_over(&self, read_at: &[i64], now: Duration) {
        let mut inner = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = now.as_micros() as i64;
        // Rows of a chunk have one instant.
        for rows in read_at.chunk_by(|a, b| a == b) {
            inner.record(now.saturating_sub(rows[0]).max(0) as u64, rows.len() as u64);
        }
    }

    /// Something took so long.
    pub fn record(&self, took: Duration) {
        let mut inner = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        inner.record(took.as_micros() as u64, 1);
    }

    /// How many took no longer than each of `bounds`, and the figures of the same moment.
    pub fn cumulative(&self, bounds: &[Duration]) -> (Vec<u64>, LatencyFigures) {
        let inner = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let within = |bound: &Duration| inner.histogram.count_between(0, bound.as_micros() as u64);
        (bounds.iter().map(within).collect(), inner.figures())
    }

    pub fn figures(&self) -> LatencyFigures {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).figures()
    }
}

impl Default for Latencies {
    /// Without a target.
    fn default() -> Self {
        Latencies::new(HIGHEST)
    }
}

impl From<Distribution> for Latencies {
    fn from(distribution: Distribution) -> Self {
        Latencies(Arc::new(Mutex::new(distribution)))
    }
}

impl Default for Distribution {
    /// Without a target.
    fn default() -> Self {
        Distribution::new(HIGHEST)
    }
}

impl Distribution {
    fn new(target: Duration) -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST.as_micros() as u64, DIGITS)
            .expect("the bounds are in order and the digits are few");
        Distribution { histogram, target, beyond_target: 0, rows: 0, total_us: 0 }
    }

    /// Takes over what another of the same target has counted.
    pub(crate) fn merge(&mut self, other: &Distribution) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
        self.rows += other.rows;
        self.total_us += other.total_us;
        self.beyond_target += other.beyond_target;
    }

    fn figures(&self) -> LatencyFigures {
        let quantile = |q| Duration::from_micros(self.histogram.value_at_quantile(q));
        LatencyFigures {
            rows: self.rows,
            mean: Duration::from_micros((self.total_us / u128::from(self.rows.max(1))) as u64),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: Duration::from_micros(self.histogram.max()),
            beyond_target: self.beyond_target,
        }
    }

    pub(crate) fn record(&mut self, latency_us: u64, rows: u64) {
        self.histogram.saturating_record_n(latency_us, rows);
        self.rows += rows;
        self.total_us += u128::from(latency_us) * u128::from(rows);
        if u128::from(latency_us) > self.target.as_micros() {
            self.beyond_target += rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the sorted list of all latencies, within the histogram's digits.
    #[test]
    fn figures_are_those_of_the_sorted_list() {
        for seed in 1..20u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut next = |below: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % below
            };
            let latencies = Latencies::new(Duration::from_millis(50));
            let mut all: Vec<u64> = Vec::new();
            for _ in 0..1 + next(60) {
                let now = 10_000_000 + next(1_000_000);
                let mut read_at: Vec<i64> = Vec::new();
                for _ in 0..next(5) {
                    let (at, rows) = (now - next(200_000), next(40) as usize);
                    read_at.extend(std::iter::repeat_n(at as i64, rows));
                    all.extend(std::iter::repeat_n(now - at, rows));
                }
                latencies.handed_over(&read_at, Duration::from_micros(now));
            }
            all.sort_unstable();
            let figures = latencies.figures();
            assert_eq!(figures.rows, all.len() as u64, "seed {seed}");
            if all.is_empty() {
                assert_eq!(figures, LatencyFigures::default(), "seed {seed}");
                continue;
            }
            let mean = all.iter().sum::<u64>() / all.len() as u64;
            assert_eq!(figures.mean.as_micros() as u64, mean, "seed {seed}");
            let beyond = all.iter().filter(|&&us| us > 50_000).count() as u64;
            assert_eq!(figures.beyond_target, beyond, "seed {seed}");
            let ranked = [(figures.p50, 0.5), (figures.p95, 0.95), (figures.p99, 0.99)];
            for (found, q) in ranked.into_iter().chain([(figures.max, 1.0)]) {
                let rank = (q * all.len() as f64).ceil().max(1.0) as usize;
                let (found, expected) = (found.as_micros() as f64, all[rank - 1] as f64);
                let near = expected * 0.001 + 1.0;
                assert!((found - expected).abs() <= near, "seed {seed}: {found}, {expected}");
            }
        }
    }
}
