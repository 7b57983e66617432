//! Lines of text files, plain or compressed, and of standard input; records of CSV, which may have
//! several.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use memchr::memchr;

use super::chunk::{Line, LineChunk, TextFile};
use super::tokens::without_mark;
use crate::config::job::Format;
use crate::sources::csv::header::{Header, delimiter};
use crate::sources::csv::quotes::Quotes;
use crate::sources::files::InputFile;
use crate::sources::{SourceError, failed};

/// A longer line is no event.
pub const LINE_BYTES_MAX: usize = 16 << 20;
/// What is read of a plain file at once: what fits a core's own cache, from where lines are copied on.
const FILE_BUFFER_BYTES: usize = 256 << 10;

/// The lines of several readers, one after the other, beginning with those that were looked at.
pub struct Lines {
    format: Format,
    seen: LineChunk,
    /// Lines of those that were looked at that have been given again.
    given: usize,
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
        let (seen, readers) = (LineChunk::default(), files.into_iter());
        Lines { format, seen, given: 0, readers, open, read: 0 }
    }

    /// Gives `lines`, which came first, again.
    pub fn put_back(&mut self, lines: LineChunk) {
        (self.seen, self.given) = (lines, 0);
    }

    /// Whether the next line may have to be waited for: live input, and all that came is read.
    pub fn may_block(&self) -> bool {
        let live = self.open.as_ref().and_then(|reader| reader.live.as_ref());
        self.seen.is_empty() && live.is_some_and(|left| left.load(Relaxed) == 0)
    }

    /// Appends the next line that is not blank to `chunk`, without its end, or of CSV the next record
    /// behind the header; whether there is one.
    ///
    /// # Errors
    /// If a file cannot be read, or has no header that could be one.
    pub fn next_into(&mut self, chunk: &mut LineChunk) -> Result<bool, SourceError> {
        if self.give_again(chunk) {
            return Ok(true);
        }
        let from = chunk.bytes();
        loop {
            chunk.text_mut().truncate(from);
            if self.open.is_none() {
                let Some(InputFile { path, hive }) = self.readers.next() else { return Ok(false) };
                let (name, text) = (path.display().to_string(), open_text(&path)?);
                let file = TextFile { name, folders: hive, ..TextFile::default() };
                self.open = Some(Reader::new(file, text, None));
            }
            let Some(reader) = self.open.as_mut() else { return Ok(false) };
            let before = reader.read;
            let line = reader.next(self.format, chunk.text_mut())?;
            self.read += reader.read - before;
            let Some(RawLine { too_long, lines, .. }) = line else {
                self.open = None;
                continue;
            };
            let text = &chunk.text_mut()[from..];
            if is_blank(text) {
                continue;
            }
            if self.format == Format::Csv && !reader.has_begun {
                reader.begin(text, too_long)?;
                continue;
            }
            let back = lines - 1;
            let (position, number) = (self.read - 1 - back, reader.read - back);
            chunk.end_line(Line { too_long, position, number }, &reader.file);
            return Ok(true);
        }
    }

    /// Appends the next of the lines that were looked at, if there is one.
    fn give_again(&mut self, chunk: &mut LineChunk) -> bool {
        let (seen, given) = (&self.seen, self.given);
        if given == seen.len() {
            return false;
        }
        chunk.push(seen.text(given), seen.line(given), seen.file(given));
        self.given += 1;
        if self.given == self.seen.len() {
            self.put_back(LineChunk::default());
        }
        true
    }
}

fn is_blank(line: &[u8]) -> bool {
    without_mark(line).iter().all(u8::is_ascii_whitespace)
}

/// The header of a CSV file; `None` if the file has no line.
///
/// # Errors
/// As [`Lines::next_into`].
pub fn header_of(path: &Path) -> Result<Option<Header>, SourceError> {
    let file = TextFile { name: path.display().to_string(), ..TextFile::default() };
    let mut reader = Reader::new(file, open_text(path)?, None);
    let mut text = Vec::new();
    while let Some(RawLine { too_long, .. }) = reader.next(Format::Csv, &mut text)? {
        if !is_blank(&text) {
            reader.begin(&text, too_long)?;
            return Ok(Some(reader.file.header.clone()));
        }
        text.clear();
    }
    Ok(None)
}

