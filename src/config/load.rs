//! From a file and the environment to a [`RawJob`].

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::raw::RawJob;

/// Why a job file cannot be used. One line, that says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{}:{line}: {message}", path.display())]
    File { path: PathBuf, line: usize, message: String },
    #[error("environment variable {variable}: {message}")]
    Environment { variable: String, message: String },
    #[error("{}: {message}", path.display())]
    Invalid { path: PathBuf, message: String },
}

/// What variables of the environment begin with to override a key: `STREAMING_REALTIME_ML__MAX_BATCH_SIZE`
/// is `realtime_ml.max_batch_size`.
const PREFIX: &str = "STREAMING_";

/// Reads the job file at `path`, with overrides from `environment`.
///
/// # Errors
/// If the file cannot be read, is no TOML, or holds a key or type that a job does not have.
pub fn load(
    path: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<RawJob, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
    // The file alone first: its errors have lines.
    let mut job: RawJob = toml::from_str(&text).map_err(|error| in_file(path, &text, &error))?;
    let mut overrides: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name.contains("__"))
        .collect();
    overrides.sort();
    let mut table: Table = toml::from_str(&text).map_err(|error| in_file(path, &text, &error))?;
    for (variable, value) in overrides {
        let error = |message| ConfigError::Environment { variable: variable.clone(), message };
        set(&mut table, &variable, &value).map_err(error)?;
        job = serde_path_to_error::deserialize(Value::Table(table.clone()))
            .map_err(|failed| error(plain(&failed.inner().to_string())))?;
    }
    Ok(job)
}

fn in_file(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
    ConfigError::File { path: path.to_owned(), line, message: plain(error.message()) }
}

/// Puts `value` where `variable` points to; keys of the file are matched without regard to case.
fn set(table: &mut Table, variable: &str, value: &str) -> Result<(), String> {
    let keys: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
    let Some((last, parents)) = keys.split_last() else { return Ok(()) };
    let mut at = table;
    for parent in parents {
        let name = existing(at, parent);
        at = at
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("{parent:?} is not a section"))?;
    }
    let name = existing(at, last);
    let value = parse_value(value, at.get(&name));
    at.insert(name, value);
    Ok(())
}

fn existing(table: &Table, key: &str) -> String {
    table
        .keys()
        .find(|known| known.to_lowercase() == key)
        .cloned()
        .unwrap_or_else(|| key.to_owned())
}

/// Text stays text where the file has text; else whatever TOML reads in it, or text.
fn parse_value(text: &str, present: Option<&Value>) -> Value {
    if matches!(present, Some(Value::String(_))) {
        return Value::String(text.to_owned());
    }
    let parsed = toml::from_str::<Table>(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// A deserialisation error on one line, with a suggestion where a key is unknown.
fn plain(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().to_owned();
    let Some(rest) = line.strip_prefix("unknown field `") else { return line };
    let mut quoted = rest.split('`');
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(unknown, name), *name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((likeness, name)) if likeness > 0.7 => {
            format!("unknown key {unknown:?}; did you mean {name:?}?")
        }
        _ => format!("unknown key {unknown:?}; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"
[job]
name = "t"
[event]
time = "t"
[sources.a]
path = "a.parquet"
[features.x]
column = "x"
"#;

    fn check(job: &str, environment: &[(&str, &str)]) -> Result<RawJob, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("job.toml");
        std::fs::write(&path, job).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(&path, environment)
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))
    }

    #[test]
    fn the_environment_wins_and_keeps_text_as_text() {
        let job = check(
            JOB,
            &[
                ("STREAMING_REALTIME_ML__MAX_BATCH_SIZE", "64"),
                ("STREAMING_JOB__NAME", "5"),
                ("STREAMING_HOME", "x"),
            ],
        )
        .unwrap();
        assert_eq!((job.realtime_ml.max_batch_size, job.job.name.as_str()), (64, "5"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_a_suggestion() {
        let error = check(&format!("{JOB}[realtime_ml]\nmax_batchsize = 3\n"), &[]).unwrap_err();
        assert_eq!(
            error,
            "/job.toml:11: unknown key \"max_batchsize\"; did you mean \"max_batch_size\"?"
        );
        let error = check(JOB, &[("STREAMING_REALTIME_ML__BATCH_TIME_MS", "3")]).unwrap_err();
        assert!(
            error.starts_with("environment variable STREAMING_REALTIME_ML__BATCH_TIME_MS: "),
            "{error}"
        );
        assert!(error.contains("batch_timeout_ms"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_line() {
        let error = check(&JOB.replace("name = \"t\"", "name = 3"), &[]).unwrap_err();
        assert_eq!(error, "/job.toml:3: invalid type: integer `3`, expected a string");
    }
}
