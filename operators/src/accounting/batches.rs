//! What is counted of micro-batches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::apart::Apart;
use crate::latency::{Distribution, Latencies};
use crate::model::ModelIdentity;

/// Models whose micro-batches are counted apart. Of more, those that began first are counted together
/// once no worker has them any more.
pub const MODELS_APART_MAX: usize = 16;

/// Causes of rows that a model refused that are told apart, of each model.
pub const CAUSES_MAX: usize = 16;

/// How many micro-batches had how many rows.
#[derive(Clone, Debug, Default)]
pub struct BatchSizes(BTreeMap<usize, u64>);

impl BatchSizes {
    pub(super) fn record(&mut self, rows: usize) {
        *self.0.entry(rows).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: &BatchSizes) {
        for (&rows, &count) in &other.0 {
            *self.0.entry(rows).or_default() += count;
        }
    }

    pub fn batches(&self) -> u64 {
        self.0.values().sum()
    }

    /// The median number of rows of a batch; 0 without batches.
    pub fn median(&self) -> usize {
        let half = self.batches().div_ceil(2);
        let mut seen = 0;
        for (&rows, &count) in &self.0 {
            seen += count;
            if seen >= half {
                return rows;
            }
        }
        0
    }
}

/// What one worker counts of a model's micro-batches: made once, and shared with those who read it.
#[derive(Clone, Default)]
pub struct BatchGauge(Arc<Apart<Mutex<Batches>>>);

#[derive(Default)]
pub(super) struct Batches {
    pub sizes: BatchSizes,
    pub rows: u64,
    /// Runs that took too long, and were ended.
    pub overstayed: u64,
    pub wait: Distribution,
    pub inference: Distribution,
    pub longest_wait: Duration,
    pub inference_time: Duration,
    /// Rows that the model refused alone, and why: of [`CAUSES_MAX`] causes.
    pub failed: u64,
    pub causes: BTreeMap<String, u64>,
    /// Micro-batches of which no row was scored, and those of which some were.
    pub runs_failed: u64,
    pub runs_succeeded: u64,
}

impl BatchGauge {
    /// A micro-batch was scored; its oldest row had waited `wait`.
    pub fn scored(&self, rows: usize, wait: Duration, inference: Duration) {
        let mut batches = self.lock();
        batches.sizes.record(rows);
        batches.rows += rows as u64;
        batches.wait.record(wait.as_micros() as u64, 1);
        batches.inference.record(inference.as_micros() as u64, 1);
        batches.longest_wait = batches.longest_wait.max(wait);
        batches.inference_time += inference;
    }

    /// The model refused so many rows, each alone, for the same cause.
    pub fn failed(&self, rows: usize, cause: &str) {
        let mut batches = self.lock();
        batches.failed += rows as u64;
        batches.cause(cause, rows as u64);
    }

    /// A micro-batch is worked off: whether any of its rows was scored.
    pub fn ran(&self, is_any_scored: bool) {
        let mut batches = self.lock();
        match is_any_scored {
            true => batches.runs_succeeded += 1,
            false => batches.runs_failed += 1,
        }
    }

    /// A run took too long, and was ended.
    pub fn overstayed(&self) {
        self.lock().overstayed += 1;
    }

