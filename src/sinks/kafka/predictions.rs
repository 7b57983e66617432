//! Predictions as CloudEvents in binary mode: the value is the prediction as one JSON object, the key
//! that of the event.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimestampMillisecondType, UInt64Type};
use driftline_operators::layout::ENVELOPE;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::sinks::SinkError;

use super::message::{Next, Refused};
use super::producer::{Batch, Outgoing, Producer};
use super::{Messages, Values, cloud_event, column, dead_letters, texts, with_header};
use crate::kafka::envelope::Envelope;
use crate::kafka::instant;

/// The type of a prediction as an event.
const TYPE: &[u8] = b"driftline.prediction";

pub struct Predictions {
    pub topic: String,
    /// Of predictions that the topic refuses.
    pub dead_letters: String,
    /// What the events are said to come from.
    pub source: String,
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
        let lines = self.values.of(rows, &self.topic)?;
        let mut values = lines.split(|&byte| byte == b'\n');
        let text = |name| texts(rows, name);
        let (ids, models) = (text("event_id")?, text("model_name")?);
        let (versions, statuses) = (text("model_version")?, text("status")?);
        let keys = column(rows, "key")?;
        let times = column(rows, "event_time")?.as_primitive::<TimestampMillisecondType>();
        let envelopes = rows.column_by_name(ENVELOPE).map(|column| column.as_binary_view());
        for row in 0..rows.num_rows() {
            let id = ids.value(row).as_bytes();
            let mut headers = cloud_event(TYPE, &self.source, id, 7);
            for (name, value) in [
                ("ce_time", instant(times.value(row)).as_bytes()),
                ("id", id),
                ("model", models.value(row).as_bytes()),
                ("version", versions.value(row).as_bytes()),
                ("status", statuses.value(row).as_bytes()),
            ] {
                headers = with_header(headers, name, value);
            }
            let envelope = envelopes.and_then(|column| Envelope::of(column.value(row)));
            for name in ["traceparent", "tracestate"] {
                if let Some(value) = envelope.and_then(|envelope| envelope.header(name)) {
                    headers = with_header(headers, name, value);
                }
            }
            let key = key(keys, row);
            let value = values.next().unwrap_or_default();
            let (topic, key) = (self.topic.as_str(), key.as_deref());
            let message = Outgoing { topic, key, value: Some(value), headers, time_ms: None };
            producer.send(message, batch, row)?;
        }
        Ok(())
    }

    /// The prediction is a dead letter.
    fn instead(&self, refused: &Refused) -> Result<Next, SinkError> {
        let (letters, names) = (&self.dead_letters, &self.partition_names);
        let message = dead_letters::of_prediction(letters, &self.topic, refused, names)?;
        Ok(Next::Message { message, says: "dead letter" })
    }
}

/// The key of a row as text.
fn key(keys: &ArrayRef, row: usize) -> Option<Vec<u8>> {
    if keys.is_null(row) {
        return None;
    }
    Some(match keys.data_type() {
        DataType::Int64 => keys.as_primitive::<Int64Type>().value(row).to_string().into_bytes(),
        DataType::UInt64 => keys.as_primitive::<UInt64Type>().value(row).to_string().into_bytes(),
        _ => keys.as_string::<i32>().value(row).as_bytes().to_vec(),
    })
}
