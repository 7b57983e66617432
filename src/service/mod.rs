//! What a running job tells over HTTP: metrics, and whether it is well.

pub mod metrics;
pub mod server;

pub use metrics::{Lags, Metrics};
pub use server::Service;
