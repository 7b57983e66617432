//! The section `[realtime_ml]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows of a batch, where nobody says.
pub const MAX_BATCH_SIZE: usize = 32;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeSection {
    /// The latency (ms) that a run is measured against, if it is set, here or by the version of the model that
    /// the run begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u64>,
    /// How long (ms) after it was read an event, or a row that a program asks for, is still given to a model; then it is
    /// a dead letter `timed_out`. Not of replays. Without it all are.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout_ms: Option<u64>,
    /// The events per second that a run is measured against, if it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_target_per_second: Option<u64>,
    /// Whether rows are scored in batches; one by one if not.
    pub batch_inference: bool,
    /// The most rows that the model is given at once. What the version of the model says
    /// (`inference_config.batch_size`) where it is not set, else 32.
    #[schemars(range(min = 1), extend("default" = MAX_BATCH_SIZE))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_batch_size: Option<usize>,
    /// How long (ms) a row waits for others to join its batch, at most.
    pub batch_timeout_ms: u64,
    /// How often (seconds) a live run asks the registry for another version of its model.
    #[schemars(range(min = 1))]
    pub model_refresh_interval_seconds: u64,
    /// How long (seconds) values of an online store would be kept. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_ttl_seconds: Option<u64>,
    /// From what age (ms) values of an online store would be stale. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_freshness_threshold_ms: Option<u64>,
    /// How many versions of a model are kept in memory beside the one that scores, and on disk beside the
    /// one that was fetched last: those that were asked for last.
    pub model_cache_size: usize,
    /// How many made-up rows a model scores before it is given any.
    pub model_warm_up_samples: usize,
    /// A live run whose topics are more than so many events ahead of it does not score rows by the shadows of
    /// routes; it counts them.
    pub shadow_lag_max: u64,
}

impl Default for RealtimeSection {
    fn default() -> Self {
        RealtimeSection {
            max_latency_ms: None,
            request_timeout_ms: None,
            throughput_target_per_second: None,
            batch_inference: true,
            max_batch_size: None,
            batch_timeout_ms: 100,
            model_refresh_interval_seconds: 300,
            feature_cache_ttl_seconds: None,
            feature_freshness_threshold_ms: None,
            model_cache_size: 10,
            model_warm_up_samples: 100,
            shadow_lag_max: 10_000,
        }
    }
}

impl RealtimeSection {
    /// Knobs that are set and that nothing here obeys yet.
    pub fn without_effect(&self) -> Vec<&'static str> {
        [
            ("feature_cache_ttl_seconds", self.feature_cache_ttl_seconds),
            ("feature_freshness_threshold_ms", self.feature_freshness_threshold_ms),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|_| name))
        .collect()
    }
}
