//! The section `[model]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parity::ParitySection;
use super::words::{EngineWord, TaskWord};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// An ONNX file; files of its weights are looked for beside it. Or a folder that has one, or a model of
    /// an MLflow registry: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/NAME/STAGE` or
    /// `models:/NAME/latest`.
    pub path: String,
    /// The address of the MLflow server, such as `http://127.0.0.1:5000`; that of the variable
    /// MLFLOW_TRACKING_URI where it is not set. Who asks is told by MLFLOW_TRACKING_TOKEN, or by
    /// MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    pub registry: Option<String>,
    /// The folder that files of a registry are kept in. `driftline/models` in the user's cache where it is
    /// not set.
    pub cache: Option<String>,
    /// The name of the model in predictions and drift. The registry's, or the file's without its ending,
    /// where it is not set.
    pub name: Option<String>,
    /// The version of the model in predictions and drift: `1` where it is not set, or the registry's.
    pub version: Option<String>,
    /// The features that the model reads, in the order of its tensor.
    #[schemars(length(min = 1))]
    pub features: Vec<String>,
    /// By input of the model, the feature or features it takes, where it is not called like one.
    #[serde(default)]
    pub inputs: IndexMap<String, OneOrMore>,
    /// The output to read, where several could be the prediction.
    pub output: Option<String>,
    /// What a prediction is. Told by the columns of the output where it is not set.
    pub task: Option<TaskWord>,
    /// What runs the model.
    #[serde(default)]
    pub engine: EngineWord,
    /// A run of ONNX Runtime (a micro-batch) that takes longer (ms) is ended, and what is left of it when it
    /// was halved has failed: dead letters `scoring_failed`. It ends between two nodes of the model's graph.
    /// Trees that are compiled are not ended: they take no more than microseconds for a row.
    #[schemars(range(min = 1))]
    pub run_timeout_ms: Option<u64>,
    /// When rows are kept from one of several models whose runs fail. Of live runs.
    pub breaker: Option<BreakerSection>,
    /// What the model's scores are compared with before it scores any event.
    #[serde(default)]
    pub parity: ParitySection,
}

/// A circuit breaker. Rows that are kept from the model are scored by the route's `fallback`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerSection {
    /// So many runs in a row of which no row is scored open it: no row goes to the model.
    #[serde(default = "failures")]
    #[schemars(range(min = 1))]
    pub failures: u64,
    /// For so long (ms).
    #[serde(default = "open_ms")]
    pub open_ms: u64,
    /// So many of 10,000 ids try it then.
    #[serde(default = "trial_weight")]
    #[schemars(range(min = 1, max = 10_000))]
    pub trial_weight: u32,
    /// So many of their runs that succeed close it; one that fails opens it again.
    #[serde(default = "trial_runs")]
    #[schemars(range(min = 1))]
    pub trial_runs: u64,
}

fn failures() -> u64 {
    5
}

fn open_ms() -> u64 {
    30_000
}

fn trial_weight() -> u32 {
    100
}

fn trial_runs() -> u64 {
    20
}

/// A name, or a list of names.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub fn into_list(self) -> Vec<String> {
        match self {
            OneOrMore::One(name) => vec![name],
            OneOrMore::More(names) => names,
        }
    }
}
