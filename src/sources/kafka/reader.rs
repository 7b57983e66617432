//! Messages of one partition to rows.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, UInt64Array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use driftline_operators::chunk::Undecoded;
use driftline_operators::wake::Wake;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;

use super::live::Reach;
use super::queue::{Item, Message, Queue};
use crate::instant::instant;
use crate::kafka::envelope::encode;
use crate::kafka::health::{Told, note};
use crate::sources::columns::{ColumnUses, normalise};
use crate::sources::json::columns::JsonColumns;
use crate::sources::one_partition::{Came, Reader, Records};
use crate::sources::{SourceError, failed};

/// Bytes of messages, with keys and headers, that are taken at once, but for the last of them.
const BYTES_MAX: usize = 8 << 20;
/// A message with more bytes is no event: with it and those before it, a column ends before `i32` does.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Of tables: the key of a message without a value is that of the row which it deletes.
#[derive(Clone, Debug)]
pub struct Tombstones {
    /// The column of the key, of text or integers.
    pub key: String,
    pub time: String,
}

/// How messages of a stream become rows.
#[derive(Clone)]
pub struct Decoding {
    /// What JSON is read as.
    pub read_as: SchemaRef,
    /// What rows are.
    pub schema: SchemaRef,
    pub uses: ColumnUses,
    pub rows_max: usize,
    pub tombstones: Option<Tombstones>,
}

/// A client, and when it was last asked for what is of no partition: errors of its brokers.
pub struct Client {
    pub consumer: Arc<BaseConsumer<Told>>,
    asked: Cell<Option<Instant>>,
}

/// How often a client is asked, however many partitions it reads.
const ASK_INTERVAL: Duration = Duration::from_millis(1);

impl Client {
    pub fn new(consumer: BaseConsumer<Told>) -> Self {
        Client { consumer: Arc::new(consumer), asked: Cell::new(None) }
    }

    fn is_due(&self) -> bool {
        let is_due = self.asked.get().is_none_or(|asked| asked.elapsed() >= ASK_INTERVAL);
        if is_due {
            self.asked.set(Some(Instant::now()));
        }
        is_due
    }
}

pub struct KafkaReader {
    /// Topic and partition.
    name: String,
    client: Rc<Client>,
    queue: Queue,
    decoding: Decoding,
    columns: JsonColumns,
    reach: Reach,
    /// Whether the queue was read until it was empty: only then does it wake.
    is_exhausted: bool,
}

/// Messages that become one chunk.
#[derive(Default)]
struct Taken {
    offsets: Vec<u64>,
    sent: Vec<Option<i64>>,
    raw: Bytes,
    envelopes: Bytes,
    deleted: Vec<bool>,
    undecoded: Vec<Undecoded>,
    messages: usize,
    /// Of all of them, whatever has become of them.
    bytes: usize,
    /// The offset behind the last.
    behind: u64,
    /// The time (ms) of the newest; 0 if none has one.
    newest_ms: i64,
}

/// A column of bytes that grows.
struct Bytes {
    values: Vec<u8>,
    ends: Vec<i32>,
}

impl Default for Bytes {
    fn default() -> Self {
        Bytes { values: Vec::new(), ends: vec![0] }
    }
}

impl Bytes {
    /// What was appended to the values is the next row.
    fn end_row(&mut self) {
        self.ends.push(self.values.len() as i32);
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let ends = OffsetBuffer::new(self.ends.into());
        Ok(Arc::new(BinaryArray::try_new(ends, Buffer::from_vec(self.values), None)?))
    }
}

impl KafkaReader {
    /// # Errors
    /// If a column has a type that JSON is not read as.
    pub fn new(
        name: String,
        client: Rc<Client>,
        queue: Queue,
        decoding: Decoding,
        reach: Reach,
    ) -> Result<Self, SourceError> {
        let columns = JsonColumns::new(decoding.read_as.clone());
        let columns = columns.map_err(|error| failed(&name, error))?;
        Ok(KafkaReader { name, client, queue, decoding, columns, reach, is_exhausted: false })
    }

    /// What is there, up to the bounds of a chunk.
    fn take(&mut self) -> Result<Taken, SourceError> {
        let mut taken = Taken::default();
        let mut error = None;
        // How many messages there were when there were no more, and the offset of what comes next.
        let mut ended = None;
        let KafkaReader { queue, columns, decoding, reach, .. } = self;
        let most = decoding.rows_max;
        loop {
            let before = taken.messages;
            queue.take(most - before, |item| {
                match item {
                    Item::Message(message) => {
                        taken.add(&message, columns, decoding.tombstones.as_ref());
                    }
                    Item::End(next) => ended = Some((taken.messages, next)),
                    Item::Error(code) => error = Some(code),
                }
                !taken.is_full(most)
            });
            if taken.is_full(most) || error.is_some() || taken.messages == before {
                break;
            }
        }
        self.is_exhausted = !taken.is_full(most) && error.is_none();
        if taken.messages > 0 {
            reach.came(taken.newest_ms);
            reach.read_to(taken.behind);
        }
        if let Some((behind, next)) = ended
            && behind == taken.messages
        {
            reach.ends_at(next);
            reach.at_end();
        }
        match error {
            Some(code) => self.failed(code).map_or(Ok(taken), Err),
            None => Ok(taken),
        }
    }

