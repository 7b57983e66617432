//! The section `[drift]`.

use std::path::Path;

use driftline_operators::drift::alarms::Thresholds;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::windows::Revisions;

use super::problem::{Problem, at_least};
use crate::config::duration::window_length;
use crate::config::job::{Drift, DriftMode};
use crate::config::raw::words::ModeWord;
use crate::config::raw::{DriftSection, PROFILE_BINS, REVISION_INTERVAL_MS};

/// Of more panes in a window it is said that they are many.
const PANES_MAX: i64 = 50_000;

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
    warn_of_short_panes(&windows, warnings);
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
    at_least("drift.min_rows", raw.min_rows as i64, 1)?;
    let shares = [
        ("share_beyond_3", raw.share_beyond_3.0),
        ("share_out_of_range", raw.share_out_of_range.0),
        ("null_share", raw.null_share.0),
    ];
    warn_of_shares(shares, warnings);
    Ok(Drift {
        baseline: folder.join(raw.baseline),
        windows,
        mode,
        baseline_sample_max: raw.baseline_sample_max,
        revisions: Revisions { horizon_ms: raw.revision_horizon_ms, interval_ms },
        thresholds: Thresholds {
            min_rows: raw.min_rows,
            ks_p_value: raw.ks_p_value.0,
            min_effect: raw.min_effect,
            mean_shift_sd: raw.mean_shift_sd.0,
            z_test: raw.z_test.0,
            share_beyond_3: raw.share_beyond_3.0,
            share_out_of_range: raw.share_out_of_range.0,
            null_share: raw.null_share.0,
        },
    })
}

/// A share over its threshold is drift, and none is over 1.
fn warn_of_shares(shares: [(&str, Option<f64>); 3], warnings: &mut Vec<String>) {
    let never =
        shares.into_iter().filter_map(|(key, share)| Some((key, share.filter(|s| *s >= 1.0)?)));
    warnings.extend(never.map(|(key, share)| {
        format!("drift.{key} = {share} is never exceeded: it is a share, from 0 to 1")
    }));
}

/// Windows of all lengths are put together from the same panes, whose length divides all of theirs.
fn warn_of_short_panes(windows: &[(WindowLength, String)], warnings: &mut Vec<String>) {
    let lengths: Vec<WindowLength> = windows.iter().map(|(length, _)| *length).collect();
    let WindowLength::Millis(pane_ms) = WindowLength::common_pane(&lengths) else { return };
    let length_ms = |length: WindowLength| {
        let (start, end) = length.latest(0);
        end - start
    };
    let longest = windows.iter().max_by_key(|(length, _)| length_ms(*length));
    let Some((longest, label)) = longest else { return };
    let panes = length_ms(*longest) / pane_ms;
    if panes > PANES_MAX {
        warnings.push(format!(
            "drift.windows: a window of {label:?} is put together from {panes} panes of {pane_ms} ms, the longest that divide all windows; lengths that divide each other need fewer"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_that_none_exceeds_are_named() {
        let mut warnings = Vec::new();
        let shares = [("a", Some(0.99)), ("null_share", Some(10.0)), ("c", None)];
        warn_of_shares(shares, &mut warnings);
        assert_eq!(
            warnings,
            ["drift.null_share = 10 is never exceeded: it is a share, from 0 to 1"]
        );
    }

    #[test]
    fn windows_of_many_panes_are_named() {
        let warned = |texts: &[&str]| {
            let length = |text: &&str| (window_length(text).unwrap(), (*text).to_owned());
            let windows: Vec<_> = texts.iter().map(length).collect();
            let mut warnings = Vec::new();
            warn_of_short_panes(&windows, &mut warnings);
            warnings
        };
        assert!(warned(&["1mo", "1m"]).is_empty());
        assert!(warned(&["7d/1h", "1d"]).is_empty());
        let said = warned(&["1d", "1001ms"]);
        assert!(said[0].contains("86400000 panes of 1 ms"), "{said:?}");
    }
}
