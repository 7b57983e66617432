//! Where a job's keys stand: lines of a file, or variables of the environment.

use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::check::problem::Problem;
use super::reword::on_one_line;

/// Why a job file cannot be used. One line, that says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    Read(String),
    #[error("{}:{line}: {message}", path.display())]
    File { path: PathBuf, line: usize, message: String },
    #[error("environment variable {variable}: {message}")]
    Environment { variable: String, message: String },
}

/// The text of a job file, and the keys that the environment has set: variable and key.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub path: PathBuf,
    pub text: String,
    pub overrides: Vec<(String, String)>,
}

impl Origin {
    /// The problem with the place where its key was set.
    pub fn place(&self, problem: Problem) -> ConfigError {
        let Problem { key, message } = problem;
        let is_below = |set: &str| key.starts_with(set) || set.starts_with(&key);
        let message = on_one_line(&format!("{key}: {message}"));
        match self.overrides.iter().find(|(_, set)| is_below(set)) {
            Some((variable, _)) => ConfigError::Environment { variable: variable.clone(), message },
            None => self.in_file(self.start_of(&key), message),
        }
    }

    /// Something wrong at a byte of the text.
    pub fn in_file(&self, at: usize, message: String) -> ConfigError {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        ConfigError::File { path: self.path.clone(), line, message: on_one_line(&message) }
    }

    /// The byte where a key stands, or else the nearest of the sections that it would be in.
    fn start_of(&self, key: &str) -> usize {
        let Ok(document) = DeTable::parse(&self.text) else { return 0 };
        let mut start = 0;
        let mut table = document.get_ref();
        for name in key.split('.') {
            let Some((found, value)) = table.get_key_value(name) else { break };
            start = found.span().start;
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a job\n[drift]\nwindows = []\n\n[features.x]\nwindow = { key = \"k\" }\n";

    #[test]
    fn an_error_is_one_line_whatever_a_name_holds() {
        let origin = Origin { path: "j.toml".into(), text: TEXT.to_owned(), ..Origin::default() };
        let said = origin.place(Problem::at("model.features", "no \"a\nb\"")).to_string();
        assert_eq!(said, "j.toml:1: model.features: no \"a\\nb\"");
    }

    #[test]
    fn problems_stand_where_their_keys_do() {
        let overrides = vec![("STREAMING_JOB__NAME".to_owned(), "job.name".to_owned())];
        let origin = Origin { path: "j.toml".into(), text: TEXT.to_owned(), overrides };
        let place = |key: &str| origin.place(Problem::at(key, "wrong")).to_string();
        assert_eq!(place("drift.windows"), "j.toml:3: drift.windows: wrong");
        assert_eq!(place("drift.mode"), "j.toml:2: drift.mode: wrong");
        assert_eq!(place("features.x"), "j.toml:5: features.x: wrong");
        assert_eq!(place("features.x.window"), "j.toml:6: features.x.window: wrong");
        assert_eq!(place("sources"), "j.toml:1: sources: wrong");
        let named = "environment variable STREAMING_JOB__NAME: job.name: wrong";
        assert_eq!(place("job.name"), named);
    }
}
