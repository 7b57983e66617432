//! The section `[drift]`.

use std::path::Path;

use driftline_operators::drift::alarms::Thresholds;
use driftline_operators::drift::windows::Revisions;
use toml::Value;

use super::{at_least, one_of};
use crate::config::duration::window_length;
use crate::config::job::{Drift, DriftMode};
use crate::config::raw::{DriftSection, OFF, PROFILE_BINS, REVISION_INTERVAL_MS};

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_drift(
    raw: DriftSection,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Result<Drift, String> {
    let mut windows = Vec::new();
    for text in &raw.windows {
        let length = window_length(text).map_err(|problem| format!("drift.windows: {problem}"))?;
        if windows.iter().any(|(known, _)| *known == length) {
            return Err(format!("drift.windows: {text:?} stands there twice"));
        }
        windows.push((length, text.clone()));
    }
    if windows.is_empty() {
        return Err("drift.windows is empty; it lists lengths such as \"1d\", \"1mo\", \"7d/1d\""
            .to_owned());
    }
    let mode = match raw.mode.as_str() {
        "exact" => DriftMode::Exact,
        "profile" => DriftMode::Profile { bins: raw.profile_bins.unwrap_or(PROFILE_BINS) },
        other => return Err(one_of("drift.mode", other, &["exact", "profile"])),
    };
    at_least("drift.profile_bins", raw.profile_bins.unwrap_or(PROFILE_BINS) as i64, 1)?;
    at_least("drift.baseline_sample_max", raw.baseline_sample_max.unwrap_or(1) as i64, 1)?;
    let interval_ms = raw.revision_interval_ms.unwrap_or(REVISION_INTERVAL_MS);
    at_least("drift.revision_horizon_ms", raw.revision_horizon_ms, 0)?;
    at_least("drift.revision_interval_ms", interval_ms, 0)?;
    if raw.profile_bins.is_some() && mode == DriftMode::Exact {
        warnings
            .push("drift.profile_bins has no effect without drift.mode = \"profile\"".to_owned());
    }
    if raw.revision_interval_ms.is_some() && raw.revision_horizon_ms == 0 {
        warnings.push(
            "drift.revision_interval_ms has no effect without drift.revision_horizon_ms".to_owned(),
        );
    }
    if raw.min_effect.is_nan() || raw.min_effect < 0.0 {
        return Err(format!("drift.min_effect is {}; it must be at least 0", raw.min_effect));
    }
    let thresholds = Thresholds {
        ks_p_value: threshold("drift.ks_p_value", &raw.ks_p_value)?,
        min_effect: raw.min_effect,
        mean_shift_sd: threshold("drift.mean_shift_sd", &raw.mean_shift_sd)?,
        z_test: threshold("drift.z_test", &raw.z_test)?,
        share_beyond_3: threshold("drift.share_beyond_3", &raw.share_beyond_3)?,
    };
    Ok(Drift {
        baseline: folder.join(raw.baseline),
        windows,
        mode,
        baseline_sample_max: raw.baseline_sample_max,
        revisions: Revisions { horizon_ms: raw.revision_horizon_ms, interval_ms },
        thresholds,
    })
}

/// A number that is not negative; `None` for the text that turns it off.
fn threshold(key: &str, value: &Value) -> Result<Option<f64>, String> {
    let number = match value {
        Value::Float(number) => *number,
        Value::Integer(number) => *number as f64,
        Value::String(text) if text == OFF => return Ok(None),
        other => return Err(format!("{key} is {other}; it must be a number, or {OFF:?}")),
    };
    if number >= 0.0 {
        Ok(Some(number))
    } else {
        Err(format!("{key} is {number}; it must be at least 0, or {OFF:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_number_or_off() {
        let check = |text: &str| {
            let table: toml::Table = toml::from_str(&format!("value = {text}")).unwrap();
            threshold("drift.z_test", &table["value"])
        };
        assert_eq!(check("3"), Ok(Some(3.0)));
        assert_eq!(check("0.05"), Ok(Some(0.05)));
        assert_eq!(check("\"off\""), Ok(None));
        for wrong in ["\"none\"", "-1", "nan", "false"] {
            assert!(check(wrong).unwrap_err().contains("\"off\""), "{wrong}");
        }
    }
}
