//! Results as JSON lines: a file a worker, or a standard stream.

use std::path::PathBuf;

use arrow::array::RecordBatch;
use driftline_operators::layout::Published;
use driftline_operators::sinks::{Sink, SinkError};

use super::json_rows::JsonRows;
use super::text_file::TextFile;
use crate::config::job::Compression;

/// Writes one JSON object a row, with nulls, to a file or a standard stream.
pub struct JsonLinesSink {
    file: TextFile,
    published: Published,
    rows: JsonRows,
    /// What was last written, and where its lines end.
    lines: Vec<u8>,
    ends: Vec<usize>,
}

impl JsonLinesSink {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: PathBuf, compression: Option<Compression>) -> Result<Self, SinkError> {
        Ok(JsonLinesSink::to(TextFile::create(path, compression)?))
    }

    pub fn to(file: TextFile) -> Self {
        let (published, rows) = Default::default();
        JsonLinesSink { file, published, rows, lines: Vec::new(), ends: Vec::new() }
    }

    pub fn standard_error() -> Self {
        JsonLinesSink::to(TextFile::stream("standard error", Box::new(std::io::stderr())))
    }
}

impl Sink for JsonLinesSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let JsonLinesSink { file, published, rows, lines, ends } = self;
        lines.clear();
        ends.clear();
        let written = rows.write(&published.of(batch), lines, ends);
        written.map_err(|error| file.error(error))?;
        file.write(lines, batch.num_rows() as u64)
    }

    fn durable_rows(&mut self) -> u64 {
        self.file.durable_rows()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.file.finish()
    }
}
