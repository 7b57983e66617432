//! Alerts: what exceeds a threshold of the job, a row each.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit,
    TimestampMillisecondType, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use crate::drift::versions::Versions;
use crate::layout::{OFFSET, PARTITION};
use crate::model::ModelIdentity;
use crate::prediction::SCORE;
use crate::watched::{PREDICTION, Watched};

/// What an alert is about. The names appear in the `kind` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A score is over `score_over`.
    Score,
    /// A value of one event is more than `z_over` standard deviations of the reference from its mean.
    /// Infinite values always are, and their z is as infinite.
    ZScore,
    /// The p-value of a window's Kolmogorov–Smirnov test is under `ks_p_under`, and the window has
    /// enough values for a verdict.
    Ks,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Score, Kind::ZScore, Kind::Ks];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Score => "score",
            Kind::ZScore => "z_score",
            Kind::Ks => "ks",
        }
    }
}

/// When an alert is raised.
#[derive(Clone)]
pub struct AlertRules {
    pub score_over: Option<f64>,
    pub z_over: f64,
    pub ks_p_under: f64,
    /// Names of the watched columns, and mean and standard deviation of the reference where both are
    /// known and the latter is not 0.
    pub columns: Vec<(String, Option<(f64, f64)>)>,
    /// What predictions of other versions than the first are compared with, where there can be any.
    pub versions: Option<Arc<dyn Versions>>,
}

/// Columns of an alert.
pub static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let number = |name, nullable| Field::new(name, DataType::Float64, nullable);
    let instant = |name| {
        Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true)
    };
    Arc::new(Schema::new(vec![
        text("kind", false),
        text("model_name", false),
        text("model_version", false),
        text("feature", false),
        // The score, the value of the feature, or the p-value.
        number("value", false),
        // z, or the KS statistic.
        number("statistic", true),
        number("threshold", false),
        text("event_id", true),
        text("key", true),
        instant("event_time"),
        text("window", true),
        instant("window_start"),
        instant("window_end"),
        // The record that it is told of, for what is settled with it; no part of what is told.
        Field::new(PARTITION, DataType::UInt32, true),
        Field::new(OFFSET, DataType::UInt64, true),
    ]))
});

/// Scores over a threshold, by row.
fn over(scores: &ArrayRef, threshold: f64) -> Vec<(usize, f64)> {
    let is_over = |(_, score): &(usize, f64)| *score > threshold;
    match scores.as_primitive_opt::<Float64Type>() {
        Some(doubles) => doubles.values().iter().copied().enumerate().filter(is_over).collect(),
        None => {
            let floats = scores.as_primitive::<Float32Type>().values().iter();
            floats.map(|&score| f64::from(score)).enumerate().filter(is_over).collect()
        }
    }
}

impl AlertRules {
    /// Alerts of rows that a model has scored, which is a version of the run: `predictions` and `watched` have the same rows.
    ///
    /// # Errors
    /// If a column is not what it should be.
    pub fn of_rows(
        &self,
        (model, version): (&ModelIdentity, usize),
        predictions: &RecordBatch,
        watched: &RecordBatch,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let mut alerts = Alerts::default();
        let of_event = |row| Event { predictions, row };
        if let Some(threshold) = self.score_over {
            for (row, value) in over(predictions.column(SCORE), threshold) {
                let raised = Raised {
                    kind: Kind::Score,
                    model: (&model.name, &model.version),
                    feature: PREDICTION,
                    value,
                    statistic: None,
                    threshold,
                };
                alerts.of_event(raised, of_event(row))?;
            }
        }
        for (at, (name, reference)) in self.columns.iter().enumerate() {
            let Some((mean, std)) = self.reference(name, *reference, version) else { continue };
            let threshold = self.z_over;
            let values = watched.column(Watched::FIRST + at).as_primitive::<Float64Type>();
            let (low, high) = (mean - threshold * std, mean + threshold * std);
            for row in beyond(values, low, high) {
                let value = values.value(row);
                let raised = Raised {
                    kind: Kind::ZScore,
                    model: (&model.name, &model.version),
                    feature: name,
                    value,
                    statistic: Some((value - mean) / std),
                    threshold,
                };
                alerts.of_event(raised, of_event(row))?;
            }
        }
        alerts.finish()
    }