    /// Nobody else asks for it but who reads all of them.
    pub(super) fn lock(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Batches {
    /// Counts a cause, if there is room for it.
    fn cause(&mut self, cause: &str, rows: u64) {
        let is_full = self.causes.len() >= CAUSES_MAX;
        match self.causes.get_mut(cause) {
            Some(known) => *known += rows,
            None if !is_full => {
                self.causes.insert(cause.to_owned(), rows);
            }
            None => {}
        }
    }

    fn merge(&mut self, other: &Batches) {
        self.sizes.merge(&other.sizes);
        self.rows += other.rows;
        self.failed += other.failed;
        other.causes.iter().for_each(|(cause, rows)| self.cause(cause, *rows));
        self.runs_failed += other.runs_failed;
        self.runs_succeeded += other.runs_succeeded;
        self.overstayed += other.overstayed;
        self.wait.merge(&other.wait);
        self.inference.merge(&other.inference);
        self.longest_wait = self.longest_wait.max(other.longest_wait);
        self.inference_time += other.inference_time;
    }
}

/// The gauges of all workers, by model.
#[derive(Default)]
pub(super) struct Gauges {
    /// In the order in which models began.
    apart: Vec<(ModelIdentity, BTreeMap<usize, BatchGauge>)>,
    /// Of models that are not told apart any more.
    rest: Batches,
}

impl Gauges {
    pub fn of(&mut self, model: &ModelIdentity, worker: usize) -> BatchGauge {
        if let Some((_, gauges)) = self.apart.iter_mut().find(|(known, _)| known == model) {
            return gauges.entry(worker).or_default().clone();
        }
        // Who counts has a gauge of its own: one that only this has will not change.
        let is_gone = |(_, gauges): &(ModelIdentity, BTreeMap<usize, BatchGauge>)| {
            gauges.values().all(|gauge| Arc::strong_count(&gauge.0) == 1)
        };
        while self.apart.len() >= MODELS_APART_MAX
            && let Some(at) = self.apart.iter().position(is_gone)
        {
            for gauge in self.apart.remove(at).1.into_values() {
                self.rest.merge(&gauge.lock());
            }
        }
        let gauge = BatchGauge::default();
        self.apart.push((model.clone(), [(worker, gauge.clone())].into()));
        gauge
    }

    pub fn each(&self, mut see: impl FnMut(&Batches)) {
        see(&self.rest);
        let gauges = self.apart.iter().flat_map(|(_, gauges)| gauges.values());
        gauges.for_each(|gauge| see(&gauge.lock()));
    }

    pub fn by_model(&self) -> Vec<(ModelIdentity, ModelBatches)> {
        let of_model = |(model, gauges): &(ModelIdentity, BTreeMap<usize, BatchGauge>)| {
            let mut all = Batches::default();
            gauges.values().for_each(|gauge| all.merge(&gauge.lock()));
            let Batches { sizes, rows, failed, runs_failed, runs_succeeded, overstayed, .. } = all;
            let stages = [("wait", all.wait.into()), ("inference", all.inference.into())];
            let batches = sizes.batches();
            let runs = (runs_succeeded, runs_failed);
            let (inference_time, causes) = (all.inference_time, all.causes);
            let of = ModelBatches {
                rows,
                failed,
                causes,
                batches,
                runs,
                overstayed,
                inference_time,
                stages,
            };
            (model.clone(), of)
        };
        self.apart.iter().map(of_model).collect()
    }
}

/// What all workers have counted of a model's micro-batches.
pub struct ModelBatches {
    pub rows: u64,
    /// Rows that the model refused, and how many of them by cause, of `CAUSES_MAX` causes.
    pub failed: u64,
    pub causes: BTreeMap<String, u64>,
    pub batches: u64,
    /// Micro-batches of which some rows were scored, and those of which none was.
    pub runs: (u64, u64),
    /// Runs that took too long, and were ended.
    pub overstayed: u64,
    /// What scored rows took in the model.
    pub inference_time: Duration,
    /// What they took: the wait of the oldest row, and the model.
    pub stages: [(&'static str, Latencies); 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is told apart, all is counted.
    #[test]
    fn models_that_are_gone_are_counted_together() {
        let mut gauges = Gauges::default();
        let model =
            |version: usize| ModelIdentity { name: "m".to_owned(), version: version.to_string() };
        let second = Duration::from_secs(1);
        let kept = gauges.of(&model(0), 0);
        for version in 0..100 {
            gauges.of(&model(version), version % 3).scored(1 + version, second, second);
        }
        kept.scored(1_000, 2 * second, second);
        let (mut rows, mut batches, mut longest) = (0, 0, Duration::ZERO);
        gauges.each(|of| {
            rows += of.rows;
            batches += of.sizes.batches();
            longest = longest.max(of.longest_wait);
        });
        assert_eq!((rows, batches, longest), (5_050 + 1_000, 101, 2 * second));
        let told = gauges.by_model();
        let told: Vec<_> = told.iter().map(|(model, of)| (&*model.version, of.rows)).collect();
        assert_eq!(told.len(), MODELS_APART_MAX);
        // A worker has the first one still.
        assert_eq!((told[0], told[1], told[15]), (("0", 1_001), ("85", 86), ("99", 100)));
    }

    #[test]
    fn median_of_batches() {
        let mut sizes = BatchSizes::default();
        assert_eq!(sizes.median(), 0);
        for rows in [1, 1024, 1024, 7, 1024] {
            sizes.record(rows);
        }
        assert_eq!((sizes.median(), sizes.batches()), (1024, 5));
        let mut others = BatchSizes::default();
        [7, 7, 7, 7, 7].into_iter().for_each(|rows| others.record(rows));
        sizes.merge(&others);
        assert_eq!((sizes.median(), sizes.batches()), (7, 10));
    }
}
