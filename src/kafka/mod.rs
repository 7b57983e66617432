//! What sources and sinks of Kafka share: how clients are made, what they say of the cluster, and what
//! comes around the bytes of a message.

pub mod cluster;
pub mod envelope;
pub mod events;
pub mod health;

pub use cluster::Cluster;
pub use health::Health;
