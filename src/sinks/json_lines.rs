//! Results as JSON lines: a file a worker, or a standard stream.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use driftline_operators::layout::Published;
use driftline_operators::sinks::{Sink, SinkError};

use super::text_file::TextFile;
use crate::config::job::Compression;

/// Writes one JSON object a row, with nulls, to a file or a standard stream.
pub struct JsonLinesSink {
    file: TextFile,
    published: Published,
}

impl JsonLinesSink {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: PathBuf, compression: Option<Compression>) -> Result<Self, SinkError> {
        Ok(JsonLinesSink::to(TextFile::create(path, compression)?))
    }

    pub fn to(file: TextFile) -> Self {
        JsonLinesSink { file, published: Published::default() }
    }

    pub fn standard_error() -> Self {
        JsonLinesSink::to(TextFile::stream("standard error", Box::new(std::io::stderr())))
    }
}

/// The rows of a batch, all of whose columns are published, as JSON lines.
pub(super) fn to_lines(batch: &RecordBatch) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer: LineDelimitedWriter<Vec<u8>> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

impl Sink for JsonLinesSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let lines = to_lines(&self.published.of(batch)).map_err(|error| self.file.error(error))?;
        self.file.write(&lines, batch.num_rows() as u64)
    }

    fn durable_rows(&mut self) -> u64 {
        self.file.durable_rows()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.finish()
    }
}
