//! A file of text, plain or compressed, or a standard stream.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use driftline_operators::deliver::SinkError;
use flate2::write::GzEncoder;

use super::failed;
use crate::config::job::Compression;

const BUFFER_BYTES: usize = 1 << 18;

/// Where text goes, and how many of its rows are there for good.
pub struct TextFile {
    name: String,
    target: Target,
    written: u64,
    durable: u64,
}

enum Target {
    Plain(BufWriter<File>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
    /// Standard output or standard error; rows count once they are written.
    Stream(Box<dyn Write>),
    Finished,
}

impl TextFile {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: PathBuf, compression: Option<Compression>) -> Result<Self, SinkError> {
        let name = path.display().to_string();
        let error = |error| failed(&name, error);
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(&path).map_err(error)?);
        let target = match compression {
            None => Target::Plain(file),
            Some(Compression::Gzip) => {
                Target::Gzip(GzEncoder::new(file, flate2::Compression::default()))
            }
            Some(Compression::Zstd) => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                Target::Zstd(zstd::Encoder::new(file, level).map_err(error)?)
            }
        };
        Ok(TextFile { name, target, written: 0, durable: 0 })
    }

    pub fn stream(name: &str, stream: Box<dyn Write>) -> Self {
        let target = Target::Stream(stream);
        TextFile { name: name.to_owned(), target, written: 0, durable: 0 }
    }

    /// Writes the text of so many rows.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&mut self, text: &[u8], rows: u64) -> Result<(), SinkError> {
        let wrote = match &mut self.target {
            Target::Plain(file) => file.write_all(text),
            Target::Gzip(file) => file.write_all(text),
            Target::Zstd(file) => file.write_all(text),
            Target::Stream(stream) => stream.write_all(text).and_then(|()| stream.flush()),
            Target::Finished => return Err(self.error("the file is finished already")),
        };
        wrote.map_err(|error| self.error(error))?;
        match self.target {
            Target::Stream(_) => self.durable += rows,
            _ => self.written += rows,
        }
        Ok(())
    }

    pub fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    /// Brings a file to its end, and to the disk.
    ///
    /// # Errors
    /// If that fails.
    pub fn finish(&mut self) -> Result<(), SinkError> {
        let file = match std::mem::replace(&mut self.target, Target::Finished) {
            Target::Plain(file) => Ok(file),
            Target::Gzip(file) => file.finish(),
            Target::Zstd(file) => file.finish(),
            Target::Stream(stream) => {
                self.target = Target::Stream(stream);
                return Ok(());
            }
            Target::Finished => return Ok(()),
        };
        let synced = file.and_then(|mut file| {
            file.flush()?;
            file.get_ref().sync_all()
        });
        synced.map_err(|error| self.error(error))?;
        self.durable += std::mem::take(&mut self.written);
        Ok(())
    }

    pub fn error(&self, error: impl std::fmt::Display) -> SinkError {
        failed(&self.name, error)
    }
}
