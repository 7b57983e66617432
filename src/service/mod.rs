//! What a running job tells over HTTP: metrics, and whether it is well.

pub mod drift_metrics;
pub mod metrics;
pub mod prediction_counts;
mod route_metrics;
pub mod server;
mod steering;

pub use drift_metrics::DriftMetrics;
pub use metrics::{Lags, Metrics};
pub use prediction_counts::PredictionCounts;
pub use server::Service;
pub use steering::Steering;
