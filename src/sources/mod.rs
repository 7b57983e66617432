//! Where events come from: files of columns, files of JSON lines, standard input.

pub mod columns;
pub mod files;
pub mod json_lines;
pub mod line_decoder;
pub mod lines;
pub mod parquet;
pub mod schedule;

use arrow::datatypes::SchemaRef;
use driftline_operators::ingest::Source;

pub use driftline_operators::ingest::SourceError;

/// An input that has been opened as far as needed to know its columns and partitions.
pub trait EventInput: Send + Sync {
    /// The event's own columns, after normalisation; what every chunk has.
    fn schema(&self) -> SchemaRef;

    /// Reads only `columns` (by position in [`EventInput::schema`]) from now on.
    fn project(&mut self, columns: &[usize]);

    /// Names of the partitions, and the lowest event time (ms) each can hold.
    fn partitions(&self) -> Vec<(String, i64)>;

    /// Rows in all, where that is known beforehand.
    fn total_rows(&self) -> Option<u64>;

    /// Whether events come as bytes that are kept beside them.
    fn keeps_raw(&self) -> bool;

    /// The share of one worker.
    ///
    /// # Errors
    /// If the input cannot be opened.
    fn open(&self, worker: usize, workers: usize) -> Result<Box<dyn Source>, SourceError>;
}

/// What of an input is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rows before it (ms) are of no use, not even to windows.
    pub from: i64,
    /// Rows at or after it (ms) are of no use.
    pub to: i64,
    /// Only this many rows, in the order of the schedule.
    pub limit: Option<u64>,
    pub epoch_rows_max: usize,
}

pub(crate) fn failed(input: impl std::fmt::Display, error: impl std::fmt::Display) -> SourceError {
    SourceError { input: input.to_string(), message: error.to_string() }
}
