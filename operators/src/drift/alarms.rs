//! When a window counts as drifted.

use crate::drift::figures::Figures;

/// The job's thresholds; a rule whose threshold is `None` is off and never alarms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Alarm if the KS p-value is below it and the statistic is at least `min_effect`.
    pub ks_p_value: Option<f64>,
    /// 0: the p-value alone decides.
    pub min_effect: f64,
    /// Alarm if |`mean_shift_sd`| is over it.
    pub mean_shift_sd: Option<f64>,
    /// Alarm if |`z_test`| is over it.
    pub z_test: Option<f64>,
    /// Alarm if the share of values further than three deviations from the reference mean is over
    /// it.
    pub share_beyond_3: Option<f64>,
}

/// Which rules a window breaks. A figure that it does not have breaks none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    pub ks: bool,
    pub mean_shift: bool,
    pub z_test: bool,
    pub share_beyond_3: bool,
}

impl Thresholds {
    pub fn alarms(&self, figures: &Figures) -> Alarms {
        let over = |figure: Option<f64>, threshold: Option<f64>| {
            figure.zip(threshold).is_some_and(|(figure, threshold)| figure.abs() > threshold)
        };
        Alarms {
            ks: figures.ks.zip(self.ks_p_value).is_some_and(|(ks, threshold)| {
                ks.p_value < threshold && ks.statistic >= self.min_effect
            }),
            mean_shift: over(figures.mean_shift_sd, self.mean_shift_sd),
            z_test: over(figures.z_test, self.z_test),
            share_beyond_3: over(figures.share_beyond_3, self.share_beyond_3),
        }
    }
}

impl Alarms {
    pub fn any(&self) -> bool {
        let Alarms { ks, mean_shift, z_test, share_beyond_3 } = *self;
        ks || mean_shift || z_test || share_beyond_3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::figures::Ks;
    use crate::drift::runs::Moments;
    use crate::numeric::KsMethod;

    fn figures() -> Figures {
        Figures {
            current: Moments { n: 400, mean: Some(1.2), std: Some(1.0) },
            null_count: 0,
            ks: Some(Ks {
                statistic: 0.08,
                error_bound: 0.0,
                p_value: 0.01,
                method: KsMethod::Exact,
            }),
            mean_shift_sd: Some(-0.2),
            z_test: Some(-4.0),
            share_beyond_3: Some(0.02),
        }
    }

    #[test]
    fn each_rule_alarms_by_itself() {
        let off = Thresholds::default();
        assert!(!off.alarms(&figures()).any());
        let ks = Thresholds { ks_p_value: Some(0.05), ..off };
        assert_eq!(ks.alarms(&figures()), Alarms { ks: true, ..Alarms::default() });
        assert!(!Thresholds { min_effect: 0.1, ..ks }.alarms(&figures()).any());
        assert!(!Thresholds { ks_p_value: Some(0.01), ..off }.alarms(&figures()).any());
        assert!(Thresholds { min_effect: 0.08, ..ks }.alarms(&figures()).ks);
        let z = Thresholds { z_test: Some(3.0), ..off };
        assert_eq!(z.alarms(&figures()), Alarms { z_test: true, ..Alarms::default() });
        let shift = Thresholds { mean_shift_sd: Some(0.1), ..off };
        assert_eq!(shift.alarms(&figures()), Alarms { mean_shift: true, ..Alarms::default() });
        let share = Thresholds { share_beyond_3: Some(0.02), ..off };
        assert!(!share.alarms(&figures()).any());
        let share = Thresholds { share_beyond_3: Some(0.0), ..off };
        assert_eq!(share.alarms(&figures()), Alarms { share_beyond_3: true, ..Alarms::default() });
    }

    #[test]
    fn figures_that_are_missing_raise_no_alarm() {
        let all = Thresholds {
            ks_p_value: Some(0.05),
            min_effect: 0.0,
            mean_shift_sd: Some(0.0),
            z_test: Some(0.0),
            share_beyond_3: Some(0.0),
        };
        assert!(all.alarms(&figures()).any());
        let none = Figures {
            ks: None,
            mean_shift_sd: None,
            z_test: None,
            share_beyond_3: None,
            ..figures()
        };
        assert!(!all.alarms(&none).any());
    }
}
