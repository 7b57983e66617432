//! All streams of a job: what they are, and each worker's share of them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use driftline_operators::ingest::Source;
use driftline_operators::watermark::EVENTS;

use super::feed::Feed;
use super::files::{self, InputFile};
use super::json::JsonLines;
use super::json::feed::json_feed;
use super::merge::{Merge, MergedStream, Progress};
use super::own::stream::OwnStream;
use super::parquet::ParquetStream;
use super::parquet::feed::ParquetFeed;
use super::parquet::row_groups::PieceReader;
use super::parquet::schedule::{Lane, Piece, schedule, without_rows};
use super::replay::Replay;
use super::stream::{Partition, StreamSpec};
use super::{SourceError, failed};
use crate::config::job::Format;

/// The streams of a job, opened as far as needed to know their columns and partitions.
pub struct Inputs {
    streams: Vec<Stream>,
    plan: Plan,
    limit: Option<u64>,
    epoch_rows_max: usize,
}

struct Stream {
    kind: Kind,
    first_partition: u32,
    idle_timeout_ms: Option<u64>,
    allowed_lateness_ms: i64,
}

enum Kind {
    Parquet(ParquetStream),
    Json(JsonLines),
    Own(OwnStream),
}

/// Who reads what, and when.
enum Plan {
    /// Everything is in Parquet: one schedule over all streams, shared by all workers.
    Replay(Vec<Piece>),
    /// The first worker reads everything: a schedule for each stream, none for those of JSON lines.
    Merge(Vec<Arc<[Piece]>>),
}

impl Inputs {
    /// Opens the events and the as-of tables. `limit` is the most rows of the events to read.
    ///
    /// # Errors
    /// If an input cannot be read, or is not what its spec says.
    pub fn open(
        events: StreamSpec,
        tables: Vec<StreamSpec>,
        limit: Option<u64>,
        epoch_rows_max: usize,
    ) -> Result<Self, SourceError> {
        let specs: Vec<StreamSpec> = std::iter::once(events).chain(tables).collect();
        if specs.iter().filter(|spec| spec.own.is_none() && is_standard_input(&spec.path)).count()
            > 1
        {
            let message = "only one input can be standard input; give the others a file or folder";
            return Err(failed("-", message));
        }
        let mut streams: Vec<Stream> = Vec::with_capacity(specs.len());
        let mut partitions = 0;
        for (number, spec) in specs.iter().enumerate() {
            let stream = Stream::open(spec, number, partitions)?;
            partitions += stream.partitions().len() as u32;
            streams.push(stream);
        }
        let plan = if streams.iter().all(|stream| matches!(stream.kind, Kind::Parquet(_))) {
            Plan::Replay(schedule(&lanes(&streams), epoch_rows_max, limit))
        } else {
            let of_stream = |stream: &Stream| schedule(stream.lanes(), epoch_rows_max, limit);
            Plan::Merge(streams.iter().map(of_stream).map(Arc::from).collect())
        };
        Ok(Inputs { streams, plan, limit, epoch_rows_max })
    }

