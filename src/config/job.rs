//! The job as it is meant: names resolved, lengths parsed, paths absolute to the job file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::TimeUnit;
use driftline_operators::admit::LatePolicy;
use driftline_operators::breaker::BreakerLimits;
use driftline_operators::drift::alarms::Thresholds;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::windows::Revisions;
use driftline_operators::features::declaration::Literal;
use driftline_operators::features::validity::{Check, Validity};
use driftline_operators::features::window::Aggregate;
use driftline_operators::gate::Order;
use driftline_operators::ingest::FlowBounds;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::Task;
use driftline_operators::parity::Tolerance;
use indexmap::IndexMap;

use super::origin::Origin;
pub use super::raw::words::{ColumnType as JsonType, Compression, FileFormat as Format};
use super::routing::Routing;
use crate::models::card::ModelCard;
use crate::registry::Registered;

/// A job whose fields cannot be wrong by themselves; whether they fit the data is seen when the
/// data is opened.
#[derive(Clone, Debug)]
pub struct Job {
    pub path: PathBuf,
    /// Where its keys stand.
    pub origin: Origin,
    pub name: String,
    pub order: Order,
    pub shard_by: ShardBy,
    pub epoch_rows_max: usize,
    pub bounds: FlowBounds,
    pub event: Event,
    /// None if a program or the command line must say where events come from.
    pub source: Option<Source>,
    pub tables: IndexMap<String, Table>,
    pub features: Vec<(String, Feature)>,
    /// What whole rows must be.
    pub checks: Vec<Check>,
    /// The first of them where the job has several.
    pub model: Option<ModelFile>,
    /// Several models, and which scores a row.
    pub routing: Option<Routing>,
    pub realtime: Realtime,
    /// More than this share of the records read as dead letters fails a run.
    pub max_dead_letter_share: Option<f64>,
    pub drift: Option<Drift>,
    pub outputs: Outputs,
    /// Names of columns of predictions that are not written.
    pub left_out_of_predictions: Arc<[String]>,
    pub kafka: Kafka,
    pub alerts: Alerts,
    /// Where a live run answers over HTTP.
    pub listen: SocketAddr,
    /// What the user should know and nothing fails on.
    pub warnings: Vec<String>,
}

impl Job {
    /// How far back (ms) from the first row that is scored rows are of use to windows.
    pub fn windows_reach_ms(&self) -> i64 {
        let lengths = self.features.iter().filter_map(|(_, feature)| match &feature.kind {
            FeatureKind::Window { length_ms, .. } => Some(*length_ms),
            _ => None,
        });
        lengths.max().map_or(0, |longest| longest.saturating_add(self.history_ms()))
    }

    /// Its models by place, with their names where there are several.
    pub fn models(&self) -> Vec<(Option<&str>, &ModelFile)> {
        match &self.routing {
            None => self.model.iter().map(|model| (None, model)).collect(),
            Some(routing) => {
                routing.models.iter().map(|(name, file)| (Some(name.as_str()), file)).collect()
            }
        }
    }

    /// The features that its models read, each once.
    pub fn model_features(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut add = |name: &String| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        };
        match &self.routing {
            None => self.model.iter().flat_map(|model| &model.features).for_each(&mut add),
            Some(routing) => {
                for (place, (_, model)) in routing.models.iter().enumerate() {
                    let members = routing.members_of(place);
                    let own = model.features.iter().filter(|name| !members.contains(name));
                    own.for_each(&mut add);
                }
            }
        }
        names
    }

    /// The SQL of the job, by its key.
    pub fn sql(&self) -> Vec<(String, &str)> {
        let filter = self.event.filter.iter().map(|sql| ("event.filter".to_owned(), sql.as_str()));
        let deletes = self.tables.iter().filter_map(|(name, table)| {
            let delete = table.versions.as_ref()?.delete.as_deref()?;
            Some((format!("tables.{name}.delete"), delete))
        });
        let routes = self.routing.iter().flat_map(|routing| &routing.routes);
        let whens = routes.filter_map(|route| {
            Some((format!("routes.{}.when", route.name), route.when.as_deref()?))
        });
        let checks = self.checks.iter();
        let checks = checks.map(|check| (format!("checks.{}", check.name), check.sql.as_str()));
        let features = self.features.iter().flat_map(sql_of);
        filter.chain(deletes).chain(features).chain(checks).chain(whens).collect()
    }

    /// Whether a window reaches back to the first row.
    pub fn looks_back_for_ever(&self) -> bool {
        let is_ever =
            |kind: &FeatureKind| matches!(kind, FeatureKind::Window { keys_max: Some(_), .. });
        self.features.iter().any(|(_, feature)| is_ever(&feature.kind))
    }

    /// How far (ms) behind the newest row of its key a row may come that reads its windows.
    pub fn history_ms(&self) -> i64 {
        // In order of event time only late rows come behind others; else whatever is not late may.
        match (self.order, self.event.late) {
            (Order::EventTime, LatePolicy::DeadLetter | LatePolicy::Skip) => 0,
            _ => self.event.reach_back_ms(),
        }
    }
}

