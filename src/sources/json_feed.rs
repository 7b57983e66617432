//! A stream of JSON lines as one of several that are merged.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, BinaryArray, UInt64Array};
use arrow::datatypes::TimestampMillisecondType;
use driftline_operators::admit::Chunk;

use super::feed::{Feed, Offer, Taken};
use super::idle::Silence;
use super::json_lines::{JsonLines, LineChunk};
use super::line_decoder::LineDecoder;
use super::lines::Line;
use super::{SourceError, failed};

/// Decodes chunks of lines as they come, and keeps each until it is taken.
pub struct JsonFeed {
    name: String,
    stream: usize,
    partition: u32,
    decoder: LineDecoder,
    time_column: usize,
    /// `None` once the end has been seen.
    lines: Option<Receiver<LineChunk>>,
    live: bool,
    silence: Option<Silence>,
    highest: i64,
    waiting: Option<Waiting>,
}

/// A chunk that is offered.
struct Waiting {
    offer: Offer,
    chunk: Chunk,
}

impl JsonFeed {
    /// Reads `lines`, begun by [`JsonLines::start`]. A live partition that is silent for
    /// `idle_timeout` is idle.
    ///
    /// # Errors
    /// If the column of event time was left out.
    pub fn new(
        json: &JsonLines,
        partition: u32,
        lines: Option<Receiver<LineChunk>>,
        idle_timeout: Option<Duration>,
        now: Instant,
    ) -> Result<Self, SourceError> {
        let idle_timeout = idle_timeout.filter(|_| json.live);
        Ok(JsonFeed {
            name: json.partition.name.clone(),
            stream: json.partition.stream,
            partition,
            decoder: json.decoder(),
            time_column: json.time_column()?,
            lines,
            live: json.live,
            silence: idle_timeout.map(|timeout| Silence::new(timeout, now)),
            highest: i64::MIN,
            waiting: None,
        })
    }

    fn rows(&mut self, lines: &[Line], now: Instant) -> Result<Waiting, SourceError> {
        let decoded = self.decoder.decode(lines).map_err(|error| failed(&self.name, error))?;
        let offsets = decoded.rows.iter().map(|&line| lines[line].position);
        let raw =
            BinaryArray::from_iter_values(decoded.rows.iter().map(|&line| &lines[line].bytes));
        let undecoded = decoded.bad.into_iter().map(|(at, why)| {
            let Line { bytes, position, file, number, .. } = &lines[at];
            (*position, format!("{file}, line {number}: {why}"), bytes.clone())
        });
        let undecoded = undecoded.collect();
        let times = decoded.events.column(self.time_column);
        let times = times.as_primitive::<TimestampMillisecondType>();
        // Records without event time hold nothing up: they are read at once.
        let lowest = arrow::compute::min(times).unwrap_or(i64::MIN);
        let highest_before = self.highest;
        self.highest = self.highest.max(arrow::compute::max(times).unwrap_or(i64::MIN));
        let chunk = Chunk {
            epoch: 0,
            stream: self.stream,
            partition: self.partition,
            offsets: UInt64Array::from_iter_values(offsets),
            rows: decoded.events,
            raw: Some(Arc::new(raw) as ArrayRef),
            undecoded,
            highest_before,
            finished: Vec::new(),
            idle: Vec::new(),
            was_idle: self.silence.as_mut().is_some_and(|silence| silence.broken(now)),
        };
        Ok(Waiting { offer: Offer::Rows { partition: self.partition, lowest }, chunk })
    }

    /// A chunk without rows.
    fn news(&self, finished: bool) -> Result<Waiting, SourceError> {
        let empty = self.decoder.decode(&[]).map_err(|error| failed(&self.name, error))?;
        let only = |this: bool| this.then_some(self.partition).into_iter().collect();
        let chunk = Chunk {
            epoch: 0,
            stream: self.stream,
            partition: self.partition,
            offsets: UInt64Array::from_iter_values([]),
            rows: empty.events,
            raw: Some(Arc::new(BinaryArray::from_iter_values(std::iter::empty::<&[u8]>()))),
            undecoded: Vec::new(),
            highest_before: self.highest,
            finished: only(finished),
            idle: only(!finished),
            was_idle: false,
        };
        Ok(Waiting { offer: Offer::News, chunk })
    }
}

impl Feed for JsonFeed {
    fn offer(&mut self, now: Instant) -> Result<Offer, SourceError> {
        if let Some(waiting) = &self.waiting {
            return Ok(waiting.offer);
        }
        let Some(lines) = &self.lines else { return Ok(Offer::End) };
        let waiting = match lines.try_recv() {
            Ok(lines) => self.rows(&lines?, now)?,
            Err(TryRecvError::Empty) if !self.live => return Ok(Offer::Pending),
            Err(TryRecvError::Empty) => {
                if !self.silence.as_mut().is_some_and(|silence| silence.goes_on(now)) {
                    return Ok(Offer::Nothing { partition: self.partition });
                }
                self.news(false)?
            }
            Err(TryRecvError::Disconnected) => {
                // The end is an epoch of its own, in which the partition is finished.
                self.lines = None;
                self.news(true)?
            }
        };
        Ok(self.waiting.insert(waiting).offer)
    }

    fn take(&mut self, epoch: u64) -> Result<Taken, SourceError> {
        let Some(Waiting { mut chunk, .. }) = self.waiting.take() else {
            return Err(failed(&self.name, "taken before it was offered"));
        };
        chunk.epoch = epoch;
        Ok(Taken { chunk, highest: self.highest })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{SyncSender, sync_channel};

    use super::super::files;
    use super::super::testing::{Folder, numbers, spec};
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);

    /// A feed of what is sent, as of a file or of live input, which began at the instant.
    fn feed(live: bool) -> (JsonFeed, SyncSender<LineChunk>, Instant) {
        let folder = Folder::new();
        let path = folder.json("a.jsonl", &[(0, Some(0))]);
        let mut json = JsonLines::open(files::list(&path).unwrap(), &spec(&path), 0).unwrap();
        json.live = live;
        let (sender, receiver) = sync_channel(9);
        let start = Instant::now();
        let feed = JsonFeed::new(&json, 3, Some(receiver), Some(TIMEOUT), start).unwrap();
        (feed, sender, start)
    }

    fn line(n: i64, time: i64) -> Line {
        let bytes = format!("{{\"time\": {time}, \"n\": {n}}}").into_bytes();
        Line { bytes, too_long: false, position: n as u64, file: "f".into(), number: 1 }
    }

    #[test]
    fn a_chunk_is_offered_with_its_lowest_time_until_it_is_taken() {
        let (mut feed, sender, start) = feed(false);
        assert_eq!(feed.offer(start).unwrap(), Offer::Pending);
        sender.send(Ok(vec![line(0, 7), line(1, 5), line(2, 9)])).unwrap();
        for _ in 0..2 {
            assert_eq!(feed.offer(start).unwrap(), Offer::Rows { partition: 3, lowest: 5 });
        }
        let Taken { chunk, highest } = feed.take(4).unwrap();
        assert_eq!((chunk.epoch, numbers(&chunk), highest), (4, vec![0, 1, 2], 9));
        drop(sender);
        assert_eq!(feed.offer(start).unwrap(), Offer::News);
        let chunk = feed.take(5).unwrap().chunk;
        assert_eq!((chunk.finished, chunk.highest_before), (vec![3], 9));
        assert_eq!(feed.offer(start).unwrap(), Offer::End);
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
            sender.send(Ok(vec![line(n, 5)])).unwrap();
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
