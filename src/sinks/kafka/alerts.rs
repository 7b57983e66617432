//! Alerts as CloudEvents in binary mode.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use driftline_operators::sinks::SinkError;

use super::message::{Next, Refused};
use super::producer::{Batch, Outgoing, Producer};
use super::{Messages, Values, cloud_event, column, texts, with_header};

/// The type of an alert as an event.
const TYPE: &[u8] = b"driftline.alert";

pub struct Alerts {
    pub topic: String,
    /// What the events are said to come from.
    pub source: String,
    pub values: Values,
}

impl Messages for Alerts {
    fn send(
        &self,
        rows: &RecordBatch,
        producer: &Producer,
        batch: &Arc<Batch>,
    ) -> Result<(), SinkError> {
        let text = |name| texts(rows, name);
        let (kinds, features, ids) = (text("kind")?, text("feature")?, text("event_id")?);
        let (keys, windows) = (text("key")?, text("window")?);
        let starts = column(rows, "window_start")?;
        self.values.of(rows, &self.topic, |row, value| {
            // The same alert has the same id, however often it is told.
            let of = match ids.is_valid(row) {
                true => ids.value(row).to_owned(),
                false => {
                    let start = arrow::util::display::array_value_to_string(starts, row);
                    format!("{}-{}", windows.value(row), start.unwrap_or_default())
                }
            };
            let id = format!("{}-{}-{of}", kinds.value(row), features.value(row));
            let headers = cloud_event(TYPE, &self.source, id.as_bytes(), 1);
            let headers = with_header(headers, "kind", kinds.value(row).as_bytes());
            let key = if keys.is_valid(row) { keys.value(row) } else { features.value(row) };
            let message = Outgoing {
                topic: &self.topic,
                key: Some(key.as_bytes()),
                value: Some(value),
                headers: Some(headers),
                time_ms: None,
            };
            producer.send(message, batch, row)
        })
    }

    /// There is nothing to tell it with; what it is about is in predictions or in drift.
    fn instead(&self, refused: &Refused) -> Result<Next, SinkError> {
        let id = refused.message.header("ce_id").unwrap_or_default();
        let (topic, code) = (&self.topic, refused.code);
        Ok(Next::Nothing(format!("{topic}: the alert {id} is not told: {code}")))
    }
}
