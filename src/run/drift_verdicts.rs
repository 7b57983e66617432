//! What drift snapshots say of columns, in words for a summary.

use arrow::array::{Array, AsArray, BooleanArray, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Float64Type, UInt64Type};

/// The columns of snapshots that tell whether and how a watched column drifted.
pub struct Verdicts<'a> {
    /// Of rules that the distance stands for: the Kolmogorov–Smirnov test, shifts of the mean, far values.
    by_distance: Vec<&'a BooleanArray>,
    out_of_range: &'a BooleanArray,
    null_share: &'a BooleanArray,
    judged: &'a BooleanArray,
    statistic: &'a Float64Array,
    share_out_of_range: &'a Float64Array,
    p_value: &'a Float64Array,
    mean_shift_sd: &'a Float64Array,
    partial: &'a BooleanArray,
    /// Before and now.
    null_shares: [&'a Float64Array; 2],
    values: [&'a UInt64Array; 2],
    infinite: [&'a UInt64Array; 2],
    min_rows: &'a UInt64Array,
}

/// A column that drifted in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Drifted {
    pub name: String,
    /// Such as `D 0.14, nulls 0.00 -> 0.30`.
    pub by: String,
    /// The largest of these figures.
    pub far: f64,
}

impl<'a> Verdicts<'a> {
    /// `None` if a column is missing.
    pub fn of(snapshots: &'a RecordBatch) -> Option<Self> {
        let flag = |name| snapshots.column_by_name(name)?.as_boolean_opt();
        let number = |name| snapshots.column_by_name(name)?.as_primitive_opt::<Float64Type>();
        let count = |name| snapshots.column_by_name(name)?.as_primitive_opt::<UInt64Type>();
        let by_distance = ["drift_ks", "drift_mean_shift", "drift_z_test", "drift_share_beyond_3"];
        Some(Verdicts {
            by_distance: by_distance.into_iter().map(flag).collect::<Option<_>>()?,
            out_of_range: flag("drift_out_of_range")?,
            null_share: flag("drift_null_share")?,
            judged: flag("judged")?,
            statistic: number("ks_statistic")?,
            share_out_of_range: number("share_out_of_range")?,
            p_value: number("ks_p_value")?,
            mean_shift_sd: number("mean_shift_sd")?,
            partial: flag("partial")?,
            null_shares: [number("null_share_reference")?, number("null_share_current")?],
            values: [count("n_reference")?, count("n_current")?],
            infinite: [count("n_infinite_reference")?, count("n_infinite_current")?],
            min_rows: count("min_rows")?,
        })
    }

    pub fn is_judged(&self, row: usize) -> bool {
        self.judged.value(row)
    }

    pub fn is_partial(&self, row: usize) -> bool {
        self.partial.value(row)
    }

    /// The distance of a column with its p-value, how far its mean is off, and what else it drifted by.
    pub fn figures(&self, row: usize) -> String {
        let mut texts = Vec::new();
        if self.statistic.is_valid(row) {
            let p_value = match self.p_value.value(row) {
                0.0 => "p < 1e-307".to_owned(),
                p if p < 0.001 => format!("p {p:.0e}"),
                p => format!("p {p:.3}"),
            };
            texts.push(format!("D {:.2}, {p_value}", self.statistic.value(row)));
        }
        if self.mean_shift_sd.is_valid(row) {
            texts.push(format!("mean {:+.2} sd", self.mean_shift_sd.value(row)));
        }
        texts.extend(self.of_shares(row).into_iter().map(|(text, _)| text));
        texts.join(", ")
    }

    /// The shares that have moved too far: in words, and by how much.
    fn of_shares(&self, row: usize) -> Vec<(String, f64)> {
        let mut shares = Vec::new();
        if self.out_of_range.value(row) {
            let share = self.share_out_of_range.value(row);
            shares.push((format!("out of range {share:.2}"), share));
        }
        if self.null_share.value(row) {
            let [before, now] = self.null_shares.map(|shares| shares.value(row));
            shares.push((format!("nulls {before:.2} -> {now:.2}"), (now - before).abs()));
        }
        shares
    }

    /// Infinite values of the reference, and of the window.
    pub fn infinite(&self, row: usize) -> [u64; 2] {
        self.infinite.map(|counts| counts.value(row))
    }

    /// How many values the reference has, where they are too few for any verdict.
    pub fn small_reference(&self, row: usize) -> Option<u64> {
        let values = self.values[0].value(row);
        (values < self.min_rows.value(row)).then_some(values)
    }

    /// By what the column `name` drifted, if it did.
    pub fn drifted(&self, name: &str, row: usize) -> Option<Drifted> {
        let (mut by, mut far) = (Vec::new(), 0f64);
        if self.by_distance.iter().any(|rule| rule.value(row)) {
            let statistic = self.statistic.value(row);
            by.push(format!("D {statistic:.2}"));
            far = far.max(statistic);
        }
        for (text, share) in self.of_shares(row) {
            by.push(text);
            far = far.max(share);
        }
        (!by.is_empty()).then(|| Drifted { name: name.to_owned(), by: by.join(", "), far })
    }
}
