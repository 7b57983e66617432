//! The section `[kafka]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSection {
    /// Addresses of brokers to begin with, `host:port`, separated by commas.
    #[serde(default = "bootstrap_servers")]
    pub bootstrap_servers: String,
    /// How often (ms) messages are taken at most while few come at a time, or less often, up to every
    /// 5 ms, where more come; 0: as they come. Taken together they cost less.
    #[serde(default = "poll_interval_ms")]
    #[schemars(range(max = 1000))]
    pub poll_interval_ms: u64,
    /// How often (ms) offsets are committed.
    #[serde(default = "commit_interval_ms")]
    #[schemars(range(min = 1))]
    pub commit_interval_ms: u64,
    /// How often (ms) it is looked for new partitions, and for how far behind the run is.
    #[serde(default = "refresh_interval_ms")]
    #[schemars(range(min = 1))]
    pub refresh_interval_ms: u64,
    /// How long (ms) a run that is asked to stop waits for brokers to acknowledge what is under way.
    #[serde(default = "shutdown_timeout_ms")]
    pub shutdown_timeout_ms: u64,
    /// Further properties of librdkafka, such as `"client.rack" = "a"`. They win over what the
    /// program sets.
    #[serde(default)]
    pub properties: IndexMap<String, String>,
}

impl Default for KafkaSection {
    fn default() -> Self {
        KafkaSection {
            bootstrap_servers: bootstrap_servers(),
            poll_interval_ms: poll_interval_ms(),
            commit_interval_ms: commit_interval_ms(),
            refresh_interval_ms: refresh_interval_ms(),
            shutdown_timeout_ms: shutdown_timeout_ms(),
            properties: IndexMap::new(),
        }
    }
}

fn bootstrap_servers() -> String {
    "127.0.0.1:9092".to_owned()
}

fn poll_interval_ms() -> u64 {
    1
}

fn commit_interval_ms() -> u64 {
    200
}

fn refresh_interval_ms() -> u64 {
    10_000
}

fn shutdown_timeout_ms() -> u64 {
    30_000
}