    /// Mean and deviation that values of a column are compared with: `first` with version 0.
    fn reference(
        &self,
        name: &str,
        first: Option<(f64, f64)>,
        version: usize,
    ) -> Option<(f64, f64)> {
        match &self.versions {
            Some(versions) if version > 0 && name == PREDICTION => {
                versions.reference(version).comparison.moments.unit()
            }
            _ => first,
        }
    }

    /// Alerts of drift snapshots.
    ///
    /// # Errors
    /// If a column is not what it should be.
    pub fn of_snapshots(&self, snapshots: &RecordBatch) -> Result<Option<RecordBatch>, ArrowError> {
        let threshold = self.ks_p_under;
        let column = |name: &str| {
            let missing = || ArrowError::SchemaError(format!("snapshots have no {name}"));
            snapshots.column_by_name(name).ok_or_else(missing)
        };
        let numbers = |name: &str| Ok::<_, ArrowError>(column(name)?.as_primitive::<Float64Type>());
        let texts = |name: &str| Ok::<_, ArrowError>(column(name)?.as_string::<i32>());
        let instants = |name: &str| {
            Ok::<_, ArrowError>(column(name)?.as_primitive::<TimestampMillisecondType>())
        };
        let (p_values, statistics) = (numbers("ks_p_value")?, numbers("ks_statistic")?);
        let judged = column("judged")?.as_boolean();
        let (features, windows) = (texts("feature")?, texts("window")?);
        let (names, versions) = (texts("model_name")?, texts("model_version")?);
        let (starts, ends) = (instants("window_start")?, instants("window_end")?);
        let mut alerts = Alerts::default();
        for row in 0..snapshots.num_rows() {
            if judged.value(row) && p_values.is_valid(row) && p_values.value(row) < threshold {
                let raised = Raised {
                    kind: Kind::Ks,
                    model: (names.value(row), versions.value(row)),
                    feature: features.value(row),
                    value: p_values.value(row),
                    statistic: statistics.is_valid(row).then(|| statistics.value(row)),
                    threshold,
                };
                alerts.of_window(raised, windows.value(row), starts.value(row), ends.value(row));
            }
        }
        alerts.finish()
    }
}

/// The rows whose value is neither null nor within the bounds.
fn beyond(values: &Float64Array, low: f64, high: f64) -> impl Iterator<Item = usize> + '_ {
    let outside = move |value: f64| value < low || value > high;
    let rows = values.values().iter().enumerate();
    rows.filter(move |(row, value)| outside(**value) && values.is_valid(*row)).map(|(row, _)| row)
}

struct Raised<'a> {
    kind: Kind,
    /// Name and version of the model that it is about.
    model: (&'a str, &'a str),
    feature: &'a str,
    value: f64,
    statistic: Option<f64>,
    threshold: f64,
}

struct Event<'a> {
    predictions: &'a RecordBatch,
    row: usize,
}

/// Room for alerts that is made with the first of them.
const ALERTS: usize = 16;
/// Bytes that their texts have room for.
const BYTES: usize = 1_024;

/// Alerts of a batch. Nearly always there are none: until there is one, there are no columns.
#[derive(Default)]
struct Alerts(Option<Box<Columns>>);

/// Columns of [`SCHEMA`] that grow.
struct Columns {
    kind: StringBuilder,
    model_name: StringBuilder,
    model_version: StringBuilder,
    feature: StringBuilder,
    value: Float64Builder,
    statistic: Float64Builder,
    threshold: Float64Builder,
    event_id: StringBuilder,
    key: StringBuilder,
    event_time: TimestampMillisecondBuilder,
    window: StringBuilder,
    window_start: TimestampMillisecondBuilder,
    window_end: TimestampMillisecondBuilder,
    partition: UInt32Builder,
    offset: UInt64Builder,
}

impl Columns {
    fn new() -> Self {
        let texts = || StringBuilder::with_capacity(ALERTS, BYTES);
        let numbers = || Float64Builder::with_capacity(ALERTS);
        let instants = || TimestampMillisecondBuilder::with_capacity(ALERTS).with_timezone("UTC");
        Columns {
            kind: texts(),
            model_name: texts(),
            model_version: texts(),
            feature: texts(),
            value: numbers(),
            statistic: numbers(),
            threshold: numbers(),
            event_id: texts(),
            key: texts(),
            event_time: instants(),
            window: texts(),
            window_start: instants(),
            window_end: instants(),
            partition: UInt32Builder::with_capacity(ALERTS),
            offset: UInt64Builder::with_capacity(ALERTS),
        }
    }
}