    /// Has the client tell what is of no partition.
    fn ask(&self) -> Result<(), SourceError> {
        match self.client.consumer.poll(Duration::ZERO) {
            Some(Ok(_)) => {
                Err(failed(&self.name, "a message came beside the queue of its partition"))
            }
            Some(Err(error)) => {
                let code = error.rdkafka_error_code();
                code.and_then(|code| self.failed(code)).map_or(Ok(()), Err)
            }
            None => Ok(()),
        }
    }

    /// What cannot be overcome.
    fn failed(&self, code: RDKafkaErrorCode) -> Option<SourceError> {
        use RDKafkaErrorCode as Code;
        let why = match code {
            Code::TopicAuthorizationFailed => {
                "not authorised to read the topic; ask for READ on it"
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                "the topic is not there any more"
            }
            Code::OffsetOutOfRange | Code::AutoOffsetReset | Code::NoOffset => {
                "what was to be read next is not there any more: the topic keeps less than the run is behind"
            }
            // Clients go on by themselves.
            other => {
                note(&self.reach.live().health, Some(other), &other.to_string());
                return None;
            }
        };
        Some(failed(&self.name, why))
    }

    fn records(&mut self, taken: Taken) -> Result<Records, SourceError> {
        let named = |error: ArrowError| failed(&self.name, error);
        let Decoding { schema, uses, .. } = &self.decoding;
        // What does not fit its column was found out when it was read.
        let normal = |rows: RecordBatch| normalise(rows.columns(), rows.num_rows(), schema, uses);
        let rows = self.columns.finish().and_then(normal);
        let rows = rows.map_err(named)?.rows;
        let times = uses.time.as_ref().and_then(|time| rows.column_by_name(time));
        if times.is_some_and(|times| times.null_count() < times.len()) {
            self.reach.events_came();
        }
        let is_table = self.decoding.tombstones.is_some();
        Ok(Records {
            rows,
            offsets: UInt64Array::from(taken.offsets),
            raw: Some(taken.raw.finish().map_err(named)?),
            envelopes: Some(taken.envelopes.finish().map_err(named)?),
            deleted: is_table.then(|| BooleanArray::from(taken.deleted)),
            undecoded: taken.undecoded,
            sent: Some(Int64Array::from(taken.sent)),
        })
    }
}

impl Taken {
    /// Whether it is as much as a chunk may be.
    fn is_full(&self, messages_max: usize) -> bool {
        self.messages >= messages_max || self.bytes >= BYTES_MAX
    }

    fn add(
        &mut self,
        message: &Message,
        columns: &mut JsonColumns,
        tombstones: Option<&Tombstones>,
    ) {
        let (offset, sent) = (message.offset(), message.sent_ms());
        self.newest_ms = self.newest_ms.max(message.time_ms());
        let envelope = &mut self.envelopes.values;
        let envelope_from = envelope.len();
        encode(envelope, message.time_ms(), message.key(), message.headers());
        let size = message.value().map_or(0, <[u8]>::len) + envelope.len() - envelope_from;
        if size > MESSAGE_BYTES_MAX {
            envelope.truncate(envelope_from);
            let why = format!("the message has {size} bytes, more than {MESSAGE_BYTES_MAX}");
            return self.keep(offset, sent, None, envelope_from, Err(why));
        }
        let (read, deletes) = match (message.value(), tombstones) {
            (Some(value), _) => (columns.push(value), false),
            (None, Some(tombstones)) => {
                let row = tombstones.row(message, columns.schema());
                (row.and_then(|row| columns.push(row.as_bytes())), true)
            }
            (None, None) => (Err("the message has no value".to_owned()), false),
        };
        self.keep(offset, sent, message.value(), envelope_from, read.map(|()| deletes));
    }

    /// Keeps a message, the envelope of which was written last, from `envelope_from` on. `read` says
    /// whether its row deletes, or why there is none.
    fn keep(
        &mut self,
        offset: u64,
        sent: Option<i64>,
        value: Option<&[u8]>,
        envelope_from: usize,
        read: Result<bool, String>,
    ) {
        self.messages += 1;
        self.behind = offset + 1;
        self.bytes += value.map_or(0, <[u8]>::len) + self.envelopes.values.len() - envelope_from;
        match read {
            Ok(deletes) => {
                self.offsets.push(offset);
                self.sent.push(sent);
                self.deleted.push(deletes);
                self.raw.values.extend(value.unwrap_or_default());
                self.raw.end_row();
                self.envelopes.end_row();
            }
            Err(why) => {
                let envelope = Some(self.envelopes.values.split_off(envelope_from));
                let bytes = value.map(<[u8]>::to_vec);
                self.undecoded.push(Undecoded { offset, why, bytes, envelope });
            }
        }
    }
}

