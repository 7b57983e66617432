//! The job as it is meant: names resolved, lengths parsed, paths absolute to the job file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use driftline_operators::admit::LatePolicy;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::figures::Thresholds;
use driftline_operators::features::plan::Literal;
use driftline_operators::features::window::{Aggregate, WindowSpec};
use driftline_operators::gate::Order;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::score::PREDICTION;
use indexmap::IndexMap;

use super::duration::{length_ms, window_length};
use super::load::{ConfigError, load};
use super::raw::{DriftSection, FeatureSection, ModelSection, RawJob, SinkSection};

/// A job whose fields cannot be wrong by themselves; whether they fit the data is seen when the
/// data is opened.
#[derive(Debug)]
pub struct Job {
    pub path: PathBuf,
    pub name: String,
    pub order: Order,
    pub shard_by: ShardBy,
    pub epoch_rows_max: usize,
    pub epochs_in_flight_max: u64,
    pub event: Event,
    pub input: Input,
    pub tables: IndexMap<String, Table>,
    pub features: Vec<(String, Feature)>,
    pub model: Option<ModelFile>,
    pub realtime: Realtime,
    pub drift: Option<Drift>,
    pub outputs: Outputs,
    /// What the user should know and nothing fails on.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardBy {
    Key,
    Id,
    Column(String),
}

#[derive(Debug)]
pub struct Event {
    pub time: String,
    pub id: Option<String>,
    pub key: Option<String>,
    pub filter: Option<String>,
    pub allowed_lateness_ms: i64,
    pub late: LatePolicy,
    pub late_horizon_ms: i64,
    pub columns: IndexMap<String, JsonType>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    Int64,
    Float64,
    Utf8,
    Boolean,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Parquet,
    Json,
}

/// Where events come from: a file, a folder of files, or standard input (`-`).
#[derive(Clone, Debug)]
pub struct Input {
    pub path: PathBuf,
    pub format: Option<Format>,
}

#[derive(Debug)]
pub struct Table {
    pub path: PathBuf,
    pub key: String,
}

#[derive(Debug)]
pub struct Feature {
    pub kind: FeatureKind,
    pub default: Option<Literal>,
    pub allow_null: bool,
}

#[derive(Debug)]
pub enum FeatureKind {
    Column(String),
    Sql(String),
    Window { key: String, value: String, spec: WindowSpec },
    Lookup { table: String, key: String, column: String },
    Encode { input: String, categories: Vec<String>, unseen: Option<f64> },
}

#[derive(Debug)]
pub struct ModelFile {
    pub path: PathBuf,
    pub name: String,
    pub version: String,
    pub features: Vec<String>,
    pub output: Option<String>,
}

#[derive(Debug)]
pub struct Realtime {
    pub bounds: BatchBounds,
    pub max_latency_ms: u64,
    pub throughput_target_per_second: u64,
}

#[derive(Debug)]
pub struct Drift {
    pub baseline: PathBuf,
    /// Each length and how it is written.
    pub windows: Vec<(WindowLength, String)>,
    pub thresholds: Thresholds,
}

#[derive(Clone, Debug)]
pub struct Output {
    pub path: PathBuf,
    pub format: Format,
}

#[derive(Clone, Debug)]
pub struct Outputs {
    pub predictions: Output,
    pub drift: Output,
    pub dead_letters: Output,
}

impl Outputs {
    /// The three outputs as folders of `base`, in their formats.
    pub fn below(&self, base: &Path) -> Self {
        let below =
            |name: &str, output: &Output| Output { path: base.join(name), format: output.format };
        Outputs {
            predictions: below("predictions", &self.predictions),
            drift: below("drift", &self.drift),
            dead_letters: below("dead_letters", &self.dead_letters),
        }
    }
}

impl Job {
    /// Reads and checks the job file at `path`, with overrides from the process's environment.
    ///
    /// # Errors
    /// The first thing that is wrong, with where it stands.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let raw = load(path, std::env::vars())?;
        let folder = path.parent().unwrap_or(Path::new(""));
        check(raw, path, folder)
            .map_err(|message| ConfigError::Invalid { path: path.to_owned(), message })
    }
}

