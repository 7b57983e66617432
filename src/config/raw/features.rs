//! Sections `[features.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{AggregateWord, NullDefault};

/// A feature is made in exactly one of five ways: `column`, `sql`, `window`, `lookup`, `encode`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["column"]}, {"required": ["sql"]}, {"required": ["window"]},
    {"required": ["lookup"]}, {"required": ["encode"]}
]))]
pub struct FeatureSection {
    /// A column of the event, as it is.
    pub column: Option<String>,
    /// An SQL expression over columns of the event and features above, with DataFusion's immutable
    /// functions.
    pub sql: Option<String>,
    /// A figure over the rows of a key in (t − length, t], the row itself included.
    pub window: Option<WindowSection>,
    /// A value of a table's row.
    pub lookup: Option<LookupSection>,
    /// The position of a text in a list.
    pub encode: Option<EncodeSection>,
    /// What null becomes. A null without default makes the row a dead letter, where the model reads
    /// the feature.
    pub default: Option<NullDefault>,
    /// Whether the model is given null (as NaN).
    #[serde(default)]
    pub allow_null: bool,
}

/// Exactly one of `aggregate` and `function`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["aggregate"]}, {"required": ["function"]}]))]
pub struct WindowSection {
    /// Whose rows: an SQL expression over columns of the event, often just a column.
    pub key: String,
    /// What is aggregated: an SQL expression over columns of the event. Only `count` works without
    /// it, and counts rows; `time_since_last` has none.
    pub value: Option<String>,
    /// The figure.
    pub aggregate: Option<AggregateWord>,
    /// In place of an aggregate: a function of the program that runs the job as a library.
    pub function: Option<String>,
    /// How far back the window reaches, such as `1h` or `7 days`. For every aggregate but
    /// `time_since_last`.
    pub length: Option<String>,
    /// How far back `time_since_last` looks, such as `7 days`; beyond it the feature is null. Without it
    /// the key's last row counts however long ago it was.
    pub within: Option<String>,
    /// Of `time_since_last` without `within`: keys whose last row is held, over all workers. One million
    /// where it is not set. Above it those not seen for the longest are forgotten, evenly over the 256
    /// key groups.
    #[schemars(range(min = 1))]
    pub max_keys: Option<u64>,
}

/// Exactly one of `column` and `age = true`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["column"], "properties": {"age": {"const": false}}},
    {"required": ["age"], "not": {"required": ["column"]}, "properties": {"age": {"const": true}}}
]))]
pub struct LookupSection {
    /// The name of a section `[tables.NAME]`.
    pub table: String,
    /// What is looked up: an SQL expression of the type of the table's key. In a table that changes
    /// over columns of the event, else over features above too.
    pub key: String,
    /// The column of the table.
    pub column: Option<String>,
    /// In place of a column: how old (ms) the values are. Only of a table with a `time`.
    #[serde(default)]
    pub age: bool,
}

/// Exactly one of `categories` and `categories_file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["categories"]}, {"required": ["categories_file"]}]))]
pub struct EncodeSection {
    /// The column of the event, or the feature above, that holds the text.
    pub column: String,
    /// The texts, whose codes are 0, 1, 2, …
    pub categories: Option<Vec<String>>,
    /// A file of the texts, one a line.
    pub categories_file: Option<String>,
    /// The code of a text that is not among the categories. Null where it is not set.
    pub unseen: Option<f64>,
}
