//! When a window counts as drifted.

use crate::drift::figures::{Comparison, Figures, null_share};
use crate::numeric::Z_OF_ONE_PERCENT;

/// The job's thresholds; a rule whose threshold is `None` is off and never alarms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Window and reference need so many values each for a verdict on values, and so many rows for one
    /// on nulls.
    pub min_rows: u64,
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
    /// Alarm if the share of values out of the reference's range is over it, and chance would put so
    /// many there in less than one of a hundred windows.
    pub share_out_of_range: Option<f64>,
    /// Alarm if the share of nulls has moved by more than it, and by more than chance does in one of a
    /// hundred windows.
    pub null_share: Option<f64>,
}

/// Shares move by chance where rows are few: below this probability it is not chance.
const CHANCE: f64 = 0.01;

/// Which rules a window breaks. A figure that it does not have breaks none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    pub ks: bool,
    pub mean_shift: bool,
    pub z_test: bool,
    pub share_beyond_3: bool,
    pub out_of_range: bool,
    pub null_share: bool,
}

impl Thresholds {
    /// Whether there are enough values, of the window and of the reference, for a verdict on them.
    pub fn judges(&self, reference: &Comparison, figures: &Figures) -> bool {
        figures.current.n >= self.min_rows && reference.moments.n >= self.min_rows
    }

    pub fn alarms(&self, reference: &Comparison, figures: &Figures) -> Alarms {
        let null_share = self.is_null_share_over(reference, figures);
        if !self.judges(reference, figures) {
            return Alarms { null_share, ..Alarms::default() };
        }
        let ks = figures.ks.zip(self.ks_p_value).is_some_and(|(ks, threshold)| {
            ks.p_value < threshold && ks.statistic >= self.min_effect
        });
        // Where nothing deviates a single other value is infinitely far off: the test decides alone.
        if !reference.moments.std.is_some_and(|std| std > 0.0) {
            return Alarms { ks, null_share, ..Alarms::default() };
        }
        let over = |figure: Option<f64>, threshold: Option<f64>| {
            figure.zip(threshold).is_some_and(|(figure, threshold)| figure.abs() > threshold)
        };
        let by_chance = figures.out_of_range_p_value.is_none_or(|p| p >= CHANCE);
        Alarms {
            ks,
            mean_shift: over(figures.mean_shift_sd, self.mean_shift_sd),
            z_test: over(figures.z_test, self.z_test),
            share_beyond_3: over(figures.share_beyond_3, self.share_beyond_3),
            out_of_range: over(figures.share_out_of_range, self.share_out_of_range) && !by_chance,
            null_share,
        }
    }

    fn is_null_share_over(&self, reference: &Comparison, figures: &Figures) -> bool {
        let (nulls, values) = (figures.null_count, figures.current.n);
        let enough = nulls + values >= self.min_rows && reference.rows() >= self.min_rows;
        let now = null_share(nulls, values);
        let moved = now.zip(null_share(reference.null_count, reference.moments.n));
        let over = moved.zip(self.null_share);
        enough
            && over.is_some_and(|((now, before), threshold)| (now - before).abs() > threshold)
            && figures.null_share_z.is_some_and(|z| z.abs() > Z_OF_ONE_PERCENT)
    }
}

