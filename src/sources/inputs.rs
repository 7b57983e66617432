//! All streams of a job: what they are, and each worker's share of them.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use driftline_operators::ingest::Source;
use driftline_operators::layout::CameAs;
use driftline_operators::settled::reader_of;
use driftline_operators::too_early::FutureHorizon;
use driftline_operators::watermark::{EVENTS, Span};
use indexmap::IndexMap;

use super::feed::Feed;
use super::files;
use super::json::JsonLines;
use super::json::feed::{decoders, json_feed};
use super::kafka::begin::Place;
use super::kafka::joins::Joins;
use super::kafka::live::Live;
use super::kafka::reader::Client;
use super::kafka::{self, KafkaStream};
use super::merge::{Join, LiveInput, Merge, MergedFeed, Progress};
use super::own::stream::OwnStream;
use super::parquet::ParquetStream;
use super::parquet::feed::ParquetFeed;
use super::parquet::row_groups::PieceReader;
use super::parquet::schedule::{Lane, Piece, schedule, without_rows};
use super::replay::Replay;
use super::stream::{Future, Partition, StreamSpec};
use super::time_units::{Doubts, Watched};
use super::{SourceError, failed};
use crate::config::job::Format;
use crate::interrupt::Interrupt;
use crate::kafka::Cluster;

/// Lines of a stored table that are decoded at a time: it is read whole before any of it is used.
const TABLE_LINES: usize = 8_192;

/// The streams of a job, opened as far as needed to know their columns and partitions.
pub struct Inputs {
    streams: Vec<Stream>,
    plan: Plan,
    limit: Option<u64>,
    epoch_rows_max: usize,
    topics: Option<Topics>,
    doubts: Doubts,
}

struct Stream {
    number: usize,
    kind: Kind,
    /// It is a table of lines that turned out not to be in order of time.
    was_sorted: Arc<AtomicBool>,
    first_partition: u32,
    idle_timeout_ms: Option<u64>,
    allowed_lateness_ms: i64,
    future: Option<Future>,
}

enum Kind {
    Parquet(ParquetStream),
    Json(JsonLines),
    Own(OwnStream),
    Kafka(KafkaStream),
}

/// What a run needs to read topics.
#[derive(Clone)]
pub struct Topics {
    pub cluster: Cluster,
    pub group: String,
    pub live: Arc<Live>,
    pub joins: Joins,
    pub stop: Interrupt,
}

/// Who reads what, and when.
enum Plan {
    /// Everything is in Parquet: one schedule over all streams, shared by all workers.
    Replay(Vec<Piece>),
    /// The first worker reads everything: a schedule for each stream, none for those of JSON lines.
    Merge(Vec<Arc<[Piece]>>),
}

impl Plan {
    fn new(streams: &[Stream], epoch_rows_max: usize, limit: Option<u64>) -> Self {
        if streams.iter().all(|stream| matches!(stream.kind, Kind::Parquet(_))) {
            return Plan::Replay(schedule(&lanes(streams), epoch_rows_max, limit));
        }
        let of_stream = |stream: &Stream| schedule(stream.lanes(), epoch_rows_max, limit);
        Plan::Merge(streams.iter().map(of_stream).map(Arc::from).collect())
    }
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
        if specs.iter().filter(|spec| spec.is_standard_input()).count() > 1 {
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
        let plan = Plan::new(&streams, epoch_rows_max, limit);
        let doubts = Doubts::default();
        for (number, (stream, spec)) in streams.iter().zip(&specs).enumerate() {
            stream.doubt_times(number, spec, &doubts);
        }
        Ok(Inputs { streams, plan, limit, epoch_rows_max, topics: None, doubts })
    }

    /// The same inputs, with what it takes to read those of them that are topics.
    #[must_use]
    pub fn with_topics(self, topics: Option<Topics>) -> Self {
        Inputs { topics, ..self }
    }

