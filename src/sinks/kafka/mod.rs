//! Results as messages of topics.
//!
//! | file | concept |
//! | --- | --- |
//! | `predictions`, `dead_letters`, `alerts` | what a message of each looks like |
//! | `producer` | the client, and which messages belong together |
//! | `message` | a message that its topic has refused |
//! | `again` | sends those again, so that a refusal costs no other record |
//! | `sender` | the thread that makes messages and hears of their deliveries |

pub mod again;
pub mod alerts;
pub mod dead_letters;
pub mod message;
pub mod predictions;
pub mod producer;
pub mod sender;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch, StringArray};
use driftline_operators::layout::{ENVELOPE, OFFSET, PARTITION};
use driftline_operators::reasons::Reasons;
use driftline_operators::sinks::{Sink, SinkError};
use rdkafka::message::{Header, OwnedHeaders};

use self::message::{Next, Refused};
use self::producer::Batch;
pub use self::producer::Producer;
use self::sender::{Sender, Unsent};
use super::failed;
use super::json_rows::PublishedLines;

/// What makes messages of the rows of a batch.
pub trait Messages: Send + Sync {
    /// Hands a message over for each row, as those of `batch`.
    ///
    /// # Errors
    /// If the rows cannot be written, or the producer can send nothing any more.
    fn send(
        &self,
        rows: &RecordBatch,
        producer: &Producer,
        batch: &Arc<Batch>,
    ) -> Result<(), SinkError>;

    /// What is sent in place of a message of these that its topic refuses, alone in its batch.
    ///
    /// # Errors
    /// If the rows lack a column.
    fn instead(&self, refused: &Refused) -> Result<Next, SinkError>;
}

/// What makes the values of messages: what is published of rows, as JSON. The sender's thread and those of
/// workers each take one while they need it.
#[derive(Default)]
pub struct Values {
    /// The names of columns that are not in them.
    left_out: Arc<[String]>,
    idle: Mutex<Vec<PublishedLines>>,
}

impl Values {
    pub fn without(left_out: Arc<[String]>) -> Self {
        Values { left_out, idle: Mutex::default() }
    }

    /// Has `send` send the value of each row.
    fn of(
        &self,
        rows: &RecordBatch,
        topic: &str,
        mut send: impl FnMut(usize, &[u8]) -> Result<(), SinkError>,
    ) -> Result<(), SinkError> {
        let lines = self.idle().pop();
        let mut lines = lines.unwrap_or_else(|| PublishedLines::without(self.left_out.clone()));
        let (text, ends) = lines.of(rows).map_err(|error| failed(topic, error))?;
        let mut begin = 0;
        for (row, &end) in ends.iter().enumerate() {
            send(row, &text[begin..end - 1])?;
            begin = end;
        }
        self.idle().push(lines);
        Ok(())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<PublishedLines>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends rows to a topic. What it was given is durable when brokers have acknowledged it.
pub struct KafkaSink {
    messages: Arc<dyn Messages>,
    sender: Sender,
    /// With how many rows they have, the oldest first; those in front are not acknowledged.
    waiting: VecDeque<(Arc<Batch>, u64)>,
    durable: u64,
    refused: Reasons,
    /// Where rows came from that are acknowledged.
    acknowledged: Vec<RecordBatch>,
}

impl KafkaSink {
    pub fn new(messages: Arc<dyn Messages>, sender: Sender) -> Self {
        KafkaSink {
            messages,
            sender,
            waiting: VecDeque::new(),
            durable: 0,
            refused: Reasons::default(),
            acknowledged: Vec::new(),
        }
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), SinkError> {
        let messages = self.messages.clone();
        let batch = Batch::new(Some(messages.clone()), origins(rows));
        self.sender.send(Unsent { messages, rows: rows.clone(), batch: batch.clone() })?;
        self.waiting.push_back((batch, rows.num_rows() as u64));
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        while let Some((batch, rows)) = self.waiting.pop_front_if(|(b, _)| b.is_acknowledged()) {
            let refused = batch.refused();
            self.durable += rows - refused.rows();
            self.refused.merge(&refused);
            self.acknowledged.extend(batch.records().cloned());
        }
        std::mem::take(&mut self.durable)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.sender.hear()
    }

    fn refused(&mut self) -> Reasons {
        std::mem::take(&mut self.refused)
    }

    fn acknowledged(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.acknowledged)
    }

    fn unacknowledged(&mut self) -> usize {
        self.waiting.len()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Where rows came from, if they are rows of records: what is kept of them until they are acknowledged,
/// to tell that the records are, and to tell of one whose message is refused.
fn origins(rows: &RecordBatch) -> Option<RecordBatch> {
    let place = |name| rows.schema_ref().index_of(name).ok();
    let mut columns = vec![place(PARTITION)?, place(OFFSET)?];
    columns.extend(place(ENVELOPE));
    rows.project(&columns).ok()
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

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn values_have_no_internal_columns() {
        let column = |values: [i64; 2]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        let rows = [("score", column([1, 2])), (PARTITION, column([3, 4]))];
        let rows = RecordBatch::try_from_iter(rows).unwrap();
        let (values, mut lines) = (Values::default(), Vec::new());
        for _ in 0..2 {
            let mut keep = |row, value: &[u8]| {
                lines.push((row, String::from_utf8(value.to_vec()).unwrap()));
                Ok(())
            };
            values.of(&rows, "topic", &mut keep).unwrap();
        }
        let value = |row, text: &str| (row, text.to_owned());
        let once = [value(0, "{\"score\":1}"), value(1, "{\"score\":2}")];
        assert_eq!(lines, [once.clone(), once].concat());
    }
}