fn sql_of((name, feature): &(String, Feature)) -> Vec<(String, &str)> {
    let value = match &feature.kind {
        FeatureKind::Sql(sql) => Some(sql),
        FeatureKind::Window { value, .. } => value.as_ref(),
        _ => None,
    };
    let all = [value, feature.kind.key()].into_iter().flatten();
    all.map(|sql| (format!("features.{name}"), sql.as_str())).collect()
}

/// A section `[sources.NAME]`.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    /// What a replay reads.
    pub input: Option<Input>,
    /// What a live run reads.
    pub topics: Option<Topics>,
}

/// Topics of events.
#[derive(Clone, Debug)]
pub struct Topics {
    pub names: Vec<String>,
    pub group: String,
    pub start: Start,
    /// By (topic, partition); they win over `start`.
    pub start_offsets: BTreeMap<(String, i32), u64>,
}

/// Where a live run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Where the group is; at the beginning where it has committed nothing.
    Committed,
    Earliest,
    Latest,
    /// The first message at or after it (ms), by the time of messages.
    Instant(i64),
}

/// Thresholds beyond which something is told.
#[derive(Clone, Copy, Debug)]
pub struct Alerts {
    pub score_over: Option<f64>,
    pub z_over: f64,
    pub ks_p_under: f64,
}

/// The cluster of the job's topics, and where results of a live run go.
#[derive(Clone)]
pub struct Kafka {
    pub bootstrap_servers: String,
    pub poll_interval: Duration,
    pub commit_interval: Duration,
    pub refresh_interval: Duration,
    pub shutdown_timeout: Duration,
    /// Properties of librdkafka; there may be secrets among them.
    pub properties: IndexMap<String, String>,
    pub predictions: Option<String>,
    /// Whether messages of predictions have headers.
    pub prediction_headers: bool,
    /// The type and the source of predictions as events.
    pub prediction_type: String,
    pub prediction_source: String,
    pub dead_letters: Option<String>,
    pub alerts: Option<String>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.properties.keys().collect();
        f.debug_struct("Kafka")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("properties", &names)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardBy {
    Key,
    Id,
    Column(String),
}

#[derive(Clone, Debug)]
pub struct Event {
    pub time: String,
    /// What integers of `time` count since 1970; ms where it is not set.
    pub time_unit: Option<TimeUnit>,
    pub id: Option<String>,
    pub key: Option<String>,
    pub filter: Option<String>,
    pub allowed_lateness_ms: i64,
    pub late: LatePolicy,
    pub late_horizon_ms: i64,
    pub idle_timeout_ms: Option<u64>,
    pub future_horizon_ms: Option<i64>,
    pub columns: IndexMap<String, JsonType>,
}

/// How far event times of topics may be beyond those of their messages, where the job does not say:
/// clocks are wrong by hours, and units of time by decades.
const LIVE_FUTURE_HORIZON_MS: i64 = 86_400_000;

impl Event {
    /// How far the time of an event may be beyond that of its message (ms), of topics.
    pub fn live_future_horizon_ms(&self) -> i64 {
        self.future_horizon_ms.unwrap_or(LIVE_FUTURE_HORIZON_MS)
    }

    /// How far behind its partition's highest event time (ms) a row may be that is still scored.
    pub fn reach_back_ms(&self) -> i64 {
        match self.late {
            LatePolicy::Score => self.late_horizon_ms,
            LatePolicy::DeadLetter | LatePolicy::Skip => self.allowed_lateness_ms,
        }
    }
}

/// Where events come from: a file, a folder of files, or standard input (`-`).
#[derive(Clone, Debug)]
pub struct Input {
    pub path: PathBuf,
    pub format: Option<Format>,
}

#[derive(Clone, Debug)]
pub struct Table {
    /// None if only a live run can read it.
    pub input: Option<Input>,
    /// What a live run reads in place of `input`.
    pub topic: Option<String>,
    pub key: String,
    /// Declared types.
    pub columns: IndexMap<String, JsonType>,
    /// Of a table that is looked up as of the event's time; without it rows never change.
    pub versions: Option<TableVersions>,
}

impl Table {
    /// The file or folder of a static table, which the check has seen to.
    pub fn file(&self) -> &Path {
        self.input.as_ref().map_or(Path::new(""), |input| &input.path)
    }

