//! The section `[realtime_ml]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RealtimeSection {
    /// The latency (ms) that a run is measured against, if it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_latency_ms: Option<u64>,
    /// The events per second that a run is measured against, if it is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput_target_per_second: Option<u64>,
    /// Whether rows are scored in batches; one by one if not.
    pub batch_inference: bool,
    /// The most rows that the model is given at once.
    #[schemars(range(min = 1))]
    pub max_batch_size: usize,
    /// How long (ms) a row waits for others to join its batch, at most.
    pub batch_timeout_ms: u64,
    /// How often (seconds) a registry would be asked for new models. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_refresh_interval_seconds: Option<u64>,
    /// How long (seconds) values of an online store would be kept. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_ttl_seconds: Option<u64>,
    /// From what age (ms) values of an online store would be stale. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_freshness_threshold_ms: Option<u64>,
    /// How many models would be kept in memory. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_cache_size: Option<u64>,
    /// How many rows a new model would be tried with. Has no effect in this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_warm_up_samples: Option<u64>,
}

impl Default for RealtimeSection {
    fn default() -> Self {
        RealtimeSection {
            max_latency_ms: None,
            throughput_target_per_second: None,
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
