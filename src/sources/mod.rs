//! Where rows come from: files of columns, files of JSON lines, standard input; the events and the
//! as-of tables of a job as one numbered sequence of epochs.

pub mod columns;
pub mod feed;
pub mod files;
pub mod footers;
pub mod idle;
pub mod inputs;
pub mod json_feed;
pub mod json_lines;
pub mod line_decoder;
pub mod lines;
pub mod merge;
pub mod one_partition;
pub mod own;
pub mod parquet;
pub mod parquet_feed;
pub mod replay;
pub mod row_groups;
pub mod schedule;
pub mod stored_columns;

#[cfg(test)]
mod random_reads;
#[cfg(test)]
mod testing;

pub use driftline_operators::ingest::SourceError;
pub use inputs::{Inputs, Partition, StreamSpec};

pub(crate) fn failed(input: impl std::fmt::Display, error: impl std::fmt::Display) -> SourceError {
    SourceError { input: input.to_string(), message: error.to_string() }
}
