//! The section `[drift]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::words::{ModeWord, Threshold};

pub const PROFILE_BINS: usize = 256;
pub const REVISION_INTERVAL_MS: i64 = 3_600_000;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftSection {
    /// The reference, a file that `driftline baseline` makes.
    pub baseline: String,
    /// The windows that are compared with the reference: `1mo` and `1w` are those of the calendar,
    /// others lengths such as `1d`, or length and slide of windows that overlap, such as `7d/1d`.
    /// All in UTC, [start, end).
    #[serde(default = "windows")]
    #[schemars(length(min = 1))]
    pub windows: Vec<String>,
    /// What is kept of a window.
    #[serde(default)]
    pub mode: ModeWord,
    /// Bins of the reference in profile mode. 256 where it is not set.
    #[schemars(range(min = 1), extend("default" = 256))]
    pub profile_bins: Option<usize>,
    /// The most rows that `driftline baseline` keeps, drawn at random with a fixed seed. All where
    /// it is not set.
    #[schemars(range(min = 1))]
    pub baseline_sample_max: Option<u64>,
    /// So long (ms) after their end windows take late rows. With 0 they are final at their end.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub revision_horizon_ms: i64,
    /// A window is revised at most once while the watermark rises by this (ms). An hour where it is
    /// not set.
    #[schemars(range(min = 0), extend("default" = 3_600_000))]
    pub revision_interval_ms: Option<i64>,
    /// Drift, if the p-value of the Kolmogorov-Smirnov test is below this and its statistic at least
    /// `min_effect`; or `off`.
    #[serde(default = "ks_p_value")]
    pub ks_p_value: Threshold,
    /// The least Kolmogorov-Smirnov statistic (0 to 1) that counts as drift. With 0 the p-value
    /// alone decides.
    #[serde(default = "min_effect")]
    #[schemars(range(min = 0))]
    pub min_effect: f64,
    /// Drift, if the mean has moved by more than so many of the reference's standard deviations; or
    /// `off`.
    #[serde(default = "mean_shift_sd")]
    pub mean_shift_sd: Threshold,
    /// Drift, if the mean has moved by more than so many standard errors; or `off`.
    #[serde(default = "z_test")]
    pub z_test: Threshold,
    /// Drift, if a larger share (0 to 1) of values is more than three of the reference's standard
    /// deviations from its mean; or `off`.
    #[serde(default = "share_beyond_3")]
    pub share_beyond_3: Threshold,
    /// Drift, if a larger share (0 to 1) of values is below the least or above the greatest value of
    /// the reference, and chance would not put so many there; or `off`.
    #[serde(default = "share_out_of_range")]
    pub share_out_of_range: Threshold,
    /// Drift, if the share of nulls (0 to 1) has moved by more than this, and by more than chance
    /// would; or `off`.
    #[serde(default = "null_share")]
    pub null_share: Threshold,
    /// Values that window and reference need for a verdict on values, and rows for one on nulls. With
    /// fewer there are figures and no drift.
    #[serde(default = "min_rows")]
    #[schemars(range(min = 1))]
    pub min_rows: u64,
}

fn windows() -> Vec<String> {
    vec!["1d".to_owned()]
}

fn ks_p_value() -> Threshold {
    Threshold(Some(0.05))
}

fn min_effect() -> f64 {
    0.1
}

fn mean_shift_sd() -> Threshold {
    Threshold(Some(0.5))
}

fn z_test() -> Threshold {
    Threshold(None)
}

fn share_beyond_3() -> Threshold {
    Threshold(Some(0.05))
}

fn share_out_of_range() -> Threshold {
    Threshold(Some(0.05))
}

fn null_share() -> Threshold {
    Threshold(Some(0.1))
}

fn min_rows() -> u64 {
    30
}
