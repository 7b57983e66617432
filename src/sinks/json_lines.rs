//! Results as JSON lines: a file a worker, or a standard stream.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use driftline_operators::sinks::{Sink, SinkError};

use super::json_rows::PublishedLines;
use super::text_file::TextFile;
use crate::config::job::Compression;

/// Writes one JSON object a row, with nulls, to a file or a standard stream.
pub struct JsonLinesSink {
    file: TextFile,
    lines: PublishedLines,
}

impl JsonLinesSink {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: PathBuf, compression: Option<Compression>) -> Result<Self, SinkError> {
        Ok(JsonLinesSink::to(TextFile::create(path, compression)?))
    }

    pub fn to(file: TextFile) -> Self {
        JsonLinesSink { file, lines: PublishedLines::default() }
    }

    pub fn standard_error() -> Self {
        JsonLinesSink::to(TextFile::stream("standard error", Box::new(std::io::stderr())))
    }
}

impl Sink for JsonLinesSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let JsonLinesSink { file, lines } = self;
        let (text, _) = lines.of(batch).map_err(|error| file.error(error))?;
        file.write(text, batch.num_rows() as u64)
    }

    fn durable_rows(&mut self) -> u64 {
        self.file.durable_rows()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.finish()
    }
}
