//! Events from JSON lines: files, plain or compressed, and standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use driftline_operators::admit::Chunk;
use driftline_operators::ingest::{Polled, Source, SourceError};
use indexmap::IndexMap;

use super::columns::{normalise, time_type};
use super::files::InputFile;
use super::{EventInput, Extent, failed};
use crate::config::job::JsonType;

/// Lines that are looked at to learn the columns that the job does not declare.
const SAMPLE_LINES: usize = 1_000;
/// A longer line is no event.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Chunks of lines that wait for the dataflow.
const CHUNKS_WAITING_MAX: usize = 2;
/// How long the dataflow leaves a reader alone that has nothing yet.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// JSON lines as one partition with one reader, in natural order of the files' names.
pub struct JsonLinesInput {
    name: String,
    /// What the lines are read as, in the order of `schema`.
    read_as: Vec<Field>,
    schema: SchemaRef,
    time: String,
    extent: Extent,
    lines: Mutex<Option<Lines>>,
}

/// A line, or why it is none; and its position.
struct Line {
    bytes: Vec<u8>,
    too_long: bool,
}

/// The lines of several readers, one after the other, beginning with those that were looked at.
struct Lines {
    seen: std::vec::IntoIter<Line>,
    readers: std::vec::IntoIter<PathBuf>,
    open: Option<Reader>,
}

/// An open file, or standard input, which is live: its lines go on as soon as they are there.
struct Reader {
    path: PathBuf,
    text: Box<dyn BufRead + Send>,
    live: Option<Arc<AtomicUsize>>,
}

impl JsonLinesInput {
    /// Looks at the first lines of `files` (standard input where there are none).
    ///
    /// # Errors
    /// If a file cannot be read, no line is an object, or there is no column `time`.
    pub fn open(
        files: Vec<InputFile>,
        time: &str,
        declared: &IndexMap<String, JsonType>,
        text_or_integer: &[&str],
        extent: Extent,
    ) -> Result<Self, SourceError> {
        let name = match files.as_slice() {
            [] => "standard input".to_owned(),
            [one] => one.path.display().to_string(),
            [first, ..] => format!("{} and {} more", first.path.display(), files.len() - 1),
        };
        let mut lines = Lines::new(files.into_iter().map(|file| file.path).collect());
        let mut sample = Vec::new();
        while sample.len() < SAMPLE_LINES
            && let Some(line) = lines.next_line()?
        {
            sample.push(line);
        }
        let read_as = infer(&sample, time, declared, text_or_integer);
        if !read_as.iter().any(|field| field.name() == time) {
            let names: Vec<&str> = read_as.iter().map(|field| field.name().as_str()).collect();
            let found =
                if names.is_empty() { "no JSON object".to_owned() } else { names.join(", ") };
            return Err(failed(
                &name,
                format!("no column {time:?} (event.time) in its first lines; there is {found}"),
            ));
        }
        lines.seen = sample.into_iter();
        let schema = event_schema(&read_as, time);
        Ok(JsonLinesInput {
            name,
            read_as,
            schema,
            time: time.to_owned(),
            extent,
            lines: Mutex::new(Some(lines)),
        })
    }
}

