//! A stream of lines of text, JSON or CSV: files, plain or compressed, or standard input.
//!
//! | file | concept |
//! | --- | --- |
//! | `lines` | lines and records, one after the other, whatever they are in |
//! | `chunk` | lines that are read together, in one buffer |
//! | `learn` | the columns of JSON, by its first lines |
//! | `columns` | JSON objects to columns |
//! | `clean` | those that are written as most are, faster |
//! | `known_keys` | the keys that are expected next |
//! | `tokens` | what others write that is no JSON |
//! | `decoder` | lines of either format to columns; what is no event |
//! | `feed` | chunks of a stream |

pub mod chunk;
mod clean;
pub mod columns;
pub mod decoder;
pub mod feed;
pub mod known_keys;
pub mod learn;
pub mod lines;
pub mod tokens;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use driftline_operators::admit::event_times;
use driftline_operators::too_early::FutureHorizon;
use indexmap::{IndexMap, IndexSet};

use crate::config::job::Format;
use crate::sources::columns::{ColumnUse, ColumnUses, check_time, declared_type};
use crate::sources::csv;
use crate::sources::files::{InputFile, describe, is_canonical_integer};
use crate::sources::json::chunk::LineChunk;
use crate::sources::json::decoder::{LineDecoder, event_schema};
use crate::sources::json::learn::Learned;
use crate::sources::json::lines::{Lines, header_of};
use crate::sources::stream::{Future, Partition, StreamSpec};
use crate::sources::{SourceError, failed};
use crate::text::without_prefixes;

/// Times (ms) of lines, as far as they have one.
fn sampled_times(
    sample: &LineChunk,
    format: Format,
    read_as: &[Field],
    uses: &ColumnUses,
) -> Result<Vec<i64>, ArrowError> {
    let Some(time) = read_as.iter().find(|field| Some(field.name()) == uses.time.as_ref()) else {
        return Ok(Vec::new());
    };
    let mut decoder = LineDecoder::new(format, std::slice::from_ref(time), uses.clone())?;
    let events = decoder.decode(sample)?.events;
    Ok(event_times(events.column(0))?.iter().flatten().collect())
}

/// Lines that are looked at to learn the columns that the job does not declare.
const SAMPLE_LINES: usize = 1_000;
/// Bytes of them at most, but for the last line.
const SAMPLE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a chunk of lines at most, but for its last line.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;
/// Chunks of lines that wait to be decoded, or one for each decoder if these are more.
const CHUNKS_WAITING_MAX: usize = 2;

/// Lines as one partition with one reader, in natural order of the files' names.
pub struct JsonLines {
    pub partition: Partition,
    pub format: Format,
    /// Standard input, whose lines come when they come.
    pub live: bool,
    /// By name, what is to be said of what is there and is no column.
    pub untyped: IndexMap<String, String>,
    /// What the lines are read as, in the order of the schema.
    read_as: Vec<Field>,
    schema: SchemaRef,
    uses: ColumnUses,
    future: Option<Future>,
    lines: Mutex<Option<Box<Lines>>>,
    /// Times (ms) of the lines that were looked at.
    pub sampled_times: Vec<i64>,
}

/// The columns that the folders of files stand for: as declared, else integers if all of them are, or
/// text.
fn of_folders(files: &[InputFile], uses: &ColumnUses) -> Vec<Field> {
    let mut columns: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for (name, value) in files.iter().flat_map(|file| &file.hive) {
        columns.entry(name).or_default().extend(value.as_deref());
    }
    let field = |(name, values): (&str, Vec<&str>)| {
        let are_integers = !values.is_empty() && values.into_iter().all(is_canonical_integer);
        let to = match uses.of(name) {
            _ if uses.declared.contains_key(name) => declared_type(uses.declared[name]),
            _ if !are_integers => DataType::Utf8,
            ColumnUse::Value => DataType::Float64,
            _ => DataType::Int64,
        };
        Field::new(name, to, true)
    };
    columns.into_iter().map(field).collect()
}

