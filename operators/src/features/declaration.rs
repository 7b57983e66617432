//! Features as a job declares them, and what can be wrong with them.

use arrow::datatypes::DataType;

use crate::features::categories::Categories;
use crate::features::sql::SqlError;
use crate::features::table::{StaticTable, TableError};
use crate::features::window::WindowSpec;

/// A feature as the job declares it.
pub struct FeatureDeclaration {
    pub name: String,
    pub definition: Definition,
    /// Takes the place of null.
    pub default: Option<Literal>,
    /// Whether the model takes null, as NaN; otherwise a null is a dead letter.
    pub allow_null: bool,
}

pub enum Definition {
    /// A column of the event.
    Column(String),
    /// An expression over columns of the event and earlier features.
    Sql(String),
    /// A keyed sliding window; key and value are expressions over columns of the event.
    /// Of `keys_max` keys at most, if nothing of them expires.
    Window { key: String, value: Option<String>, spec: WindowSpec, keys_max: Option<u64> },
    /// A column of a static table's row of the key, an expression over columns and earlier features.
    Lookup { table: StaticTable, key: String, column: String },
    /// A column of an as-of table (by its position in the job) at the event's time, or the age of
    /// its version in ms where there is no column; the key is an expression over columns of the
    /// event.
    AsOf { table: usize, key: String, column: Option<String> },
    /// The code of a text, which is a column of the event or an earlier feature.
    Encode { input: String, categories: Categories },
}

/// A value written in the job file.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Number(f64),
    Text(String),
}

impl std::fmt::Display for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Literal::Number(number) => write!(f, "{number}"),
            Literal::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// Why declared features do not fit the event.
#[derive(Debug, thiserror::Error)]
#[error("feature {feature:?}: {problem}")]
pub struct PlanError {
    pub feature: String,
    pub problem: Problem,
}

/// What helps with an expression whose type cannot be a key.
fn key_advice(found: &DataType) -> &'static str {
    match found {
        number if number.is_floating() => {
            "; make whole numbers integers, such as CAST(x AS BIGINT)"
        }
        number if number.is_numeric() => "; make it text or an integer with CAST",
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            "; make it text, such as encode(x, 'hex')"
        }
        _ => "",
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("neither the event nor an earlier feature is called {0:?}")]
    UnknownColumn(String),
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("table {table:?} has no column {column:?}")]
    NoTableColumn { table: String, column: String },
    #[error("a value of type {0} cannot be a feature; make it a number or a text with sql")]
    NotAFeature(DataType),
    #[error("{0} cannot be a key; a key is a text, an integer or a time{advice}", advice = key_advice(.0))]
    NotAKey(DataType),
    #[error("the key is {lookup}, but the table is keyed by {table}")]
    KeyMismatch { lookup: DataType, table: DataType },
    #[error("it is of type {0}, and must be true or false")]
    NotACheck(DataType),
    #[error("only text can be encoded, and this is {0}")]
    NotText(DataType),
    #[error("the default {default} does not fit a value of type {data_type}")]
    Default { default: Literal, data_type: DataType },
}