fn event_schema(read_as: &[Field], time: &str) -> SchemaRef {
    let fields: Vec<Field> = read_as
        .iter()
        .map(|field| match field.name() == time {
            true => Field::new(time, time_type(), true),
            false => field.clone(),
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Columns of the sampled lines: as declared, else text, truth values, and numbers as Float64. Ids
/// and keys that are integers in every line stay integers.
fn infer(
    sample: &[Line],
    time: &str,
    declared: &IndexMap<String, JsonType>,
    text_or_integer: &[&str],
) -> Vec<Field> {
    use serde_json::Value;
    let mut columns: IndexMap<String, Option<DataType>> = IndexMap::new();
    for line in sample {
        let Ok(Value::Object(object)) = serde_json::from_slice(&line.bytes) else { continue };
        for (name, value) in object {
            let integer_column = name == time || text_or_integer.contains(&name.as_str());
            let found = match value {
                Value::Bool(_) => Some(DataType::Boolean),
                Value::Number(number) if integer_column && number.is_i64() => Some(DataType::Int64),
                Value::Number(_) => Some(DataType::Float64),
                Value::String(_) => Some(DataType::Utf8),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            };
            let column = columns.entry(name).or_default();
            *column = match (column.take(), found) {
                (None, found) => found,
                (Some(known), None) => Some(known),
                (Some(known), Some(found)) if known == found => Some(known),
                _ => Some(DataType::Utf8),
            };
        }
    }
    for (name, json_type) in declared {
        let data_type = match json_type {
            JsonType::Int64 => DataType::Int64,
            JsonType::Float64 => DataType::Float64,
            JsonType::Utf8 => DataType::Utf8,
            JsonType::Boolean => DataType::Boolean,
        };
        columns.insert(name.clone(), Some(data_type));
    }
    let known =
        columns.into_iter().filter_map(|(name, found)| Some(Field::new(name, found?, true)));
    known.collect()
}

impl Lines {
    fn new(paths: Vec<PathBuf>) -> Self {
        let open = paths.is_empty().then(|| {
            let left = Arc::new(AtomicUsize::new(0));
            let text = BufReader::new(Counted { inner: std::io::stdin(), given: left.clone() });
            Reader { path: PathBuf::from("standard input"), text: Box::new(text), live: Some(left) }
        });
        Lines { seen: Vec::new().into_iter(), readers: paths.into_iter(), open }
    }

    /// Whether the next line may have to be waited for: live input, and all that came is read.
    fn may_block(&self) -> bool {
        let live = self.open.as_ref().and_then(|reader| reader.live.as_ref());
        self.seen.len() == 0 && live.is_some_and(|left| left.load(Relaxed) == 0)
    }

    /// The next line that is not blank, without its end.
    fn next_line(&mut self) -> Result<Option<Line>, SourceError> {
        if let Some(line) = self.seen.next() {
            return Ok(Some(line));
        }
        loop {
            if self.open.is_none() {
                let Some(path) = self.readers.next() else { return Ok(None) };
                self.open = Some(Reader { text: open_text(&path)?, path, live: None });
            }
            let Some(reader) = self.open.as_mut() else { return Ok(None) };
            let line = read_line(&mut reader.text);
            let line = line.map_err(|error| failed(reader.path.display(), error))?;
            if let (Some(left), Some(line)) = (&reader.live, &line) {
                let read = line.bytes.len() + 1;
                let _ = left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(read)));
            }
            match line {
                Some(line) if line.bytes.iter().all(u8::is_ascii_whitespace) => {}
                Some(line) => return Ok(Some(line)),
                None => self.open = None,
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

/// One line of at most [`LINE_BYTES_MAX`] bytes; what goes beyond is read and left out.
fn read_line(reader: &mut Box<dyn BufRead + Send>) -> std::io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let mut read = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    let mut too_long = false;
    let mut rest = Vec::new();
    while bytes.last() != Some(&b'\n') && read == LINE_BYTES_MAX && rest.last() != Some(&b'\n') {
        rest.clear();
        too_long = true;
        read = reader.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut rest)?;
    }
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Some(Line { bytes, too_long }))
}

impl EventInput for JsonLinesInput {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn project(&mut self, columns: &[usize]) {
        self.read_as = columns.iter().map(|&column| self.read_as[column].clone()).collect();
        self.schema = event_schema(&self.read_as, &self.time);
    }

    fn partitions(&self) -> Vec<(String, i64)> {
        vec![(self.name.clone(), i64::MIN)]
    }

    fn total_rows(&self) -> Option<u64> {
        None
    }

    fn keeps_raw(&self) -> bool {
        true
    }

    fn open(&self, worker: usize, _workers: usize) -> Result<Box<dyn Source>, SourceError> {
        let mut guard = self.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let lines = if worker == 0 { guard.take() } else { None };
        let chunks = lines.map(|lines| spawn_reader(lines, self.extent));
        Ok(Box::new(JsonLinesSource {
            name: self.name.clone(),
            decoder: LineDecoder::new(&self.read_as, self.schema.clone()),
            time: self.schema.index_of(&self.time).map_err(|error| failed(&self.name, error))?,
            chunks,
            next_epoch: 1,
            next_offset: 0,
            highest: i64::MIN,
        }))
    }
}

type LineChunk = Result<Vec<Line>, SourceError>;

/// Reads lines on a thread of its own, a bounded number of chunks ahead. A chunk is what is there,
/// up to `epoch_rows_max` lines.
fn spawn_reader(mut lines: Lines, extent: Extent) -> Receiver<LineChunk> {
    let (sender, receiver) = sync_channel(CHUNKS_WAITING_MAX);
    std::thread::spawn(move || {
        let mut left = extent.limit.unwrap_or(u64::MAX);
        loop {
            let mut chunk = Vec::new();
            let most = left.min(extent.epoch_rows_max as u64) as usize;
            while chunk.len() < most {
                match lines.next_line() {
                    Ok(Some(line)) => chunk.push(line),
                    Ok(None) => break,
                    Err(error) => {
                        let _ = sender.send(Err(error));
                        return;
                    }
                }
                if lines.may_block() {
                    break;
                }
            }
            left -= chunk.len() as u64;
            if chunk.is_empty() || sender.send(Ok(chunk)).is_err() {
                return;
            }
        }
    });
    receiver
}

struct JsonLinesSource {
    name: String,
    decoder: LineDecoder,
    time: usize,
    chunks: Option<Receiver<LineChunk>>,
    next_epoch: u64,
    next_offset: u64,
    highest: i64,
}

impl Source for JsonLinesSource {
    fn next_epoch(&self) -> Option<u64> {
        self.chunks.as_ref().map(|_| self.next_epoch)
    }

    fn poll(&mut self) -> Result<Polled, SourceError> {
        let Some(chunks) = &self.chunks else { return Ok(Polled::End) };
        let lines = match chunks.try_recv() {
            Ok(lines) => lines?,
            Err(TryRecvError::Empty) => return Ok(Polled::Wait(POLL_INTERVAL)),
            Err(TryRecvError::Disconnected) => {
                // The end is an epoch of its own, in which the partition is finished.
                self.chunks = None;
                return self.chunk(Vec::new(), vec![0]);
            }
        };
        self.chunk(lines, Vec::new())
    }
}

impl JsonLinesSource {
    fn chunk(&mut self, lines: Vec<Line>, finished: Vec<u32>) -> Result<Polled, SourceError> {
        let decoded = self.decoder.decode(&lines).map_err(|error| failed(&self.name, error))?;
        let offsets = decoded.rows.iter().map(|&line| self.next_offset + line as u64);
        let raw =
            BinaryArray::from_iter_values(decoded.rows.iter().map(|&line| &lines[line].bytes));
        let undecoded = decoded
            .bad
            .into_iter()
            .map(|(line, why)| (self.next_offset + line as u64, why, lines[line].bytes.clone()))
            .collect();
        let highest_before = self.highest;
        let times = decoded.events.column(self.time).as_primitive::<TimestampMillisecondType>();
        self.highest = self.highest.max(arrow::compute::max(times).unwrap_or(i64::MIN));
        let chunk = Chunk {
            epoch: self.next_epoch,
            partition: 0,
            offsets: UInt64Array::from_iter_values(offsets),
            events: decoded.events,
            raw: Some(Arc::new(raw) as ArrayRef),
            undecoded,
            highest_before,
            finished,
        };
        self.next_offset += lines.len() as u64;
        self.next_epoch += 1;
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}

/// Lines to columns. A line that is no event of the schema is found out and does no harm to others.
struct LineDecoder {
    /// Integers are read as their text, so that `1.5` is an error and not 1.
    wire: SchemaRef,
    typed: SchemaRef,
    schema: SchemaRef,
}

struct Decoded {
    events: RecordBatch,
    /// The line of each row.
    rows: Vec<usize>,
    /// Lines that are no events, and why.
    bad: Vec<(usize, String)>,
}

impl LineDecoder {
    fn new(read_as: &[Field], schema: SchemaRef) -> Self {
        let as_text = |field: &Field| match field.data_type() {
            DataType::Int64 => Field::new(field.name(), DataType::Utf8, true),
            _ => field.clone(),
        };
        LineDecoder {
            wire: Arc::new(Schema::new(read_as.iter().map(as_text).collect::<Vec<_>>())),
            typed: Arc::new(Schema::new(read_as.to_vec())),
            schema,
        }
    }

    fn new_decoder(&self, rows: usize) -> Result<Decoder, arrow::error::ArrowError> {
        let integers = self.wire != self.typed;
        ReaderBuilder::new(self.wire.clone())
            .with_batch_size(rows.max(1))
            .with_coerce_primitive(integers)
            .build_decoder()
    }

    fn decode(&self, lines: &[Line]) -> Result<Decoded, arrow::error::ArrowError> {
        if let Some(batch) = self.all_at_once(lines)? {
            let rows = (0..lines.len()).collect();
            return Ok(Decoded { events: batch, rows, bad: Vec::new() });
        }
        let (mut rows, mut bad, mut batches) = (Vec::new(), Vec::new(), Vec::new());
        for (at, line) in lines.iter().enumerate() {
            match self.alone(line) {
                Ok(batch) => {
                    rows.push(at);
                    batches.push(batch);
                }
                Err(why) => bad.push((at, why)),
            }
        }
        let events = arrow::compute::concat_batches(&self.schema, &batches)?;
        Ok(Decoded { events, rows, bad })
    }

    /// All lines with one decoder, or `None` if any of them is not exactly one event.
    fn all_at_once(&self, lines: &[Line]) -> Result<Option<RecordBatch>, arrow::error::ArrowError> {
        if lines.is_empty() {
            return Ok(Some(RecordBatch::new_empty(self.schema.clone())));
        }
        let mut decoder = self.new_decoder(lines.len() + 1)?;
        for (at, line) in lines.iter().enumerate() {
            let read = decoder.decode(&line.bytes);
            let whole = read.is_ok_and(|read| read == line.bytes.len())
                && !decoder.has_partial_record()
                && decoder.len() == at + 1;
            if line.too_long || !whole {
                return Ok(None);
            }
        }
        let Ok(Some(batch)) = decoder.flush() else { return Ok(None) };
        Ok(self.typed(&batch).ok())
    }

    /// One line by itself; what is wrong with it otherwise.
    fn alone(&self, line: &Line) -> Result<RecordBatch, String> {
        if line.too_long {
            return Err(format!(
                "longer than {LINE_BYTES_MAX} bytes; the payload is its beginning"
            ));
        }
        let mut decoder = self.new_decoder(2).map_err(|error| error.to_string())?;
        let read = decoder.decode(&line.bytes).map_err(|error| error.to_string())?;
        if decoder.has_partial_record() || decoder.len() != 1 || read != line.bytes.len() {
            return Err("not exactly one JSON object".to_owned());
        }
        let batch = decoder.flush().map_err(|error| error.to_string())?.ok_or("no JSON object")?;
        self.typed(&batch).map_err(|error| error.to_string())
    }

    /// Integers from their text, times from whatever they are.
    fn typed(&self, batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        let columns: Result<Vec<ArrayRef>, _> = batch
            .columns()
            .iter()
            .zip(self.typed.fields())
            .map(|(column, field)| match field.data_type() {
                DataType::Int64 => {
                    integers(column, field.name()).map(|column| Arc::new(column) as ArrayRef)
                }
                _ => Ok(column.clone()),
            })
            .collect();
        normalise(&RecordBatch::try_new(self.typed.clone(), columns?)?, &self.schema)
    }
}

fn integers(text: &ArrayRef, name: &str) -> Result<Int64Array, arrow::error::ArrowError> {
    let text = text.as_string::<i32>();
    let mut values = arrow::array::PrimitiveBuilder::<Int64Type>::with_capacity(text.len());
    for value in text {
        let parsed = value.map(|value| {
            value.parse::<i64>().map_err(|_| {
                arrow::error::ArrowError::JsonError(format!(
                    "{name:?} is {value}, which is no integer"
                ))
            })
        });
        values.append_option(parsed.transpose()?);
    }
    Ok(values.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { bytes: text.as_bytes().to_vec(), too_long: false }
    }

    fn decoder() -> LineDecoder {
        let fields = [
            Field::new("t", DataType::Int64, true),
            Field::new("x", DataType::Float64, true),
            Field::new("s", DataType::Utf8, true),
        ];
        LineDecoder::new(&fields, event_schema(&fields, "t"))
    }

    const GOOD: &str = r#"{"t": 5, "x": 1.5, "s": "a", "more": [1]}"#;

    #[test]
    fn a_bad_line_in_any_place_harms_no_other() {
        let bad_lines = [
            "{\"t\": 1",
            "{\"t\": 1}{\"t\": 2}",
            "1}",
            "[]",
            "{\"t\": 1.5}",
            "{\"t\": 1, \"x\": \"one\"}",
            "{\"t\": 1, \"x\": 1e}",
            "\u{0}",
            "{\"s\": \"\\ud800\"}",
        ];
        for bad in bad_lines {
            for place in 0..4 {
                let mut lines: Vec<Line> = (0..3).map(|_| line(GOOD)).collect();
                lines.insert(place, line(bad));
                let decoded = decoder().decode(&lines).unwrap();
                assert_eq!(decoded.events.num_rows(), 3, "{bad} at {place}");
                assert_eq!(decoded.bad.len(), 1, "{bad}");
                assert_eq!(decoded.bad[0].0, place, "{bad}");
            }
        }
    }

    #[test]
    fn two_mistakes_do_not_make_a_right() {
        let lines =
            [line(GOOD), line("{\"t\": 1}{\"t\": 2}"), line("{\"t\":"), line("1}"), line(GOOD)];
        let decoded = decoder().decode(&lines).unwrap();
        assert_eq!(decoded.rows, [0, 4]);
        assert_eq!(decoded.bad.len(), 3);
    }

    #[test]
    fn columns_are_learned_and_declarations_win() {
        let sample = [line(GOOD), line(r#"{"t": 6, "x": 2, "k": 7, "b": true, "s": null}"#)];
        let declared = IndexMap::from([("x".to_owned(), JsonType::Utf8)]);
        let fields = infer(&sample, "t", &declared, &["k"]);
        let of =
            |name: &str| fields.iter().find(|f| f.name() == name).map(|f| f.data_type().clone());
        assert_eq!(of("t"), Some(DataType::Int64));
        assert_eq!(of("k"), Some(DataType::Int64));
        assert_eq!(of("x"), Some(DataType::Utf8));
        assert_eq!(of("b"), Some(DataType::Boolean));
        assert_eq!(of("more"), None);
    }
}