    /// A stream's own columns, after normalisation; what each of its chunks has.
    pub fn schema(&self, stream: usize) -> SchemaRef {
        match &self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.columns.schema().clone(),
            Kind::Json(json) => json.schema().clone(),
            Kind::Own(own) => own.columns.schema().clone(),
            Kind::Kafka(kafka) => kafka.form.schema().clone(),
        }
    }

    /// What integer times of no named unit look like, as far as they have been looked at.
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// What a column is stored as, where it is stored in columns.
    pub fn stored_type(&self, stream: usize, name: &str) -> Option<&DataType> {
        match &self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.columns.stored_type(name),
            Kind::Own(own) => own.columns.stored_type(name),
            Kind::Json(_) | Kind::Kafka(_) => None,
        }
    }

    /// Reads only `columns` of a stream (by position in [`Inputs::schema`]) from now on. The column
    /// of event time has to be among them.
    ///
    /// # Errors
    /// If one of them cannot be read in all files.
    pub fn project(&mut self, stream: usize, columns: &[usize]) -> Result<(), SourceError> {
        match &mut self.streams[stream].kind {
            Kind::Parquet(parquet) => {
                parquet.project(columns)?;
                // How much goes into an epoch depends on what is read.
                self.plan = Plan::new(&self.streams, self.epoch_rows_max, self.limit);
            }
            Kind::Json(json) => json.project(columns),
            Kind::Own(own) => own.columns.project(columns),
            Kind::Kafka(kafka) => kafka.form.project(columns),
        }
        Ok(())
    }

    /// Of the columns of a stream those that cannot be read, and what is wrong with them.
    pub fn unreadable(&self, stream: usize) -> Vec<(&str, SourceError)> {
        match &self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.columns.unreadable().collect(),
            Kind::Json(_) | Kind::Own(_) | Kind::Kafka(_) => Vec::new(),
        }
    }

    /// The file of the events with a row group furthest behind the ones before it, and how far (ms)
    /// that is, as far as footers tell.
    pub fn disorder(&self) -> Option<(String, i64)> {
        let Kind::Parquet(parquet) = &self.streams[EVENTS].kind else { return None };
        let behind = parquet.files.iter().flat_map(|file| {
            let groups = file.groups.iter().filter(|group| group.highest_before > i64::MIN);
            let behind = groups.filter_map(move |group| {
                let (low, _) = group.times?;
                Some((group.highest_before.saturating_sub(low), file))
            });
            behind.filter(|(behind_ms, _)| *behind_ms > 0)
        });
        let (behind_ms, file) = behind.max_by_key(|(behind_ms, _)| *behind_ms)?;
        Some((file.path.display().to_string(), behind_ms))
    }

    /// Which rows of the events count for nothing, if some may. An error is of a column that is not
    /// there, or was left out.
    ///
    /// # Errors
    /// See above.
    pub fn future_horizon(&self) -> Result<Option<FutureHorizon>, ArrowError> {
        let future = self.streams[EVENTS].future.as_ref();
        future.map(|future| future.in_columns(&self.schema(EVENTS))).transpose()
    }

    /// The column that says when events were sent, if it is read.
    pub fn sent_column(&self) -> Option<&str> {
        self.streams[EVENTS].future.as_ref()?.sent_column.as_deref()
    }

    /// What has to be said of the columns of a stream that are read.
    pub fn notes(&self, stream: usize) -> Vec<String> {
        match &self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.columns.notes(),
            Kind::Json(_) | Kind::Own(_) | Kind::Kafka(_) => Vec::new(),
        }
    }

    /// The partitions of all streams, in order of their numbers.
    pub fn partitions(&self) -> Vec<Partition> {
        self.streams.iter().flat_map(Stream::partitions).cloned().collect()
    }

    /// How many partitions of the events are known.
    pub fn event_partitions(&self) -> usize {
        self.streams[EVENTS].partitions().len()
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

    /// Event times of the events that are known before any is read: of Parquet what footers say, of row
    /// groups that are passed over, too.
    pub fn known_times(&self) -> Option<Span> {
        let Kind::Parquet(parquet) = &self.streams[EVENTS].kind else { return None };
        let groups = parquet.files.iter().flat_map(|file| &file.groups);
        let times = groups.filter_map(|group| group.times);
        times.map(|(first, last)| Span { first, last }).reduce(Span::and)
    }

    /// Whether no event is in [from, to) (ms), as far as that is known before any is read.
    pub fn has_none_between(&self, from: i64, to: i64) -> bool {
        let Kind::Parquet(parquet) = &self.streams[EVENTS].kind else { return false };
        let mut groups = parquet.files.iter().flat_map(|file| &file.groups);
        groups.all(|group| {
            let is_outside = |(low, high): (i64, i64)| high < from || low >= to;
            group.rows == 0 || group.times.is_some_and(is_outside)
        })
    }

    /// What rows of a stream come as; bytes and messages are kept beside them.
    pub fn came_as(&self, stream: usize) -> CameAs {
        match self.streams[stream].kind {
            Kind::Json(_) => CameAs::Bytes,
            Kind::Kafka(_) => CameAs::Messages,
            Kind::Parquet(_) | Kind::Own(_) => CameAs::Columns,
        }
    }

    /// Files of a table that are not in order of time, and are sorted; of lines this is known when
    /// they have been read.
    pub fn sorted(&self, stream: usize) -> Vec<String> {
        match &self.streams[stream].kind {
            Kind::Parquet(parquet) => parquet.sorted(),
            Kind::Json(json) if self.streams[stream].was_sorted.load(Relaxed) => {
                vec![json.partition.name.clone()]
            }
            Kind::Json(_) | Kind::Own(_) | Kind::Kafka(_) => Vec::new(),
        }
    }

    /// Whether a stream comes as it comes, rather than from files.
    pub fn is_live(&self, stream: usize) -> bool {
        match &self.streams[stream].kind {
            Kind::Json(json) => json.live,
            Kind::Kafka(_) => true,
            Kind::Parquet(_) | Kind::Own(_) => false,
        }
    }

    /// How many streams there are: the events, and the as-of tables.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How the records of a stream are written.
    pub fn format(&self, stream: usize) -> Format {
        match &self.streams[stream].kind {
            Kind::Json(lines) => lines.format,
            Kind::Kafka(_) => Format::Json,
            Kind::Parquet(_) | Kind::Own(_) => Format::Parquet,
        }
    }

    /// By name, what is to be said of what a stream holds and is none of its columns.
    pub fn untyped(&self, stream: usize) -> &IndexMap<String, String> {
        static NONE: LazyLock<IndexMap<String, String>> = LazyLock::new(IndexMap::new);
        match &self.streams[stream].kind {
            Kind::Json(lines) => &lines.untyped,
            Kind::Parquet(_) | Kind::Own(_) | Kind::Kafka(_) => &NONE,
        }
    }

    /// By partition of the events, the offset of the first record that is scored, where there are
    /// such that only feed windows.
    pub fn first_offsets(&self) -> Arc<[u64]> {
        match &self.streams[EVENTS].kind {
            Kind::Kafka(kafka) => kafka.places.iter().map(|place| place.first).collect(),
            _ => Arc::from([]),
        }
    }

    /// The partitions of the events that are topics', by number.
    pub fn event_places(&self) -> Vec<(u32, Place)> {
        match &self.streams[EVENTS].kind {
            Kind::Kafka(kafka) => (0..).zip(kafka.places.iter().cloned()).collect(),
            _ => Vec::new(),
        }
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
        let source = self.open_source(worker, workers)?;
        Ok(match self.doubts.are_settled() {
            true => source,
            false => Box::new(Watched::new(source, self.doubts.clone())),
        })
    }

    fn open_source(&self, worker: usize, workers: usize) -> Result<Box<dyn Source>, SourceError> {
        match &self.plan {
            Plan::Replay(pieces) => {
                let readers = self.streams.iter().filter_map(|stream| match &stream.kind {
                    Kind::Parquet(parquet) => Some(PieceReader::new(parquet)),
                    Kind::Json(_) | Kind::Own(_) | Kind::Kafka(_) => None,
                });
                let unread = without_rows(&lanes(&self.streams), pieces);
                Ok(Box::new(Replay::new(readers.collect(), pieces, &unread, worker, workers)))
            }
            Plan::Merge(pieces) => self.merge(pieces, worker, workers),
        }
    }

    /// The first worker reads all files, which are decoded on as many threads as there are workers;
    /// partitions of topics are shared out.
    fn merge(
        &self,
        pieces: &[Arc<[Piece]>],
        worker: usize,
        workers: usize,
    ) -> Result<Box<dyn Source>, SourceError> {
        let mut feeds = Vec::new();
        if worker == 0 {
            for (number, (stream, pieces)) in self.streams.iter().zip(pieces).enumerate() {
                let limit = self.limit.filter(|_| number == EVENTS);
                if let Some(feed) = stream.feed(pieces, limit, self.epoch_rows_max, workers)? {
                    feeds.push(MergedFeed { stream: number, feed, is_free: false });
                }
            }
        }
        let is_mine = |stream: &Stream, number: u32| match stream.kind {
            Kind::Kafka(_) => reader_of(number, workers) == worker,
            _ => worker == 0,
        };
        let progress = self.streams.iter().map(|s| s.progress(|number| is_mine(s, number)));
        let progress = progress.collect();
        let Some(topics) = &self.topics else {
            let unread = self.streams.iter().zip(pieces);
            let unread = unread.flat_map(|(stream, pieces)| without_rows(stream.lanes(), pieces));
            return Ok(Box::new(Merge::new(feeds, progress, unread.collect())));
        };
        feeds.extend(self.shared_out(topics, worker, workers)?);
        let eager = self.streams.iter().map(|stream| match &stream.kind {
            Kind::Kafka(kafka) => kafka.form.is_eager(),
            _ => false,
        });
        let Topics { stop, live, joins, .. } = topics.clone();
        let join = self.joining(topics, worker, workers);
        let live = LiveInput { stop, live, eager: eager.collect(), joins, join };
        Ok(Box::new(Merge::live(feeds, progress, live)))
    }

    /// What reads a partition of the events that has come since, if it falls to the worker.
    fn joining(&self, topics: &Topics, worker: usize, workers: usize) -> Join {
        let (topics, rows_max) = (topics.clone(), self.epoch_rows_max);
        let form = match &self.streams[EVENTS].kind {
            Kind::Kafka(kafka) => Some(kafka.form.clone()),
            _ => None,
        };
        Box::new(move |number, place| {
            let mine = reader_of(number, workers) == worker;
            let Some(form) = form.as_ref().filter(|_| mine) else { return Ok(None) };
            let client = Rc::new(Client::new(topics.cluster.consumer(&topics.group)?));
            let feed = form.feed(place, number, &client, &topics.live, rows_max)?.joining();
            kafka::assign(&client.consumer, std::iter::once(place))?;
            Ok(Some(MergedFeed { stream: EVENTS, feed: Box::new(feed), is_free: true }))
        })
    }

    /// A worker's partitions of topics, with a client for them.
    fn shared_out(
        &self,
        topics: &Topics,
        worker: usize,
        workers: usize,
    ) -> Result<Vec<MergedFeed>, SourceError> {
        let streams = self.streams.iter().filter_map(|stream| match &stream.kind {
            Kind::Kafka(kafka) => Some((stream.first_partition, kafka)),
            _ => None,
        });
        let all = streams.flat_map(|(first, kafka)| {
            (first..).zip(0..kafka.places.len()).map(move |(number, at)| (number, kafka, at))
        });
        let mine = all.filter(|(number, ..)| reader_of(*number, workers) == worker);
        let mine: Vec<(u32, &KafkaStream, usize)> = mine.collect();
        if mine.is_empty() {
            return Ok(Vec::new());
        }
        let client = Rc::new(Client::new(topics.cluster.consumer(&topics.group)?));
        let feed = |(number, kafka, at): (u32, &KafkaStream, usize)| {
            let (place, stream) = (&kafka.places[at], kafka.partitions[at].stream);
            let feed =
                kafka.form.feed(place, number, &client, &topics.live, self.epoch_rows_max)?;
            Ok(MergedFeed { stream, feed: Box::new(feed), is_free: true })
        };
        // Queues first: what is fetched before its queue is split would go to the client's own.
        let feeds = mine.iter().copied().map(feed).collect::<Result<Vec<_>, _>>()?;
        kafka::assign(&client.consumer, mine.iter().map(|(_, kafka, at)| &kafka.places[*at]))?;
        Ok(feeds)
    }
}

