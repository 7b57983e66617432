//! From a file and the environment to a [`RawJob`].

use std::io::ErrorKind;
use std::path::Path;

use toml::{Deserializer, Table, Value};

use super::origin::{ConfigError, Origin};
use super::raw::RawJob;
use super::reword::{deserialisation, in_words};

/// A job as it is typed, and where its keys stand.
#[derive(Debug)]
pub struct Typed {
    pub job: RawJob,
    pub origin: Origin,
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
) -> Result<Typed, ConfigError> {
    with_overrides(path, read(path)?, environment)
}

/// The job of `text`, which stands at `path`, with overrides from `environment`.
///
/// # Errors
/// As [`load`], but for reading.
pub fn with_overrides(
    path: &Path,
    text: String,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Typed, ConfigError> {
    let mut origin = Origin { path: path.to_owned(), text, overrides: Vec::new() };
    // The file alone first: its errors have lines.
    let mut job = from_text(&origin)?;
    let mut table: Table =
        toml::from_str(&origin.text).map_err(|error| in_file(&origin, &error))?;
    let mut overrides: Vec<(String, String)> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name.contains("__"))
        .collect();
    overrides.sort();
    for (variable, value) in overrides {
        let error = |message| ConfigError::Environment { variable: variable.clone(), message };
        let key = set(&mut table, &variable, &value).map_err(error)?;
        job = serde_path_to_error::deserialize(Value::Table(table.clone())).map_err(|failed| {
            error(deserialisation(&failed.path().to_string(), &failed.inner().to_string()))
        })?;
        origin.overrides.push((variable, key));
    }
    Ok(Typed { job, origin })
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| {
        let what_to_do = match error.kind() {
            ErrorKind::NotFound | ErrorKind::PermissionDenied => "",
            _ => "; a job is a TOML file, such as jobs/minimal.toml",
        };
        ConfigError::Read(format!("{}{what_to_do}", in_words(path, &error)))
    })
}

fn from_text(origin: &Origin) -> Result<RawJob, ConfigError> {
    let document = Deserializer::parse(&origin.text).map_err(|error| in_file(origin, &error))?;
    serde_path_to_error::deserialize(document).map_err(|failed| {
        let message = deserialisation(&failed.path().to_string(), failed.inner().message());
        origin.in_file(failed.inner().span().map_or(0, |span| span.start), message)
    })
}

fn in_file(origin: &Origin, error: &toml::de::Error) -> ConfigError {
    let message = deserialisation(".", error.message());
    origin.in_file(error.span().map_or(0, |span| span.start), message)
}

/// Puts `value` where `variable` points to, and returns the key; keys of the file are matched without
/// regard to case.
fn set(table: &mut Table, variable: &str, value: &str) -> Result<String, String> {
    let keys: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_lowercase).collect();
    let Some((last, parents)) = keys.split_last() else { return Ok(String::new()) };
    let mut at = table;
    let mut names = Vec::new();
    for parent in parents {
        let name = existing(at, parent);
        names.push(name.clone());
        at = at
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("{parent:?} is not a section"))?;
    }
    let name = existing(at, last);
    let value = parse_value(value, at.get(&name));
    names.push(name.clone());
    at.insert(name, value);
    Ok(names.join("."))
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
            .map(|typed| typed.job)
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
        assert_eq!((job.realtime_ml.max_batch_size, job.job.name.as_str()), (Some(64), "5"));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_a_suggestion() {
        let error = check(&format!("{JOB}[realtime_ml]\nmax_batchsize = 3\n"), &[]).unwrap_err();
        assert_eq!(
            error,
            "/job.toml:11: realtime_ml: unknown key \"max_batchsize\"; did you mean \"max_batch_size\"?"
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
        assert_eq!(error, "/job.toml:3: job.name: integer 3 where a string is needed");
    }
}