    /// How its files are written, if the job says so.
    pub fn format(&self) -> Option<Format> {
        self.input.as_ref().and_then(|input| input.format)
    }
}

#[derive(Clone, Debug)]
pub struct TableVersions {
    pub time: String,
    /// What integers of `time` count since 1970; ms where it is not set.
    pub time_unit: Option<TimeUnit>,
    pub sequence: Option<String>,
    pub delete: Option<String>,
    pub max_age_ms: Option<i64>,
    pub allowed_lateness_ms: i64,
    pub eager: bool,
    pub idle_timeout_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Feature {
    pub kind: FeatureKind,
    pub default: Option<Literal>,
    pub allow_null: bool,
    /// What values must be.
    pub valid: Option<Validity>,
}

#[derive(Clone, Debug)]
pub enum FeatureKind {
    Column(String),
    Sql(String),
    Window {
        key: String,
        value: Option<String>,
        figure: Figure,
        /// [`WindowSpec::EVER`](driftline_operators::features::window::WindowSpec::EVER) where
        /// nothing leaves it.
        length_ms: i64,
        /// Keys that are held at most, where nothing leaves it.
        keys_max: Option<u64>,
    },
    Lookup {
        table: String,
        key: String,
        column: String,
    },
    /// The age in ms of what a lookup finds.
    Age {
        table: String,
        key: String,
    },
    Encode {
        input: String,
        categories: Vec<String>,
        unseen: Option<f64>,
    },
}

/// What a window says of its rows.
#[derive(Clone, Debug)]
pub enum Figure {
    Aggregate(Aggregate),
    /// What a function of the program makes of them, by its name.
    Function(String),
}

impl FeatureKind {
    /// The expression of the key that rows are grouped or found by.
    pub fn key(&self) -> Option<&String> {
        match self {
            FeatureKind::Window { key, .. }
            | FeatureKind::Lookup { key, .. }
            | FeatureKind::Age { key, .. } => Some(key),
            _ => None,
        }
    }

    /// The table that the feature looks up.
    pub fn table(&self) -> Option<&String> {
        match self {
            FeatureKind::Lookup { table, .. } | FeatureKind::Age { table, .. } => Some(table),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ModelFile {
    pub path: PathBuf,
    /// Where its file and its version come from, if that is a registry.
    pub registered: Option<Registered>,
    pub name: String,
    pub version: String,
    /// What the version says of itself; nothing before its files are there.
    pub card: Arc<ModelCard>,
    /// What the model reads, in order.
    pub features: Vec<String>,
    /// By input of the model, the features it takes; without an entry they go by its name.
    pub inputs: IndexMap<String, Vec<String>>,
    pub output: Option<String>,
    /// What a prediction is; by the width of the output where absent.
    pub task: Option<Task>,
    pub engine: ModelEngine,
    /// A run that takes longer is ended, where ONNX Runtime runs it.
    pub run_timeout: Option<Duration>,
    /// When rows are kept from it, if they ever are.
    pub breaker: Option<BreakerLimits>,
    pub parity: ParityRules,
}

/// What the scores of a model are compared with before it scores any event.
#[derive(Clone, Debug)]
pub struct ParityRules {
    /// The rows of every version; without it each may have some of its own.
    pub rows: Option<PathBuf>,
    /// Columns of them; one alone may be a list.
    pub expected: Vec<String>,
    pub tolerance: Tolerance,
    pub rows_max: usize,
    /// Whether the rows of a version are looked for beside its file.
    pub beside: bool,
}

/// What runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelEngine {
    Auto,
    OnnxRuntime,
}

#[derive(Clone, Debug)]
pub struct Realtime {
    pub bounds: BatchBounds,
    /// Whether the job says how large batches are; if not, a version of the model may.
    pub has_batch_size: bool,
    pub max_latency_ms: Option<u64>,
    /// How long after it was read a row is still scored; of live runs and requests.
    pub request_timeout: Option<Duration>,
    pub throughput_target_per_second: Option<u64>,
    /// How often the registry is asked for another version of the model.
    pub model_refresh_interval: Duration,
    /// Versions that are kept beside the one that scores.
    pub model_cache_size: usize,
    /// Rows that a model scores before it is given any.
    pub model_warm_up_samples: usize,
    /// Events behind from which on shadows score nothing.
    pub shadow_lag_max: u64,
}

#[derive(Clone, Debug)]
pub struct Drift {
    pub baseline: PathBuf,
    /// Each length and how it is written.
    pub windows: Vec<(WindowLength, String)>,
    pub mode: DriftMode,
    /// Rows of a baseline at most, where one is made.
    pub baseline_sample_max: Option<u64>,
    pub revisions: Revisions,
    pub thresholds: Thresholds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriftMode {
    Exact,
    Profile { bins: usize },
}

#[derive(Clone, Debug)]
pub struct Output {
    pub path: PathBuf,
    pub format: Format,
    /// Of JSON lines and CSV.
    pub compression: Option<Compression>,
}

impl Output {
    /// Parquet files in a folder.
    pub fn parquet(path: PathBuf) -> Self {
        Output { path, format: Format::Parquet, compression: None }
    }

    /// What the names of its files end in.
    pub fn ending(&self) -> String {
        let format = match self.format {
            Format::Parquet => "parquet",
            Format::Json => "jsonl",
            Format::Csv => "csv",
        };
        match self.compression {
            None => format.to_owned(),
            Some(Compression::Gzip) => format!("{format}.gz"),
            Some(Compression::Zstd) => format!("{format}.zst"),
        }
    }
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
            |name: &str, output: &Output| Output { path: base.join(name), ..output.clone() };
        Outputs {
            predictions: below("predictions", &self.predictions),
            drift: below("drift", &self.drift),
            dead_letters: below("dead_letters", &self.dead_letters),
        }
    }
}
