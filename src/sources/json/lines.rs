//! Lines of text files, plain or compressed, and of standard input; records of CSV, which may have
//! several.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::tokens::without_mark;
use crate::config::job::Format;
use crate::sources::csv::header::{Header, delimiter};
use crate::sources::csv::quotes::Quotes;
use crate::sources::files::InputFile;
use crate::sources::{SourceError, failed};

/// A longer line is no event.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// A line that is not blank, without its end; of CSV a record.
pub struct Line {
    pub bytes: Vec<u8>,
    /// The line is longer than [`LINE_BYTES_MAX`]; `bytes` is its beginning.
    pub too_long: bool,
    /// Its position among all lines of all files, blank ones counted, from 0.
    pub position: u64,
    pub file: Arc<TextFile>,
    /// Its number in the file, from 1.
    pub number: u64,
}

/// A file of lines, or standard input.
#[derive(Debug, Default)]
pub struct TextFile {
    pub name: String,
    /// Of CSV.
    pub header: Header,
    /// The columns that its folders stand for; `None` is null.
    pub folders: Vec<(String, Option<String>)>,
}

/// The lines of several readers, one after the other, beginning with those that were looked at.
pub struct Lines {
    format: Format,
    seen: std::vec::IntoIter<Line>,
    readers: std::vec::IntoIter<InputFile>,
    open: Option<Reader>,
    /// Lines read of all files, blank ones too.
    read: u64,
}

/// An open file, or standard input, which is live: its lines go on as soon as they are there.
struct Reader {
    file: Arc<TextFile>,
    /// Whether its header has been read, if it has one.
    has_begun: bool,
    text: Box<dyn BufRead + Send>,
    /// Bytes that have come and are not read as lines yet.
    live: Option<Arc<AtomicUsize>>,
    /// Lines read, blank ones too.
    read: u64,
}

impl Lines {
    /// The lines of `files`, or of standard input where there are none, in the format of JSON or CSV.
    pub fn new(files: Vec<InputFile>, format: Format) -> Self {
        let open = files.is_empty().then(|| {
            let left = Arc::new(AtomicUsize::new(0));
            let text = BufReader::new(Counted { inner: std::io::stdin(), given: left.clone() });
            let file = TextFile { name: "standard input".to_owned(), ..TextFile::default() };
            Reader::new(file, Box::new(text), Some(left))
        });
        Lines { format, seen: Vec::new().into_iter(), readers: files.into_iter(), open, read: 0 }
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

    /// The next line that is not blank, without its end; of CSV the next record behind the header.
    /// # Errors
    /// If a file cannot be read, or has no header that could be one.
    pub fn next_line(&mut self) -> Result<Option<Line>, SourceError> {
        if let Some(line) = self.seen.next() {
            return Ok(Some(line));
        }
        loop {
            if self.open.is_none() {
                let Some(InputFile { path, hive }) = self.readers.next() else { return Ok(None) };
                let (name, text) = (path.display().to_string(), open_text(&path)?);
                let file = TextFile { name, folders: hive, ..TextFile::default() };
                self.open = Some(Reader::new(file, text, None));
            }
            let Some(reader) = self.open.as_mut() else { return Ok(None) };
            let before = reader.read;
            let line = reader.next(self.format)?;
            self.read += reader.read - before;
            let Some(RawLine { bytes, too_long, lines, .. }) = line else {
                self.open = None;
                continue;
            };
            if without_mark(&bytes).iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if self.format == Format::Csv && !reader.has_begun {
                reader.begin(&bytes, too_long)?;
                continue;
            }
            let back = lines - 1;
            let (position, number) = (self.read - 1 - back, reader.read - back);
            let file = reader.file.clone();
            return Ok(Some(Line { bytes, too_long, position, file, number }));
        }
    }
}

/// The header of a CSV file; `None` if the file has no line.
///
/// # Errors
/// As [`Lines::next_line`].
pub fn header_of(path: &Path) -> Result<Option<Header>, SourceError> {
    let file = TextFile { name: path.display().to_string(), ..TextFile::default() };
    let mut reader = Reader::new(file, open_text(path)?, None);
    while let Some(RawLine { bytes, too_long, .. }) = reader.next(Format::Csv)? {
        if !without_mark(&bytes).iter().all(u8::is_ascii_whitespace) {
            reader.begin(&bytes, too_long)?;
            return Ok(Some(reader.file.header.clone()));
        }
    }
    Ok(None)
}

impl Reader {
    fn new(file: TextFile, text: Box<dyn BufRead + Send>, live: Option<Arc<AtomicUsize>>) -> Self {
        Reader { file: Arc::new(file), has_begun: false, text, live, read: 0 }
    }

