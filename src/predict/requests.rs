//! Requests that wait for their rows to be scored, and the way of the results back to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{AsArray, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use driftline_operators::dead_letter::{self, Reason};
use driftline_operators::layout::{OFFSET, Published};
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::wake::Wake;

use super::PredictError;
use crate::sinks::failed;
use crate::sinks::own::SinkFactory;

/// Shared by those who ask, the source that brings their rows in, and the sinks that bring results.
pub struct Requests {
    /// Rows that may wait for the source, but for a single request of more.
    rows_waiting_max: u64,
    state: Mutex<State>,
    /// Of predictions and of dead letters.
    published: [Mutex<Published>; 2],
}

#[derive(Default)]
struct State {
    /// Rows that the source has not taken.
    waiting: VecDeque<RecordBatch>,
    rows_waiting: u64,
    /// The offset that the next row will have in the source's partition.
    next_offset: u64,
    /// By the offset of their first row.
    open: BTreeMap<u64, Open>,
    wake: Option<Wake>,
    /// Of the predictions, once the graph is built.
    predictions: Option<SchemaRef>,
    closed: bool,
    /// Why nothing will be scored any more.
    stopped: Option<String>,
}

struct Open {
    end: u64,
    results: Sender<Part>,
}

/// Results of some rows of a request.
struct Part {
    kind: Kind,
    rows: RecordBatch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prediction,
    DeadLetter,
}

impl Requests {
    pub fn new(rows_waiting_max: u64) -> Self {
        Requests { rows_waiting_max, state: Mutex::default(), published: Default::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wake_with(&self, wake: Wake) {
        self.state().wake = Some(wake);
    }

    /// Gives rows to the source.
    ///
    /// # Errors
    /// If nothing is scored any more, or too many rows wait already.
    pub fn add(self: &Arc<Self>, rows: RecordBatch) -> Result<Request, PredictError> {
        let (results, parts) = channel();
        let mut state = self.state();
        if let Some(why) = &state.stopped {
            return Err(PredictError::Stopped(why.clone()));
        }
        let (first, count) = (state.next_offset, rows.num_rows() as u64);
        let waiting = state.rows_waiting;
        if waiting > 0 && waiting.saturating_add(count) > self.rows_waiting_max {
            return Err(PredictError::Busy { waiting });
        }
        let request = Request {
            requests: self.clone(),
            first,
            missing: count,
            parts,
            predictions: Vec::new(),
            dead_letters: Vec::new(),
        };
        if count > 0 {
            state.next_offset += count;
            state.open.insert(first, Open { end: first + count, results });
            state.waiting.push_back(rows);
            state.rows_waiting += count;
            if let Some(wake) = &state.wake {
                wake();
            }
        }
        Ok(request)
    }

    /// Rows that wait, of whole requests, until they are `rows_max` or more; `None` at the end.
    pub fn take(&self, rows_max: usize) -> Option<Vec<RecordBatch>> {
        let mut state = self.state();
        if state.waiting.is_empty() && state.closed {
            return None;
        }
        let (mut taken, mut rows) = (Vec::new(), 0);
        while rows < rows_max
            && let Some(batch) = state.waiting.pop_front()
        {
            rows += batch.num_rows();
            state.rows_waiting -= batch.num_rows() as u64;
            taken.push(batch);
        }
        Some(taken)
    }

    /// The source ends when it has taken what waits.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if let Some(wake) = &state.wake {
            wake();
        }
    }

    /// Nothing is scored any more: those who wait are told so.
    pub fn stop(&self, why: String) {
        let mut state = self.state();
        state.stopped = Some(why);
        state.open.clear();
        state.waiting.clear();
        state.rows_waiting = 0;
    }

    pub fn why_stopped(&self) -> String {
        self.state().stopped.clone().unwrap_or_default()
    }

    fn prediction_schema(&self) -> SchemaRef {
        self.state().predictions.clone().unwrap_or_else(|| Arc::new(Schema::empty()))
    }

    fn forget(&self, first: u64) {
        self.state().open.remove(&first);
    }

    /// Sends results, of which row `i` is that of the row at `offsets[i]`, to their requests.
    fn deliver(&self, kind: Kind, results: &RecordBatch, offsets: &UInt64Array) {
        let mut state = self.state();
        let mut from = 0;
        while from < offsets.len() {
            // 1. The request of the row, and how many rows after it are of the same.
            let offset = offsets.value(from);
            let open = state.open.range(..=offset).next_back().filter(|(_, o)| offset < o.end);
            let range = open.map(|(&first, open)| first..open.end);
            let is_same = |offset: &u64| match &range {
                Some(range) => range.contains(offset),
                None => false,
            };
            let rows = 1 + offsets.values()[from + 1..].iter().take_while(|o| is_same(o)).count();
            // 2. One that was given up has nobody who listens.
            if let Some(open) = range.and_then(|range| state.open.get_mut(&range.start)) {
                let _ = open.results.send(Part { kind, rows: results.slice(from, rows) });
            }
            from += rows;
        }
    }
}

