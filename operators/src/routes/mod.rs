//! Which model scores a row, where a job has several: routes, their variants, and models that score
//! together.

pub mod assignment;
pub mod ensemble;
pub mod table;
