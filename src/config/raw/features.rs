//! Sections `[features.NAME]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{AggregateWord, CheckFailWord, FailWord, NullDefault, Number, ValueTypeWord};

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
    /// What values must be, before null becomes the default; features below see what becomes of them.
    pub valid: Option<ValidSection>,
}

/// At least one rule, and what becomes of rows whose value fails one. Null fails `required` alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [
    {"required": ["type"]}, {"required": ["min"]}, {"required": ["max"]},
    {"required": ["allowed"]}, {"required": ["pattern"]}, {"required": ["required"]}
]))]
pub struct ValidSection {
    /// What values are. `number` and `text` are seen to when the job starts.
    #[serde(rename = "type")]
    pub value_type: Option<ValueTypeWord>,
    /// The least number that is allowed.
    pub min: Option<Number>,
    /// The greatest number that is allowed.
    pub max: Option<Number>,
    /// All values that are allowed: numbers or texts.
    #[schemars(length(min = 1))]
    pub allowed: Option<Vec<NullDefault>>,
    /// A regular expression (of Rust's crate `regex`) that the whole text must match.
    pub pattern: Option<String>,
    /// Whether null fails, also where the feature has a default.
    #[serde(default)]
    pub required: bool,
    /// What becomes of rows whose value fails a rule.
    #[serde(default)]
    pub on_fail: FailWord,
}

/// A rule over whole rows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSection {
    /// An SQL expression over columns of the event and features that must be true. Where it is null the
    /// row passes, as in a CHECK of SQL.
    pub sql: String,
    /// What becomes of rows of which it is false.
    #[serde(default)]
    pub on_fail: CheckFailWord,
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
