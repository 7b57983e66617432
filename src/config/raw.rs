//! The job file as it is typed. Defaults stand here, in one place; [`super::job`] checks the rest.

use indexmap::IndexMap;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawJob {
    pub job: JobSection,
    pub event: EventSection,
    pub sources: IndexMap<String, SourceSection>,
    #[serde(default)]
    pub tables: IndexMap<String, TableSection>,
    pub features: IndexMap<String, FeatureSection>,
    pub model: Option<ModelSection>,
    #[serde(default)]
    pub realtime_ml: RealtimeSection,
    pub drift: Option<DriftSection>,
    #[serde(default)]
    pub sinks: IndexMap<String, SinkSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSection {
    pub name: String,
    #[serde(default = "default_order")]
    pub order: String,
    /// `key`, `id`, or a column of the event.
    #[serde(default = "default_shard_by")]
    pub shard_by: String,
    #[serde(default = "default_epoch_rows_max")]
    pub epoch_rows_max: usize,
    #[serde(default = "default_epochs_in_flight_max")]
    pub epochs_in_flight_max: u64,
    /// Rows that wait for their turn.
    #[serde(default = "default_gate_rows_max")]
    pub gate_rows_max: u64,
    /// How far a partition may be ahead of the others of its stream.
    pub partition_skew_max_ms: Option<i64>,
}

fn default_order() -> String {
    "event_time".to_owned()
}

fn default_shard_by() -> String {
    "key".to_owned()
}

fn default_epoch_rows_max() -> usize {
    8_192
}

fn default_epochs_in_flight_max() -> u64 {
    8
}

fn default_gate_rows_max() -> u64 {
    1_000_000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSection {
    pub time: String,
    pub id: Option<String>,
    pub key: Option<String>,
    /// An SQL predicate; rows of which it is not true are skipped before any feature sees them.
    pub filter: Option<String>,
    #[serde(default)]
    pub allowed_lateness_ms: i64,
    #[serde(default = "default_late")]
    pub late: String,
    #[serde(default = "default_late_horizon_ms")]
    pub late_horizon_ms: i64,
    /// After this long without a row nothing waits for a partition of live input.
    pub idle_timeout_ms: Option<u64>,
    /// Types of columns where events come as JSON: int64, float64, utf8, boolean.
    #[serde(default)]
    pub columns: IndexMap<String, String>,
}

fn default_late() -> String {
    "score".to_owned()
}

fn default_late_horizon_ms() -> i64 {
    86_400_000
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    pub path: String,
    /// `parquet` or `json`; by the file's ending where absent.
    pub format: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSection {
    pub path: String,
    pub key: String,
    /// `parquet` or `json`; by the file's ending where absent.
    pub format: Option<String>,
    /// When a row's values begin to hold. With it the table is looked up as of the event's time.
    pub time: Option<String>,
    /// Of rows with the same key and time the one with the greatest sequence counts.
    pub sequence: Option<String>,
    /// An SQL predicate; a row of which it is true says that its key has no values from then on.
    pub delete: Option<String>,
    /// Values that are older are not found.
    pub max_age_ms: Option<i64>,
    pub allowed_lateness_ms: Option<i64>,
    /// Events do not wait for the table.
    pub eager: Option<bool>,
    pub idle_timeout_ms: Option<u64>,
    /// Types of columns where rows come as JSON: int64, float64, utf8, boolean.
    pub columns: Option<IndexMap<String, String>>,
}

impl TableSection {
    /// The first key that is set and has a meaning only for a table with a time.
    pub fn set_without_time(&self) -> Option<&'static str> {
        [
            ("format", self.format.is_some()),
            ("sequence", self.sequence.is_some()),
            ("delete", self.delete.is_some()),
            ("max_age_ms", self.max_age_ms.is_some()),
            ("allowed_lateness_ms", self.allowed_lateness_ms.is_some()),
            ("eager", self.eager.is_some()),
            ("idle_timeout_ms", self.idle_timeout_ms.is_some()),
            ("columns", self.columns.is_some()),
        ]
        .into_iter()
        .find_map(|(key, is_set)| is_set.then_some(key))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureSection {
    pub column: Option<String>,
    pub sql: Option<String>,
    pub window: Option<WindowSection>,
    pub lookup: Option<LookupSection>,
    pub encode: Option<EncodeSection>,
    pub default: Option<toml::Value>,
    #[serde(default)]
    pub allow_null: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSection {
    pub key: String,
    /// What is aggregated; `count` without it counts rows.
    pub value: Option<String>,
    pub aggregate: String,
    pub length: Option<String>,
    /// How far back `time_since_last` looks.
    pub within: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookupSection {
    pub table: String,
    pub key: String,
    pub column: Option<String>,
    /// In place of a column: how old the values are.
    #[serde(default)]
    pub age: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodeSection {
    pub column: String,
    pub categories: Option<Vec<String>>,
    pub categories_file: Option<String>,
    /// The code of a value that is not among the categories; null without it.
    pub unseen: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    pub path: String,
    pub name: Option<String>,
    #[serde(default = "default_model_version")]
    pub version: String,
    /// The inputs in tensor order.
    pub features: Vec<String>,
    /// Which features an input of the model takes, where their names differ.
    #[serde(default)]
    pub inputs: IndexMap<String, OneOrMore>,
    /// The output to read; the probabilities or the only number where absent.
    pub output: Option<String>,
    /// `binary`, `multiclass` or `regression`; by the width of the output where absent.
    pub task: Option<String>,
}

/// A name, or a list of names.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn default_model_version() -> String {
    "1".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeSection {
    pub max_latency_ms: u64,
    pub throughput_target_per_second: u64,
    pub batch_inference: bool,
    pub max_batch_size: usize,
    pub batch_timeout_ms: u64,
    pub model_refresh_interval_seconds: Option<u64>,
    pub feature_cache_ttl_seconds: Option<u64>,
    pub feature_freshness_threshold_ms: Option<u64>,
    pub model_cache_size: Option<u64>,
    pub model_warm_up_samples: Option<u64>,
}

impl Default for RealtimeSection {
    fn default() -> Self {
        RealtimeSection {
            max_latency_ms: 50,
            throughput_target_per_second: 1_000,
            batch_inference: true,
            max_batch_size: 32,
            batch_timeout_ms: 100,
            model_refresh_interval_seconds: None,
            feature_cache_ttl_seconds: None,
            feature_freshness_threshold_ms: None,
            model_cache_size: None,
            model_warm_up_samples: None,
        }
    }
}

impl RealtimeSection {
    /// Knobs that are set and that nothing here obeys yet.
    pub fn without_effect(&self) -> Vec<&'static str> {
        [
            ("model_refresh_interval_seconds", self.model_refresh_interval_seconds),
            ("feature_cache_ttl_seconds", self.feature_cache_ttl_seconds),
            ("feature_freshness_threshold_ms", self.feature_freshness_threshold_ms),
            ("model_cache_size", self.model_cache_size),
            ("model_warm_up_samples", self.model_warm_up_samples),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|_| name))
        .collect()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftSection {
    pub baseline: String,
    #[serde(default = "default_drift_windows")]
    pub windows: Vec<String>,
    /// `exact` or `profile`.
    #[serde(default = "default_drift_mode")]
    pub mode: String,
    /// Bins of the reference in profile mode.
    pub profile_bins: Option<usize>,
    /// Rows of the baseline that is made; all without it.
    pub baseline_sample_max: Option<u64>,
    /// How long after their end windows take late rows.
    #[serde(default)]
    pub revision_horizon_ms: i64,
    /// How far the watermark rises between two revisions of a window.
    pub revision_interval_ms: Option<i64>,
    /// A number, or `off`; the other thresholds likewise.
    #[serde(default = "default_ks_p_value")]
    pub ks_p_value: toml::Value,
    #[serde(default = "default_min_effect")]
    pub min_effect: f64,
    #[serde(default = "default_mean_shift_sd")]
    pub mean_shift_sd: toml::Value,
    #[serde(default = "default_z_test")]
    pub z_test: toml::Value,
    #[serde(default = "default_share_beyond_3")]
    pub share_beyond_3: toml::Value,
}

/// What turns a threshold off.
pub const OFF: &str = "off";
pub const PROFILE_BINS: usize = 256;
pub const REVISION_INTERVAL_MS: i64 = 3_600_000;

fn default_drift_mode() -> String {
    "exact".to_owned()
}

fn default_drift_windows() -> Vec<String> {
    vec!["1d".to_owned()]
}

fn default_ks_p_value() -> toml::Value {
    toml::Value::Float(0.05)
}

fn default_min_effect() -> f64 {
    0.1
}

fn default_mean_shift_sd() -> toml::Value {
    toml::Value::Float(0.5)
}

fn default_z_test() -> toml::Value {
    toml::Value::String(OFF.to_owned())
}

fn default_share_beyond_3() -> toml::Value {
    toml::Value::Float(0.05)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSection {
    pub path: String,
    /// `parquet` or `json`.
    #[serde(default = "default_sink_format")]
    pub format: String,
}

fn default_sink_format() -> String {
    "parquet".to_owned()
}
