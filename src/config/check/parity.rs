//! The section `[model.parity]`.

use std::path::Path;

use driftline_operators::parity::Tolerance;

use super::problem::{Problem, at_least};
use crate::config::job::ParityRules;
use crate::config::raw::ParitySection;

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_parity(raw: ParitySection, folder: &Path) -> Result<ParityRules, Problem> {
    let tolerances = [
        ("model.parity.tolerance_absolute", raw.tolerance_absolute),
        ("model.parity.tolerance_relative", raw.tolerance_relative),
    ];
    for (key, value) in tolerances {
        if !(value >= 0.0 && value.is_finite()) {
            return Err(Problem::at(key, "it must be a number of at least 0"));
        }
    }
    at_least("model.parity.rows_max", raw.rows_max as i64, 1)?;
    let expected = raw.expected.into_list();
    if expected.is_empty() {
        return Err(Problem::at("model.parity.expected", "is empty; it names a column or more"));
    }
    Ok(ParityRules {
        rows: raw.rows.map(|rows| folder.join(rows)),
        expected,
        tolerance: Tolerance { absolute: raw.tolerance_absolute, relative: raw.tolerance_relative },
        rows_max: raw.rows_max,
        beside: raw.beside,
    })
}