impl Alarms {
    pub fn any(&self) -> bool {
        let Alarms { ks, mean_shift, z_test, share_beyond_3, out_of_range, null_share } = *self;
        ks || mean_shift || z_test || share_beyond_3 || out_of_range || null_share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::baseline::Reference;
    use crate::drift::figures::Ks;
    use crate::drift::runs::{Moments, Runs};
    use crate::drift::sample::Sample;
    use crate::numeric::KsMethod;

    fn figures() -> Figures {
        Figures {
            current: Moments { n: 400, infinite: 0, mean: Some(1.2), std: Some(1.0) },
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
            share_out_of_range: Some(0.03),
            out_of_range_p_value: Some(0.0099),
            null_share_z: Some(0.0),
        }
    }

    fn reference(values: &[f64], nulls: u64) -> Comparison {
        Comparison::exact(&Reference::new(Runs::from_values(values.to_vec()), nulls))
    }

    /// 0, 1, … as floats.
    fn ramp(values: u32) -> Vec<f64> {
        (0..values).map(f64::from).collect()
    }

    const ALL: Thresholds = Thresholds {
        min_rows: 0,
        ks_p_value: Some(0.05),
        min_effect: 0.0,
        mean_shift_sd: Some(0.0),
        z_test: Some(0.0),
        share_beyond_3: Some(0.0),
        share_out_of_range: Some(0.0),
        null_share: Some(0.0),
    };

    #[test]
    fn each_rule_alarms_by_itself() {
        let reference = reference(&ramp(100), 0);
        let alarms = |thresholds: Thresholds| thresholds.alarms(&reference, &figures());
        let off = Thresholds::default();
        assert!(!alarms(off).any());
        let ks = Thresholds { ks_p_value: Some(0.05), ..off };
        assert_eq!(alarms(ks), Alarms { ks: true, ..Alarms::default() });
        assert!(!alarms(Thresholds { min_effect: 0.1, ..ks }).any());
        assert!(!alarms(Thresholds { ks_p_value: Some(0.01), ..off }).any());
        assert!(alarms(Thresholds { min_effect: 0.08, ..ks }).ks);
        let z = Thresholds { z_test: Some(3.0), ..off };
        assert_eq!(alarms(z), Alarms { z_test: true, ..Alarms::default() });
        let shift = Thresholds { mean_shift_sd: Some(0.1), ..off };
        assert_eq!(alarms(shift), Alarms { mean_shift: true, ..Alarms::default() });
        let share = Thresholds { share_beyond_3: Some(0.02), ..off };
        assert!(!alarms(share).any());
        let share = Thresholds { share_beyond_3: Some(0.0), ..off };
        assert_eq!(alarms(share), Alarms { share_beyond_3: true, ..Alarms::default() });
        let outside = Thresholds { share_out_of_range: Some(0.03), ..off };
        assert!(!alarms(outside).any());
        let outside = Thresholds { share_out_of_range: Some(0.02), ..off };
        assert_eq!(alarms(outside), Alarms { out_of_range: true, ..Alarms::default() });
        let by_chance = Figures { out_of_range_p_value: Some(0.01), ..figures() };
        assert!(!outside.alarms(&reference, &by_chance).any());
    }

    #[test]
    fn figures_that_are_missing_raise_no_alarm() {
        let reference = reference(&ramp(100), 0);
        assert!(ALL.alarms(&reference, &figures()).any());
        let none = Figures {
            ks: None,
            mean_shift_sd: None,
            z_test: None,
            share_beyond_3: None,
            share_out_of_range: None,
            out_of_range_p_value: None,
            null_share_z: None,
            ..figures()
        };
        assert!(!ALL.alarms(&reference, &none).any());
    }

    #[test]
    fn too_few_values_are_not_judged() {
        let thresholds = Thresholds { min_rows: 400, ..ALL };
        let large = reference(&ramp(400), 0);
        assert!(thresholds.judges(&large, &figures()) && thresholds.alarms(&large, &figures()).ks);
        let mut few = figures();
        few.current.n = 399;
        assert!(!thresholds.judges(&large, &few) && !thresholds.alarms(&large, &few).any());
        let small = reference(&ramp(399), 1_000);
        assert!(!thresholds.judges(&small, &figures()));
        assert!(!thresholds.alarms(&small, &Figures { null_share_z: None, ..figures() }).any());
    }

    /// Alarms of so many nulls and values against so many before.
    fn of_nulls(nulls: u64, values: u32, before: (u64, u32)) -> Alarms {
        let reference = reference(&ramp(before.1), before.0);
        let figures = reference.figures(&Sample::Exact(Runs::from_values(ramp(values))), nulls);
        let thresholds =
            Thresholds { null_share: Some(0.1), min_rows: 30, ..Thresholds::default() };
        thresholds.alarms(&reference, &figures)
    }

    #[test]
    fn a_null_share_that_moves_is_drift() {
        let drifts = |nulls, values, before| of_nulls(nulls, values, before).null_share;
        // All null, from never, from always; and what is at the threshold is not over it.
        assert!(drifts(30, 0, (0, 1_000)) && drifts(300, 700, (0, 1_000)));
        assert!(drifts(0, 30, (1_000, 0)) && drifts(700, 300, (1_000, 0)));
        assert!(!drifts(100, 900, (0, 1_000)) && drifts(101, 899, (0, 1_000)));
        // 0.1 more by eight rows of thirty is chance, by nine it is not: p = 0.0157 and 0.0023.
        assert!(!drifts(8, 22, (108, 892)) && drifts(9, 21, (108, 892)));
        // Rows are too few, now or before.
        assert!(!drifts(29, 0, (0, 1_000)) && !drifts(1_000, 0, (0, 29)));
        assert!(drifts(1_000, 0, (0, 30)));
    }

    #[test]
    fn without_a_deviation_the_test_decides_alone() {
        let reference = reference(&[0.0; 2_000], 0);
        let of = |others: usize| {
            let values = [vec![0.0; 2_000 - others], vec![1.0; others]].concat();
            let figures = reference.figures(&Sample::Exact(Runs::from_values(values)), 0);
            assert_eq!(figures.mean_shift_sd, Some(f64::INFINITY));
            let thresholds = Thresholds { min_effect: 0.1, ..ALL };
            thresholds.alarms(&reference, &figures)
        };
        assert!(!of(1).any() && !of(199).any());
        assert_eq!(of(210), Alarms { ks: true, ..Alarms::default() });
    }
}