/// Lines, and the columns that the first of them have.
pub struct Looked {
    pub lines: Lines,
    pub fields: Vec<Field>,
    pub untyped: IndexMap<String, String>,
    /// Lines that were looked at.
    pub sampled: usize,
    /// Times (ms) of these; none where their column holds no times.
    pub times: Vec<i64>,
}

impl Looked {
    /// Looks at the first lines of `files` (standard input where there are none).
    ///
    /// # Errors
    /// If a file cannot be read, or is CSV without a header that could be one.
    pub fn at(
        files: Vec<InputFile>,
        format: Format,
        uses: &ColumnUses,
    ) -> Result<Self, SourceError> {
        let folders = of_folders(&files, uses);
        let mut names = IndexSet::new();
        if format == Format::Csv {
            for file in &files {
                let header = header_of(&file.path)?;
                names.extend(header.into_iter().flat_map(|header| header.names));
            }
        }
        let mut lines = Lines::new(files, format);
        let sample = sample(&mut lines)?;
        let Learned { mut fields, untyped } = match format {
            Format::Csv => {
                // Standard input has no header before its first record.
                names.extend(sample.files().flat_map(|file| file.header.names.iter().cloned()));
                let names: Vec<String> = names.into_iter().collect();
                csv::learn::infer(&names, &sample, uses)
            }
            Format::Json | Format::Parquet => learn::infer(&sample, uses),
        };
        let sampled = sample.len();
        let say = |(name, why): (String, learn::Untyped)| {
            let said = why.said(&name, sampled, &uses.columns_key);
            (name, said)
        };
        let mut untyped: IndexMap<String, String> = untyped.into_iter().map(say).collect();
        for folder in folders {
            untyped.shift_remove(folder.name());
            if !fields.iter().any(|field| field.name() == folder.name()) {
                fields.push(folder);
            }
        }
        // What is wrong with a column that holds no times is said when it is asked for them.
        let times = sampled_times(&sample, format, &fields, uses).unwrap_or_default();
        lines.put_back(sample);
        Ok(Looked { lines, fields, untyped, sampled, times })
    }
}

