//! Events from JSON lines: files, plain or compressed, and standard input.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BinaryArray, UInt64Array};
use arrow::datatypes::{Field, SchemaRef, TimestampMillisecondType};
use driftline_operators::admit::Chunk;
use driftline_operators::ingest::{Polled, Source, SourceError};
use indexmap::IndexMap;

use super::files::InputFile;
use super::line_decoder::{LineDecoder, event_schema, infer};
use super::lines::{Line, Lines};
use super::{EventInput, Extent, failed};
use crate::config::job::JsonType;

/// Lines that are looked at to learn the columns that the job does not declare.
const SAMPLE_LINES: usize = 1_000;
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
        // Of live input only what is there: nobody waits for a thousand lines.
        while sample.len() < SAMPLE_LINES
            && (sample.is_empty() || !lines.may_block())
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
        lines.put_back(sample);
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
        let offsets = decoded.rows.iter().map(|&line| lines[line].position);
        let raw =
            BinaryArray::from_iter_values(decoded.rows.iter().map(|&line| &lines[line].bytes));
        let undecoded = decoded.bad.into_iter().map(|(at, why)| {
            let Line { bytes, position, file, number, .. } = &lines[at];
            (*position, format!("{file}, line {number}: {why}"), bytes.clone())
        });
        let undecoded = undecoded.collect();
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
        self.next_epoch += 1;
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}