impl Stream {
    fn open(spec: &StreamSpec, number: usize, first_partition: u32) -> Result<Self, SourceError> {
        let kind = if let Some(events) = &spec.own {
            Kind::Own(OwnStream::open(events, spec, number)?)
        } else if let Some(topics) = &spec.topics {
            Kind::Kafka(KafkaStream::open(spec, topics, number)?)
        } else if spec.is_standard_input() {
            let format = spec.format.unwrap_or(Format::Json);
            if format == Format::Parquet {
                let message = "standard input is read as JSON lines or CSV, not as Parquet";
                return Err(failed("standard input", message));
            }
            Kind::Json(JsonLines::open(Vec::new(), spec, number, format)?)
        } else {
            let listed = files::list(&spec.path)?;
            match files::format(&listed, spec.format)? {
                format @ (Format::Json | Format::Csv) => {
                    Kind::Json(JsonLines::open(listed, spec, number, format)?)
                }
                Format::Parquet => {
                    Kind::Parquet(ParquetStream::open(listed, spec, number, first_partition)?)
                }
            }
        };
        Ok(Stream {
            number,
            kind,
            was_sorted: Arc::default(),
            first_partition,
            idle_timeout_ms: spec.idle_timeout_ms,
            allowed_lateness_ms: spec.allowed_lateness_ms,
            future: spec.future.clone(),
        })
    }