fn check(raw: RawJob, path: &Path, folder: &Path) -> Result<Job, String> {
    let name = raw.job.name;
    if name.is_empty() || name.contains(['/', '\\']) {
        return Err("job.name must be a name that a folder can have".to_owned());
    }
    let mut warnings: Vec<String> = raw
        .realtime_ml
        .without_effect()
        .iter()
        .map(|knob| format!("realtime_ml.{knob} has no effect in this version"))
        .collect();
    let late = match raw.event.late.as_str() {
        "score" => LatePolicy::Score,
        "dead_letter" => LatePolicy::DeadLetter,
        "skip" => LatePolicy::Skip,
        other => return Err(one_of("event.late", other, &["score", "dead_letter", "skip"])),
    };
    at_least("event.allowed_lateness_ms", raw.event.allowed_lateness_ms, 0)?;
    at_least("event.late_horizon_ms", raw.event.late_horizon_ms, raw.event.allowed_lateness_ms)?;
    at_least("job.epoch_rows_max", raw.job.epoch_rows_max as i64, 1)?;
    at_least("job.epochs_in_flight_max", raw.job.epochs_in_flight_max as i64, 1)?;
    at_least("realtime_ml.max_batch_size", raw.realtime_ml.max_batch_size as i64, 1)?;

    let mut sources = raw.sources.into_iter();
    let (Some((source_name, source)), None) = (sources.next(), sources.next()) else {
        return Err(
            "a job has exactly one section [sources.NAME]; several files are a folder".to_owned()
        );
    };
    let format = source
        .format
        .map(|f| format_of(&format!("sources.{source_name}.format"), &f))
        .transpose()?;
    let input = Input { path: resolve(folder, &source.path), format };

    let tables = raw
        .tables
        .into_iter()
        .map(|(name, table)| (name, Table { path: folder.join(table.path), key: table.key }))
        .collect();
    let history_ms = if late == LatePolicy::Score { raw.event.late_horizon_ms } else { 0 };
    let features = check_features(raw.features, &tables, folder, history_ms)?;
    let model = raw.model.map(|model| check_model(model, &features, folder)).transpose()?;
    let drift = raw.drift.map(|drift| check_drift(drift, folder)).transpose()?;
    if drift.is_some() && model.is_none() {
        warnings.push("[drift] has no effect without a [model]".to_owned());
    }
    let outputs = check_sinks(raw.sinks, folder, &name)?;
    let columns = raw
        .event
        .columns
        .iter()
        .map(|(column, name)| Ok((column.clone(), json_type(column, name)?)))
        .collect::<Result<_, String>>()?;
    let max_rows = if raw.realtime_ml.batch_inference { raw.realtime_ml.max_batch_size } else { 1 };
    Ok(Job {
        path: path.to_owned(),
        order: match raw.job.order.as_str() {
            "arrival" => Order::Arrival,
            "epoch" => Order::Epoch,
            "event_time" => Order::EventTime,
            other => return Err(one_of("job.order", other, &["arrival", "epoch", "event_time"])),
        },
        shard_by: match raw.job.shard_by.as_str() {
            "key" => ShardBy::Key,
            "id" => ShardBy::Id,
            column => ShardBy::Column(column.to_owned()),
        },
        name,
        epoch_rows_max: raw.job.epoch_rows_max,
        epochs_in_flight_max: raw.job.epochs_in_flight_max,
        event: Event {
            time: raw.event.time,
            id: raw.event.id,
            key: raw.event.key,
            filter: raw.event.filter,
            allowed_lateness_ms: raw.event.allowed_lateness_ms,
            late,
            late_horizon_ms: raw.event.late_horizon_ms,
            columns,
        },
        input,
        tables,
        features,
        model,
        realtime: Realtime {
            bounds: BatchBounds {
                max_rows,
                timeout: Duration::from_millis(raw.realtime_ml.batch_timeout_ms),
            },
            max_latency_ms: raw.realtime_ml.max_latency_ms,
            throughput_target_per_second: raw.realtime_ml.throughput_target_per_second,
        },
        drift,
        outputs,
        warnings,
    })
}

/// `-` is standard input; any other path is relative to the job file.
fn resolve(folder: &Path, path: &str) -> PathBuf {
    if path == "-" { PathBuf::from("-") } else { folder.join(path) }
}

fn one_of(key: &str, value: &str, known: &[&str]) -> String {
    format!("{key} is {value:?}; it must be one of {}", known.join(", "))
}

fn at_least(key: &str, value: i64, least: i64) -> Result<(), String> {
    if value < least {
        Err(format!("{key} is {value}; it must be at least {least}"))
    } else {
        Ok(())
    }
}

fn format_of(key: &str, value: &str) -> Result<Format, String> {
    match value {
        "parquet" => Ok(Format::Parquet),
        "json" => Ok(Format::Json),
        other => Err(one_of(key, other, &["parquet", "json"])),
    }
}

fn json_type(column: &str, name: &str) -> Result<JsonType, String> {
    match name {
        "int64" => Ok(JsonType::Int64),
        "float64" => Ok(JsonType::Float64),
        "utf8" => Ok(JsonType::Utf8),
        "boolean" => Ok(JsonType::Boolean),
        other => {
            let key = format!("event.columns.{column}");
            Err(one_of(&key, other, &["int64", "float64", "utf8", "boolean"]))
        }
    }
}

fn check_features(
    raw: IndexMap<String, FeatureSection>,
    tables: &IndexMap<String, Table>,
    folder: &Path,
    history_ms: i64,
) -> Result<Vec<(String, Feature)>, String> {
    if raw.is_empty() {
        return Err("a job needs at least one section [features.NAME]".to_owned());
    }
    let check = |(name, section): (String, FeatureSection)| {
        if name == PREDICTION {
            return Err(format!("features.{name}: that is the name of the score in drift figures"));
        }
        let feature = check_feature(section, tables, folder, history_ms)
            .map_err(|problem| format!("features.{name}: {problem}"))?;
        Ok((name, feature))
    };
    raw.into_iter().map(check).collect()
}