fn sample(lines: &mut Lines) -> Result<LineChunk, SourceError> {
    let mut sample = LineChunk::default();
    // Of live input only what is there: nobody waits for a thousand lines.
    while sample.len() < SAMPLE_LINES
        && sample.bytes() < SAMPLE_BYTES_MAX
        && (sample.is_empty() || !lines.may_block())
        && lines.next_into(&mut sample)?
    {}
    Ok(sample)
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
        format: Format,
    ) -> Result<Self, SourceError> {
        let name = describe(files.iter().map(|file| file.path.as_path()));
        let live = files.is_empty();
        let time = &spec.time;
        if format == Format::Csv {
            files.iter().try_for_each(|file| has_time(file, spec))?;
        }
        let uses = spec.uses();
        let Looked { lines, fields, untyped, sampled, times } = Looked::at(files, format, &uses)?;
        let Some(of_time) = fields.iter().find(|field| field.name() == time) else {
            let message = match untyped.get(time) {
                Some(why) if sampled > 0 => format!("event time ({}): {why}", spec.time_key),
                _ => without_time(spec, sampled, &fields, format),
            };
            return Err(failed(name, message));
        };
        check_time(of_time.data_type(), spec.time_unit).map_err(|error| {
            let reason = without_prefixes(&error.to_string());
            failed(&name, format!("column {time:?} ({}): {reason}", spec.time_key))
        })?;
        let schema = event_schema(&fields, &uses).map_err(|error| failed(&name, error))?;
        Ok(JsonLines {
            sampled_times: times,
            partition: Partition { stream, name, floor: i64::MIN },
            format,
            live,
            untyped,
            schema,
            read_as: fields,
            uses,
            future: spec.future.clone(),
            lines: Mutex::new(Some(Box::new(lines))),
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

    /// Which rows count for nothing, if some may.
    ///
    /// # Errors
    /// If the column that says so was left out by [`JsonLines::project`].
    pub fn future_horizon(&self) -> Result<Option<FutureHorizon>, SourceError> {
        let future = self.future.as_ref().map(|future| future.in_columns(&self.schema));
        future.transpose().map_err(|error| failed(&self.partition.name, error))
    }

    /// Reads only `columns`, by position in the schema.
    pub fn project(&mut self, columns: &[usize]) {
        self.read_as = columns.iter().map(|&column| self.read_as[column].clone()).collect();
        self.schema = Arc::new(self.schema.project(columns).expect("positions in the schema"));
    }

    /// # Errors
    /// If a column has a type that text is not read as.
    pub fn decoder(&self) -> Result<LineDecoder, SourceError> {
        LineDecoder::new(self.format, &self.read_as, self.uses.clone())
            .map_err(|error| failed(&self.partition.name, error))
    }

    /// Begins to read at most `limit` lines on a thread of its own, for so many decoders, each of which
    /// has its turn: the chunks of the first are the first, and so on. Lines are read once: `None` from
    /// the second time on.
    pub fn start(
        &self,
        limit: Option<u64>,
        epoch_rows_max: usize,
        decoders: usize,
    ) -> Option<Vec<Receiver<ReadLines>>> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let decoders = if self.live { 1 } else { decoders.max(1) };
        let waiting = CHUNKS_WAITING_MAX.div_ceil(decoders);
        let (senders, receivers) = (0..decoders).map(|_| sync_channel(waiting)).unzip();
        spawn_reader(*lines, limit.unwrap_or(u64::MAX), epoch_rows_max, senders);
        Some(receivers)
    }
}

/// Whether a CSV file has the column of event time, unless it is empty.
fn has_time(file: &InputFile, spec: &StreamSpec) -> Result<(), SourceError> {
    match header_of(&file.path)? {
        Some(header)
            if !header.names.contains(&spec.time)
                && !file.hive.iter().any(|(name, _)| *name == spec.time) =>
        {
            let names = header.names.join(", ");
            let (time, key) = (&spec.time, &spec.time_key);
            let message = format!("no column {time:?} ({key}) in its header; there are {names}");
            Err(failed(file.path.display(), message))
        }
        _ => Ok(()),
    }
}

/// What is wrong with an input whose first `lines` have these columns, but none of event time.
fn without_time(spec: &StreamSpec, lines: usize, fields: &[Field], format: Format) -> String {
    let (time, key) = (&spec.time, &spec.time_key);
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    match (lines, names.as_slice(), format) {
        (0, _, Format::Csv) => {
            "it has no records; the types of columns are told by its first ones".to_owned()
        }
        (0, ..) => "it is empty; columns are told by its first lines".to_owned(),
        (_, [], Format::Json | Format::Parquet) => {
            format!("not JSON lines: none of its first lines ({lines}) is a JSON object")
        }
        (_, names, _) => {
            let names = names.join(", ");
            format!("no column {time:?} ({key}) in its first lines; there are {names}")
        }
    }
}

pub type ReadLines = Result<LineChunk, SourceError>;

/// Reads lines a bounded number of chunks ahead, for one of `senders` after the other. A chunk is what is
/// there, up to `epoch_rows_max` lines and [`CHUNK_BYTES_MAX`].
fn spawn_reader(
    mut lines: Lines,
    limit: u64,
    epoch_rows_max: usize,
    senders: Vec<SyncSender<ReadLines>>,
) {
    std::thread::spawn(move || {
        let (mut left, mut chunk) = (limit, LineChunk::default());
        for sender in senders.iter().cycle() {
            let most = left.min(epoch_rows_max as u64) as usize;
            if let Err(error) = fill(&mut chunk, &mut lines, most) {
                let _ = sender.send(Err(error));
                return;
            }
            left -= chunk.len() as u64;
            let next = LineChunk::like(&chunk);
            if chunk.is_empty() || sender.send(Ok(chunk)).is_err() {
                return;
            }
            chunk = next;
        }
    });
}

/// Appends lines up to so many, as long as they are there.
fn fill(chunk: &mut LineChunk, lines: &mut Lines, most: usize) -> Result<(), SourceError> {
    while chunk.len() < most && chunk.bytes() < CHUNK_BYTES_MAX && lines.next_into(chunk)? {
        if lines.may_block() {
            break;
        }
    }
    Ok(())
}
