//! What single values are held against.

use crate::drift::runs::{Moments, Runs};

/// The limits that a reference sets to single values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Mean and three deviations; `None` without a deviation.
    centre: Option<(f64, f64)>,
    /// `None` without values.
    range: Option<Range>,
}

/// From the least to the greatest finite value, and the infinities that the reference has: one that
/// is infinite does not make every value a usual one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    /// Behind the greatest where no value is finite.
    least: f64,
    greatest: f64,
    has_minus_infinity: bool,
    has_infinity: bool,
}

impl Limits {
    pub fn of(reference: &Runs, moments: &Moments) -> Self {
        let range = (!reference.values.is_empty()).then(|| {
            let finite = reference.finite().0;
            Range {
                least: finite.first().copied().unwrap_or(f64::INFINITY),
                greatest: finite.last().copied().unwrap_or(f64::NEG_INFINITY),
                has_minus_infinity: reference.values.first() == Some(&f64::NEG_INFINITY),
                has_infinity: reference.values.last() == Some(&f64::INFINITY),
            }
        });
        Limits { centre: moments.mean.zip(moments.std.map(|std| 3.0 * std)), range }
    }

    pub fn has_centre(&self) -> bool {
        self.centre.is_some()
    }

    pub fn has_range(&self) -> bool {
        self.range.is_some()
    }

    /// Whether `value` is further than three deviations from the mean. Infinite ones always are.
    #[inline]
    pub fn is_beyond_3(&self, value: f64) -> bool {
        self.centre.is_some_and(|(mean, limit)| is_beyond(value, mean, limit))
    }

    /// Whether `value` is below the least or above the greatest finite value, or an infinity that the
    /// reference does not have.
    #[inline]
    pub fn is_out_of_range(&self, value: f64) -> bool {
        self.range.is_some_and(|range| {
            (value < range.least || value > range.greatest) && !range.has_as_infinity(value)
        })
    }
}

/// What there is of values that are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outliers {
    pub beyond_3: u64,
    pub out_of_range: u64,
    /// The least and the greatest.
    pub extremes: (f64, f64),
}

impl Limits {
    /// Looks at values that are all finite in one pass; `None` of none. Counts are those of
    /// [`is_beyond_3`](Self::is_beyond_3) and [`is_out_of_range`](Self::is_out_of_range).
    pub fn outliers(&self, values: &[f64]) -> Option<Outliers> {
        // Adding 0 makes one zero of both.
        let first = values.first()? + 0.0;
        let mut found = Outliers { beyond_3: 0, out_of_range: 0, extremes: (first, first) };
        // Limits that no finite value breaks, where there are none.
        let (mean, limit) = self.centre.unwrap_or((0.0, f64::INFINITY));
        let range = self.range.unwrap_or(Range {
            least: f64::NEG_INFINITY,
            greatest: f64::INFINITY,
            has_minus_infinity: true,
            has_infinity: true,
        });
        let (mut least, mut greatest) = found.extremes;
        for &value in values {
            found.beyond_3 += u64::from((value - mean).abs() > limit);
            // Not both: where no value of the reference is finite the least is behind the greatest.
            let is_out = (value < range.least) | (value > range.greatest);
            found.out_of_range += u64::from(is_out);
            let value = value + 0.0;
            least = if value < least { value } else { least };
            greatest = if value > greatest { value } else { greatest };
        }
        found.extremes = (least, greatest);
        Some(found)
    }
}

impl Range {
    fn has_as_infinity(self, value: f64) -> bool {
        value == f64::INFINITY && self.has_infinity
            || value == f64::NEG_INFINITY && self.has_minus_infinity
    }
}

fn is_beyond(value: f64, centre: f64, limit: f64) -> bool {
    value.is_infinite() || (value - centre).abs() > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(values: &[f64]) -> Limits {
        let runs = Runs::from_values(values.to_vec());
        Limits::of(&runs, &runs.moments())
    }

    #[test]
    fn the_range_is_that_of_finite_values() {
        let usual = limits(&[1.0, 5.0, 2.0]);
        assert!([1.0, 3.0, 5.0].iter().all(|&value| !usual.is_out_of_range(value)));
        let outside = [1f64.next_down(), 5f64.next_up(), f64::INFINITY, f64::NEG_INFINITY];
        assert!(outside.iter().all(|&value| usual.is_out_of_range(value)));
        // An infinite value of the reference lets that infinity in, and nothing else.
        let with_infinity = limits(&[1.0, 5.0, f64::INFINITY]);
        assert!(!with_infinity.is_out_of_range(f64::INFINITY));
        for value in [6.0, f64::MAX, f64::NEG_INFINITY, 0.0] {
            assert!(with_infinity.is_out_of_range(value), "{value}");
        }
        let infinite = limits(&[f64::NEG_INFINITY]);
        assert!(!infinite.is_out_of_range(f64::NEG_INFINITY) && infinite.is_out_of_range(0.0));
        assert!(!limits(&[]).has_range() && !limits(&[]).is_out_of_range(0.0));
    }

    #[test]
    fn infinite_values_are_beyond_and_do_not_move_the_centre() {
        // Mean 2, deviation 1.
        let limits = limits(&[1.0, 2.0, 3.0, f64::INFINITY]);
        assert!(limits.is_beyond_3(5.5) && !limits.is_beyond_3(5.0));
        assert!(limits.is_beyond_3(f64::INFINITY) && limits.is_beyond_3(f64::NEG_INFINITY));
        // Three deviations may be more than a float holds.
        let wide = super::tests::limits(&[-1.7e308, 1.7e308]);
        assert!(wide.is_beyond_3(f64::INFINITY));
    }
}