fn check_feature(
    raw: FeatureSection,
    tables: &IndexMap<String, Table>,
    folder: &Path,
    history_ms: i64,
) -> Result<Feature, String> {
    let FeatureSection { column, sql, window, lookup, encode, default, allow_null } = raw;
    let kind = match (column, sql, window, lookup, encode) {
        (Some(column), None, None, None, None) => FeatureKind::Column(column),
        (None, Some(sql), None, None, None) => FeatureKind::Sql(sql),
        (None, None, Some(window), None, None) => {
            let aggregate = match window.aggregate.as_str() {
                "count" => Aggregate::Count,
                "sum" => Aggregate::Sum,
                "mean" => Aggregate::Mean,
                other => return Err(one_of("aggregate", other, &["count", "sum", "mean"])),
            };
            let spec = WindowSpec { aggregate, length_ms: length_ms(&window.length)?, history_ms };
            FeatureKind::Window { key: window.key, value: window.value, spec }
        }
        (None, None, None, Some(lookup), None) => {
            if !tables.contains_key(&lookup.table) {
                return Err(format!("there is no section [tables.{}]", lookup.table));
            }
            FeatureKind::Lookup { table: lookup.table, key: lookup.key, column: lookup.column }
        }
        (None, None, None, None, Some(encode)) => {
            let categories = match (encode.categories, encode.categories_file) {
                (Some(categories), None) => categories,
                (None, Some(file)) => read_lines(&folder.join(file))?,
                _ => return Err("encode has either categories or categories_file".to_owned()),
            };
            FeatureKind::Encode { input: encode.column, categories, unseen: encode.unseen }
        }
        _ => {
            let kinds = "column, sql, window, lookup or encode";
            return Err(format!("a feature has exactly one of {kinds}"));
        }
    };
    let default = match default {
        None => None,
        Some(toml::Value::Integer(number)) => Some(Literal::Number(number as f64)),
        Some(toml::Value::Float(number)) => Some(Literal::Number(number)),
        Some(toml::Value::String(text)) => Some(Literal::Text(text)),
        Some(other) => return Err(format!("default is {other}; it must be a number or a text")),
    };
    Ok(Feature { kind, default, allow_null })
}

fn read_lines(path: &Path) -> Result<Vec<String>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn check_model(
    raw: ModelSection,
    features: &[(String, Feature)],
    folder: &Path,
) -> Result<ModelFile, String> {
    if raw.features.is_empty() {
        return Err("model.features is empty; it lists the model's inputs in order".to_owned());
    }
    for name in &raw.features {
        if !features.iter().any(|(known, _)| known == name) {
            return Err(format!("model.features: there is no section [features.{name}]"));
        }
    }
    let path = folder.join(&raw.path);
    let stem =
        path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    Ok(ModelFile {
        name: raw.name.unwrap_or(stem),
        path,
        version: raw.version,
        features: raw.features,
        output: raw.output,
    })
}

fn check_drift(raw: DriftSection, folder: &Path) -> Result<Drift, String> {
    let mut windows = Vec::new();
    for text in &raw.windows {
        let length = window_length(text).map_err(|problem| format!("drift.windows: {problem}"))?;
        if windows.iter().any(|(known, _)| *known == length) {
            return Err(format!("drift.windows: {text:?} stands there twice"));
        }
        windows.push((length, text.clone()));
    }
    if windows.is_empty() {
        return Err(
            "drift.windows is empty; it lists lengths such as \"1d\", \"1w\", \"1mo\"".to_owned()
        );
    }
    let thresholds = Thresholds {
        ks_p_value: raw.ks_p_value,
        min_effect: raw.min_effect,
        mean_shift_sd: raw.mean_shift_sd,
        share_beyond_3: raw.share_beyond_3,
    };
    Ok(Drift { baseline: folder.join(raw.baseline), windows, thresholds })
}

/// Outputs by name; one that is not named stands below `out/JOB` beside the job file.
fn check_sinks(
    mut raw: IndexMap<String, SinkSection>,
    folder: &Path,
    job: &str,
) -> Result<Outputs, String> {
    let base = folder.join("out").join(job);
    let mut take = |name: &str| match raw.shift_remove(name) {
        Some(sink) => Ok(Output {
            path: folder.join(&sink.path),
            format: format_of(&format!("sinks.{name}.format"), &sink.format)?,
        }),
        None => Ok::<_, String>(Output { path: base.join(name), format: Format::Parquet }),
    };
    let outputs = Outputs {
        predictions: take("predictions")?,
        drift: take("drift")?,
        dead_letters: take("dead_letters")?,
    };
    match raw.keys().next() {
        Some(other) => Err(format!(
            "there is no output called {other:?}; sinks are predictions, drift and dead_letters"
        )),
        None => Ok(outputs),
    }
}
