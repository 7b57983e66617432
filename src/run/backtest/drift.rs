//! What drift says of the predictions of each candidate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Float64Type;
use driftline_operators::model::ModelIdentity;
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::watched::PREDICTION;

use crate::sinks::function::FunctionSink;
use crate::sinks::own::SinkFactory;

/// Windows of a candidate's predictions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PredictionDrift {
    /// Those that have a verdict, and those of them that have drifted.
    pub judged: u64,
    pub drifted: u64,
    /// The largest KS statistic; none where there is no baseline of its predictions.
    pub largest_ks: Option<f64>,
}

/// Snapshots of all workers.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<RecordBatch>>>);

impl Collected {
    fn lock(&self) -> MutexGuard<'_, Vec<RecordBatch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sink(&self) -> SinkFactory {
        let collected = self.clone();
        Arc::new(move |_worker, _schema| {
            let collected = collected.clone();
            let sink = FunctionSink::new("drift", move |rows| {
                collected.lock().push(rows);
                Ok(())
            });
            Ok::<Box<dyn Sink>, SinkError>(Box::new(sink))
        })
    }

    /// That of a model; `None` where no drift is watched.
    pub fn of(&self, model: &ModelIdentity) -> Option<PredictionDrift> {
        let all = self.lock();
        let rows = concat_batches(all.first()?.schema_ref(), all.iter()).ok()?;
        let text = |name| rows.column_by_name(name)?.as_string_opt::<i32>();
        let flag = |name| rows.column_by_name(name)?.as_boolean_opt();
        let (names, versions) = (text("model_name")?, text("model_version")?);
        let (features, finals) = (text("feature")?, flag("final")?);
        let (judged, drifted) = (flag("judged")?, flag("drift_detected")?);
        let ks = rows.column_by_name("ks_statistic")?.as_primitive_opt::<Float64Type>()?;
        let is_its = |row: &usize| {
            features.value(*row) == PREDICTION
                && finals.value(*row)
                && names.value(*row) == model.name
                && versions.value(*row) == model.version
        };
        let mut found = PredictionDrift::default();
        for row in (0..rows.num_rows()).filter(is_its) {
            found.judged += u64::from(judged.value(row));
            found.drifted += u64::from(drifted.value(row));
            if ks.is_valid(row) {
                found.largest_ks = Some(found.largest_ks.unwrap_or(0.0).max(ks.value(row)));
            }
        }
        Some(found)
    }
}
