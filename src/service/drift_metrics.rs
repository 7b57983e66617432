//! The last drift figures of each feature and window length, and how many alerts were told, as metrics.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMillisecondType};
use driftline_operators::alert::Kind;
use driftline_operators::model::ModelIdentity;
use driftline_operators::sinks::Sink;
use prometheus::proto::MetricType;

use super::metrics::{Family, Labels};
use crate::sinks::overheard::{Listener, Overheard};

/// Filled by the sinks of all workers.
#[derive(Clone, Default)]
pub struct DriftMetrics {
    last: Arc<Mutex<BTreeMap<Series, Last>>>,
    /// Empty where alerts go nowhere.
    alerts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

/// There are as many as features times window lengths, however long a run takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    feature: String,
    /// As the job writes its length.
    window: String,
}

/// What a snapshot says of a window.
#[derive(Clone, Debug, PartialEq)]
struct Last {
    /// That it is about.
    model: ModelIdentity,
    end_ms: i64,
    revision: i32,
    ks_statistic: Option<f64>,
    ks_p_value: Option<f64>,
    mean_shift_sd: Option<f64>,
    is_judged: bool,
    is_detected: bool,
}

fn as_number(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

/// Keeps `last`, unless a later window or a newer revision of the same is known: a revision of an
/// older window comes after windows that are newer.
fn keep(all: &mut BTreeMap<Series, Last>, series: Series, last: Last) {
    match all.entry(series) {
        Entry::Vacant(free) => drop(free.insert(last)),
        Entry::Occupied(mut known) => {
            let at = |last: &Last| (last.end_ms, last.revision);
            if at(&last) > at(known.get()) {
                known.insert(last);
            }
        }
    }
}

impl DriftMetrics {
    /// `sink`, whose snapshots are shown here when they are durable.
    pub fn watch_snapshots(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        let listener =
            Snapshots { metrics: self.clone(), undurable: VecDeque::new(), durable_rows: 0 };
        Box::new(Overheard::new(sink, listener))
    }

    /// `sink`, whose alerts are counted here when they are handed over.
    pub fn watch_alerts(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        let mut alerts = self.alerts();
        for kind in Kind::ALL {
            alerts.entry(kind.name()).or_default();
        }
        drop(alerts);
        Box::new(Overheard::new(sink, AlertCounts(self.clone())))
    }

    fn last(&self) -> MutexGuard<'_, BTreeMap<Series, Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alerts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn families(&self) -> Vec<Family> {
        const LABELS: Labels = &["model", "version", "feature", "window"];
        let last = self.last().clone();
        let gauge = |name, help, figure: fn(&Last) -> Option<f64>| {
            let values = last.iter().filter_map(|(Series { feature, window }, last)| {
                let labels = [&last.model.name, &last.model.version, feature, window];
                Some((labels.map(String::clone).to_vec(), figure(last)?))
            });
            Family::new(MetricType::GAUGE)(name, help, LABELS, values.collect())
        };
        let alerts = self.alerts().clone().into_iter();
        let alerts = alerts.map(|(kind, count)| (vec![kind.to_owned()], count as f64)).collect();
        vec![
            gauge(
                "driftline_drift_ks_statistic",
                "Kolmogorov-Smirnov statistic of the last window; absent without values.",
                |last| last.ks_statistic,
            ),
            gauge(
                "driftline_drift_ks_p_value",
                "P-value of that; absent without values.",
                |last| last.ks_p_value,
            ),
            gauge(
                "driftline_drift_mean_shift_sd",
                "How far the mean of the last window is off, in standard deviations of the reference.",
                |last| last.mean_shift_sd,
            ),
            gauge(
                "driftline_drift_judged",
                "Whether the last window has enough values for a verdict on them.",
                |last| Some(as_number(last.is_judged)),
            ),
            gauge("driftline_drift_detected", "Whether the last window has drifted.", |last| {
                Some(as_number(last.is_detected))
            }),
            gauge(
                "driftline_drift_window_end_seconds",
                "The end of the last window in event time, in seconds since 1970.",
                |last| Some(last.end_ms as f64 / 1e3),
            ),
            Family::new(MetricType::COUNTER)(
                "driftline_drift_alerts_total",
                "Alerts that were handed over.",
                &["kind"],
                alerts,
            ),
        ]
    }
}

