//! A file of text, plain or compressed, or a standard stream.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use driftline_operators::sinks::SinkError;
use flate2::write::GzEncoder;

use super::failed;
use super::standard_output::{Reader, StandardOutput};
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
    Plain(BufWriter<Place>),
    Gzip(GzEncoder<BufWriter<Place>>),
    Zstd(zstd::Encoder<'static, BufWriter<Place>>),
    /// Standard output or standard error; rows count once they are written.
    Stream(Box<dyn Write + Send>),
    Finished,
}

/// Where bytes end up.
enum Place {
    Disk(File),
    Output(StandardOutput),
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Place::Disk(file) => file.write(bytes),
            Place::Output(output) => output.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Place::Disk(file) => file.flush(),
            Place::Output(output) => output.flush(),
        }
    }
}

impl TextFile {
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: PathBuf, compression: Option<Compression>) -> Result<Self, SinkError> {
        let name = path.display().to_string();
        let file = File::create(&path).map_err(|error| failed(&name, error))?;
        TextFile::over(name, Place::Disk(file), compression)
    }

    /// Standard output for `reader`; what is compressed is there at the end.
    ///
    /// # Errors
    /// If it cannot be compressed.
    pub fn standard_output(
        reader: &Reader,
        compression: Option<Compression>,
    ) -> Result<Self, SinkError> {
        let (name, output) = ("standard output", reader.output());
        match compression {
            None => Ok(TextFile::stream(name, Box::new(output))),
            _ => TextFile::over(name.to_owned(), Place::Output(output), compression),
        }
    }

    fn over(
        name: String,
        place: Place,
        compression: Option<Compression>,
    ) -> Result<Self, SinkError> {
        let file = BufWriter::with_capacity(BUFFER_BYTES, place);
        let target = match compression {
            None => Target::Plain(file),
            Some(Compression::Gzip) => {
                Target::Gzip(GzEncoder::new(file, flate2::Compression::default()))
            }
            Some(Compression::Zstd) => {
                let level = zstd::DEFAULT_COMPRESSION_LEVEL;
                let encoder = zstd::Encoder::new(file, level);
                Target::Zstd(encoder.map_err(|error| failed(&name, error))?)
            }
        };
        Ok(TextFile { name, target, written: 0, durable: 0 })
    }

    pub fn stream(name: &str, stream: Box<dyn Write + Send>) -> Self {
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
            match file.get_ref() {
                Place::Disk(file) => file.sync_all(),
                Place::Output(_) => Ok(()),
            }
        });
        synced.map_err(|error| self.error(error))?;
        self.durable += std::mem::take(&mut self.written);
        Ok(())
    }

    pub fn error(&self, error: impl std::fmt::Display) -> SinkError {
        failed(&self.name, error)
    }
}
