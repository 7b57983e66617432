//! Sections of several models: `[ensembles.NAME]`, `[cascades.NAME]`, `[routes.NAME]`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::words::PolicyWord;

/// Models that score together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsembleSection {
    /// How their predictions become one.
    pub policy: PolicyWord,
    /// Models by name, and the weight of each, above 0.
    #[schemars(extend("minProperties" = 1))]
    pub members: IndexMap<String, f64>,
    /// What a failed member counts as where it is a regression; one that tells classes apart counts as
    /// unsure of all of them.
    pub neutral: Option<f64>,
    /// Of `stacking`: the model whose features are members' names, for their scores, or features of the job.
    pub by: Option<String>,
}

/// A model whose unsure predictions another one makes again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CascadeSection {
    /// The model that scores all rows.
    pub first: String,
    /// The model that scores again what `first` is unsure of.
    pub then: String,
    /// `first` is unsure of a row whose largest probability is below it.
    pub confidence_below: f64,
}

/// Rows, and what scores them: exactly one of `model`, `model_from`, `variants`. A row takes the first route
/// whose `when` is true, in the order of the file; one that takes none is skipped.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["model"]}, {"required": ["model_from"]}, {"required": ["variants"]}
]))]
pub struct RouteSection {
    /// An SQL expression over columns of the event and features that is true of its rows; all rows where it
    /// is not set.
    pub when: Option<String>,
    /// The model, ensemble or cascade that scores them.
    pub model: Option<String>,
    /// A text (a column or an SQL expression) that names what scores a row. Where it is null the route is
    /// not the row's; a name that there is none of makes it a dead letter.
    pub model_from: Option<String>,
    /// Variants by name, of which each id has one always.
    #[serde(default)]
    pub variants: IndexMap<String, VariantSection>,
    /// What an id is: a column, or an SQL expression. `event.key` where it is not set, or else `event.id`. A
    /// row whose id is null is told by its request id.
    pub by: Option<String>,
    /// What ids are hashed with. The route's name where it is not set: with the same salt the same ids
    /// are together.
    pub salt: Option<String>,
    /// What scores rows that the model fails on, the first one first.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// What scores the rows beside it: compared with it, and never published.
    #[serde(default)]
    pub shadow: Vec<String>,
}

/// A variant of a route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantSection {
    /// The model, ensemble or cascade that scores its rows.
    pub model: String,
    /// So many of 10,000 ids have it; those of all variants are 10,000.
    #[schemars(range(max = 10_000))]
    pub weight: u32,
}