    fn partitions(&self) -> &[Partition] {
        match &self.kind {
            Kind::Parquet(parquet) => &parquet.partitions,
            Kind::Json(json) => std::slice::from_ref(&json.partition),
            Kind::Own(own) => std::slice::from_ref(&own.partition),
            Kind::Kafka(kafka) => &kafka.partitions,
        }
    }

    /// Looks at integer times whose unit the job does not name, as far as they are known before a run.
    fn doubt_times(&self, number: usize, spec: &StreamSpec, doubts: &Doubts) {
        let stored = match &self.kind {
            Kind::Parquet(parquet) => parquet.columns.stored_type(&spec.time),
            Kind::Own(own) => own.columns.stored_type(&spec.time),
            Kind::Json(json) => json.stored_time(),
            Kind::Kafka(kafka) => kafka.form.stored_time(),
        };
        if spec.time_unit.is_some() || !stored.is_some_and(DataType::is_integer) {
            return;
        }
        doubts.expect(number, &spec.time_key, &spec.time);
        match &self.kind {
            Kind::Parquet(parquet) => {
                let groups = parquet.files.iter().flat_map(|file| &file.groups);
                doubts.look(number, groups.filter_map(|group| Some(group.times?.1)));
            }
            Kind::Json(json) => {
                doubts.look(number, json.sampled_times.iter().copied());
            }
            Kind::Own(_) | Kind::Kafka(_) => {}
        }
    }

