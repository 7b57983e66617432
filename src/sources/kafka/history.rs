//! Whether an event is before the beginning of a partition.
//!
//! Offsets do not tell: they count the markers of transactions and what was aborted or deleted, too. So
//! the partition is read until its first event, and no further.

use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use driftline_operators::admit::{event_times, highest};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::assign;
use super::begin::Place;
use crate::kafka::Cluster;
use crate::kafka::health::Told;
use crate::sources::SourceError;
use crate::sources::json::columns::JsonColumns;

/// How long all partitions are looked at; those of which is not known by then what came before are
/// taken for ones that had events, which is to wait for them.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// Finds out which places have no event before their beginning. `reached`: by place what is known of
/// the event times there, where anything is. `time` is the column of event time.
///
/// # Errors
/// If the client refuses.
pub fn look(
    cluster: &Cluster,
    client: &BaseConsumer<Told>,
    places: &mut [Place],
    reached: &[Option<i64>],
    time: &SchemaRef,
) -> Result<(), SourceError> {
    let until = Instant::now() + LOOK_TIMEOUT;
    for (place, reached) in places.iter_mut().zip(reached) {
        if place.has_history && reached.is_none() {
            place.has_history = has_event(client, place, time, until)?;
        }
    }
    client.unassign().map_err(|error| cluster.failed(&error))
}

fn has_event(
    client: &BaseConsumer<Told>,
    place: &Place,
    time: &SchemaRef,
    until: Instant,
) -> Result<bool, SourceError> {
    let from_the_first = Place { read_from: place.low, ..place.clone() };
    assign(client, std::iter::once(&from_the_first))?;
    while Instant::now() < until {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) if message.offset() as u64 >= place.first => return Ok(false),
            Some(Ok(message)) if has_time(message.payload().unwrap_or_default(), time) => {
                return Ok(true);
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(false),
            _ => {}
        }
    }
    Ok(true)
}

/// Whether a message is an event with a time.
fn has_time(message: &[u8], time: &SchemaRef) -> bool {
    let found = JsonColumns::new(time.clone()).and_then(|mut columns| {
        // What is no event has no time.
        let _ = columns.push(message);
        Ok(highest(&event_times(columns.finish()?.column(0))?))
    });
    matches!(found, Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn an_event_has_a_time() {
        let time = Field::new("t", DataType::Int64, true);
        let time = Arc::new(Schema::new(vec![time]));
        for (message, expected) in [
            (r#"{"t": 5}"#, true),
            (r#"{"t": -1, "x": 2}"#, true),
            (r#"{"t": null}"#, false),
            (r#"{"x": 5}"#, false),
            (r#"{"t": 5"#, false),
            ("", false),
        ] {
            assert_eq!(has_time(message.as_bytes(), &time), expected, "{message}");
        }
    }
}
