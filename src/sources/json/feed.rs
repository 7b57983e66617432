//! Decodes lines of text as they come.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use arrow::array::{BinaryArray, RecordBatch, UInt64Array};
use arrow::datatypes::SchemaRef;

use driftline_operators::chunk::Undecoded;
use driftline_operators::guarded::guarded;

use crate::sources::json::chunk::LineChunk;
use crate::sources::json::decoder::LineDecoder;
use crate::sources::json::{JsonLines, ReadLines};
use crate::sources::one_partition::{Came, OnePartition, Place, Reader, Records};
use crate::sources::{SourceError, failed};

/// Chunks of records of a decoder that wait for the worker.
const DECODED_MAX: usize = 1;
/// Threads that decode the lines of a stream. Each holds up to three chunks: lines that wait, those that
/// it decodes, and records.
const DECODERS_MAX: usize = 8;

/// Threads that decode for so many workers: no more than there are cores.
pub fn decoders(workers: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    workers.min(cores).clamp(1, DECODERS_MAX)
}

pub struct JsonReader {
    /// `None` if another source reads them.
    lines: Option<Lines>,
    schema: SchemaRef,
}

/// Where records come from.
enum Lines {
    /// Live input: what comes is decoded as it comes.
    Live(Receiver<ReadLines>, Box<LineDecoding>),
    /// Files are decoded by threads of their own, a chunk ahead: it takes longer than others of the
    /// worker may wait.
    Ahead(Decoders),
}

/// Threads that decode chunks, each in its turn.
struct Decoders {
    decoded: Vec<Receiver<Result<Records, SourceError>>>,
    /// Whose turn it is.
    next: usize,
}

struct LineDecoding {
    name: String,
    decoder: LineDecoder,
}

/// Reads `lines`, begun by [`JsonLines::start`], with a decoder for each part of them. A live partition
/// that is silent for `idle_timeout` is idle.
///
/// # Errors
/// If the column of event time was left out.
pub fn json_feed(
    json: &JsonLines,
    partition: u32,
    lines: Option<Vec<Receiver<ReadLines>>>,
    idle_timeout: Option<Duration>,
    now: Instant,
) -> Result<OnePartition<JsonReader>, SourceError> {
    let name = json.partition.name.clone();
    let place = Place {
        name: name.clone(),
        stream: json.partition.stream,
        partition,
        time_column: json.time_column()?,
        future: json.future_horizon()?,
    };
    let schema = json.schema().clone();
    let decoding = || Ok(LineDecoding { name: name.clone(), decoder: json.decoder()? });
    let lines = match lines {
        Some(mut lines) if json.live => {
            let lines = lines.pop().ok_or_else(|| failed(&name, "nobody reads it"))?;
            Some(Lines::Live(lines, Box::new(decoding()?)))
        }
        Some(lines) => {
            let ahead = |lines| decoding().and_then(|decoding| decoding.ahead(lines));
            let decoded = lines.into_iter().map(ahead).collect::<Result<_, SourceError>>()?;
            Some(Lines::Ahead(Decoders { decoded, next: 0 }))
        }
        None => None,
    };
    let reader = JsonReader { lines, schema };
    Ok(OnePartition::new(place, reader, idle_timeout.filter(|_| json.live), now))
}

impl LineDecoding {
    /// Decodes on a thread, until there are no lines or nobody wants them any more.
    fn ahead(
        mut self,
        lines: Receiver<ReadLines>,
    ) -> Result<Receiver<Result<Records, SourceError>>, SourceError> {
        let (sender, receiver) = sync_channel(DECODED_MAX);
        let name = self.name.clone();
        let thread = std::thread::Builder::new().name("decoder".to_owned());
        let work = move || {
            for lines in lines {
                let decoded = lines.and_then(|lines| {
                    let decoded = guarded(|| self.decode(lines));
                    decoded.unwrap_or_else(|panic| Err(failed(&self.name, panic)))
                });
                let is_over = decoded.is_err();
                if sender.send(decoded).is_err() || is_over {
                    return;
                }
            }
        };
        thread.spawn(work).map_err(|error| failed(&name, error))?;
        Ok(receiver)
    }

    fn decode(&mut self, lines: LineChunk) -> Result<Records, SourceError> {
        let named = |error| failed(&self.name, error);
        let decoded = self.decoder.decode(&lines).map_err(named)?;
        let offsets = decoded.rows.iter().map(|&at| lines.line(at).position);
        let offsets = UInt64Array::from_iter_values(offsets);
        let undecoded = decoded.bad.into_iter().map(|(at, why)| {
            let (line, file) = (lines.line(at), lines.file(at));
            let why = format!("{}, line {}: {why}", file.name, line.number);
            let bytes = Some(lines.text(at).to_vec());
            Undecoded { offset: line.position, why, bytes, envelope: None }
        });
        Ok(Records {
            offsets,
            undecoded: undecoded.collect(),
            raw: Some(lines.into_column(&decoded.rows).map_err(named)?),
            envelopes: None,
            deleted: None,
            sent: None,
            rows: decoded.events,
        })
    }
}

impl Reader for JsonReader {
    fn read(&mut self) -> Result<Came, SourceError> {
        match &mut self.lines {
            None => Ok(Came::End),
            Some(Lines::Live(lines, decoding)) => match lines.try_recv() {
                Ok(lines) => Ok(Came::Records(Box::new(decoding.decode(lines?)?))),
                Err(TryRecvError::Empty) => Ok(Came::Nothing),
                Err(TryRecvError::Disconnected) => Ok(Came::End),
            },
            Some(Lines::Ahead(Decoders { decoded, next })) => match decoded[*next].try_recv() {
                Ok(records) => {
                    *next = (*next + 1) % decoded.len();
                    Ok(Came::Records(Box::new(records?)))
                }
                Err(TryRecvError::Empty) => Ok(Came::Pending),
                Err(TryRecvError::Disconnected) => Ok(Came::End),
            },
        }
    }

