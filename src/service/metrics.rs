//! What a live run counts and measures, in the form of Prometheus. Names are set here and nowhere else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driftline_operators::accounting::ModelBatches;
use driftline_operators::dead_letter::Reason;
use driftline_operators::features::rules::{Rule, Rules};
use driftline_operators::latency::Latencies;
use driftline_operators::model::ModelIdentity;
use driftline_operators::run::Run;
use prometheus::core::Collector;
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, GaugeVec, IntCounterVec, Opts, Result, TextEncoder};

use super::drift_metrics::DriftMetrics;
use super::prediction_counts::PredictionCounts;
use super::route_metrics;
use crate::run::live::{CommitFailures, Holds, Refreshes};
use crate::run::switching::RunModels;
use crate::sinks::kafka::Producer;
use crate::sources::kafka::live::Live;

/// Upper bounds of latencies.
const BUCKETS: [Duration; 14] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// By topic and partition, how many records have been sent to it that are not settled.
#[derive(Clone, Default)]
pub struct Lags {
    known: Arc<Mutex<BTreeMap<(String, i32), u64>>>,
    /// Whether they are more than so many in all.
    is_far: Arc<AtomicBool>,
    far: u64,
}

impl Lags {
    /// More records than these in all are too many.
    pub fn with_limit(far: u64) -> Self {
        Lags { far, ..Lags::default() }
    }

    /// What is known now; nothing stays of partitions of which nothing is.
    pub fn replace(&self, known: Vec<((String, i32), u64)>) {
        let total: u64 = known.iter().map(|(_, records)| records).sum();
        self.is_far.store(total > self.far, Relaxed);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known.into_iter().collect();
    }

    /// Whether there are too many, now and later.
    pub fn is_far(&self) -> Arc<AtomicBool> {
        self.is_far.clone()
    }

    fn all(&self) -> Vec<((String, i32), u64)> {
        let lags = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        lags.iter().map(|(place, records)| (place.clone(), *records)).collect()
    }
}

/// Where the figures come from.
#[derive(Clone)]
pub struct Metrics {
    pub run: Run,
    pub models: Arc<RunModels>,
    pub predictions: PredictionCounts,
    /// From being read to being handed over to the producer.
    pub latencies: Latencies,
    pub lags: Lags,
    pub commit_failures: CommitFailures,
    pub live: Arc<Live>,
    pub holds: Holds,
    pub producer: Producer,
    pub drift: DriftMetrics,
    pub refreshes: Refreshes,
    /// Of features and rows.
    pub rules: Arc<Rules>,
}

pub(super) type Labels = &'static [&'static str];
pub(super) type Values = Vec<(Vec<String>, f64)>;

fn labels(model: &ModelIdentity) -> Vec<String> {
    vec![model.name.clone(), model.version.clone()]
}

/// A value without labels.
fn alone(value: f64) -> Values {
    vec![(Vec::new(), value)]
}

/// A metric whose value is known elsewhere.
pub(super) struct Family {
    kind: MetricType,
    pub(super) name: &'static str,
    help: &'static str,
    labels: Labels,
    pub(super) values: Values,
}