/// Listens to one worker's sink of snapshots.
struct Snapshots {
    metrics: DriftMetrics,
    /// The last of each batch, with the number of its rows.
    undurable: VecDeque<(u64, BTreeMap<Series, Last>)>,
    /// Of rows in front of `undurable`.
    durable_rows: u64,
}

impl Listener for Snapshots {
    fn taken(&mut self, batch: &RecordBatch) {
        let last = last_of(batch).unwrap_or_default();
        self.undurable.push_back((batch.num_rows() as u64, last));
    }

    fn durable(&mut self, rows: u64, _refused: u64) {
        self.durable_rows += rows;
        while let Some((rows, last)) =
            self.undurable.pop_front_if(|(rows, _)| *rows <= self.durable_rows)
        {
            self.durable_rows -= rows;
            let mut all = self.metrics.last();
            last.into_iter().for_each(|(series, last)| keep(&mut all, series, last));
        }
    }
}

/// What is last of each series in a batch of snapshots; `None` if a column is missing.
fn last_of(snapshots: &RecordBatch) -> Option<BTreeMap<Series, Last>> {
    let text = |name| snapshots.column_by_name(name)?.as_string_opt::<i32>();
    let flag = |name| snapshots.column_by_name(name)?.as_boolean_opt();
    let number = |name| snapshots.column_by_name(name)?.as_primitive_opt::<Float64Type>();
    let (features, windows) = (text("feature")?, text("window")?);
    let (names, versions) = (text("model_name")?, text("model_version")?);
    let ends = snapshots.column_by_name("window_end")?;
    let ends = ends.as_primitive_opt::<TimestampMillisecondType>()?;
    let revisions = snapshots.column_by_name("revision")?.as_primitive_opt::<Int32Type>()?;
    let (statistics, p_values) = (number("ks_statistic")?, number("ks_p_value")?);
    let shifts = number("mean_shift_sd")?;
    let (judged, detected) = (flag("judged")?, flag("drift_detected")?);
    let mut all = BTreeMap::new();
    for row in 0..snapshots.num_rows() {
        let figure = |figures: &PrimitiveArray<Float64Type>| {
            figures.is_valid(row).then(|| figures.value(row))
        };
        let (name, version) = (names.value(row).to_owned(), versions.value(row).to_owned());
        let last = Last {
            model: ModelIdentity { name, version },
            end_ms: ends.value(row),
            revision: revisions.value(row),
            ks_statistic: figure(statistics),
            ks_p_value: figure(p_values),
            mean_shift_sd: figure(shifts),
            is_judged: judged.value(row),
            is_detected: detected.value(row),
        };
        let (feature, window) = (features.value(row).to_owned(), windows.value(row).to_owned());
        keep(&mut all, Series { feature, window }, last);
    }
    Some(all)
}

struct AlertCounts(DriftMetrics);