    fn none(&self) -> Records {
        Records {
            rows: RecordBatch::new_empty(self.schema.clone()),
            offsets: UInt64Array::from_iter_values([]),
            raw: Some(Arc::new(BinaryArray::from_iter_values(std::iter::empty::<&[u8]>()))),
            envelopes: None,
            deleted: None,
            sent: None,
            undecoded: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::SyncSender;

    use super::*;
    use crate::config::job::Format;
    use crate::sources::feed::{Feed, Offer, Taken};
    use crate::sources::files;
    use crate::sources::testing::{Folder, numbers, spec};

    const TIMEOUT: Duration = Duration::from_millis(100);

    /// A feed of what is sent, as of a file or of live input, which began at the instant.
    fn feed(live: bool) -> (OnePartition<JsonReader>, SyncSender<ReadLines>, Instant) {
        let folder = Folder::new();
        let path = folder.json("a.jsonl", &[(0, Some(0))]);
        let mut json =
            JsonLines::open(files::list(&path).unwrap(), &spec(&path), 0, Format::Json).unwrap();
        json.live = live;
        let (sender, receiver) = sync_channel(9);
        let start = Instant::now();
        let feed = json_feed(&json, 3, Some(vec![receiver]), Some(TIMEOUT), start).unwrap();
        (feed, sender, start)
    }

    /// What the feed of a file has when it has made up its mind.
    fn offered(feed: &mut OnePartition<JsonReader>, start: Instant) -> Offer {
        loop {
            match feed.offer(start).unwrap() {
                Offer::Pending => std::thread::yield_now(),
                other => return other,
            }
        }
    }

    fn lines<const N: usize>(lines: [(i64, i64); N]) -> LineChunk {
        let texts = lines.map(|(n, time)| format!("{{\"time\": {time}, \"n\": {n}}}"));
        LineChunk::of_texts(texts, &Arc::default())
    }

    #[test]
    fn a_chunk_is_offered_with_its_lowest_time_until_it_is_taken() {
        let (mut feed, sender, start) = feed(false);
        assert_eq!(feed.offer(start).unwrap(), Offer::Pending);
        sender.send(Ok(lines([(0, 7), (1, 5), (2, 9)]))).unwrap();
        for _ in 0..2 {
            assert_eq!(offered(&mut feed, start), Offer::Rows { partition: 3, lowest: 5 });
        }
        let Taken { chunk, highest } = feed.take(4).unwrap();
        assert_eq!((chunk.epoch, numbers(&chunk), highest), (4, vec![0, 1, 2], 9));
        drop(sender);
        assert_eq!(offered(&mut feed, start), Offer::News);
        let chunk = feed.take(5).unwrap().chunk;
        assert_eq!((chunk.finished, chunk.highest_before), (vec![3], 9));
        assert_eq!(feed.offer(start).unwrap(), Offer::End);
    }

    /// However long each decoder takes, chunks come as the file has them, and what is wrong behind them.
    #[test]
    fn chunks_of_several_decoders_come_in_turn() {
        const CHUNKS: i64 = 20;
        let folder = Folder::new();
        let path = folder.json("a.jsonl", &[(0, Some(0))]);
        let json =
            JsonLines::open(files::list(&path).unwrap(), &spec(&path), 0, Format::Json).unwrap();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| sync_channel(9)).unzip();
        let start = Instant::now();
        let mut feed = json_feed(&json, 3, Some(receivers), None, start).unwrap();
        for (chunk, sender) in (0..CHUNKS).zip(senders.iter().cycle()) {
            let rows = 1 + chunk % 3 * 2_000;
            let texts = (0..rows).map(|_| format!("{{\"time\": {chunk}, \"n\": {chunk}}}"));
            sender.send(Ok(LineChunk::of_texts(texts, &Arc::default()))).unwrap();
        }
        senders[CHUNKS as usize % 3].send(Err(failed("a.jsonl", "it is gone"))).unwrap();
        for number in 0..CHUNKS {
            let rows = Offer::Rows { partition: 3, lowest: number };
            assert_eq!(offered(&mut feed, start), rows);
            assert_eq!(feed.take(0).unwrap().chunk.rows.num_rows() as i64, 1 + number % 3 * 2_000);
        }
        let error = loop {
            match feed.offer(start) {
                Ok(offer) => assert_eq!(offer, Offer::Pending),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("it is gone"), "{error}");
    }

    #[test]
    fn silence_of_live_input_is_news_once_and_what_breaks_it_says_so() {
        let (mut feed, sender, start) = feed(true);
        assert_eq!(feed.offer(start).unwrap(), Offer::Nothing { partition: 3 });
        assert_eq!(feed.offer(start + TIMEOUT).unwrap(), Offer::News);
        let chunk = feed.take(1).unwrap().chunk;
        assert_eq!((chunk.idle, chunk.rows.num_rows()), (vec![3], 0));
        assert!(chunk.finished.is_empty());
        assert_eq!(feed.offer(start + TIMEOUT * 9).unwrap(), Offer::Nothing { partition: 3 });
        for (n, was_idle) in [(0, true), (1, false)] {
            sender.send(Ok(lines([(n, 5)]))).unwrap();
            feed.offer(start + TIMEOUT * 10).unwrap();
            assert_eq!(feed.take(2).unwrap().chunk.was_idle, was_idle);
        }
    }

    #[test]
    fn files_are_never_idle() {
        let (mut feed, _sender, start) = feed(false);
        assert_eq!(feed.offer(start + TIMEOUT * 9).unwrap(), Offer::Pending);
    }
}
