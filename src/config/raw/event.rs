//! The section `[event]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{ColumnType, LateWord, TimeUnitWord};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventSection {
    /// The column of event time: a timestamp, integer milliseconds since 1970, or RFC 3339 text.
    pub time: String,
    /// What numbers of the event time count since 1970. Milliseconds where it is not set.
    pub time_unit: Option<TimeUnitWord>,
    /// The column of the event's id, of text or integers. Ties of event time are in order of it;
    /// without it, in order of file and position.
    pub id: Option<String>,
    /// The column of the output key, of text or integers.
    pub key: Option<String>,
    /// An SQL predicate over columns of the event. Rows of which it is not true are skipped before
    /// any feature sees them.
    pub filter: Option<String>,
    /// How far (ms) a row may be behind the highest event time of its partition before it is late.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub allowed_lateness_ms: i64,
    /// What becomes of late rows.
    #[serde(default)]
    pub late: LateWord,
    /// A row this far (ms) behind the highest event time of its partition is a dead letter,
    /// whatever `late` says. At least `allowed_lateness_ms`.
    #[serde(default = "late_horizon_ms")]
    #[schemars(range(min = 0))]
    pub late_horizon_ms: i64,
    /// After so long (ms) without a row nothing waits for live input any more. For ever where it
    /// is not set.
    pub idle_timeout_ms: Option<u64>,
    /// An event whose time is more than this (ms) beyond the time of its own message is a dead letter
    /// and moves no watermark. Of topics a day where it is not set; of files it counts only where it
    /// is set, and the column `kafka_timestamp` has the time of the message.
    #[schemars(range(min = 0))]
    pub future_horizon_ms: Option<i64>,
    /// Types of columns, whatever events come as. A number that is not declared is float64, but for
    /// ids and keys; a topic's columns are those that are declared. Of JSON a name may be the path
    /// to a member of an object: `"a.b"`.
    #[serde(default)]
    pub columns: IndexMap<String, ColumnType>,
}

fn late_horizon_ms() -> i64 {
    86_400_000
}