    /// A stream's own columns, after normalisation; what each of its chunks has.
    pub fn schema(&self, stream: usize) -> SchemaRef {
        match &self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.columns.schema().clone(),
            Kind::Json(json) => json.schema().clone(),
            Kind::Own(own) => own.columns.schema().clone(),
        }
    }

    /// Reads only `columns` of a stream (by position in [`Inputs::schema`]) from now on. The column
    /// of event time has to be among them.
    pub fn project(&mut self, stream: usize, columns: &[usize]) {
        match &mut self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.columns.project(columns),
            Kind::Json(json) => json.project(columns),
            Kind::Own(own) => own.columns.project(columns),
        }
    }

    /// The partitions of all streams, in order of their numbers.
    pub fn partitions(&self) -> Vec<Partition> {
        self.streams.iter().flat_map(Stream::partitions).cloned().collect()
    }

    /// Rows of the events in all, where that is known beforehand.
    pub fn total_rows(&self) -> Option<u64> {
        let Kind::Parquet(_) = self.streams[EVENTS].kind else { return None };
        let pieces: &[Piece] = match &self.plan {
            Plan::Replay(pieces) => pieces,
            Plan::Merge(pieces) => &pieces[EVENTS],
        };
        let events = pieces.iter().filter(|piece| piece.stream == EVENTS);
        Some(events.map(|piece| piece.rows).sum())
    }

    /// Whether rows of a stream come as bytes that are kept beside them.
    pub fn keeps_raw(&self, stream: usize) -> bool {
        matches!(self.streams[stream].kind, Kind::Json(_))
    }

    /// The share of one worker. JSON lines are read once: a second source of them is at its end.
    ///
    /// # Errors
    /// If an input cannot be opened.
    pub fn open_worker(
        &self,
        worker: usize,
        workers: usize,
    ) -> Result<Box<dyn Source>, SourceError> {
        match &self.plan {
            Plan::Replay(pieces) => {
                let readers = self.streams.iter().filter_map(|stream| match &stream.kind {
                    Kind::Parquet(parquet) => Some(PieceReader::new(parquet, self.epoch_rows_max)),
                    Kind::Json(_) | Kind::Own(_) => None,
                });
                let unread = without_rows(&lanes(&self.streams), pieces);
                Ok(Box::new(Replay::new(readers.collect(), pieces, &unread, worker, workers)))
            }
            Plan::Merge(_) if worker > 0 => Ok(Box::new(Merge::new(Vec::new(), Vec::new()))),
            Plan::Merge(pieces) => {
                let streams = self.streams.iter().zip(pieces).enumerate();
                let merged = streams.map(|(number, (stream, pieces))| {
                    let limit = self.limit.filter(|_| number == EVENTS);
                    let progress = Progress::new(stream.numbered(), stream.allowed_lateness_ms);
                    let feed = stream.feed(pieces, limit, self.epoch_rows_max)?;
                    Ok(MergedStream { feed, progress })
                });
                let merged = merged.collect::<Result<Vec<_>, SourceError>>()?;
                let unread = self.streams.iter().zip(pieces);
                let unread =
                    unread.flat_map(|(stream, pieces)| without_rows(stream.lanes(), pieces));
                Ok(Box::new(Merge::new(merged, unread.collect())))
            }
        }
    }
}

impl Stream {
    fn open(spec: &StreamSpec, number: usize, first_partition: u32) -> Result<Self, SourceError> {
        let kind = if let Some(events) = &spec.own {
            Kind::Own(OwnStream::open(events, spec, number)?)
        } else if is_standard_input(&spec.path) {
            Kind::Json(JsonLines::open(Vec::new(), spec, number)?)
        } else {
            let listed = files::list(&spec.path)?;
            match format(spec, &listed)? {
                Format::Json => Kind::Json(JsonLines::open(listed, spec, number)?),
                Format::Parquet => {
                    Kind::Parquet(ParquetStream::open(listed, spec, number, first_partition)?)
                }
            }
        };
        Ok(Stream {
            kind,
            first_partition,
            idle_timeout_ms: spec.idle_timeout_ms,
            allowed_lateness_ms: spec.allowed_lateness_ms,
        })
    }

    fn partitions(&self) -> &[Partition] {
        match &self.kind {
            Kind::Parquet(parquet) => &parquet.partitions,
            Kind::Json(json) => std::slice::from_ref(&json.partition),
            Kind::Own(own) => std::slice::from_ref(&own.partition),
        }
    }

    /// The partitions and their numbers.
    fn numbered(&self) -> impl Iterator<Item = (u32, &Partition)> {
        (self.first_partition..).zip(self.partitions())
    }

    /// What of the partitions is scheduled.
    fn lanes(&self) -> &[Lane] {
        match &self.kind {
            Kind::Parquet(parquet) => &parquet.lanes,
            Kind::Json(_) | Kind::Own(_) => &[],
        }
    }

    fn feed(
        &self,
        pieces: &Arc<[Piece]>,
        limit: Option<u64>,
        epoch_rows_max: usize,
    ) -> Result<Box<dyn Feed>, SourceError> {
        let idle_timeout = self.idle_timeout_ms.map(Duration::from_millis);
        let partition = self.first_partition;
        Ok(match &self.kind {
            Kind::Parquet(parquet) => {
                let reader = PieceReader::new(parquet, epoch_rows_max);
                Box::new(ParquetFeed::new(reader, pieces.clone()))
            }
            Kind::Json(json) => {
                let lines = json.start(limit, epoch_rows_max);
                Box::new(json_feed(json, partition, lines, idle_timeout, Instant::now())?)
            }
            Kind::Own(own) => Box::new(own.feed(partition, limit, epoch_rows_max, idle_timeout)?),
        })
    }
}

fn lanes(streams: &[Stream]) -> Vec<Lane> {
    streams.iter().flat_map(Stream::lanes).cloned().collect()
}

fn is_standard_input(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn format(spec: &StreamSpec, files: &[InputFile]) -> Result<Format, SourceError> {
    let first = &files[0].path;
    spec.format.or_else(|| files::format_of(first)).ok_or_else(|| {
        let message = "the name does not tell whether it is Parquet or JSON; set format beside \
                       the path in the job";
        failed(first.display(), message)
    })
}
