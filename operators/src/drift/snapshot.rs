//! Drift snapshots: one wide row a revision of a window and watched column.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::drift::alarms::{Alarms, Thresholds};
use crate::drift::baseline::ReferenceKind;
use crate::drift::calendar::WindowLength;
use crate::drift::coverage::Coverage;
use crate::drift::figures::{Comparison, Figures, Ks, null_share};
use crate::drift::finals::FinalWindows;
use crate::drift::sample::{Mode, Sample};
use crate::drift::versions::{ByVersion, KnownReference, Versions};
use crate::drift::windows::{Issued, WindowOutput};
use crate::model::{ModelIdentity, ModelsByTime};
use crate::watermark::Span;

/// What turns windows into rows of a snapshot.
#[derive(Clone)]
pub struct SnapshotFormat {
    /// Which model scores which time.
    pub models: Arc<dyn ModelsByTime>,
    /// How each length is written in the job file.
    pub labels: Vec<(WindowLength, String)>,
    /// Of the watched columns.
    pub names: Vec<String>,
    /// What each column is compared with; as the last predictions, of version 0 where there are several.
    pub comparisons: Vec<Arc<Comparison>>,
    /// Whose predictions there are, where they can be of several versions.
    pub versions: Option<Arc<dyn Versions>>,
    pub thresholds: Thresholds,
    pub reference_kind: ReferenceKind,
    /// Identifies the baseline.
    pub reference_id: Arc<str>,
    pub coverage: Coverage,
    /// No other row is made of these.
    pub finals: FinalWindows,
}

type Window = Issued<Figures>;

impl SnapshotFormat {
    /// How samples are to be kept.
    pub fn mode(&self) -> Mode {
        Comparison::mode(&self.comparisons)
    }

    /// What a column is compared with.
    fn reference(&self, column: usize) -> KnownReference {
        let by_version = ByVersion::of(self.comparisons.len());
        match (by_version.version(column), &self.versions) {
            (Some(version), Some(versions)) => versions.reference(version),
            _ => KnownReference {
                comparison: self.comparisons[by_version.shared(column)].clone(),
                kind: self.reference_kind,
                id: self.reference_id.clone(),
            },
        }
    }

    fn name(&self, column: usize) -> &str {
        &self.names[ByVersion::of(self.names.len()).shared(column)]
    }

    /// Which model a window is about: that whose predictions it has; of features that of the last moment,
    /// which lies behind the watermark when a window is issued: who scores it is decided.
    fn model(&self, window: &Window) -> ModelIdentity {
        let version = ByVersion::of(self.names.len()).version(window.column);
        match (version, &self.versions) {
            (Some(version), Some(versions)) => versions.identity(version),
            _ => self.models.at(window.end.saturating_sub(1)),
        }
    }

    fn label(&self, length: WindowLength) -> &str {
        let found = self.labels.iter().find(|(known, _)| *known == length);
        found.map_or("", |(_, label)| label)
    }

    /// Which window of what a row is about.
    fn identity(
        &self,
        windows: &[Window],
        references: &[KnownReference],
        seen: Span,
    ) -> Vec<ArrayRef> {
        let instant = |time: fn(&Window) -> i64| -> ArrayRef {
            let times = TimestampMillisecondArray::from_iter_values(windows.iter().map(time));
            Arc::new(times.with_timezone("UTC"))
        };
        let mode = match self.mode() {
            Mode::Exact => "exact",
            Mode::Profile(_) => "profile",
        };
        let same = |value: &str| text(windows.iter().map(|_| value));
        let models: Vec<ModelIdentity> = windows.iter().map(|w| self.model(w)).collect();
        let is_partial = |w: &Window| self.coverage.is_partial((w.start, w.end), seen);
        vec![
            text(windows.iter().map(|w| self.label(w.length))),
            instant(|w| w.start),
            instant(|w| w.end),
            Arc::new(Int32Array::from_iter_values(windows.iter().map(|w| w.revision))),
            flags(windows.iter().map(|w| w.is_final)),
            flags(windows.iter().map(is_partial)),
            text(models.iter().map(|model| model.name.as_str())),
            text(models.iter().map(|model| model.version.as_str())),
            text(windows.iter().map(|w| self.name(w.column))),
            same(mode),
            text(references.iter().map(|known| known.kind.name())),
        ]
    }

