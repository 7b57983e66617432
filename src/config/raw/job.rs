//! The section `[job]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::words::OrderWord;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobSection {
    /// The name of the job: of its results' folder, and in their footers.
    pub name: String,
    /// The order in which rows reach windows and tables that change.
    #[serde(default)]
    pub order: OrderWord,
    /// What a row's home worker follows from: `key`, `id`, or a column of the event, of text or
    /// integers.
    #[serde(default = "shard_by")]
    pub shard_by: String,
    /// The most rows (of all inputs together) that are taken in at once, as one epoch.
    #[serde(default = "epoch_rows_max")]
    #[schemars(range(min = 1))]
    pub epoch_rows_max: usize,
    /// The most epochs that are under way at a time.
    #[serde(default = "epochs_in_flight_max")]
    #[schemars(range(min = 1))]
    pub epochs_in_flight_max: u64,
    /// Rows that wait for their turn in event time. Above it only what they wait for is read.
    #[serde(default = "gate_rows_max")]
    #[schemars(range(min = 1))]
    pub gate_rows_max: u64,
    /// Bytes of memory that rows may take which wait for their turn in event time. Above it only what they
    /// wait for is read.
    #[serde(default = "gate_bytes_max")]
    #[schemars(range(min = 1))]
    pub gate_bytes_max: u64,
    /// Bytes of memory that rows may take which were read and whose epoch is under way. Above it nothing
    /// is read; beside it each worker may have one epoch more.
    #[serde(default = "bytes_in_flight_max")]
    #[schemars(range(min = 1))]
    pub bytes_in_flight_max: u64,
    /// How far (ms of event time) a partition of live input may be ahead of the others of its stream.
    /// No limit where it is not set; files are read in step whatever it says.
    #[schemars(range(min = 0))]
    pub partition_skew_max_ms: Option<i64>,
    /// A run fails, with its results written, if more than this share of the records that it has read
    /// became dead letters; `--max-dead-letter-share` wins over it. Live only with
    /// `--until-caught-up`. No limit where it is not set.
    #[schemars(range(min = 0, max = 1))]
    pub max_dead_letter_share: Option<f64>,
}

fn shard_by() -> String {
    "key".to_owned()
}

fn epoch_rows_max() -> usize {
    8_192
}

fn epochs_in_flight_max() -> u64 {
    8
}

fn gate_rows_max() -> u64 {
    1_000_000
}

fn gate_bytes_max() -> u64 {
    1 << 30
}

fn bytes_in_flight_max() -> u64 {
    256 << 20
}
