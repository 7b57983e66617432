//! Results as messages of topics.

pub mod alerts;
pub mod dead_letters;
pub mod predictions;
pub mod producer;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use driftline_operators::deliver::{Sink, SinkError};
use driftline_operators::ingest::Wake;
use driftline_operators::layout::{OFFSET, PARTITION};
use driftline_operators::settled::Settled;
use rdkafka::message::{Header, OwnedHeaders};

use self::producer::Batch;
pub use self::producer::Producer;
use super::failed;

/// What makes messages of the rows of a batch.
pub trait Messages {
    /// Hands a message over for each row, as those of `batch`. How many of them are dead letters, as
    /// what they were to be is too large.
    ///
    /// # Errors
    /// If the rows cannot be written, or the producer can send nothing any more.
    fn send(
        &mut self,
        rows: &RecordBatch,
        producer: &Producer,
        batch: &Arc<Batch>,
    ) -> Result<u64, SinkError>;
}

/// Sends rows to a topic. What it was given is durable when brokers have acknowledged it.
pub struct KafkaSink<M> {
    messages: M,
    producer: Producer,
    settled: Settled,
    wake: Wake,
    /// With their rows, the oldest first; those in front are not acknowledged.
    waiting: VecDeque<Waiting>,
    durable: u64,
    refused: u64,
}

/// A batch, and how many of its rows are what they were to be, and dead letters.
struct Waiting {
    batch: Arc<Batch>,
    rows: u64,
    refused: u64,
}

impl<M: Messages> KafkaSink<M> {
    /// `settled` hears of the records whose messages are acknowledged.
    pub fn new(messages: M, producer: Producer, settled: Settled) -> Self {
        let wake: Wake = Arc::new(|| {});
        KafkaSink {
            messages,
            producer,
            settled,
            wake,
            waiting: VecDeque::new(),
            durable: 0,
            refused: 0,
        }
    }
}

impl<M: Messages> Sink for KafkaSink<M> {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let count = rows.num_rows();
        let batch = Batch::new(origins(rows), self.settled.clone(), self.wake.clone());
        let refused = self.messages.send(rows, &self.producer, &batch)?;
        batch.done();
        self.waiting.push_back(Waiting { batch, rows: count as u64 - refused, refused });
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        while let Some(first) = self.waiting.pop_front_if(|first| first.batch.is_acknowledged()) {
            self.durable += first.rows;
            self.refused += first.refused;
        }
        std::mem::take(&mut self.durable)
    }

    fn refused_rows(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn unacknowledged(&mut self) -> usize {
        self.waiting.len()
    }

    fn wake_with(&mut self, wake: Wake) {
        self.wake = wake;
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Where rows came from, if they are rows of records: what is kept of them until they are acknowledged.
fn origins(rows: &RecordBatch) -> Option<RecordBatch> {
    let columns = [PARTITION, OFFSET].map(|name| rows.schema_ref().index_of(name).ok());
    let [Some(partition), Some(offset)] = columns else { return None };
    rows.project(&[partition, offset]).ok()
}

/// The headers of a CloudEvent in binary mode whose data is JSON; `more` of its own will follow.
fn cloud_event(kind: &[u8], source: &str, id: &[u8], more: usize) -> OwnedHeaders {
    let attributes = [
        ("content-type", &b"application/json"[..]),
        ("ce_specversion", b"1.0"),
        ("ce_type", kind),
        ("ce_source", source.as_bytes()),
        ("ce_id", id),
    ];
    let headers = OwnedHeaders::new_with_capacity(attributes.len() + more);
    attributes.into_iter().fold(headers, |all, (name, value)| with_header(all, name, value))
}

/// A column of text.
fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray, SinkError> {
    Ok(column(rows, name)?.as_string())
}

fn with_header(headers: OwnedHeaders, name: &str, value: &[u8]) -> OwnedHeaders {
    headers.insert(Header { key: name, value: Some(value) })
}

/// A column of a batch by its name.
fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a arrow::array::ArrayRef, SinkError> {
    rows.column_by_name(name).ok_or_else(|| failed("kafka", format!("results have no {name}")))
}
