//! Many values of a column counted into its profile at once.

use arrow::array::{Array, Float64Array};

use crate::drift::profile::{Bins, Profile};
use crate::numeric::ExponentSums;

/// Values that are gone over again and again while they are in a core's first cache.
const BLOCK: usize = 1_024;

/// Fewer are counted one by one.
const COUNTED_MIN: usize = 16;

/// Room for counting, kept from one column to the next.
#[derive(Default)]
pub struct Counting {
    /// Values without those that are null.
    known: Vec<f64>,
    sums: ExponentSums,
}

impl Counting {
    /// Counts what is neither null nor NaN; returns how many values these are.
    pub fn count(&mut self, values: &Float64Array, bins: &Bins, profile: &mut Profile) -> u64 {
        let Counting { known, sums } = self;
        let valid = match values.nulls() {
            None => values.values(),
            Some(nulls) => {
                known.clear();
                let valid = nulls.valid_slices();
                valid.for_each(|(from, to)| known.extend_from_slice(&values.values()[from..to]));
                known.as_slice()
            }
        };
        valid.chunks(BLOCK).map(|block| count_block(block, bins, profile, sums)).sum()
    }
}

/// Counts values that are not NaN, and returns how many these are.
fn count_block(values: &[f64], bins: &Bins, profile: &mut Profile, sums: &mut ExponentSums) -> u64 {
    let is_finite = values.iter().fold(true, |all, value| all & value.is_finite());
    if values.len() >= COUNTED_MIN && is_finite {
        profile.add_finite(bins, values, sums);
        return values.len() as u64;
    }
    let known = values.iter().filter(|value| !value.is_nan());
    known.map(|&value| profile.add(bins, value)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::runs::Runs;

    /// Against one value after the other, seeded: with nulls, NaN, infinities, in parts of any size.
    #[test]
    fn values_counted_at_once_are_those_counted_one_by_one() {
        let mut state = 3u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            (state >> 33) % bound
        };
        let mut room = Counting::default();
        for case in 0..60 {
            let distinct = [7, 90, 1_000_000][case % 3];
            let reference = (0..3_000).map(|_| next(distinct) as f64 * 0.1 - 3.0).collect();
            let bins = Bins::new(&Runs::from_values(reference), [4, 256][case / 3 % 2]);
            let (mut found, mut expected) = (Profile::default(), Profile::default());
            for _ in 0..4 {
                let size = [1, 15, 16, 1_024, 3_000][next(5) as usize];
                let values: Vec<Option<f64>> = (0..size)
                    .map(|_| match next(40) {
                        0 if case % 4 > 1 => None,
                        1 if case % 5 == 1 => Some(f64::NAN),
                        2 if case % 7 == 2 => Some(f64::NEG_INFINITY),
                        3 => Some(-0.0),
                        4 => Some(next(100) as f64 * 1e7),
                        _ => Some(next(distinct) as f64 * 0.11 - 3.0),
                    })
                    .collect();
                let known = values.iter().flatten().filter(|value| !value.is_nan());
                known.clone().for_each(|&value| expected.add(&bins, value));
                let taken = room.count(&Float64Array::from(values.clone()), &bins, &mut found);
                assert_eq!(taken, known.count() as u64, "case {case}");
            }
            found.trim();
            assert_eq!(found, expected, "case {case}");
        }
    }
}