    /// Sizes, moments and distances.
    fn measures(&self, windows: &[Window], references: &[KnownReference]) -> Vec<ArrayRef> {
        let count = |of: &dyn Fn(&Window) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(windows.iter().map(of)))
        };
        let count_of_reference = |of: fn(&Comparison) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(
                references.iter().map(|known| of(&known.comparison)),
            ))
        };
        let of_reference = |figure: fn(&Comparison) -> Option<f64>| {
            figures(references.iter().map(|known| figure(&known.comparison)))
        };
        let of_current = |figure: fn(&Figures) -> Option<f64>| {
            figures(windows.iter().map(|w| figure(&w.figures)))
        };
        let of_test = |figure: fn(&Ks) -> f64| {
            figures(windows.iter().map(|w| w.figures.ks.as_ref().map(figure)))
        };
        let methods = windows.iter().map(|w| w.figures.ks.map(|ks| ks.method.name()));
        vec![
            count_of_reference(|reference| reference.moments.n),
            count(&|w| w.figures.current.n),
            count(&|w| w.figures.null_count),
            of_current(|f| null_share(f.null_count, f.current.n)),
            of_reference(|r| null_share(r.null_count, r.moments.n)),
            of_current(|f| f.null_share_z),
            count_of_reference(|reference| reference.moments.infinite),
            count(&|w| w.figures.current.infinite),
            of_reference(|r| r.moments.mean),
            of_reference(|r| r.moments.std),
            of_current(|f| f.current.mean),
            of_current(|f| f.current.std),
            of_test(|ks| ks.statistic),
            of_test(|ks| ks.error_bound),
            of_test(|ks| ks.p_value),
            Arc::new(methods.collect::<StringArray>()),
            of_current(|f| f.mean_shift_sd),
            of_current(|f| f.z_test),
            of_current(|f| f.share_beyond_3),
            of_current(|f| f.share_out_of_range),
            of_current(|f| f.out_of_range_p_value),
        ]
    }

    /// Thresholds, and what they say.
    fn verdict(&self, windows: &[Window], references: &[KnownReference]) -> Vec<ArrayRef> {
        let Thresholds { min_rows, ks_p_value, min_effect, .. } = self.thresholds;
        let Thresholds { mean_shift_sd, z_test, share_beyond_3, .. } = self.thresholds;
        let Thresholds { share_out_of_range, null_share, .. } = self.thresholds;
        let min_effect = ks_p_value.map(|_| min_effect);
        let thresholds = [
            ks_p_value,
            min_effect,
            mean_shift_sd,
            z_test,
            share_beyond_3,
            share_out_of_range,
            null_share,
        ];
        let both = || windows.iter().zip(references);
        let alarms = both().map(|(w, known)| self.thresholds.alarms(&known.comparison, &w.figures));
        let alarms: Vec<Alarms> = alarms.collect();
        let alarm = |is_raised: fn(&Alarms) -> bool| flags(alarms.iter().map(is_raised));
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(UInt64Array::from_value(min_rows, windows.len()))];
        columns.extend(thresholds.map(|threshold| figures(windows.iter().map(|_| threshold))));
        columns.extend([
            flags(both().map(|(w, known)| self.thresholds.judges(&known.comparison, &w.figures))),
            alarm(|a| a.ks),
            alarm(|a| a.mean_shift),
            alarm(|a| a.z_test),
            alarm(|a| a.share_beyond_3),
            alarm(|a| a.out_of_range),
            alarm(|a| a.null_share),
            alarm(Alarms::any),
            text(references.iter().map(|known| &*known.id)),
        ]);
        columns
    }
}

impl WindowOutput for SnapshotFormat {
    type Figures = Figures;

    fn figures(&self, column: usize, sample: &Sample, null_count: u64) -> Figures {
        self.reference(column).comparison.figures(sample, null_count)
    }

