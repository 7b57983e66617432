//! From a file or a text to a job.

use std::path::Path;

use super::check::check;
use super::job::Job;
use super::load::{Typed, load, with_overrides};
use super::origin::ConfigError;

impl Job {
    /// Reads and checks the job file at `path`, with overrides from the process's environment.
    ///
    /// # Errors
    /// The first thing that is wrong, with where it stands.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let typed = load(path, std::env::vars())?;
        Self::checked(typed, path, path.parent().unwrap_or(Path::new("")))
    }

    /// A job of `text`, as a job file has it; paths in it are relative to `folder`. The environment
    /// plays no part.
    ///
    /// # Errors
    /// As [`Job::load`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("job.toml");
        let typed = with_overrides(&path, text.to_owned(), std::iter::empty())?;
        Self::checked(typed, &path, folder)
    }

    fn checked(typed: Typed, path: &Path, folder: &Path) -> Result<Self, ConfigError> {
        let Typed { job, origin } = typed;
        match check(job, path, folder) {
            Ok(job) => Ok(Job { origin, ..job }),
            Err(problem) => Err(origin.place(problem)),
        }
    }
}
