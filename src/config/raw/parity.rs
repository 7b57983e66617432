//! The section `[model.parity]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::OneOrMore;

pub const EXPECTED: &str = "expected";
pub const TOLERANCE_ABSOLUTE: f64 = 1e-5;
pub const TOLERANCE_RELATIVE: f64 = 1e-4;
pub const ROWS_MAX: usize = 10_000;

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParitySection {
    /// A Parquet file of rows with the trainer's predictions: columns called like the features of the
    /// model, or like its inputs (a list for one of several columns), and `expected`. Every version of
    /// the model is compared with it. Where it is not set each is with the file beside its own, if there
    /// is one: `risk.parity.parquet` beside `risk.onnx`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<String>,
    /// The column of what is expected: a number is the score, a list the prediction. Or the columns of
    /// all numbers of the prediction, in their order.
    pub expected: OneOrMore,
    /// A number may differ from what is expected by `tolerance_absolute` + `tolerance_relative` times
    /// what is expected, as `numpy.isclose` has it.
    #[schemars(range(min = 0))]
    pub tolerance_absolute: f64,
    /// See `tolerance_absolute`.
    #[schemars(range(min = 0))]
    pub tolerance_relative: f64,
    /// Only so many rows of the file are compared, the first.
    #[schemars(range(min = 1))]
    pub rows_max: usize,
    /// Whether a file beside the model is looked for, where `rows` is not set.
    pub beside: bool,
}

impl Default for ParitySection {
    fn default() -> Self {
        ParitySection {
            rows: None,
            expected: OneOrMore::One(EXPECTED.to_owned()),
            tolerance_absolute: TOLERANCE_ABSOLUTE,
            tolerance_relative: TOLERANCE_RELATIVE,
            rows_max: ROWS_MAX,
            beside: true,
        }
    }
}
