//! What `plan` shows of a job: the parts of its core that a replay would run, and what waits for what.

pub mod graph;
pub mod mermaid;
pub mod route_words;
pub mod stages;
pub mod text;
pub mod words;

use std::sync::Arc;

use anyhow::Result;

use super::options::{RunOptions, TopicUse};
use super::prepare::Prepared;
use crate::config::Job;

/// How a plan is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Stage below stage, to be read.
    #[default]
    Text,
    /// A Mermaid flowchart.
    Mermaid,
}

/// Opens the inputs of the job, compiles its features, and writes down the graph. Model and
/// baseline are not opened: what is said of them is what the job says.
///
/// # Errors
/// If an input cannot be read, or a feature does not fit.
pub fn describe(job: &Arc<Job>, options: &RunOptions, form: Form) -> Result<String> {
    let graph = {
        let options = RunOptions { topics: TopicUse::Described, ..options.clone() };
        stages::graph(&Prepared::new(job, &options)?, &options)
    };
    Ok(match form {
        Form::Text => text::render(&graph),
        Form::Mermaid => mermaid::render(&graph),
    })
}
