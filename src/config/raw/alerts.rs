//! The section `[alerts]`.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertsSection {
    /// A score over it is told. None is where it is not set.
    pub score_over: Option<f64>,
    /// A value of one event that is more than so many standard deviations of the reference from its
    /// mean is told.
    #[serde(default = "z_over")]
    #[schemars(range(min = 0))]
    pub z_over: f64,
    /// A window and column whose p-value is under it is told.
    #[serde(default = "ks_p_under")]
    #[schemars(range(min = 0, max = 1))]
    pub ks_p_under: f64,
}

impl Default for AlertsSection {
    fn default() -> Self {
        AlertsSection { score_over: None, z_over: z_over(), ks_p_under: ks_p_under() }
    }
}

fn z_over() -> f64 {
    3.0
}

fn ks_p_under() -> f64 {
    0.05
}
