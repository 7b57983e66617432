//! The section `[model]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{EngineWord, TaskWord};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// An ONNX file. Files of its weights are looked for beside it.
    pub path: String,
    /// The name of the model in predictions and drift. The file's name without its ending where it
    /// is not set.
    pub name: Option<String>,
    /// The version of the model in predictions and drift.
    #[serde(default = "version")]
    pub version: String,
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
}

/// A name, or a list of names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a list of names")]
pub enum OneOrMore {
    One(String),
    More(Vec<String>),
}

fn version() -> String {
    "1".to_owned()
}
