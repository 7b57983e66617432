//! A stream of JSON lines: files, plain or compressed, or standard input.

pub mod columns;
pub mod decoder;
pub mod feed;
pub mod lines;

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use driftline_operators::admit::event_times;

use crate::sinks::without_prefixes;
use crate::sources::columns::{ColumnUses, check_time};
use crate::sources::files::{InputFile, describe};
use crate::sources::json::decoder::{LineDecoder, event_schema, infer};
use crate::sources::json::lines::{Line, Lines};
use crate::sources::stream::{Partition, StreamSpec};
use crate::sources::{SourceError, failed};

/// Times (ms) of lines, as far as they have one.
fn sampled_times(
    sample: &[Line],
    read_as: &[Field],
    uses: &ColumnUses,
) -> Result<Vec<i64>, ArrowError> {
    let time = read_as.iter().filter(|field| Some(field.name()) == uses.time.as_ref());
    let time: Vec<Field> = time.cloned().collect();
    let events = LineDecoder::new(&time, uses.clone())?.decode(sample)?.events;
    Ok(event_times(events.column(0))?.iter().flatten().collect())
}

/// Lines that are looked at to learn the columns that the job does not declare.
const SAMPLE_LINES: usize = 1_000;
/// Bytes of them at most, but for the last line.
const SAMPLE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a chunk of lines at most, but for its last line.
const CHUNK_BYTES_MAX: usize = 64 << 20;
/// Chunks of lines that wait for the dataflow.
const CHUNKS_WAITING_MAX: usize = 2;

/// JSON lines as one partition with one reader, in natural order of the files' names.
pub struct JsonLines {
    pub partition: Partition,
    /// Standard input, whose lines come when they come.
    pub live: bool,
    /// What the lines are read as, in the order of the schema.
    read_as: Vec<Field>,
    schema: SchemaRef,
    uses: ColumnUses,
    lines: Mutex<Option<Lines>>,
    /// Times (ms) of the lines that were looked at.
    pub sampled_times: Vec<i64>,
}

impl JsonLines {
    /// Looks at the first lines of `files` (standard input where there are none).
    ///
    /// # Errors
    /// If a file cannot be read, no line is an object, or there is no column of event time.
    pub fn open(
        files: Vec<InputFile>,
        spec: &StreamSpec,
        stream: usize,
    ) -> Result<Self, SourceError> {
        let name = describe(files.iter().map(|file| file.path.as_path()));
        let live = files.is_empty();
        let mut lines = Lines::new(files.into_iter().map(|file| file.path).collect());
        let (mut sample, mut bytes) = (Vec::new(), 0);
        // Of live input only what is there: nobody waits for a thousand lines.
        while sample.len() < SAMPLE_LINES
            && bytes < SAMPLE_BYTES_MAX
            && (sample.is_empty() || !lines.may_block())
            && let Some(line) = lines.next_line()?
        {
            bytes += line.bytes.len();
            sample.push(line);
        }
        let (time, uses) = (&spec.time, spec.uses());
        let read_as = infer(&sample, &uses);
        if !read_as.iter().any(|field| field.name() == time) {
            let names: Vec<&str> = read_as.iter().map(|field| field.name().as_str()).collect();
            return Err(failed(name, without_time(spec, sample.len(), &names)));
        }
        let schema = event_schema(&read_as, &uses).map_err(|error| failed(&name, error))?;
        if let Some(of_time) = read_as.iter().find(|field| field.name() == time) {
            check_time(of_time.data_type(), spec.time_unit).map_err(|error| {
                let reason = without_prefixes(&error.to_string());
                failed(&name, format!("column {time:?} ({}): {reason}", spec.time_key))
            })?;
        }
        let sampled_times = sampled_times(&sample, &read_as, &uses);
        lines.put_back(sample);
        Ok(JsonLines {
            sampled_times: sampled_times.map_err(|error| failed(&name, error))?,
            partition: Partition { stream, name, floor: i64::MIN },
            live,
            schema,
            read_as,
            uses,
            lines: Mutex::new(Some(lines)),
        })
    }

    /// What the event time is read as.
    pub fn stored_time(&self) -> Option<&DataType> {
        let is_time = |field: &&Field| Some(field.name()) == self.uses.time.as_ref();
        self.read_as.iter().find(is_time).map(Field::data_type)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position of event time in the schema.
    ///
    /// # Errors
    /// If it was left out by [`JsonLines::project`].
    pub fn time_column(&self) -> Result<usize, SourceError> {
        let time = self.uses.time.as_deref().unwrap_or_default();
        self.schema.index_of(time).map_err(|error| failed(&self.partition.name, error))
    }

    /// Reads only `columns`, by position in the schema.
    pub fn project(&mut self, columns: &[usize]) {
        self.read_as = columns.iter().map(|&column| self.read_as[column].clone()).collect();
        self.schema = Arc::new(self.schema.project(columns).expect("positions in the schema"));
    }

    /// # Errors
    /// If a column has a type that JSON is not read as.
    pub fn decoder(&self) -> Result<LineDecoder, SourceError> {
        LineDecoder::new(&self.read_as, self.uses.clone())
            .map_err(|error| failed(&self.partition.name, error))
    }

    /// Begins to read at most `limit` lines on a thread of its own. Lines are read once: `None` from
    /// the second time on.
    pub fn start(&self, limit: Option<u64>, epoch_rows_max: usize) -> Option<Receiver<LineChunk>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(spawn_reader(lines, limit.unwrap_or(u64::MAX), epoch_rows_max))
    }
}

/// What is wrong with an input whose first `lines` have the columns `names`, but none of event time.
fn without_time(spec: &StreamSpec, lines: usize, names: &[&str]) -> String {
    let (time, key) = (&spec.time, &spec.time_key);
    match (lines, names) {
        (0, _) => "it is empty; columns are told by its first lines".to_owned(),
        (_, []) => format!("not JSON lines: none of its first lines ({lines}) is a JSON object"),
        (_, names) => {
            let names = names.join(", ");
            format!("no column {time:?} ({key}) in its first lines; there are {names}")
        }
    }
}

pub type LineChunk = Result<Vec<Line>, SourceError>;

/// Reads lines a bounded number of chunks ahead. A chunk is what is there, up to `epoch_rows_max`
/// lines and [`CHUNK_BYTES_MAX`].
fn spawn_reader(mut lines: Lines, limit: u64, epoch_rows_max: usize) -> Receiver<LineChunk> {
    let (sender, receiver) = sync_channel(CHUNKS_WAITING_MAX);
    std::thread::spawn(move || {
        let mut left = limit;
        loop {
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            let most = left.min(epoch_rows_max as u64) as usize;
            while chunk.len() < most && bytes < CHUNK_BYTES_MAX {
                match lines.next_line() {
                    Ok(Some(line)) => {
                        bytes += line.bytes.len();
                        chunk.push(line);
                    }
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