impl Tombstones {
    /// The row that a message without a value stands for, as JSON: its key, and its time in ms.
    fn row(&self, message: &Message, read_as: &Schema) -> Result<String, String> {
        let key = message.key().ok_or("the message has neither a value nor a key")?;
        let key =
            std::str::from_utf8(key).map_err(|error| format!("its key is not UTF-8: {error}"))?;
        let type_of =
            |name: &str| read_as.field_with_name(name).map(|field| field.data_type().clone());
        let key = match type_of(&self.key) {
            Ok(DataType::Int64) => {
                let number: Result<i64, _> = key.parse();
                serde_json::json!(number.map_err(|_| format!("its key {key:?} is no integer"))?)
            }
            _ => serde_json::json!(key),
        };
        let time = match type_of(&self.time) {
            Ok(DataType::Utf8) => serde_json::json!(instant(message.time_ms())),
            _ => serde_json::json!(message.time_ms()),
        };
        Ok(serde_json::json!({ &self.key: key, &self.time: time }).to_string())
    }
}

impl Reader for KafkaReader {
    fn read(&mut self) -> Result<Came, SourceError> {
        if self.client.is_due() {
            self.ask()?;
        }
        if let Some(why) = self.reach.live().health.refusal() {
            return Err(failed(&self.name, why.trim_start_matches("kafka: ")));
        }
        let taken = self.take()?;
        if taken.messages > 0 {
            return self.records(taken).map(|records| Came::Records(Box::new(records)));
        }
        if self.reach.is_at_end() && self.reach.live().has_caught_up() {
            return Ok(Came::End);
        }
        // Nobody knows what there is while brokers are away.
        if !self.reach.is_at_end() || self.reach.live().health.is_in_doubt() {
            self.reach.in_doubt();
            return Ok(Came::Fetching);
        }
        Ok(Came::Nothing)
    }

    fn stays_empty(&mut self) -> bool {
        self.reach.stays_empty()
    }

    fn none(&self) -> Records {
        let none: ArrayRef = Arc::new(BinaryArray::from_iter_values(std::iter::empty::<&[u8]>()));
        Records {
            rows: RecordBatch::new_empty(self.decoding.schema.clone()),
            offsets: UInt64Array::from_iter_values([]),
            raw: Some(none.clone()),
            envelopes: Some(none),
            deleted: self
                .decoding
                .tombstones
                .as_ref()
                .map(|_| BooleanArray::from(Vec::<bool>::new())),
            undecoded: Vec::new(),
            sent: None,
        }
    }

    fn wake_with(&mut self, wake: Wake) {
        self.queue.wake_with(wake);
    }

    /// The queue wakes for messages, and for the end of the partition.
    fn due(&self, now: Instant) -> Option<Instant> {
        if !self.is_exhausted {
            return Some(now);
        }
        self.reach.live().quiet_at().filter(|&due| due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of so many bytes, and of the rest around it.
    fn keep(taken: &mut Taken, value: usize, envelope: usize, read: Result<bool, String>) {
        let from = taken.envelopes.values.len();
        taken.envelopes.values.resize(from + envelope, 1);
        let offset = taken.behind;
        taken.keep(offset, None, Some(&vec![0; value]), from, read);
    }

    #[test]
    fn a_chunk_is_full_of_bytes_wherever_they_are() {
        let refused = || Err("no event".to_owned());
        for (value, envelope, read) in [
            (1 << 20, 8, Ok(false)),
            (8, 1 << 20, Ok(false)),
            (1 << 20, 8, refused()),
            (8, 1 << 20, refused()),
            (1 << 19, 1 << 19, Ok(true)),
        ] {
            let mut taken = Taken::default();
            let mut kept = 0;
            while !taken.is_full(1_000) {
                keep(&mut taken, value, envelope, read.clone());
                kept += 1;
            }
            assert_eq!(kept, BYTES_MAX.div_ceil(value + envelope));
            assert_eq!((taken.messages, taken.behind), (kept, kept as u64));
        }
    }

    #[test]
    fn what_is_no_event_leaves_no_row_and_keeps_its_envelope() {
        let mut taken = Taken::default();
        keep(&mut taken, 3, 4, Ok(false));
        keep(&mut taken, 5, 6, Err("no event".to_owned()));
        keep(&mut taken, 7, 8, Ok(false));
        assert_eq!((taken.bytes, taken.is_full(3), taken.is_full(4)), (33, true, false));
        assert_eq!(
            (taken.raw.ends.as_slice(), taken.offsets.as_slice()),
            (&[0, 3, 10][..], &[0, 2][..])
        );
        assert_eq!(taken.envelopes.ends, [0, 4, 12]);
        let undecoded = &taken.undecoded[0];
        let sizes =
            (undecoded.bytes.as_ref().map(Vec::len), undecoded.envelope.as_ref().map(Vec::len));
        assert_eq!((undecoded.offset, sizes), (1, (Some(5), Some(6))));
    }

    /// What ends of columns are kept as has room for all that a chunk may hold.
    #[test]
    fn columns_end_before_their_ends_do() {
        assert!(i32::try_from(BYTES_MAX + MESSAGE_BYTES_MAX).is_ok());
    }
}