impl Alerts {
    fn raise(&mut self, raised: Raised) -> &mut Columns {
        let columns = self.0.get_or_insert_with(|| Box::new(Columns::new()));
        columns.kind.append_value(raised.kind.name());
        columns.model_name.append_value(raised.model.0);
        columns.model_version.append_value(raised.model.1);
        columns.feature.append_value(raised.feature);
        columns.value.append_value(raised.value);
        columns.statistic.append_option(raised.statistic);
        columns.threshold.append_value(raised.threshold);
        columns
    }

    fn of_event(&mut self, raised: Raised, event: Event) -> Result<(), ArrowError> {
        let columns = self.raise(raised);
        let cell = |column: usize| event.predictions.column(column).slice(event.row, 1);
        columns.event_id.append_value(cell(0).as_string::<i32>().value(0));
        let key = cast(&cell(1), &DataType::Utf8)?;
        let key = key.as_string::<i32>();
        columns.key.append_option(key.is_valid(0).then(|| key.value(0)));
        columns
            .event_time
            .append_value(cell(2).as_primitive::<TimestampMillisecondType>().value(0));
        columns.window.append_null();
        columns.window_start.append_null();
        columns.window_end.append_null();
        let origin = [PARTITION, OFFSET].map(|name| event.predictions.column_by_name(name));
        let [partition, offset] = origin;
        let partition =
            partition.map(|column| column.as_primitive::<UInt32Type>().value(event.row));
        let offset = offset.map(|column| column.as_primitive::<UInt64Type>().value(event.row));
        columns.partition.append_option(partition);
        columns.offset.append_option(offset);
        Ok(())
    }

    fn of_window(&mut self, raised: Raised, window: &str, start: i64, end: i64) {
        let columns = self.raise(raised);
        columns.event_id.append_null();
        columns.key.append_null();
        columns.event_time.append_null();
        columns.window.append_value(window);
        columns.window_start.append_value(start);
        columns.window_end.append_value(end);
        columns.partition.append_null();
        columns.offset.append_null();
    }

    fn finish(self) -> Result<Option<RecordBatch>, ArrowError> {
        let Some(mut made) = self.0 else { return Ok(None) };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(made.kind.finish()),
            Arc::new(made.model_name.finish()),
            Arc::new(made.model_version.finish()),
            Arc::new(made.feature.finish()),
            Arc::new(made.value.finish()),
            Arc::new(made.statistic.finish()),
            Arc::new(made.threshold.finish()),
            Arc::new(made.event_id.finish()),
            Arc::new(made.key.finish()),
            Arc::new(made.event_time.finish()),
            Arc::new(made.window.finish()),
            Arc::new(made.window_start.finish()),
            Arc::new(made.window_end.finish()),
            Arc::new(made.partition.finish()),
            Arc::new(made.offset.finish()),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BooleanArray, Float32Array, Int64Array, StringArray, TimestampMillisecondArray,
    };

    use super::*;

    fn model() -> ModelIdentity {
        ModelIdentity { name: "m".to_owned(), version: "3".to_owned() }
    }

    fn rules() -> AlertRules {
        AlertRules {
            score_over: Some(0.5),
            z_over: 3.0,
            ks_p_under: 0.05,
            columns: vec![
                ("x".to_owned(), Some((10.0, 2.0))),
                ("y".to_owned(), None),
                (PREDICTION.to_owned(), None),
            ],
            versions: None,
        }
    }

    /// A batch whose first columns are those of a prediction.
    fn predictions(scores: &[f32]) -> RecordBatch {
        let rows = scores.len();
        let none: ArrayRef = Arc::new(StringArray::new_null(rows));
        let times = TimestampMillisecondArray::from_iter_values(0..rows as i64);
        let ids = StringArray::from_iter_values((0..rows).map(|row| format!("e{row}")));
        let columns: Vec<(String, ArrayRef)> = vec![
            ("event_id".to_owned(), Arc::new(ids)),
            ("key".to_owned(), Arc::new(Int64Array::from_iter_values(7..7 + rows as i64))),
            ("event_time".to_owned(), Arc::new(times.with_timezone("UTC"))),
        ];
        let between = (3..SCORE).map(|at| (format!("c{at}"), none.clone()));
        let scores: ArrayRef = Arc::new(Float32Array::from(scores.to_vec()));
        let columns = columns.into_iter().chain(between).chain([("score".to_owned(), scores)]);
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap()
    }

