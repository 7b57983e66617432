//! Sections of what is read and written: `[sources.NAME]`, `[tables.NAME]`, `[sinks.NAME]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::model::OneOrMore;
use super::words::{ColumnType, Compression, FileFormat, PredictionColumn, TimeUnitWord};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    /// What a replay reads: a file, a folder of files (folders such as `month=1` become columns), or
    /// `-` for standard input.
    pub path: Option<String>,
    /// How the files are written. Told by their names where it is not set; standard input is JSON
    /// lines then.
    pub format: Option<FileFormat>,
    /// What a live run reads: a Kafka topic, or several. Messages are JSON objects; their columns
    /// are declared in `event.columns`.
    pub topic: Option<OneOrMore>,
    /// The consumer group that offsets are committed to. The job's name where it is not set.
    pub group: Option<String>,
    /// Where a live run begins: `committed` (where the group has committed nothing, the beginning),
    /// `earliest`, `latest`, or an instant such as `2013-06-15T12:00:00Z`, from whose first message
    /// on (by the time of messages).
    #[serde(default = "start")]
    #[schemars(extend("default" = "committed"))]
    pub start: String,
    /// Offsets to begin at, by partition (`"3"`, or `"topic/3"` where there are several
    /// topics), whatever `start` says.
    #[serde(default)]
    pub start_offsets: IndexMap<String, u64>,
}

fn start() -> String {
    "committed".to_owned()
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSection {
    /// A file or a folder of files: Parquet, JSON lines or CSV. Of a table with a `time` also `-` for
    /// standard input.
    pub path: Option<String>,
    /// What a live run reads in place of `path`: a Kafka topic, from its beginning. A message
    /// without a value says that the table has nothing for its key from the message's time on. Only
    /// with `time`.
    pub topic: Option<String>,
    /// The column that rows are looked up by, of text or integers.
    pub key: String,
    /// How the files are written. Told by their names where it is not set.
    pub format: Option<FileFormat>,
    /// The column that says when a row's values begin to hold. With it the table changes, and is
    /// looked up as of each event's time.
    pub time: Option<String>,
    /// What numbers of `time` count since 1970. Milliseconds where it is not set. Only with `time`.
    pub time_unit: Option<TimeUnitWord>,
    /// An integer column: of rows with equal key and time the one with the greatest counts. The
    /// later row where it is not set. Only with `time`.
    pub sequence: Option<String>,
    /// An SQL predicate over columns of the table. A row of which it is true says that its key has
    /// no values from then on. Only with `time`.
    pub delete: Option<String>,
    /// Values older than this (ms) are not found. No limit where it is not set. Only with `time`.
    #[schemars(range(min = 1))]
    pub max_age_ms: Option<i64>,
    /// How far (ms) a version may be behind the highest time of its partition; events wait for it.
    /// 0 where it is not set. Only with `time`.
    #[schemars(range(min = 0), extend("default" = 0))]
    pub allowed_lateness_ms: Option<i64>,
    /// Whether events take what is there by their epoch, and do not wait for the table. Only with
    /// `time`.
    #[schemars(extend("default" = false))]
    pub eager: Option<bool>,
    /// After so long (ms) without a row nothing waits for live input any more. For ever where it
    /// is not set. Only with `time`.
    pub idle_timeout_ms: Option<u64>,
    /// Types of columns, whatever rows come as. A number that is not declared is float64, but for
    /// keys and sequences.
    pub columns: Option<IndexMap<String, ColumnType>>,
}

impl TableSection {
    /// The first key that is set and has a meaning only for a table with a time.
    pub fn set_without_time(&self) -> Option<&'static str> {
        [
            ("topic", self.topic.is_some()),
            ("time_unit", self.time_unit.is_some()),
            ("sequence", self.sequence.is_some()),
            ("delete", self.delete.is_some()),
            ("max_age_ms", self.max_age_ms.is_some()),
            ("allowed_lateness_ms", self.allowed_lateness_ms.is_some()),
            ("eager", self.eager.is_some()),
            ("idle_timeout_ms", self.idle_timeout_ms.is_some()),
        ]
        .into_iter()
        .find_map(|(key, is_set)| is_set.then_some(key))
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinksSection {
    /// A prediction for each scored event.
    pub predictions: Option<SinkSection>,
    /// A row of figures for each revision of a window and watched column.
    pub drift: Option<SinkSection>,
    /// Records that could not be decoded, came too late, lack an input or were refused by the
    /// model.
    pub dead_letters: Option<SinkSection>,
    /// Of a live run: what exceeds a threshold of the section `[alerts]`.
    pub alerts: Option<SinkSection>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSection {
    /// The folder to write to.
    pub path: Option<String>,
    /// The Kafka topic that a live run writes to. Drift goes to files.
    pub topic: Option<String>,
    /// Of predictions that go to a topic: whether messages have headers, those of a CloudEvent. They take
    /// about as much of CPU as all else of a message; all but the event's own trace is in the value, too.
    pub headers: Option<bool>,
    /// Of predictions that go to a topic: the type that each is said to be of, the header `ce_type`.
    /// `driftline.prediction` where it is not set.
    #[schemars(length(min = 1))]
    pub event_type: Option<String>,
    /// Of predictions that go to a topic: what each is said to come from, the header `ce_source`: a URI or a
    /// part of one. The job's name where it is not set.
    #[schemars(length(min = 1))]
    pub event_source: Option<String>,
    /// Of predictions: the columns that files, standard output and the values of messages have, beside those
    /// that the command line asks for. All of them where it is not set.
    pub columns: Option<Vec<PredictionColumn>>,
    /// How the files are written.
    #[serde(default)]
    pub format: FileFormat,
    /// How files of JSON lines and CSV are compressed. Not at all where it is not set.
    pub compression: Option<Compression>,
}
