//! Predictions as CloudEvents in binary mode: the value is the prediction as one JSON object, the key
//! that of the event.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use driftline_operators::layout::ENVELOPE;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::sinks::SinkError;
use rdkafka::message::OwnedHeaders;

use super::message::{Next, Refused};
use super::producer::{Batch, Outgoing, Producer};
use super::{Messages, Values, cloud_event, column, dead_letters, texts, with_header};
use crate::instant::{Fraction, write_instant};
use crate::kafka::envelope::Envelope;

pub struct Predictions {
    pub topic: String,
    /// Of predictions that the topic refuses.
    pub dead_letters: String,
    /// What the events are said to be, and to come from.
    pub kind: String,
    pub source: String,
    /// Whether messages have headers; without them they are no CloudEvents.
    pub has_headers: bool,
    /// What partitions are called, by number.
    pub partition_names: PartitionNames,
    pub values: Values,
}

impl Messages for Predictions {
    fn send(
        &self,
        rows: &RecordBatch,
        producer: &Producer,
        batch: &Arc<Batch>,
    ) -> Result<(), SinkError> {
        let keys = column(rows, "key")?;
        let mut headers =
            self.has_headers.then(|| Headers::of(rows, &self.kind, &self.source)).transpose()?;
        self.values.of(rows, &self.topic, |row, value| {
            let headers = headers.as_mut().map(|headers| headers.of_row(row));
            let key = key(keys, row);
            let (topic, key) = (self.topic.as_str(), key.as_deref());
            let message = Outgoing { topic, key, value: Some(value), headers, time_ms: None };
            producer.send(message, batch, row)
        })
    }

    /// The prediction is a dead letter.
    fn instead(&self, refused: &Refused) -> Result<Next, SinkError> {
        let (letters, names) = (&self.dead_letters, &self.partition_names);
        let message = dead_letters::of_prediction(letters, &self.topic, refused, names)?;
        Ok(Next::Message { message, says: "dead letter" })
    }
}

/// What headers are made of.
struct Headers<'a> {
    kind: &'a str,
    source: &'a str,
    ids: &'a StringArray,
    times: &'a TimestampMillisecondArray,
    /// Header by header.
    texts: [(&'static str, &'a StringArray); 3],
    envelopes: Option<&'a BinaryViewArray>,
    /// The text of a time.
    time: Vec<u8>,
}

impl<'a> Headers<'a> {
    fn of(rows: &'a RecordBatch, kind: &'a str, source: &'a str) -> Result<Self, SinkError> {
        let text = |name| texts(rows, name);
        let texts = [
            ("model", text("model_name")?),
            ("version", text("model_version")?),
            ("status", text("status")?),
        ];
        let envelopes = rows.column_by_name(ENVELOPE).map(|column| column.as_binary_view());
        let times = column(rows, "event_time")?.as_primitive();
        let ids = text("event_id")?;
        Ok(Headers { kind, source, ids, times, texts, envelopes, time: Vec::new() })
    }

    fn of_row(&mut self, row: usize) -> OwnedHeaders {
        let id = self.ids.value(row).as_bytes();
        self.time.clear();
        write_instant(self.times.value(row), Fraction::Millis, &mut self.time);
        let mut headers = cloud_event(self.kind.as_bytes(), self.source, id, 7);
        headers = with_header(headers, "ce_time", &self.time);
        headers = with_header(headers, "id", id);
        for (name, texts) in self.texts {
            headers = with_header(headers, name, texts.value(row).as_bytes());
        }
        let envelope = self.envelopes.and_then(|column| Envelope::of(column.value(row)));
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = envelope.and_then(|envelope| envelope.header(name)) {
                headers = with_header(headers, name, value);
            }
        }
        headers
    }
}

/// The key of a row as text.
fn key(keys: &ArrayRef, row: usize) -> Option<Cow<'_, [u8]>> {
    if keys.is_null(row) {
        return None;
    }
    let of_number = |number: String| Cow::Owned(number.into_bytes());
    Some(match keys.data_type() {
        DataType::Int64 => of_number(keys.as_primitive::<Int64Type>().value(row).to_string()),
        DataType::UInt64 => of_number(keys.as_primitive::<UInt64Type>().value(row).to_string()),
        _ => Cow::Borrowed(keys.as_string::<i32>().value(row).as_bytes()),
    })
}