impl Listener for AlertCounts {
    fn taken(&mut self, batch: &RecordBatch) {
        let kinds = batch.column_by_name("kind").and_then(|kinds| kinds.as_string_opt::<i32>());
        let mut alerts = self.0.alerts();
        for kind in kinds.into_iter().flat_map(|kinds| kinds.iter().flatten()) {
            if let Some(count) = alerts.get_mut(kind) {
                *count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int32Array, StringArray, TimestampMillisecondArray,
    };
    use driftline_operators::sinks::SinkError;

    use super::*;

    /// Makes rows durable when it is told to.
    #[derive(Clone, Default)]
    struct Told(Rc<Cell<u64>>);

    impl Sink for Told {
        fn write(&mut self, _batch: &RecordBatch) -> Result<(), SinkError> {
            Ok(())
        }

        fn durable_rows(&mut self) -> u64 {
            self.0.take()
        }

        fn finish(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    /// Of a worker: its sink as it is watched, and what tells it.
    fn worker(metrics: &DriftMetrics) -> (Box<dyn Sink>, Told) {
        let told = Told::default();
        (metrics.watch_snapshots(Box::new(told.clone())), told)
    }

    fn write(of: &mut (Box<dyn Sink>, Told), rows: &[Row]) {
        of.0.write(&snapshots(rows)).unwrap();
        of.1.0.set(rows.len() as u64);
        assert_eq!(of.0.durable_rows(), rows.len() as u64);
    }

    /// Feature, end, revision, and the statistic, which the other figures follow from.
    type Row = (&'static str, i64, i32, Option<f64>);

    fn snapshots(rows: &[Row]) -> RecordBatch {
        let figures = |of: fn(f64) -> f64| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.3.map(of)).collect::<Float64Array>())
        };
        let flags = |is_set: fn(f64) -> bool| -> ArrayRef {
            let flags = rows.iter().map(|row| Some(row.3.is_some_and(is_set)));
            Arc::new(flags.collect::<BooleanArray>())
        };
        let ends = rows.iter().map(|row| row.1);
        let ends = TimestampMillisecondArray::from_iter_values(ends).with_timezone("UTC");
        let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows.len()])) };
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("model_name", same("m")),
            ("model_version", same("3")),
            ("feature", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
            ("window", Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "1d")))),
            ("window_end", Arc::new(ends)),
            ("revision", Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.2)))),
            ("ks_statistic", figures(|statistic| statistic)),
            ("ks_p_value", figures(|statistic| 1.0 - statistic)),
            ("mean_shift_sd", figures(|statistic| statistic * -10.0)),
            ("judged", flags(|_| true)),
            ("drift_detected", flags(|statistic| statistic > 0.5)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// The values of a metric, by the feature.
    fn shown(metrics: &DriftMetrics, name: &str) -> Vec<(String, f64)> {
        let families = metrics.families();
        let family = families.into_iter().find(|family| family.name.ends_with(name)).unwrap();
        let of_labels = |(labels, value): (Vec<String>, f64)| {
            assert_eq!(
                (&labels[..2], &labels[3]),
                (&["m", "3"].map(str::to_owned)[..], &"1d".to_owned())
            );
            (labels[2].clone(), value)
        };
        family.values.into_iter().map(of_labels).collect()
    }

    fn wanted<const N: usize>(values: [(&str, f64); N]) -> Vec<(String, f64)> {
        values.map(|(feature, value)| (feature.to_owned(), value)).to_vec()
    }

    #[test]
    fn the_window_with_the_latest_end_is_shown_in_its_newest_revision() {
        let metrics = DriftMetrics::default();
        let (mut first, mut second) = (worker(&metrics), worker(&metrics));
        write(&mut first, &[("a", 1_000, 0, Some(0.1)), ("a", 2_500, 0, Some(0.2))]);
        write(&mut second, &[("b", 1_000, 0, Some(0.7))]);
        let statistics = || shown(&metrics, "ks_statistic");
        assert_eq!(statistics(), wanted([("a", 0.2), ("b", 0.7)]));
        // A late revision of an older window, alone and together with one of the last.
        write(&mut first, &[("a", 1_000, 1, Some(0.3))]);
        assert_eq!(statistics(), wanted([("a", 0.2), ("b", 0.7)]));
        write(&mut first, &[("a", 2_500, 1, Some(0.4)), ("a", 1_000, 7, Some(0.3))]);
        assert_eq!(statistics(), wanted([("a", 0.4), ("b", 0.7)]));
        assert_eq!(shown(&metrics, "ks_p_value"), wanted([("a", 0.6), ("b", 1.0 - 0.7)]));
        assert_eq!(shown(&metrics, "mean_shift_sd"), wanted([("a", -4.0), ("b", -7.0)]));
        assert_eq!(shown(&metrics, "detected"), wanted([("a", 0.0), ("b", 1.0)]));
        assert_eq!(shown(&metrics, "end_seconds"), wanted([("a", 2.5), ("b", 1.0)]));
        // Whichever worker tells it.
        write(&mut second, &[("a", 2_000, 9, Some(0.5)), ("b", -5_000, 3, Some(0.5))]);
        assert_eq!(statistics(), wanted([("a", 0.4), ("b", 0.7)]));
        write(&mut second, &[("a", 3_000, 0, Some(0.6))]);
        assert_eq!(statistics(), wanted([("a", 0.6), ("b", 0.7)]));
    }

    #[test]
    fn figures_that_the_last_window_lacks_are_not_those_of_the_one_before() {
        let metrics = DriftMetrics::default();
        let mut of = worker(&metrics);
        write(&mut of, &[("a", 1_000, 0, Some(0.9))]);
        write(&mut of, &[("a", 2_000, 0, None)]);
        for name in ["ks_statistic", "ks_p_value", "mean_shift_sd"] {
            assert_eq!(shown(&metrics, name), wanted([]), "{name}");
        }
        for name in ["judged", "detected"] {
            assert_eq!(shown(&metrics, name), wanted([("a", 0.0)]), "{name}");
        }
        assert_eq!(shown(&metrics, "end_seconds"), wanted([("a", 2.0)]));
    }

    #[test]
    fn what_is_not_durable_is_not_shown() {
        let metrics = DriftMetrics::default();
        let (mut sink, told) = worker(&metrics);
        for (end, rows) in [(1_000, 2), (2_000, 0), (3_000, 3)] {
            let rows = vec![("a", end, 0, Some(end as f64 / 1e4)); rows];
            sink.write(&snapshots(&rows)).unwrap();
        }
        let mut after = |rows| {
            told.0.set(rows);
            sink.durable_rows();
            shown(&metrics, "ks_statistic")
        };
        assert_eq!([after(0), after(1)], [wanted([]), wanted([])]);
        assert_eq!([after(1), after(2)], [wanted([("a", 0.1)]), wanted([("a", 0.1)])]);
        assert_eq!(after(1), wanted([("a", 0.3)]));
    }

    #[test]
    fn there_are_never_more_series_than_features_and_lengths() {
        let metrics = DriftMetrics::default();
        let mut of = worker(&metrics);
        for end in 0..1_000 {
            write(&mut of, &[("a", end, 0, Some(0.1)), ("b", end, 0, Some(0.2))]);
        }
        assert_eq!(shown(&metrics, "end_seconds"), wanted([("a", 0.999), ("b", 0.999)]));
        assert_eq!(metrics.last().len(), 2);
    }

    #[test]
    fn alerts_are_counted_by_kind_where_they_go_somewhere() {
        let metrics = DriftMetrics::default();
        let counted = || metrics.alerts().clone().into_iter().collect::<Vec<_>>();
        assert_eq!(counted(), []);
        let mut sinks = [(); 2].map(|()| metrics.watch_alerts(Box::new(Told::default())));
        assert_eq!(counted(), [("ks", 0), ("score", 0), ("z_score", 0)]);
        for (sink, kinds) in sinks.iter_mut().zip([vec!["ks", "score"], vec!["ks"]]) {
            let kinds: ArrayRef = Arc::new(StringArray::from(kinds));
            sink.write(&RecordBatch::try_from_iter([("kind", kinds)]).unwrap()).unwrap();
        }
        assert_eq!(counted(), [("ks", 2), ("score", 1), ("z_score", 0)]);
    }
}
