//! Dead letters as messages: what came, as it came, and what was wrong in headers with the names of
//! KIP-1034.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use driftline_operators::beside::bytes_at;
use driftline_operators::dead_letter::Reason;
use driftline_operators::layout::{ENVELOPE, OFFSET, PARTITION};
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::reasons::First;
use driftline_operators::sinks::SinkError;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{Header, Headers, OwnedHeaders};

use super::message::{Message, Next, Refused, is_too_large};
use super::producer::{Batch, Outgoing, Producer};
use super::{Messages, column, texts, with_header};
use crate::kafka::envelope::Envelope;
use crate::sinks::failed;

const REASON: &str = "__streams.errors.exception";
const MESSAGE: &str = "__streams.errors.message";
const TOPIC: &str = "__streams.errors.topic";
const PARTITION_NUMBER: &str = "__streams.errors.partition";
const OFFSET_NUMBER: &str = "__streams.errors.offset";
/// Of a message whose topic does not take its time: in ms since 1970.
const TIMESTAMP: &str = "__streams.errors.timestamp";
const OWN: [&str; 6] = [REASON, MESSAGE, TOPIC, PARTITION_NUMBER, OFFSET_NUMBER, TIMESTAMP];

pub struct DeadLetters {
    pub topic: String,
}

/// What a header can say is wrong with a record, and where it came from.
struct Fault<'a> {
    reason: &'a str,
    detail: &'a str,
    /// `topic/partition`, or a file.
    partition: &'a str,
    offset: u64,
}

impl Fault<'_> {
    /// The record as a message of `topic`, with `value`.
    fn letter<'a>(
        &self,
        topic: &'a str,
        envelope: Option<Envelope<'a>>,
        value: Option<&'a [u8]>,
    ) -> Outgoing<'a> {
        Outgoing {
            topic,
            key: envelope.and_then(|envelope| envelope.key),
            value,
            headers: Some(self.headers(envelope)),
            time_ms: envelope.map(|envelope| envelope.time_ms).filter(|&time| time > 0),
        }
    }

    /// The headers of the record, then those of the fault.
    fn headers(&self, envelope: Option<Envelope>) -> OwnedHeaders {
        let mut headers = OwnedHeaders::new_with_capacity(8);
        for (name, value) in envelope.iter().flat_map(Envelope::headers) {
            let key = String::from_utf8_lossy(name);
            headers = headers.insert(Header { key: &key, value });
        }
        let numbered = self.partition.rsplit_once('/');
        let numbered = numbered.filter(|(_, number)| number.parse::<i32>().is_ok());
        let (topic, number) = numbered.unwrap_or((self.partition, "0"));
        for (name, value) in [
            (REASON, self.reason),
            (MESSAGE, self.detail),
            (TOPIC, topic),
            (PARTITION_NUMBER, number),
            (OFFSET_NUMBER, &self.offset.to_string()),
        ] {
            headers = with_header(headers, name, value.as_bytes());
        }
        headers
    }
}

impl Messages for DeadLetters {
    fn send(
        &self,
        rows: &RecordBatch,
        producer: &Producer,
        batch: &Arc<Batch>,
    ) -> Result<(), SinkError> {
        let text = |name| texts(rows, name);
        let (reasons, details) = (text("reason")?, text("detail")?);
        let partitions = text("partition")?;
        let offsets = column(rows, "offset")?.as_primitive::<UInt64Type>();
        let payloads = column(rows, "payload")?.as_binary::<i32>();
        let envelopes = column(rows, ENVELOPE)?.as_binary::<i32>();
        for row in 0..rows.num_rows() {
            let envelope = envelopes.is_valid(row).then(|| envelopes.value(row));
            let envelope = envelope.and_then(Envelope::of);
            let fault = Fault {
                reason: reasons.value(row),
                detail: details.value(row),
                partition: partitions.value(row),
                offset: offsets.value(row),
            };
            let value = payloads.is_valid(row).then(|| payloads.value(row));
            producer.send(fault.letter(&self.topic, envelope, value), batch, row)?;
        }
        Ok(())
    }