impl Metrics {
    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If a name or a label is not fit for that, which the tests see to.
    pub fn text(&self) -> Result<String> {
        let mut families = Vec::new();
        let known = [self.totals(), self.sizes(), self.cluster(), self.times()];
        let of_routes = route_metrics::families(&self.models, &self.run.counters);
        let known = known.into_iter().flatten().chain(of_routes);
        for family in known.chain(self.drift.families()) {
            families.extend(family.collect()?);
        }
        families.extend(self.durations());
        families.extend(process());
        // The encoder refuses families without a value.
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Why the run cannot go on.
    pub fn sickness(&self) -> Option<String> {
        self.run.failure.message().or_else(|| self.live.health.refusal())
    }

    /// Why it scores nothing at the moment.
    pub fn unreadiness(&self) -> Option<String> {
        if self.live.health.is_away() {
            return Some("no broker can be reached".to_owned());
        }
        self.live.is_loading().then(|| "tables are being read".to_owned())
    }

    /// What it does not score, though it is ready.
    pub fn reserve(&self) -> Option<String> {
        let stale = |trouble: &str| format!("the model is not refreshed: {trouble}");
        let refreshed = self.refreshes.now();
        self.holds.words().or_else(|| refreshed.trouble().map(stale))
    }

    fn totals(&self) -> Vec<Family> {
        let counters = &self.run.counters;
        let account = counters.account();
        let by_model = counters.batches_by_model();
        let of_models = |total: fn(&ModelBatches) -> u64| -> Values {
            by_model.iter().map(|(model, of)| (labels(model), total(of) as f64)).collect()
        };
        let made = self.predictions.all(&self.models.current().0).into_iter();
        let made = made.map(|(model, status, rows)| {
            ([labels(&model), vec![status.to_owned()]].concat(), rows as f64)
        });
        let letters = counters.dead_letters();
        let of_reason =
            |reason: Reason| (vec![reason.name().to_owned()], letters.rows_of(reason) as f64);
        let of_change = |(topic, changed, count): (String, &str, u64)| {
            (vec![topic, changed.to_owned()], count as f64)
        };
        let total = Family::new(MetricType::COUNTER);
        const MODEL: &[&str] = &["model", "version"];
        vec![
            total(
                "driftline_events_total",
                "Records of the events that were read.",
                &[],
                alone(account.read as f64),
            ),
            total(
                "driftline_predictions_total",
                "Predictions that were acknowledged.",
                &["model", "version", "status"],
                made.collect(),
            ),
            total(
                "driftline_dead_letters_total",
                "Dead letters that were acknowledged.",
                &["reason"],
                Reason::ALL.map(of_reason).to_vec(),
            ),
            total(
                "driftline_validation_failures_total",
                "Rows that failed a rule of the job, by what becomes of them.",
                &["rule", "action"],
                self.failed_rules(),
            ),
            total(
                "driftline_refused_messages_total",
                "Messages that their topic has refused, by what was changed before they were sent again.",
                &["topic", "changed"],
                self.producer.resent().changed().into_iter().map(of_change).collect(),
            ),
            total(
                "driftline_skipped_events_total",
                "Events that the job leaves out.",
                &[],
                alone(account.skipped as f64),
            ),
            total(
                "driftline_late_events_total",
                "Events that came later than the job allows and were scored.",
                &[],
                alone(counters.late() as f64),
            ),
            total(
                "driftline_inference_rows_total",
                "Rows that the model has scored.",
                MODEL,
                of_models(|of| of.rows),
            ),
            total(
                "driftline_inference_batches_total",
                "Micro-batches that the model has scored.",
                MODEL,
                of_models(|of| of.batches),
            ),
            total(
                "driftline_inference_failed_rows_total",
                "Rows that the model has refused.",
                MODEL,
                of_models(|of| of.failed),
            ),
            total(
                "driftline_inference_overstayed_total",
                "Runs of the model that took longer than model.run_timeout_ms, and were ended.",
                MODEL,
                of_models(|of| of.overstayed),
            ),
            total(
                "driftline_offset_commit_failures_total",
                "Attempts to commit offsets that failed.",
                &[],
                alone(self.commit_failures.count() as f64),
            ),
            total(
                "driftline_model_refreshes_total",
                "Times that the model's registry was asked, by what came of it.",
                &["outcome"],
                self.refreshed(),
            ),
            total(
                "driftline_kafka_outages_total",
                "How often no broker could be reached.",
                &[],
                alone(self.live.health.outages() as f64),
            ),
        ]
    }

    fn failed_rules(&self) -> Values {
        let failed = self.run.counters.failed_rules();
        let of_rule = |rule: &Rule| {
            let rows = failed.get(&rule.name).copied().unwrap_or(0);
            (vec![rule.name.clone(), rule.on_fail.name().to_owned()], rows as f64)
        };
        self.rules.iter().map(of_rule).collect()
    }

    fn refreshed(&self) -> Values {
        let refreshed = self.refreshes.now();
        let of = [
            ("unchanged", refreshed.unchanged),
            ("switched", refreshed.switched),
            ("failed", refreshed.failed),
        ];
        of.map(|(outcome, times)| (vec![outcome.to_owned()], times as f64)).to_vec()
    }

    fn sizes(&self) -> Vec<Family> {
        let counters = &self.run.counters;
        let size = Family::new(MetricType::GAUGE);
        let windows = counters.window_states();
        let of_windows = |figure: fn(&driftline_operators::accounting::WindowState) -> u64| {
            let values = windows.iter().map(|(key, worker, state)| {
                (vec![key.clone(), worker.to_string()], figure(state) as f64)
            });
            values.collect::<Vec<_>>()
        };
        let tables = counters.table_states().into_iter().flat_map(|(name, state)| {
            let held = state.versions.into_iter();
            held.map(move |(worker, versions)| {
                (vec![name.clone(), worker.to_string()], versions as f64)
            })
        });
        vec![
            size(
                "driftline_gate_rows",
                "Rows that wait for their turn in event time.",
                &[],
                alone(counters.gate_rows() as f64),
            ),
            size(
                "driftline_unsettled_records",
                "Records that were read and are neither acknowledged nor skipped.",
                &[],
                alone(self.run.reports.unsettled() as f64),
            ),
            size(
                "driftline_produce_queue_messages",
                "Messages that brokers have not acknowledged.",
                &[],
                alone(self.producer.in_flight() as f64),
            ),
            size(
                "driftline_window_rows",
                "Rows that windows hold.",
                &["key", "worker"],
                of_windows(|state| state.rows),
            ),
            size(
                "driftline_window_keys",
                "Keys that windows hold rows of.",
                &["key", "worker"],
                of_windows(|state| state.keys),
            ),
            size(
                "driftline_table_versions",
                "Versions that as-of tables hold.",
                &["table", "worker"],
                tables.collect(),
            ),
        ]
    }

    fn cluster(&self) -> Vec<Family> {
        let size = Family::new(MetricType::GAUGE);
        let lags = self.lags.all().into_iter();
        let lags = lags.map(|((topic, partition), records)| {
            (vec![topic, partition.to_string()], records as f64)
        });
        let (model, digest) = self.models.current();
        vec![
            size(
                "driftline_consumer_lag_records",
                "How far what is settled of a partition is behind its end; absent while that is not known.",
                &["topic", "partition"],
                lags.collect(),
            ),
            size(
                "driftline_kafka_up",
                "Whether a broker can be reached.",
                &[],
                alone(f64::from(u8::from(!self.live.health.is_away()))),
            ),
            size(
                "driftline_model_info",
                "The model that scores.",
                &["model", "version", "digest"],
                vec![([labels(&model), vec![digest.unwrap_or_default()]].concat(), 1.0)],
            ),
        ]
    }

    /// How far things are behind in time.
    fn times(&self) -> Vec<Family> {
        let lag = Family::new(MetricType::GAUGE);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = now.as_millis() as i64;
        let released = self.run.counters.highest_event_time();
        let age = released.map(|reached| (now_ms - reached) as f64 / 1e3);
        let messages = self.live.message_lags_ms(now_ms).into_iter();
        let messages = messages.map(|(name, lag_ms)| (place_of(&name), lag_ms as f64 / 1e3));
        let holds = self.holds.now().into_iter().flat_map(|hold| {
            let waited = hold.since.elapsed().as_secs_f64();
            hold.partitions.into_iter().map(move |name| (place_of(&name), waited))
        });
        let held = self.run.holding.held();
        vec![
            lag(
                "driftline_watermark_lag_seconds",
                "How far the watermark of the job is behind the highest event time that was read.",
                &[],
                held.and_then(|held| watermark_lag(held.highest, held.watermark))
                    .into_iter()
                    .flat_map(alone)
                    .collect(),
            ),
            lag(
                "driftline_message_lag_seconds",
                "How old the messages are that are being read; 0 at the end of a partition.",
                &["topic", "partition"],
                messages.collect(),
            ),
            lag(
                "driftline_event_age_seconds",
                "How far the highest event time that was let out for scoring is behind the clock.",
                &[],
                age.into_iter().flat_map(alone).collect(),
            ),
            lag(
                "driftline_watermark_hold_seconds",
                "How long rows have waited for a partition that holds the watermark.",
                &["topic", "partition"],
                holds.collect(),
            ),
        ]
    }

    fn durations(&self) -> Vec<MetricFamily> {
        let by_model = self.run.counters.batches_by_model();
        let label = |name: &str, value: &str| {
            let mut label = LabelPair::default();
            label.set_name(name.to_owned());
            label.set_value(value.to_owned());
            label
        };
        let of_model = |(model, of): &(ModelIdentity, ModelBatches)| {
            let (name, version) = (label("model", &model.name), label("version", &model.version));
            let of_stage = |(stage, durations): &(&'static str, Latencies)| {
                histogram(durations, vec![name.clone(), label("stage", stage), version.clone()])
            };
            of.stages.iter().map(of_stage).collect::<Vec<_>>()
        };
        let stages = by_model.iter().flat_map(of_model);
        vec![
            family(
                "driftline_prediction_latency_seconds",
                "From being read to being handed over to the producer.",
                vec![histogram(&self.latencies, Vec::new())],
            ),
            family(
                "driftline_stage_duration_seconds",
                "What a micro-batch takes: its oldest row's wait, and the model.",
                stages.collect(),
            ),
        ]
    }
}

/// In seconds, where event times have come; infinite while there is no watermark.
fn watermark_lag(highest: i64, watermark: i64) -> Option<f64> {
    match (highest, watermark) {
        (i64::MIN, _) => None,
        (_, i64::MIN) => Some(f64::INFINITY),
        (highest, watermark) => Some(highest.saturating_sub(watermark).max(0) as f64 / 1e3),
    }
}

/// Topic and number of a partition, as labels.
fn place_of(name: &str) -> Vec<String> {
    let (topic, partition) = name.rsplit_once('/').unwrap_or((name, ""));
    vec![topic.to_owned(), partition.to_owned()]
}

impl Family {
    /// What makes families of a kind: of name, help, names of labels, and a value for each of theirs.
    pub(super) fn new(
        kind: MetricType,
    ) -> impl Fn(&'static str, &'static str, Labels, Values) -> Self {
        move |name, help, labels, values| Family { kind, name, help, labels, values }
    }

