//! Sections of what is read and written: `[sources.NAME]`, `[tables.NAME]`, `[sinks.NAME]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{ColumnType, FileFormat};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    /// A file, a folder of files (folders such as `month=1` become columns), or `-` for standard
    /// input.
    pub path: String,
    /// How the files are written. Told by their names where it is not set; standard input is JSON
    /// lines.
    pub format: Option<FileFormat>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSection {
    /// A Parquet file; of a table with a `time` also a folder, JSON lines, or `-` for standard
    /// input.
    pub path: String,
    /// The column that rows are looked up by, of text or integers.
    pub key: String,
    /// How the files are written. Told by their names where it is not set. Only with `time`.
    pub format: Option<FileFormat>,
    /// The column that says when a row's values begin to hold. With it the table changes, and is
    /// looked up as of each event's time.
    pub time: Option<String>,
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
    /// Types of columns, where rows come as JSON. Others are told by the first lines. Only with
    /// `time`.
    pub columns: Option<IndexMap<String, ColumnType>>,
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
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSection {
    /// The folder to write to.
    pub path: String,
    /// How the files are written.
    #[serde(default)]
    pub format: FileFormat,
}
