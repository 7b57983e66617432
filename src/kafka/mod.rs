//! What sources and sinks of Kafka share: how clients are made, what they say of the cluster, and what
//! comes around the bytes of a message.

pub mod cluster;
pub mod envelope;
pub mod events;
pub mod health;

pub use cluster::Cluster;
pub use health::Health;

/// A time in ms since 1970 as RFC 3339.
pub fn instant(millis: i64) -> String {
    let instant = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
    instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
