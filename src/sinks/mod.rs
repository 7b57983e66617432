//! Where results go: Parquet files, JSON lines, standard output.

pub mod folder;
pub mod function;
pub mod json_lines;
pub mod parquet;

pub use driftline_operators::deliver::SinkError;

pub(crate) fn failed(output: impl std::fmt::Display, error: impl std::fmt::Display) -> SinkError {
    SinkError { output: output.to_string(), message: error.to_string() }
}
