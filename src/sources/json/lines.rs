//! Lines of text files, plain or compressed, and of standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::sources::{SourceError, failed};

/// A longer line is no event.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// A line that is not blank, without its end.
pub struct Line {
    pub bytes: Vec<u8>,
    /// The line is longer than [`LINE_BYTES_MAX`]; `bytes` is its beginning.
    pub too_long: bool,
    /// Its position among all lines of all files, blank ones counted, from 0.
    pub position: u64,
    /// Its file, and its number there, from 1.
    pub file: Arc<str>,
    pub number: u64,
}

/// The lines of several readers, one after the other, beginning with those that were looked at.
pub struct Lines {
    seen: std::vec::IntoIter<Line>,
    readers: std::vec::IntoIter<PathBuf>,
    open: Option<Reader>,
    /// Lines read of all files, blank ones too.
    read: u64,
}

/// An open file, or standard input, which is live: its lines go on as soon as they are there.
struct Reader {
    name: Arc<str>,
    text: Box<dyn BufRead + Send>,
    /// Bytes that have come and are not read as lines yet.
    live: Option<Arc<AtomicUsize>>,
    /// Lines read, blank ones too.
    read: u64,
}

impl Lines {
    /// The lines of `paths`, or of standard input where there are none.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let open = paths.is_empty().then(|| {
            let left = Arc::new(AtomicUsize::new(0));
            let text = BufReader::new(Counted { inner: std::io::stdin(), given: left.clone() });
            Reader {
                name: "standard input".into(),
                text: Box::new(text),
                live: Some(left),
                read: 0,
            }
        });
        Lines { seen: Vec::new().into_iter(), readers: paths.into_iter(), open, read: 0 }
    }

    /// Gives `lines`, which came first, again.
    pub fn put_back(&mut self, lines: Vec<Line>) {
        self.seen = lines.into_iter();
    }

    /// Whether the next line may have to be waited for: live input, and all that came is read.
    pub fn may_block(&self) -> bool {
        let live = self.open.as_ref().and_then(|reader| reader.live.as_ref());
        self.seen.len() == 0 && live.is_some_and(|left| left.load(Relaxed) == 0)
    }

    /// The next line that is not blank, without its end.
    /// # Errors
    /// If a file cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line>, SourceError> {
        if let Some(line) = self.seen.next() {
            return Ok(Some(line));
        }
        loop {
            if self.open.is_none() {
                let Some(path) = self.readers.next() else { return Ok(None) };
                let name = path.display().to_string().into();
                self.open = Some(Reader { name, text: open_text(&path)?, live: None, read: 0 });
            }
            let Some(reader) = self.open.as_mut() else { return Ok(None) };
            let line = read_line(&mut reader.text).map_err(|error| failed(&reader.name, error))?;
            let Some(RawLine { bytes, too_long, read }) = line else {
                self.open = None;
                continue;
            };
            if let Some(left) = &reader.live {
                let _ = left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(read)));
            }
            reader.read += 1;
            self.read += 1;
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                let (position, file, number) = (self.read - 1, reader.name.clone(), reader.read);
                return Ok(Some(Line { bytes, too_long, position, file, number }));
            }
        }
    }
}

/// Counts the bytes that a reader has given out.
struct Counted<R> {
    inner: R,
    given: Arc<AtomicUsize>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.given.fetch_add(read, Relaxed);
        Ok(read)
    }
}

fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>, SourceError> {
    let file = File::open(path).map_err(|error| failed(path.display(), error))?;
    Ok(match path.extension().and_then(|end| end.to_str()) {
        Some("gz") => {
            Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(BufReader::new(file))))
        }
        Some("zst") => {
            let decoder =
                zstd::Decoder::new(file).map_err(|error| failed(path.display(), error))?;
            Box::new(BufReader::new(decoder))
        }
        _ => Box::new(BufReader::with_capacity(1 << 20, file)),
    })
}

/// A line as it was read, without its end, and how many bytes that took.
struct RawLine {
    bytes: Vec<u8>,
    too_long: bool,
    read: usize,
}

/// One line of at most [`LINE_BYTES_MAX`] bytes; what goes beyond is read and left out.
fn read_line(reader: &mut Box<dyn BufRead + Send>) -> std::io::Result<Option<RawLine>> {
    let limit = LINE_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    let mut read = reader.by_ref().take(limit).read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    let mut whole = bytes.last() == Some(&b'\n') || read < LINE_BYTES_MAX;
    let too_long = !whole;
    let mut rest = Vec::new();
    while !whole {
        rest.clear();
        let more = reader.by_ref().take(limit).read_until(b'\n', &mut rest)?;
        read += more;
        whole = rest.last() == Some(&b'\n') || more < LINE_BYTES_MAX;
    }
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Some(RawLine { bytes, too_long, read }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_blank_lines_and_files_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let paths = vec![write("a", "one\r\n\n  \ntwo"), write("b", "\nthree\n")];
        let mut lines = Lines::new(paths);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let text = String::from_utf8(line.bytes).unwrap();
            found.push((text, line.position, line.number));
        }
        let expected = [("one", 0, 1), ("two", 3, 4), ("three", 5, 2)];
        assert_eq!(found, expected.map(|(text, at, number)| (text.to_owned(), at, number)));
    }
}
