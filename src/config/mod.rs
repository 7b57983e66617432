//! The job file: what is typed, what is meant.

pub mod build;
mod check;
pub mod duration;
pub mod job;
pub mod load;
mod open;
mod origin;
pub mod raw;
pub(crate) mod reword;
pub mod routing;
pub mod schema;

pub use build::{Feature, JobBuilder, Model, Window};
pub use check::problem::Problem;
pub use job::Job;
pub use origin::{ConfigError, Origin};
pub use reword::{expression, in_words, on_one_line};
