//! How many predictions each version of a model has made, by status.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use driftline_operators::accounting::MODELS_APART_MAX;
use driftline_operators::model::ModelIdentity;
use driftline_operators::sinks::Sink;

use crate::sinks::overheard::{Listener, Overheard};

/// Filled by the sinks of all workers. Models that made none for the longest are forgotten where there
/// are more than [`MODELS_APART_MAX`].
#[derive(Clone, Default)]
pub struct PredictionCounts(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    of: BTreeMap<ModelIdentity, Count>,
    /// How often something was counted.
    times: u64,
}

/// Predictions that are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    ok: u64,
    degraded: u64,
    /// When the last one was counted, by [`Counts::times`].
    last: u64,
}

impl PredictionCounts {
    /// `sink`, whose predictions are counted here when they are durable.
    pub fn watch(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        Box::new(Overheard::new(sink, Made::new(self.clone())))
    }

    /// By model and status; `current` is there from the beginning on.
    pub fn all(&self, current: &ModelIdentity) -> Vec<(ModelIdentity, &'static str, u64)> {
        let mut all = self.lock().of.clone();
        all.entry(current.clone()).or_default();
        let of_model = |(model, Count { ok, degraded, .. }): (ModelIdentity, Count)| {
            [(model.clone(), "ok", ok), (model, "degraded", degraded)]
        };
        all.into_iter().flat_map(of_model).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, model: ModelIdentity, ok: u64, degraded: u64) {
        let mut counts = self.lock();
        counts.times += 1;
        let times = counts.times;
        let count = counts.of.entry(model).or_default();
        *count = Count { ok: count.ok + ok, degraded: count.degraded + degraded, last: times };
        if counts.of.len() > MODELS_APART_MAX {
            let oldest = counts.of.iter().min_by_key(|(_, count)| count.last);
            let oldest = oldest.map(|(model, _)| model.clone());
            if let Some(model) = oldest {
                counts.of.remove(&model);
            }
        }
    }
}

/// Listens to one worker's sink of predictions.
struct Made {
    counts: PredictionCounts,
    /// Of each batch who made it, and how many rows are ok and degraded.
    undurable: VecDeque<(Option<ModelIdentity>, u64, u64)>,
    /// Rows in front of these that are durable or refused, and those that are refused.
    settled: u64,
    refused: u64,
}

impl Made {
    fn new(counts: PredictionCounts) -> Self {
        Made { counts, undurable: VecDeque::new(), settled: 0, refused: 0 }
    }
}

impl Listener for Made {
    fn taken(&mut self, batch: &RecordBatch) {
        let rows = batch.num_rows() as u64;
        let (model, degraded) = made(batch).unzip();
        let degraded = degraded.unwrap_or_default();
        self.undurable.push_back((model, rows - degraded, degraded));
    }

    /// Sinks of topics tell of whole batches. Where several are told of at once it is not known which of
    /// them the refused rows are of: they are taken from the first ones.
    fn durable(&mut self, rows: u64, refused: u64) {
        self.settled += rows + refused;
        self.refused += refused;
        while let Some((model, ok, degraded)) =
            self.undurable.pop_front_if(|(_, ok, degraded)| *ok + *degraded <= self.settled)
        {
            self.settled -= ok + degraded;
            let refused_ok = self.refused.min(ok);
            let refused_degraded = (self.refused - refused_ok).min(degraded);
            self.refused -= refused_ok + refused_degraded;
            if let Some(model) = model {
                self.counts.add(model, ok - refused_ok, degraded - refused_degraded);
            }
        }
    }
}

/// The model that made the predictions of a batch, which are all of one, and how many are degraded.
fn made(batch: &RecordBatch) -> Option<(ModelIdentity, u64)> {
    let text = |name| batch.column_by_name(name)?.as_string_opt::<i32>();
    let (names, versions, status) = (text("model_name")?, text("model_version")?, text("status")?);
    if batch.num_rows() == 0 {
        return None;
    }
    let degraded = status.iter().filter(|status| *status != Some("ok")).count();
    let (name, version) = (names.value(0).to_owned(), versions.value(0).to_owned());
    Some((ModelIdentity { name, version }, degraded as u64))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    fn model(version: &str) -> ModelIdentity {
        ModelIdentity { name: "m".to_owned(), version: version.to_owned() }
    }

    fn batch(version: &str, ok: usize, degraded: usize) -> RecordBatch {
        let same = |text: &str, rows| std::iter::repeat_n(text.to_owned(), rows);
        let column = |texts: Vec<String>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        let rows = ok + degraded;
        let status = same("ok", ok).chain(same("degraded", degraded)).collect();
        RecordBatch::try_from_iter([
            ("model_name", column(same("m", rows).collect())),
            ("model_version", column(same(version, rows).collect())),
            ("status", column(status)),
        ])
        .unwrap()
    }

    fn counted(counts: &PredictionCounts, current: &str) -> Vec<(String, &'static str, u64)> {
        let all = counts.all(&model(current)).into_iter();
        all.map(|(model, status, rows)| (model.version, status, rows)).collect()
    }

    #[test]
    fn predictions_are_those_of_the_version_that_made_them() {
        let counts = PredictionCounts::default();
        let mut made = Made::new(counts.clone());
        let shown = |version: &str, ok, degraded| {
            [(version.to_owned(), "ok", ok), (version.to_owned(), "degraded", degraded)]
        };
        assert_eq!(counted(&counts, "1"), shown("1", 0, 0));
        made.taken(&batch("1", 5, 2));
        made.taken(&batch("2", 3, 0));
        made.durable(6, 0);
        assert_eq!(counted(&counts, "1"), shown("1", 0, 0));
        // One of its rows was refused; its other ones count.
        made.durable(0, 1);
        assert_eq!(counted(&counts, "1"), shown("1", 4, 2));
        made.durable(3, 0);
        assert_eq!(counted(&counts, "2"), [shown("1", 4, 2), shown("2", 3, 0)].concat());
        made.taken(&batch("1", 1, 0));
        made.taken(&batch("2", 0, 4));
        made.durable(4, 1);
        assert_eq!(counted(&counts, "2"), [shown("1", 4, 2), shown("2", 3, 4)].concat());
    }

    #[test]
    fn versions_that_made_none_for_the_longest_are_forgotten() {
        let counts = PredictionCounts::default();
        for version in 0..40 {
            counts.add(model(&version.to_string()), 1, 0);
            counts.add(model("0"), 1, 0);
        }
        let kept: Vec<_> = counted(&counts, "0").into_iter().filter(|it| it.1 == "ok").collect();
        assert_eq!(kept.len(), MODELS_APART_MAX);
        assert_eq!(kept[0], ("0".to_owned(), "ok", 41));
        let others: Vec<u64> = kept[1..].iter().map(|it| it.0.parse().unwrap()).collect();
        assert_eq!(others, (25..40).collect::<Vec<u64>>());
    }
}