    fn versions(&self) -> Option<Arc<dyn Versions>> {
        self.versions.clone()
    }

    fn batch(&self, windows: &[Window], seen: Span) -> Result<RecordBatch, ArrowError> {
        let has_final =
            |w: &Window| self.finals.has(self.label(w.length), self.name(w.column), w.start);
        let open: Vec<Window>;
        let windows = if windows.iter().any(has_final) {
            open = windows.iter().filter(|window| !has_final(window)).cloned().collect();
            self.finals.leave_out(windows.len() - open.len());
            &open
        } else {
            windows
        };
        let references: Vec<_> = windows.iter().map(|w| self.reference(w.column)).collect();
        let columns = [
            self.identity(windows, &references, seen),
            self.measures(windows, &references),
            self.verdict(windows, &references),
        ]
        .concat();
        RecordBatch::try_new(schema(), columns)
    }
}

fn text<'a>(values: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn figures(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

fn flags(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

/// Columns of a drift snapshot.
pub fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let flag = |name: &str| Field::new(name, DataType::Boolean, false);
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
        flag("final"),
        // Of a window that the run may have seen only a part of.
        flag("partial"),
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
        figure("null_share_z"),
        count("n_infinite_reference"),
        count("n_infinite_current"),
        figure("mean_reference"),
        figure("std_reference"),
        figure("mean_current"),
        figure("std_current"),
        figure("ks_statistic"),
        figure("ks_error_bound"),
        figure("ks_p_value"),
        Field::new("p_method", DataType::Utf8, true),
        figure("mean_shift_sd"),
        figure("z_test"),
        figure("share_beyond_3"),
        figure("share_out_of_range"),
        figure("out_of_range_p_value"),
        count("min_rows"),
        figure("threshold_ks_p_value"),
        figure("threshold_min_effect"),
        figure("threshold_mean_shift_sd"),
        figure("threshold_z_test"),
        figure("threshold_share_beyond_3"),
        figure("threshold_share_out_of_range"),
        figure("threshold_null_share"),
        // Whether there were enough values for a verdict on them.
        flag("judged"),
        flag("drift_ks"),
        flag("drift_mean_shift"),
        flag("drift_z_test"),
        flag("drift_share_beyond_3"),
        flag("drift_out_of_range"),
        flag("drift_null_share"),
        flag("drift_detected"),
        text("reference_id"),
    ]))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::drift::baseline::Reference;
    use crate::drift::runs::Runs;

    /// One that is switched at a time.
    struct Switched(i64);

    impl ModelsByTime for Switched {
        fn at(&self, time: i64) -> ModelIdentity {
            let version = if time >= self.0 { "2" } else { "1" };
            ModelIdentity { name: "m".to_owned(), version: version.to_owned() }
        }
    }

    #[test]
    fn a_window_is_about_the_model_of_its_last_moment() {
        let reference = Reference::new(Runs::from_values(vec![1.0, 2.0, 3.0]), 0);
        let length = WindowLength::Millis(10);
        let format = SnapshotFormat {
            models: Arc::new(Switched(25)),
            labels: vec![(length, "10ms".to_owned())],
            names: vec!["a".to_owned()],
            comparisons: vec![Arc::new(Comparison::exact(&reference))],
            thresholds: Thresholds::default(),
            reference_kind: ReferenceKind::Full,
            reference_id: "".into(),
            versions: None,
            coverage: Coverage::ALL,
            finals: FinalWindows::default(),
        };
        let sample = Sample::Exact(Runs::from_values(vec![2.0]));
        let window = |start| Issued {
            length,
            start,
            end: length.end(start),
            column: 0,
            revision: 0,
            is_final: true,
            figures: format.figures(0, &sample, 0),
        };
        let rows = format.batch(&[0, 10, 20, 30].map(window), Span::NONE).unwrap();
        let versions = rows["model_version"].as_string::<i32>();
        let versions: Vec<&str> = (0..versions.len()).map(|row| versions.value(row)).collect();
        // [20, 30) began before the switch.
        assert_eq!(versions, ["1", "1", "2", "2"]);
    }
}
