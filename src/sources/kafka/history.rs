//! Whether an event is before the beginning of a partition.
//!
//! Offsets do not tell: they count the markers of transactions and what was aborted or deleted, too. So
//! the partition is read until its first event, and no further.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use driftline_operators::admit::{event_times, highest};
use rdkafka::consumer::BaseConsumer;

use super::begin::Place;
use super::look::{self, From};
use super::queue::Item;
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
/// If the cluster does not answer.
pub fn look(
    cluster: &Cluster,
    client: &Arc<BaseConsumer<Told>>,
    places: &mut [Place],
    reached: &[Option<i64>],
    time: &SchemaRef,
) -> Result<(), SourceError> {
    let until = Instant::now() + LOOK_TIMEOUT;
    let doubtful = places.iter().zip(reached).enumerate();
    let doubtful = doubtful.filter(|(_, (place, reached))| place.has_history && reached.is_none());
    let doubtful: Vec<usize> = doubtful.map(|(at, _)| at).collect();
    let from = doubtful.iter().map(|&at| {
        let Place { topic, partition, low, .. } = &places[at];
        From { topic, partition: *partition, offset: *low }
    });
    let from: Vec<From> = from.collect();
    let mut has_event = vec![false; doubtful.len()];
    look::look(cluster, client, &from, |which, item| {
        // The end of the partition.
        let Item::Message(message) = item else { return false };
        if message.offset() >= places[doubtful[which]].first {
            return false;
        }
        let value = message.value().unwrap_or_default();
        has_event[which] = Instant::now() >= until || has_time(value, time);
        !has_event[which]
    })?;
    for (at, has_event) in doubtful.into_iter().zip(has_event) {
        places[at].has_history = has_event;
    }
    Ok(())
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
