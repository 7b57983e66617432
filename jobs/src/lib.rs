//! The graphs of Driftline: streams in, streams out. Each is one page over `driftline-operators`.

pub mod baseline;
pub mod enriched;
pub mod export;
pub mod scoring;
