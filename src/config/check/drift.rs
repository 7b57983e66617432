//! The section `[drift]`.

use std::path::Path;

use driftline_operators::drift::alarms::Thresholds;
use driftline_operators::drift::windows::Revisions;

use super::problem::{Problem, at_least};
use crate::config::duration::window_length;
use crate::config::job::{Drift, DriftMode};
use crate::config::raw::words::ModeWord;
use crate::config::raw::{DriftSection, PROFILE_BINS, REVISION_INTERVAL_MS};

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_drift(
    raw: DriftSection,
    folder: &Path,
    warnings: &mut Vec<String>,
) -> Result<Drift, Problem> {
    let in_windows = |message: String| Problem::at("drift.windows", message);
    let mut windows = Vec::new();
    for text in &raw.windows {
        let length = window_length(text).map_err(in_windows)?;
        if windows.iter().any(|(known, _)| *known == length) {
            return Err(in_windows(format!("{text:?} stands there twice")));
        }
        windows.push((length, text.clone()));
    }
    if windows.is_empty() {
        let wanted = "is empty; it lists lengths such as \"1d\", \"1mo\", \"7d/1d\"";
        return Err(in_windows(wanted.to_owned()));
    }
    let bins = raw.profile_bins.unwrap_or(PROFILE_BINS);
    let mode = match raw.mode {
        ModeWord::Exact => DriftMode::Exact,
        ModeWord::Profile => DriftMode::Profile { bins },
    };
    at_least("drift.profile_bins", bins as i64, 1)?;
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
        let message = format!("{} is too small; it must be at least 0", raw.min_effect);
        return Err(Problem::at("drift.min_effect", message));
    }
    Ok(Drift {
        baseline: folder.join(raw.baseline),
        windows,
        mode,
        baseline_sample_max: raw.baseline_sample_max,
        revisions: Revisions { horizon_ms: raw.revision_horizon_ms, interval_ms },
        thresholds: Thresholds {
            ks_p_value: raw.ks_p_value.0,
            min_effect: raw.min_effect,
            mean_shift_sd: raw.mean_shift_sd.0,
            z_test: raw.z_test.0,
            share_beyond_3: raw.share_beyond_3.0,
        },
    })
}