    fn watched(x: &[Option<f64>]) -> RecordBatch {
        let rows = x.len();
        let far: ArrayRef = Arc::new(Float64Array::from(vec![1e9; rows]));
        let columns: [(&str, ArrayRef); 5] = [
            ("time", Arc::new(Int64Array::from(vec![0; rows]))),
            ("late", Arc::new(BooleanArray::from(vec![false; rows]))),
            ("x", Arc::new(Float64Array::from(x.to_vec()))),
            ("y", far.clone()),
            ("prediction", far),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn what_is_over_a_threshold_is_told_and_what_is_at_it_is_not() {
        let x = [Some(16.0), Some(16.1), Some(3.9), None, Some(f64::NAN)];
        let alerts =
            rules().of_rows((&model(), 0), &predictions(&[0.5, 0.6, 0.1, 0.2, 0.3]), &watched(&x));
        let alerts = alerts.unwrap().unwrap();
        let texts = |name: &str| {
            let column = alerts.column_by_name(name).unwrap().as_string::<i32>();
            column.iter().map(|text| text.unwrap_or("-").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts("kind"), ["score", "z_score", "z_score"]);
        assert_eq!(texts("feature"), ["prediction", "x", "x"]);
        assert_eq!(texts("event_id"), ["e1", "e1", "e2"]);
        assert_eq!(texts("key"), ["8", "8", "9"]);
        let z = alerts.column_by_name("statistic").unwrap().as_primitive::<Float64Type>();
        assert!(
            z.is_null(0) && (z.value(1) - 3.05).abs() < 1e-9 && (z.value(2) + 3.05).abs() < 1e-9
        );
        let none =
            rules().of_rows((&model(), 0), &predictions(&[0.5]), &watched(&[Some(10.0)])).unwrap();
        assert!(none.is_none());
    }

    #[test]
    fn an_infinite_value_is_infinitely_far_off() {
        let x = [Some(f64::INFINITY), Some(10.0), Some(f64::NEG_INFINITY)];
        let alerts =
            rules().of_rows((&model(), 0), &predictions(&[0.1; 3]), &watched(&x)).unwrap().unwrap();
        for name in ["value", "statistic"] {
            let found = alerts.column_by_name(name).unwrap().as_primitive::<Float64Type>();
            assert_eq!(found.values(), &[f64::INFINITY, f64::NEG_INFINITY], "{name}");
        }
        assert_eq!(alerts.column_by_name("kind").unwrap().as_string::<i32>().value(0), "z_score");
    }

    #[test]
    fn windows_with_a_small_p_value_are_told() {
        let instants = |millis: i64| -> ArrayRef {
            Arc::new(TimestampMillisecondArray::from(vec![millis; 4]).with_timezone("UTC"))
        };
        let numbers = |values: [Option<f64>; 4]| -> ArrayRef {
            Arc::new(Float64Array::from(values.to_vec()))
        };
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; 4])) };
        let columns: [(&str, ArrayRef); 9] = [
            ("model_name", text("m")),
            ("model_version", text("8")),
            ("window", Arc::new(StringArray::from(vec!["1d"; 4]))),
            ("window_start", instants(0)),
            ("window_end", instants(86_400_000)),
            ("feature", Arc::new(StringArray::from(vec!["x", "y", "z", "few"]))),
            ("ks_p_value", numbers([Some(0.049), Some(0.05), None, Some(0.001)])),
            ("ks_statistic", numbers([Some(0.3), Some(0.2), None, Some(0.9)])),
            ("judged", Arc::new(BooleanArray::from(vec![true, true, true, false]))),
        ];
        let snapshots = RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, column)| (name, column, true)),
        );
        let alerts = rules().of_snapshots(&snapshots.unwrap()).unwrap().unwrap();
        assert_eq!(alerts.num_rows(), 1);
        let number = |name: &str| {
            alerts.column_by_name(name).unwrap().as_primitive::<Float64Type>().value(0)
        };
        assert_eq!((number("value"), number("statistic"), number("threshold")), (0.049, 0.3, 0.05));
        let end = alerts.column_by_name("window_end").unwrap();
        assert_eq!(end.as_primitive::<TimestampMillisecondType>().value(0), 86_400_000);
        assert!(alerts.column_by_name("event_id").unwrap().is_null(0));
        // Of the model that the window is about.
        assert_eq!(
            alerts.column_by_name("model_version").unwrap().as_string::<i32>().value(0),
            "8"
        );
    }
}
