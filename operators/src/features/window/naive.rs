//! The definition of a window, taken literally: what the tests compare with.

use super::{Aggregate, Place, WindowSpec};

/// xorshift64*: enough randomness for test data, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.bits() >> 11) % bound
    }

    /// Quarters from −50 to 50, with null, NaN and −0.0 among them.
    pub(crate) fn value(&mut self) -> Option<f64> {
        match self.below(12) {
            0 => None,
            1 => Some(f64::NAN),
            2 => Some(-0.0),
            3 => Some(0.0),
            _ => Some(self.below(400) as f64 / 4.0 - 50.0),
        }
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// A row of one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub time: i64,
    pub place: i64,
    pub late: bool,
    pub value: Option<f64>,
}

impl Row {
    pub(crate) fn place(&self) -> Place<'static> {
        Place::Number(self.place)
    }
}

/// The aggregate as of `row`, after the rows `before` were applied. Values must be whole quarters,
/// and few and small enough that sums of squares are exact.
pub(crate) fn naive(spec: WindowSpec, before: &[Row], row: &Row) -> Option<f64> {
    let is_inside = |other: &&Row| {
        !other.late
            && other.time > row.time - spec.length_ms
            && (other.time, other.place) <= (row.time, row.place)
    };
    let others: Vec<&Row> = before.iter().filter(is_inside).collect();
    let mut values: Vec<f64> = others.iter().filter_map(|other| other.value).collect();
    values.extend(row.value);
    values.retain(|value| !value.is_nan());
    let count = values.len() as f64;
    let sum = || (!values.is_empty()).then(|| values.iter().fold(0.0, |sum, value| sum + value));
    match spec.aggregate {
        Aggregate::Own(own) => {
            let mut inside: Vec<&Row> = others.clone();
            inside.push(row);
            inside.sort_by_key(|row| (row.time, row.place));
            let rows = inside.iter().filter_map(|row| Some((row.time, row.value?)));
            own.evaluate(&mut rows.filter(|(_, value)| !value.is_nan()))
        }
        Aggregate::Count => Some(count),
        Aggregate::Sum => sum(),
        Aggregate::Mean => sum().map(|sum| sum / count),
        Aggregate::Min => values.into_iter().min_by(f64::total_cmp),
        Aggregate::Max => values.into_iter().max_by(f64::total_cmp),
        Aggregate::Std => {
            let quarters: Vec<i64> = values.iter().map(|value| (value * 4.0) as i64).collect();
            whole_deviation(&quarters).map(|deviation| deviation / 4.0)
        }
        Aggregate::TimeSinceLast => {
            others.iter().map(|other| other.time).max().map(|last| (row.time - last) as f64)
        }
    }
}

/// The sample standard deviation of whole numbers: Σ(n·x − Σx)² / n² / (n − 1), in integers up to
/// the division.
pub(crate) fn whole_deviation(values: &[i64]) -> Option<f64> {
    let n = values.len() as i128;
    let sum: i128 = values.iter().map(|&value| i128::from(value)).sum();
    let scatter: i128 = values.iter().map(|&value| (n * i128::from(value) - sum).pow(2)).sum();
    (n > 1).then(|| (scatter as f64 / (n * n * (n - 1)) as f64).sqrt())
}

/// Equal bits; deviations within 1e-12 of the expected one, and 0 only if that is.
#[track_caller]
pub(crate) fn assert_same(
    aggregate: Aggregate,
    found: Option<f64>,
    expected: Option<f64>,
    context: &str,
) {
    let is_same = match (aggregate, found, expected) {
        (Aggregate::Std, Some(found), Some(expected)) => {
            (found - expected).abs() <= 1e-12 * expected
        }
        _ => found.map(f64::to_bits) == expected.map(f64::to_bits),
    };
    assert!(is_same, "{context}, {aggregate:?}: found {found:?}, expected {expected:?}");
}
