//! Whether a model scores as its trainer did, on rows with the trainer's predictions.
//!
//! | file | concept |
//! | --- | --- |
//! | `rows` | rows and predictions of a Parquet file, for the features of a model |
//! | `by_hand` | the same of any model, without a job |

pub mod by_hand;
mod rows;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use driftline_operators::model::Model;
use driftline_operators::parity::{Expected, Parity, Tolerance, Worst, compare};

use self::rows::ParityRows;
use super::numbers::thousands;
use crate::config::job::ParityRules;
use crate::models::onnx::TakenInput;

/// What the name of a model's file, without its ending, is followed by in that of its rows.
const BESIDE: &str = ".parity.parquet";
/// Features of the worst row that an error names.
const FEATURES_SAID: usize = 12;
/// Numbers of a prediction that are said.
const NUMBERS_SAID: usize = 8;

/// The file of rows beside a model's: `risk.parity.parquet` beside `risk.onnx`.
pub fn beside(model: &Path) -> PathBuf {
    let mut name = model.file_stem().unwrap_or_default().to_owned();
    name.push(BESIDE);
    model.with_file_name(name)
}

/// What came of comparing a model with a file of rows.
pub struct Compared {
    pub path: PathBuf,
    pub tolerance: Tolerance,
    pub parity: Parity,
    /// Of the worst row: name and value.
    features: Vec<(String, String)>,
}

/// Compares a model of a job with its rows, if it has any. `inputs` are those of the model, as far as
/// they are known.
///
/// # Errors
/// If there are rows, and they are not of this model.
pub fn check(
    rules: &ParityRules,
    path: &Path,
    model: &mut dyn Model,
    fields: &[Field],
    inputs: &[TakenInput],
) -> Result<Option<Compared>> {
    let rows = match &rules.rows {
        Some(rows) => rows.clone(),
        None => {
            let rows = beside(path);
            if !rules.beside || !rows.is_file() {
                return Ok(None);
            }
            rows
        }
    };
    let rows = ParityRows::read(&rows, rules.rows_max)?;
    let expected = rows.expected(&rules.expected)?;
    compared(&rows, &expected, rules.tolerance, model, fields, inputs).map(Some)
}

fn compared(
    rows: &ParityRows,
    expected: &Expected,
    tolerance: Tolerance,
    model: &mut dyn Model,
    fields: &[Field],
    inputs: &[TakenInput],
) -> Result<Compared> {
    let features = rows.features(fields, inputs)?;
    let parity = compare(model, &features, expected, tolerance)
        .with_context(|| rows.path.display().to_string())?;
    let of_worst = parity.worst.as_ref().map(|worst| values(&features, worst.row));
    let features = of_worst.unwrap_or_default();
    Ok(Compared { path: rows.path.clone(), tolerance, parity, features })
}

impl Compared {
    pub fn agrees(&self) -> bool {
        self.parity.beyond == 0
    }

    /// What is allowed.
    fn allowed(&self) -> String {
        let Tolerance { absolute, relative } = self.tolerance;
        format!("{absolute} + {relative}·|expected|")
    }

    /// What is said of rows that agree.
    pub fn agreement(&self) -> String {
        let Parity { rows, largest_difference, .. } = self.parity;
        format!(
            "{} rows of {} as the trainer scored them, within {}; largest difference {}",
            thousands(rows as u64),
            self.path.display(),
            self.allowed(),
            short(largest_difference)
        )
    }

    /// What is said of rows that do not agree.
    pub fn refusal(&self) -> String {
        let Parity { rows, beyond, largest_difference, .. } = &self.parity;
        let (rows, beyond) = (thousands(*rows as u64), thousands(*beyond as u64));
        let worst = self.parity.worst.as_ref().map_or(String::new(), |worst| {
            let all = self.features.iter().map(|(name, value)| format!("{name} = {value}"));
            let mut features: Vec<String> = all.take(FEATURES_SAID).collect();
            let more = self.features.len().saturating_sub(FEATURES_SAID);
            features.extend((more > 0).then(|| format!("and {more} more")));
            format!(
                "; the worst is row {}: {}, with {}",
                worst.row,
                given(worst),
                features.join(", ")
            )
        });
        format!(
            "it does not score as its trainer did: {beyond} of {rows} rows of {} differ by more than {}, by up to {}{worst}",
            self.path.display(),
            self.allowed(),
            short(*largest_difference)
        )
    }

    /// The figures, and the worst row if one is beyond what is allowed; rows of a sheet.
    fn figures(&self) -> Vec<Vec<String>> {
        let Parity { rows, beyond, largest_difference, worst } = &self.parity;
        let mut figures = vec![
            ("rows compared", thousands(*rows as u64)),
            (
                "rows beyond",
                format!("{} (allowed is {})", thousands(*beyond as u64), self.allowed()),
            ),
            ("largest difference", short(*largest_difference)),
        ];
        if let Some(worst) = worst {
            figures
                .push(("worst row", format!("{} (counted from 0): {}", worst.row, given(worst))));
        }
        let mut figures: Vec<Vec<String>> =
            figures.into_iter().map(|(name, text)| vec![name.to_owned(), text]).collect();
        let features = self.features.iter();
        figures.extend(features.map(|(name, value)| vec![format!("  {name}"), value.clone()]));
        figures
    }
}

/// What was expected of a row, and what came.
fn given(worst: &Worst) -> String {
    let list = |numbers: Vec<String>| match numbers.as_slice() {
        [one] => one.clone(),
        some if some.len() <= NUMBERS_SAID => format!("[{}]", some.join(", ")),
        many => format!("[{}, …]", many[..NUMBERS_SAID].join(", ")),
    };
    let expected = list(worst.expected.iter().map(ToString::to_string).collect());
    match &worst.given {
        Ok(numbers) => {
            let numbers = list(numbers.texts());
            format!("expected {expected}, given {numbers}")
        }
        Err(why) => format!("expected {expected}, and the model refuses it ({why})"),
    }
}

/// Names and values of a row.
fn values(features: &RecordBatch, row: usize) -> Vec<(String, String)> {
    let value = |column: &dyn Array| match column.data_type() {
        _ if column.is_null(row) => "missing".to_owned(),
        DataType::Utf8 => format!("{:?}", column.as_string::<i32>().value(row)),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        _ => column.as_primitive::<Float64Type>().value(row).to_string(),
    };
    let schema = features.schema_ref();
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.zip(features.columns().iter().map(|column| value(column.as_ref()))).collect()
}

/// A difference in few digits.
fn short(number: f64) -> String {
    match number {
        0.0 => "0".to_owned(),
        number if number.is_infinite() => "infinity".to_owned(),
        number if (1e-3..1e6).contains(&number) => format!("{number:.4}"),
        number => format!("{number:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_model_have_its_name() {
        let of = |path: &str| beside(Path::new(path)).display().to_string();
        assert_eq!(of("models/risk.onnx"), "models/risk.parity.parquet");
        assert_eq!(of("model.onnx"), "model.parity.parquet");
        assert_eq!(of("a.b.onnx"), "a.b.parity.parquet");
    }

    #[test]
    fn differences_are_short() {
        for (number, text) in
            [(0.0, "0"), (0.98, "0.9800"), (1.26e-7, "1.3e-7"), (f64::INFINITY, "infinity")]
        {
            assert_eq!(short(number), text);
        }
    }
}