    fn collect(self) -> Result<Vec<MetricFamily>> {
        let options = Opts::new(self.name, self.help);
        if self.kind == MetricType::COUNTER {
            let counter = IntCounterVec::new(options, self.labels)?;
            for (labels, value) in &self.values {
                let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
                counter.get_metric_with_label_values(&labels)?.inc_by(*value as u64);
            }
            return Ok(counter.collect());
        }
        let gauge = GaugeVec::new(options, self.labels)?;
        for (labels, value) in &self.values {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            gauge.get_metric_with_label_values(&labels)?.set(*value);
        }
        Ok(gauge.collect())
    }
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(metrics);
    family
}

fn histogram(latencies: &Latencies, labels: Vec<LabelPair>) -> Metric {
    let (counts, figures) = latencies.cumulative(&BUCKETS);
    let buckets = BUCKETS.iter().zip(counts).map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(figures.rows);
    histogram.set_sample_sum(figures.mean.as_secs_f64() * figures.rows as f64);
    let mut metric = Metric::default();
    metric.set_label(labels);
    metric.set_histogram(histogram);
    metric
}

/// Of the process itself, where the system tells.
fn process() -> Vec<MetricFamily> {
    #[cfg(target_os = "linux")]
    return prometheus::process_collector::ProcessCollector::for_self().collect();
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watermark_lags_behind_what_was_read() {
        assert_eq!(watermark_lag(i64::MIN, i64::MIN), None);
        assert_eq!(watermark_lag(5, i64::MIN), Some(f64::INFINITY));
        assert_eq!(watermark_lag(5_500, 3_000), Some(2.5));
        assert_eq!(watermark_lag(5, 6), Some(0.0));
        assert_eq!(watermark_lag(5, i64::MAX), Some(0.0));
    }

    #[test]
    fn a_topic_may_have_a_slash_before_its_partition_only() {
        assert_eq!(place_of("a.b-c/17"), ["a.b-c", "17"]);
    }
}
