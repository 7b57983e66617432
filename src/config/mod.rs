//! The job file: what is typed, what is meant.

mod check;
pub mod duration;
pub mod job;
pub mod load;
pub mod raw;

pub use job::Job;
pub use load::ConfigError;
