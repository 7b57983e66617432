//! Results as JSON lines: a file a worker, or a standard stream.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use driftline_operators::deliver::{Sink, SinkError};
use driftline_operators::layout::published;

use super::failed;

/// Writes one JSON object a row, with nulls, to a file or a standard stream.
pub struct JsonLinesSink {
    name: String,
    target: Target,
    written: u64,
    durable: u64,
}

enum Target {
    File(BufWriter<File>),
    /// Standard output or standard error; rows count once they are written.
    Stream(Box<dyn Write>),
}

impl JsonLinesSink {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: PathBuf) -> Result<Self, SinkError> {
        let file = File::create(&path).map_err(|error| failed(path.display(), error))?;
        let target = Target::File(BufWriter::with_capacity(1 << 18, file));
        Ok(JsonLinesSink { name: path.display().to_string(), target, written: 0, durable: 0 })
    }

    pub fn standard_output() -> Self {
        Self::stream("standard output", Box::new(std::io::stdout()))
    }

    pub fn standard_error() -> Self {
        Self::stream("standard error", Box::new(std::io::stderr()))
    }

    fn stream(name: &str, stream: Box<dyn Write>) -> Self {
        let target = Target::Stream(stream);
        JsonLinesSink { name: name.to_owned(), target, written: 0, durable: 0 }
    }
}

/// The rows of a batch as JSON lines.
pub(super) fn to_lines(batch: &RecordBatch) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer: LineDelimitedWriter<Vec<u8>> =
        WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(&published(batch))?;
    writer.finish()?;
    Ok(writer.into_inner())
}

impl Sink for JsonLinesSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        let lines = to_lines(batch).map_err(|error| failed(&self.name, error))?;
        let wrote = match &mut self.target {
            Target::File(file) => file.write_all(&lines),
            Target::Stream(stream) => {
                let wrote = stream.write_all(&lines).and_then(|()| stream.flush());
                wrote.inspect(|()| self.durable += batch.num_rows() as u64)
            }
        };
        wrote.map_err(|error| failed(&self.name, error))?;
        if matches!(self.target, Target::File(_)) {
            self.written += batch.num_rows() as u64;
        }
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        if let Target::File(file) = &mut self.target {
            let synced = file.flush().and_then(|()| file.get_ref().sync_all());
            synced.map_err(|error| failed(&self.name, error))?;
            self.durable += std::mem::take(&mut self.written);
        }
        Ok(())
    }
}