    /// How far event time has come in the partitions that `is_read` says are read.
    fn progress(&self, is_read: impl Fn(u32) -> bool) -> Progress {
        let partitions = (self.first_partition..).zip(self.partitions());
        Progress::new(partitions.filter(|(number, _)| is_read(*number)), self.allowed_lateness_ms)
    }

    /// What of the partitions is scheduled.
    fn lanes(&self) -> &[Lane] {
        match &self.kind {
            Kind::Parquet(parquet) => &parquet.lanes,
            Kind::Json(_) | Kind::Own(_) | Kind::Kafka(_) => &[],
        }
    }

    fn feed(
        &self,
        pieces: &Arc<[Piece]>,
        limit: Option<u64>,
        epoch_rows_max: usize,
        workers: usize,
    ) -> Result<Option<Box<dyn Feed>>, SourceError> {
        let idle_timeout = self.idle_timeout_ms.map(Duration::from_millis);
        let partition = self.first_partition;
        Ok(Some(match &self.kind {
            Kind::Parquet(parquet) => {
                let reader = PieceReader::new(parquet);
                Box::new(ParquetFeed::new(reader, pieces.clone()))
            }
            Kind::Json(json) => {
                let is_stored_table = self.number != EVENTS && !json.live;
                let rows_max = match is_stored_table {
                    true => epoch_rows_max.max(TABLE_LINES),
                    false => epoch_rows_max,
                };
                let lines = json.start(limit, rows_max, decoders(workers));
                let feed = json_feed(json, partition, lines, idle_timeout, Instant::now())?;
                match is_stored_table {
                    true => Box::new(feed.in_time_order(epoch_rows_max, self.was_sorted.clone())),
                    false => Box::new(feed),
                }
            }
            Kind::Own(own) => Box::new(own.feed(partition, limit, epoch_rows_max, idle_timeout)?),
            // Its partitions are feeds of their own.
            Kind::Kafka(_) => return Ok(None),
        }))
    }
}

fn lanes(streams: &[Stream]) -> Vec<Lane> {
    streams.iter().flat_map(Stream::lanes).cloned().collect()
}
