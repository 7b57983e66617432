//! The jobs of Driftline: which parts of a worker's core each of them has. Each is one page over
//! `driftline-operators`.

pub mod baseline;
pub mod export;
pub mod graph;
pub mod scoring;