    fn instead(&self, refused: &Refused) -> Result<Next, SinkError> {
        Ok(instead_of_letter(&refused.message, refused.code))
    }
}

/// What is sent in place of a dead letter: what the topic refuses of it is left out.
pub(super) fn instead_of_letter(letter: &Message, code: Code) -> Next {
    let header = |name| letter.header(name).unwrap_or_default();
    // What is said takes the place of what was said.
    let said = letter.place_of_header(MESSAGE);
    let saying = |what: &str| {
        let text = format!("{}; {what}", header(MESSAGE));
        letter.clone().with_headers(|at, _| Some(at) != said, &[(MESSAGE, &text)])
    };
    let message = match (code, letter.time_ms) {
        (Code::InvalidTimestamp, Some(time)) => {
            let own = letter.clone().with_headers(|_, _| true, &[(TIMESTAMP, &time.to_string())]);
            return Next::Message { message: Message { time_ms: None, ..own }, says: "time" };
        }
        _ if is_too_large(code) && letter.value.is_some() => {
            let message = saying("its value is left out, as it is too large for a message");
            return Next::Message { message: Message { value: None, ..message }, says: "value" };
        }
        (Code::InvalidRecord, _) if letter.key.is_none() => {
            let message = saying("its key is where it came from, as its topic takes none without");
            return Next::Message {
                message: Message { key: place(letter), ..message },
                says: "key",
            };
        }
        _ => saying("its key, value and headers are left out, as its topic refuses them"),
    };
    let own = OWN.map(|name| message.place_of_header(name));
    let bare = message.with_headers(|at, _| own.contains(&Some(at)), &[]);
    let bare = Message { key: place(letter), value: None, ..bare };
    let is_bare = letter.key == bare.key
        && letter.value.is_none()
        && letter.headers.count() == bare.headers.count();
    if is_bare { Next::Never } else { Next::Message { message: bare, says: "all" } }
}

/// Where the record of a letter came from: `topic/partition/offset`.
fn place(letter: &Message) -> Option<Vec<u8>> {
    let parts = [TOPIC, PARTITION_NUMBER, OFFSET_NUMBER].map(|name| letter.header(name));
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Some(parts.join("/").into_bytes())
}

/// The dead letter of the prediction of `row` of `records` that `topic` refuses.
pub(super) fn of_prediction(
    letters: &str,
    topic: &str,
    refused: &Refused,
    names: &PartitionNames,
) -> Result<Message, SinkError> {
    let Refused { ticket, code, .. } = refused;
    let Some(records) = ticket.batch.records() else {
        return Err(failed(topic, "a prediction of no record was refused"));
    };
    let row = ticket.row as usize;
    let partition = column(records, PARTITION)?.as_primitive::<UInt32Type>().value(row);
    let offset = column(records, OFFSET)?.as_primitive::<UInt64Type>().value(row);
    let envelope = records.column_by_name(ENVELOPE).and_then(|column| bytes_at(column, row));
    let envelope = envelope.and_then(Envelope::of);
    let (reason, detail) = match is_too_large(*code) {
        true => (Reason::MessageTooLarge, format!("the prediction is larger than {topic} takes")),
        false => {
            let why = code.to_string();
            (Reason::MessageRefused, format!("{topic} refuses the prediction: {why}"))
        }
    };
    let name = names.get(partition).unwrap_or_default();
    let (reason_name, detail_text) = (reason.name(), detail.as_str());
    let fault = Fault { reason: reason_name, detail: detail_text, partition: &name, offset };
    let letter = Message::from(fault.letter(letters, envelope, None));
    ticket.batch.refuse(reason, First { partition, offset, detail });
    Ok(Message { is_letter: true, ..letter })
}