impl Reader {
    fn new(file: TextFile, text: Box<dyn BufRead + Send>, live: Option<Arc<AtomicUsize>>) -> Self {
        Reader { file: Arc::new(file), has_begun: false, text, live, read: 0 }
    }

    /// Appends the next line, or record of CSV, to `text`, without its end.
    fn next(&mut self, format: Format, text: &mut Vec<u8>) -> Result<Option<RawLine>, SourceError> {
        let named = |error| failed(&self.file.name, error);
        let from = text.len();
        let line = read_line(self.text.as_mut(), text).map_err(named)?;
        let Some(mut line) = line else { return Ok(None) };
        let is_first = self.read == 0;
        if is_first && [b"\xff\xfe", b"\xfe\xff"].iter().any(|m| text[from..].starts_with(*m)) {
            return Err(failed(&self.file.name, "it is UTF-16; write it as UTF-8"));
        }
        if format == Format::Csv {
            let mut quotes = Quotes::new(delimiter(&self.file.name));
            quotes.pass(if is_first { without_mark(&text[from..]) } else { &text[from..] });
            while quotes.are_open() && text.len() - from < LINE_BYTES_MAX {
                let more_from = text.len();
                let more = read_line(self.text.as_mut(), text).map_err(named)?;
                let Some(more) = more else { break };
                quotes.pass(&text[more_from..]);
                line.read += more.read;
                line.lines += more.lines;
                line.too_long |= more.too_long || text.len() - from > LINE_BYTES_MAX;
                text.truncate(from + LINE_BYTES_MAX);
            }
        }
        while text.len() > from && matches!(text.last(), Some(b'\n' | b'\r')) {
            text.pop();
        }
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
        _ => Box::new(BufReader::with_capacity(FILE_BUFFER_BYTES, file)),
    })
}

/// A line that was read, or several of one record.
struct RawLine {
    /// It is longer than [`LINE_BYTES_MAX`]; its beginning was kept.
    too_long: bool,
    /// Its bytes with those that were not kept.
    read: usize,
    lines: u64,
}

/// Appends one line of at most [`LINE_BYTES_MAX`] bytes, with its end; what goes beyond is read and
/// left out.
fn read_line(reader: &mut dyn BufRead, text: &mut Vec<u8>) -> std::io::Result<Option<RawLine>> {
    let (mut read, mut ends) = (0, false);
    while !ends {
        let there = match reader.fill_buf() {
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = memchr(b'\n', there);
        let more = end.map_or(there.len(), |end| end + 1);
        let room = LINE_BYTES_MAX.saturating_sub(read);
        text.extend_from_slice(&there[..more.min(room)]);
        reader.consume(more);
        read += more;
        ends = end.is_some() || more == 0;
    }
    let is_whole = read < LINE_BYTES_MAX || read == LINE_BYTES_MAX && text.ends_with(b"\n");
    Ok((read > 0).then_some(RawLine { too_long: !is_whole, read, lines: 1 }))
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
        let mut read = LineChunk::default();
        while lines.next_into(&mut read).unwrap() {}
        let found = (0..read.len()).map(|at| {
            let text = String::from_utf8(read.text(at).to_vec()).unwrap();
            (text, read.line(at).position, read.line(at).number)
        });
        found.collect()
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
    fn a_line_may_have_so_many_bytes_with_its_end() {
        for (length, end, too_long) in [
            (LINE_BYTES_MAX - 1, "\n", false),
            (LINE_BYTES_MAX, "\n", true),
            (LINE_BYTES_MAX - 1, "", false),
            (LINE_BYTES_MAX, "", true),
            (LINE_BYTES_MAX + 9, "\n", true),
        ] {
            let text = format!("{}{end}", "x".repeat(length));
            let mut kept = Vec::new();
            let line = read_line(&mut text.as_bytes(), &mut kept).unwrap().unwrap();
            assert_eq!((line.too_long, line.read), (too_long, text.len()), "{length} {end:?}");
            assert_eq!(kept.len(), text.len().min(LINE_BYTES_MAX));
        }
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
