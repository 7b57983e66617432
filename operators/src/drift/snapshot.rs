//! Drift snapshots: one wide row a window and watched column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::drift::baseline::{Baseline, Reference};
use crate::drift::calendar::WindowLength;
use crate::drift::collect::ClosedWindow;
use crate::drift::figures::{Figures, Thresholds};
use crate::model::ModelIdentity;

/// What turns closed windows into rows of a snapshot.
pub struct SnapshotFormat {
    pub schema: SchemaRef,
    model: ModelIdentity,
    /// How each length is written in the job file.
    labels: Vec<(WindowLength, String)>,
    names: Vec<String>,
    references: Vec<Reference>,
    thresholds: Thresholds,
    reference_id: String,
}

impl SnapshotFormat {
    /// `names` are the watched columns; `reference_id` identifies the baseline.
    ///
    /// # Errors
    /// The watched column that the baseline lacks.
    pub fn new(
        model: ModelIdentity,
        labels: Vec<(WindowLength, String)>,
        names: Vec<String>,
        baseline: &Baseline,
        thresholds: Thresholds,
        reference_id: String,
    ) -> Result<Self, String> {
        let references = names
            .iter()
            .map(|name| baseline.references.get(name).cloned().ok_or_else(|| name.clone()))
            .collect::<Result<_, _>>()?;
        Ok(SnapshotFormat {
            schema: schema(),
            model,
            labels,
            names,
            references,
            thresholds,
            reference_id,
        })
    }

    /// Rows of [`schema`], one a window, in the order given.
    ///
    /// # Errors
    /// Never for windows of the columns named.
    pub fn batch(&self, windows: &[ClosedWindow]) -> Result<RecordBatch, ArrowError> {
        let reference = |w: &ClosedWindow| &self.references[w.column];
        let figures: Vec<Figures> =
            windows.iter().map(|w| Figures::compute(reference(w), &w.runs, w.null_count)).collect();
        let same = |value: &str| text(windows.iter().map(|_| value));
        let instant = |f: fn(&ClosedWindow) -> i64| -> ArrayRef {
            let times = TimestampMillisecondArray::from_iter_values(windows.iter().map(f));
            Arc::new(times.with_timezone("UTC"))
        };
        let of_reference = |f: fn(&Reference) -> Option<f64>| -> ArrayRef {
            Arc::new(windows.iter().map(|w| f(reference(w))).collect::<Float64Array>())
        };
        let of_current = |f: fn(&Figures) -> Option<f64>| -> ArrayRef {
            Arc::new(figures.iter().map(f).collect::<Float64Array>())
        };
        let number = |values: Vec<u64>| -> ArrayRef { Arc::new(UInt64Array::from(values)) };
        let rows = windows.len();
        let threshold =
            |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value; rows])) };
        let drifted: BooleanArray =
            figures.iter().map(|figures| Some(figures.drifted(&self.thresholds))).collect();
        RecordBatch::try_new(
            self.schema.clone(),
            vec![
                text(windows.iter().map(|w| self.label(w.length))),
                instant(|w| w.start),
                instant(|w| w.end),
                Arc::new(Int32Array::from(vec![0; rows])),
                Arc::new(BooleanArray::from(vec![true; rows])),
                same(&self.model.name),
                same(&self.model.version),
                text(windows.iter().map(|w| self.names[w.column].as_str())),
                same("exact"),
                same("full"),
                number(windows.iter().map(|w| reference(w).moments.n).collect()),
                number(figures.iter().map(|f| f.current.n).collect()),
                number(figures.iter().map(|f| f.null_count).collect()),
                of_current(|f| null_share(f.null_count, f.current.n)),
                of_reference(|r| null_share(r.null_count, r.moments.n)),
                of_reference(|r| r.moments.mean),
                of_reference(|r| r.moments.std),
                of_current(|f| f.current.mean),
                of_current(|f| f.current.std),
                of_current(|f| f.ks_statistic),
                of_current(|f| f.ks_p_value),
                Arc::new(
                    figures
                        .iter()
                        .map(|f| f.ks_p_value.map(|_| "asymptotic"))
                        .collect::<StringArray>(),
                ),
                of_current(|f| f.mean_shift_sd),
                of_current(|f| f.z_test),
                of_current(|f| f.share_beyond_3),
                threshold(self.thresholds.ks_p_value),
                threshold(self.thresholds.min_effect),
                threshold(self.thresholds.mean_shift_sd),
                threshold(self.thresholds.share_beyond_3),
                Arc::new(drifted),
                same(&self.reference_id),
            ],
        )
    }

    fn label(&self, length: WindowLength) -> &str {
        let found = self.labels.iter().find(|(known, _)| *known == length);
        found.map_or("", |(_, label)| label)
    }
}

fn text<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn null_share(nulls: u64, values: u64) -> Option<f64> {
    let rows = nulls + values;
    (rows > 0).then(|| nulls as f64 / rows as f64)
}

/// Columns of a drift snapshot.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let instant = |name: &str| {
        Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false)
    };
    let count = |name: &str| Field::new(name, DataType::UInt64, false);
    let figure = |name: &str| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        text("window"),
        instant("window_start"),
        instant("window_end"),
        Field::new("revision", DataType::Int32, false),
        Field::new("final", DataType::Boolean, false),
        text("model_name"),
        text("model_version"),
        text("feature"),
        text("mode"),
        text("reference"),
        count("n_reference"),
        count("n_current"),
        count("null_count_current"),
        figure("null_share_current"),
        figure("null_share_reference"),
        figure("mean_reference"),
        figure("std_reference"),
        figure("mean_current"),
        figure("std_current"),
        figure("ks_statistic"),
        figure("ks_p_value"),
        Field::new("p_method", DataType::Utf8, true),
        figure("mean_shift_sd"),
        figure("z_test"),
        figure("share_beyond_3"),
        figure("threshold_ks_p_value"),
        figure("threshold_min_effect"),
        figure("threshold_mean_shift_sd"),
        figure("threshold_share_beyond_3"),
        Field::new("drift_detected", DataType::Boolean, false),
        text("reference_id"),
    ]))
}
