//! What a stream of a job is, and the parts of it.

use std::path::PathBuf;

use indexmap::IndexMap;

use super::own::OwnEvents;
use crate::config::job::{Format, JsonType};

/// A stream as a job names it.
#[derive(Clone, Debug)]
pub struct StreamSpec {
    /// A file, a folder of files, or `-` for standard input.
    pub path: PathBuf,
    /// In place of what is at the path.
    pub own: Option<OwnEvents>,
    /// Told by the names of the files if `None`; standard input is JSON.
    pub format: Option<Format>,
    /// The column of event time.
    pub time: String,
    /// Declared columns of JSON lines.
    pub columns: IndexMap<String, JsonType>,
    /// Columns that JSON lines may hold as integers or as text: ids and keys.
    pub keys: Vec<String>,
    /// Rows before it (ms) are of no use, not even to windows.
    pub from: i64,
    /// Rows at or after it (ms) are of no use.
    pub to: i64,
    /// Watermarks no longer wait for live input that has been silent for so long.
    pub idle_timeout_ms: Option<u64>,
    /// What messages call `time`, such as `event.time`.
    pub time_key: String,
    pub allowed_lateness_ms: i64,
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
