//! What a worker does, as plain structs: nothing here knows of a dataflow.

pub mod tables;
mod values;
mod versions;
pub mod windows;
