//! Dead letters as messages: what came, as it came, and what was wrong in headers with the names of
//! KIP-1034.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{UInt32Type, UInt64Type};
use driftline_operators::deliver::SinkError;
use driftline_operators::layout::{ENVELOPE, OFFSET, PARTITION};
use driftline_operators::partition_names::PartitionNames;
use rdkafka::message::{Header, OwnedHeaders};

use super::producer::{Batch, Handed, Outgoing, Producer};
use super::{Messages, column, texts, with_header};
use crate::kafka::envelope::Envelope;
use crate::sinks::failed;

const REASON: &str = "__streams.errors.exception";
const MESSAGE: &str = "__streams.errors.message";
const TOPIC: &str = "__streams.errors.topic";
const PARTITION_NUMBER: &str = "__streams.errors.partition";
const OFFSET_NUMBER: &str = "__streams.errors.offset";

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
            headers: self.headers(envelope),
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
    ) -> Result<u64, SinkError> {
        let text = |name| texts(rows, name);
        let (reasons, details) = (text("reason")?, text("detail")?);
        let partitions = text("partition")?;
        let offsets = column(rows, "offset")?.as_primitive::<UInt64Type>();
        let payloads = column(rows, "payload")?.as_binary::<i32>();
        let envelopes = column(rows, ENVELOPE)?.as_binary::<i32>();
        for row in 0..rows.num_rows() {
            let envelope = envelopes.is_valid(row).then(|| envelopes.value(row));
            let envelope = envelope.and_then(Envelope::of);
            let mut fault = Fault {
                reason: reasons.value(row),
                detail: details.value(row),
                partition: partitions.value(row),
                offset: offsets.value(row),
            };
            let value = payloads.is_valid(row).then(|| payloads.value(row));
            if producer.send(fault.letter(&self.topic, envelope, value), batch)? == Handed::TooLarge
            {
                let detail = format!(
                    "{}; its value is left out, as it is too large for a message",
                    fault.detail
                );
                fault.detail = &detail;
                if producer.send(fault.letter(&self.topic, envelope, None), batch)?
                    == Handed::TooLarge
                {
                    return Err(failed(
                        &self.topic,
                        "a dead letter without its value is too large for a message",
                    ));
                }
            }
        }
        Ok(0)
    }
}

/// The dead letter of a prediction that is larger than `topic` takes.
pub(super) fn too_large<'a>(
    letters: &'a str,
    topic: &str,
    rows: &RecordBatch,
    row: usize,
    envelope: Option<Envelope<'a>>,
    names: &PartitionNames,
) -> Result<Outgoing<'a>, SinkError> {
    let partition = column(rows, PARTITION)?.as_primitive::<UInt32Type>().value(row);
    let name = names.get(partition).unwrap_or_default();
    let fault = Fault {
        reason: "message_too_large",
        detail: &format!("the prediction is larger than {topic} takes"),
        partition: &name,
        offset: column(rows, OFFSET)?.as_primitive::<UInt64Type>().value(row),
    };
    Ok(fault.letter(letters, envelope, None))
}
