//! Alerts as CloudEvents in binary mode.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use driftline_operators::deliver::SinkError;
use rdkafka::message::OwnedHeaders;

use super::producer::{Batch, Handed, Outgoing, Producer};
use super::{Messages, column, with_header};
use crate::sinks::failed;
use crate::sinks::json_lines::to_lines;

/// The type of an alert as an event.
const TYPE: &[u8] = b"driftline.alert";

pub struct Alerts {
    pub topic: String,
    /// What the events are said to come from.
    pub source: String,
}

impl Messages for Alerts {
    fn send(
        &mut self,
        rows: &RecordBatch,
        producer: &Producer,
        batch: &Arc<Batch>,
    ) -> Result<u64, SinkError> {
        let lines = to_lines(rows).map_err(|error| failed(&self.topic, error))?;
        let mut values = lines.split(|&byte| byte == b'\n');
        let text = |name: &str| Ok::<_, SinkError>(column(rows, name)?.as_string::<i32>());
        let (kinds, features, ids) = (text("kind")?, text("feature")?, text("event_id")?);
        let (keys, windows) = (text("key")?, text("window")?);
        let starts = column(rows, "window_start")?;
        for row in 0..rows.num_rows() {
            // The same alert has the same id, however often it is told.
            let of = match ids.is_valid(row) {
                true => ids.value(row).to_owned(),
                false => {
                    let start = arrow::util::display::array_value_to_string(starts, row);
                    format!("{}-{}", windows.value(row), start.unwrap_or_default())
                }
            };
            let id = format!("{}-{}-{of}", kinds.value(row), features.value(row));
            let mut headers = OwnedHeaders::new_with_capacity(6);
            for (name, value) in [
                ("content-type", &b"application/json"[..]),
                ("ce_specversion", b"1.0"),
                ("ce_type", TYPE),
                ("ce_source", self.source.as_bytes()),
                ("ce_id", id.as_bytes()),
                ("kind", kinds.value(row).as_bytes()),
            ] {
                headers = with_header(headers, name, value);
            }
            let key = if keys.is_valid(row) { keys.value(row) } else { features.value(row) };
            let message = Outgoing {
                topic: &self.topic,
                key: Some(key.as_bytes()),
                value: values.next(),
                headers,
                time_ms: None,
            };
            if producer.send(message, batch)? == Handed::TooLarge {
                return Err(failed(&self.topic, "an alert is larger than a message may be"));
            }
        }
        Ok(0)
    }
}
