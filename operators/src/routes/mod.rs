//! Which model scores a row, where a job has several.

pub mod assignment;