/// What a caller waits for.
pub struct Request {
    requests: Arc<Requests>,
    first: u64,
    missing: u64,
    parts: Receiver<Part>,
    predictions: Vec<RecordBatch>,
    dead_letters: Vec<RecordBatch>,
}

impl Request {
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Waits for some of the results, for no longer than `timeout`.
    ///
    /// # Errors
    /// If none have come by then, or none will.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<(), RecvTimeoutError> {
        let part = match timeout {
            Some(timeout) => self.parts.recv_timeout(timeout)?,
            None => self.parts.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
        };
        self.missing = self.missing.saturating_sub(part.rows.num_rows() as u64);
        match part.kind {
            Kind::Prediction => self.predictions.push(part.rows),
            Kind::DeadLetter => self.dead_letters.push(part.rows),
        }
        Ok(())
    }

    /// Predictions and dead letters, each in the order of the rows.
    ///
    /// # Errors
    /// Never for results of one graph.
    pub fn results(&self) -> Result<(RecordBatch, RecordBatch), ArrowError> {
        let schema = self.requests.prediction_schema();
        let predictions = in_order(&self.predictions, schema, OFFSET)?;
        let letters = in_order(&self.dead_letters, dead_letter::SCHEMA.clone(), "offset")?;
        let published = |kind: Kind, rows: &RecordBatch| {
            let published = &self.requests.published[kind as usize];
            published.lock().unwrap_or_else(PoisonError::into_inner).of(rows)
        };
        Ok((published(Kind::Prediction, &predictions), published(Kind::DeadLetter, &letters)))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.requests.forget(self.first);
    }
}

/// All rows of `parts`, sorted by the column `offset`.
fn in_order(
    parts: &[RecordBatch],
    schema: SchemaRef,
    offset: &str,
) -> Result<RecordBatch, ArrowError> {
    let all = match parts {
        [one] => one.clone(),
        parts => concat_batches(&schema, parts)?,
    };
    let Some(offsets) = all.column_by_name(offset) else { return Ok(all) };
    let offsets = offsets.as_primitive::<UInt64Type>();
    if offsets.values().is_sorted() {
        return Ok(all);
    }
    let mut rows: Vec<u32> = (0..all.num_rows() as u32).collect();
    rows.sort_unstable_by_key(|&row| offsets.value(row as usize));
    take_record_batch(&all, &UInt32Array::from(rows))
}

/// Brings the results of one worker to the requests they belong to.
pub struct ResultSink {
    requests: Arc<Requests>,
    kind: Kind,
    delivered: u64,
}

impl ResultSink {
    pub fn predictions(requests: &Arc<Requests>) -> SinkFactory {
        Self::factory(requests, Kind::Prediction)
    }

    pub fn dead_letters(requests: &Arc<Requests>) -> SinkFactory {
        Self::factory(requests, Kind::DeadLetter)
    }

    fn factory(requests: &Arc<Requests>, kind: Kind) -> SinkFactory {
        let requests = requests.clone();
        Arc::new(move |_worker, schema| {
            if kind == Kind::Prediction {
                requests.state().predictions = Some(schema.clone());
            }
            Ok(Box::new(ResultSink { requests: requests.clone(), kind, delivered: 0 }))
        })
    }
}

impl Sink for ResultSink {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.delivered += batch.num_rows() as u64;
        let (results, offset) = match self.kind {
            Kind::Prediction => (batch.clone(), OFFSET),
            Kind::DeadLetter => (of_events(batch)?, "offset"),
        };
        let offsets = results.column_by_name(offset);
        let offsets = offsets.ok_or_else(|| failed("results", format!("no column {offset:?}")))?;
        self.requests.deliver(self.kind, &results, offsets.as_primitive::<UInt64Type>());
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.delivered)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Dead letters without those of rows of tables, which nobody asked about.
fn of_events(letters: &RecordBatch) -> Result<RecordBatch, SinkError> {
    let reasons = letters.column_by_name("reason");
    let reasons = reasons.ok_or_else(|| failed("results", "dead letters have no reason"))?;
    let asked = reasons.as_string::<i32>().iter();
    let asked: BooleanArray = asked.map(|r| Some(r != Some(Reason::TableRow.name()))).collect();
    filter_record_batch(letters, &asked).map_err(|error| failed("results", error))
}