    /// The next line, or record of CSV, without its end.
    fn next(&mut self, format: Format) -> Result<Option<RawLine>, SourceError> {
        let named = |error| failed(&self.file.name, error);
        let line = read_line(&mut self.text).map_err(named)?;
        let Some(mut line) = line else { return Ok(None) };
        if self.read == 0 && [b"\xff\xfe", b"\xfe\xff"].iter().any(|m| line.bytes.starts_with(*m)) {
            return Err(failed(&self.file.name, "it is UTF-16; write it as UTF-8"));
        }
        if format == Format::Csv {
            let mut quotes = Quotes::new(delimiter(&self.file.name));
            let is_first = self.read == 0;
            quotes.pass(if is_first { without_mark(&line.bytes) } else { &line.bytes });
            while quotes.are_open()
                && line.bytes.len() < LINE_BYTES_MAX
                && let Some(more) = read_line(&mut self.text).map_err(named)?
            {
                quotes.pass(&more.bytes);
                line.append(more);
            }
        }
        line.without_end();
        self.read += line.lines;
        if let Some(left) = &self.live {
            let _ =
                left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(line.read)));
        }
        Ok(Some(line))
    }

    /// Takes the first record for the header.
    fn begin(&mut self, record: &[u8], too_long: bool) -> Result<(), SourceError> {
        let name = &self.file.name;
        let header = if too_long {
            Err(format!("its header is longer than {LINE_BYTES_MAX} bytes"))
        } else {
            Header::new(without_mark(record), delimiter(name))
        };
        let header = header.map_err(|error| failed(name, error))?;
        let folders = self.file.folders.clone();
        self.file = Arc::new(TextFile { name: name.clone(), header, folders });
        self.has_begun = true;
        Ok(())
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

/// A line as it was read, and how many bytes that took; or several, of one record.
struct RawLine {
    bytes: Vec<u8>,
    too_long: bool,
    read: usize,
    lines: u64,
}

impl RawLine {
    fn append(&mut self, more: RawLine) {
        let room = LINE_BYTES_MAX - self.bytes.len();
        self.too_long |= more.too_long || more.bytes.len() > room;
        self.bytes.extend(more.bytes.iter().take(room));
        self.read += more.read;
        self.lines += more.lines;
    }

    fn without_end(&mut self) {
        while self.bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            self.bytes.pop();
        }
    }
}

/// One line of at most [`LINE_BYTES_MAX`] bytes, with its end; what goes beyond is read and left out.
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
    Ok(Some(RawLine { bytes, too_long, read, lines: 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text, position and number of each line of files with these texts.
    fn read(texts: &[&str], format: Format) -> Vec<(String, u64, u64)> {
        let folder = tempfile::tempdir().unwrap();
        let write = |(at, text): (usize, &&str)| {
            let path = folder.path().join(at.to_string());
            std::fs::write(&path, text).unwrap();
            InputFile { path, hive: Vec::new() }
        };
        let mut lines = Lines::new(texts.iter().enumerate().map(write).collect(), format);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let text = String::from_utf8(line.bytes).unwrap();
            found.push((text, line.position, line.number));
        }
        found
    }

    fn rows<const N: usize>(rows: [(&str, u64, u64); N]) -> Vec<(String, u64, u64)> {
        rows.map(|(text, at, number)| (text.to_owned(), at, number)).to_vec()
    }

    #[test]
    fn positions_count_blank_lines_and_files_follow_each_other() {
        let found = read(&["one\r\n\n  \ntwo", "\u{feff}\nthree\n"], Format::Json);
        assert_eq!(found, rows([("one", 0, 1), ("two", 3, 4), ("three", 5, 2)]));
    }

    #[test]
    fn a_record_goes_on_while_its_quotes_are_open_and_headers_are_none() {
        let texts =
            ["\u{feff}a,b\r\n1,\"x\r\n\r\ny\"\r\n2,\"\"\"\n\"\"\"\n3,a\"b\n", "\nb,a\n\"4\",\"\n"];
        let expected = [
            ("1,\"x\r\n\r\ny\"", 1, 2),
            ("2,\"\"\"\n\"\"\"", 4, 5),
            ("3,a\"b", 6, 7),
            ("\"4\",\"", 9, 3),
        ];
        assert_eq!(read(&texts, Format::Csv), rows(expected));
    }

    #[test]
    fn a_quote_that_is_not_closed_takes_no_more_than_a_line_may_have() {
        let line = format!("{}\n", "x".repeat(1 << 20));
        let text = format!("a\n\"{}y\nz\n", line.repeat(40));
        let found = read(&[&text], Format::Csv);
        assert_eq!(found[0].0.len(), LINE_BYTES_MAX);
        assert_eq!((found[0].1, found[1].1), (1, 17));
        assert_eq!(found.last().map(|last| last.0.as_str()), Some("z"));
    }
}
