//! What a stream of a job is, and the parts of it.

use std::path::PathBuf;

use arrow::datatypes::{Schema, TimeUnit};
use arrow::error::ArrowError;
use driftline_operators::too_early::FutureHorizon;
use indexmap::IndexMap;

use super::columns::ColumnUses;
use super::kafka::begin::Place;
use super::own::OwnEvents;
use crate::config::job::{Format, JsonType};

/// A stream as a job names it.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// A file, a folder of files, or `-` for standard input.
    pub path: PathBuf,
    /// In place of what is at the path.
    pub own: Option<OwnEvents>,
    /// Topics, in place of what is at the path.
    pub topics: Option<TopicSpec>,
    /// Told by the names of the files if `None`; standard input is JSON.
    pub format: Option<Format>,
    /// The column of event time.
    pub time: String,
    /// What integers of `time` count since 1970; ms where the job does not say.
    pub time_unit: Option<TimeUnit>,
    /// Declared columns.
    pub columns: IndexMap<String, JsonType>,
    /// Columns that rows are told apart, grouped or found by: integers and text stay what they are.
    pub keys: Vec<String>,
    /// Columns that expressions of such keys are made of.
    pub key_parts: Vec<String>,
    /// Columns that every file has to have.
    pub required: Vec<Required>,
    /// Rows before it (ms) are of no use, not even to windows.
    pub from: i64,
    /// Rows at or after it (ms) are of no use.
    pub to: i64,
    /// Watermarks no longer wait for live input that has been silent for so long.
    pub idle_timeout_ms: Option<u64>,
    /// Rows that count for nothing, if there may be such.
    pub future: Option<Future>,
    /// What messages call `time`, such as `event.time`.
    pub time_key: String,
    /// What messages call `columns`, such as `[event.columns]`.
    pub columns_key: String,
    pub allowed_lateness_ms: i64,
}

impl StreamSpec {
    /// What is done with each column.
    pub fn uses(&self) -> ColumnUses {
        ColumnUses {
            time: Some(self.time.clone()),
            time_unit: self.time_unit,
            keys: self.keys.iter().cloned().collect(),
            key_parts: self.key_parts.iter().cloned().collect(),
            declared: self.columns.clone(),
            columns_key: self.columns_key.clone(),
        }
    }

    /// Whether it is read from standard input.
    pub fn is_standard_input(&self) -> bool {
        self.own.is_none() && self.topics.is_none() && self.path.as_os_str() == "-"
    }
}

/// How far (ms) event times may be beyond the time at which rows were sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Future {
    pub horizon_ms: i64,
    /// The column of that time; none where rows are messages.
    pub sent_column: Option<String>,
}

impl Future {
    /// With the column as a position in what is read.
    ///
    /// # Errors
    /// If it is not among that.
    pub fn in_columns(&self, schema: &Schema) -> Result<FutureHorizon, ArrowError> {
        let sent_column =
            self.sent_column.as_ref().map(|name| schema.index_of(name)).transpose()?;
        Ok(FutureHorizon { horizon_ms: self.horizon_ms, sent_column })
    }
}

/// A column that may not be missing, and the key of the job that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Required {
    pub column: String,
    pub key: String,
}

impl Required {
    pub fn new(column: &str, key: impl Into<String>) -> Self {
        Required { column: column.to_owned(), key: key.into() }
    }
}

/// Topics that are read as one stream.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    pub names: Vec<String>,
    /// Their partitions and where these begin; none if nobody has asked.
    pub places: Vec<Place>,
    /// Of a table, the column of its key.
    pub table_key: Option<String>,
    /// Of a table, whether events begin only when it has been read.
    pub is_eager: bool,
}

/// A part of a stream whose rows have an order of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub stream: usize,
    /// Its file, or the first of its files.
    pub name: String,
    /// The lowest event time (ms) it can hold; [`i64::MIN`] if that is not known.
    pub floor: i64,
}
