//! A reference thinned to a sample of its rows.

use std::collections::BTreeSet;

use twox_hash::XxHash3_64;

use crate::drift::baseline::Reference;
use crate::drift::runs::Runs;

impl Reference {
    /// `rows_max` of the reference's rows, drawn without replacement; all if there are no more.
    ///
    /// Which ones follows from the number of rows and `seed` alone: ranks are drawn, in the order of
    /// nulls first and then values as they rise.
    pub fn thinned(&self, rows_max: u64, seed: u64) -> Reference {
        let rows = self.null_count + self.moments.n;
        if rows <= rows_max {
            return self.clone();
        }
        let (mut null_count, mut runs) = (0, Runs::default());
        let mut passed = self.null_count;
        let mut pairs = self.runs.pairs();
        let mut run = None;
        for rank in ranks(rows, rows_max, seed) {
            if rank < self.null_count {
                null_count += 1;
                continue;
            }
            while rank >= passed
                && let Some((value, count)) = pairs.next()
            {
                passed += count;
                run = Some(value);
            }
            runs.extend(run);
        }
        Reference::new(runs, null_count)
    }
}

/// The seed for a column: another one for every name.
pub fn seed_of(column: &str) -> u64 {
    XxHash3_64::oneshot(column.as_bytes())
}

/// `count` of the numbers below `bound`, which is more, all subsets being equally likely. R. W.
/// Floyd's algorithm (J. Bentley, "Programming pearls: a sample of brilliance", CACM 30(9), 1987).
fn ranks(bound: u64, count: u64, seed: u64) -> BTreeSet<u64> {
    let mut random = SplitMix64(seed);
    let mut chosen = BTreeSet::new();
    for last in bound - count..bound {
        let rank = random.below(last + 1);
        if !chosen.insert(rank) {
            chosen.insert(last);
        }
    }
    chosen
}

/// G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, all but equally likely: none by more than 2⁻⁶⁴ of the whole.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_many_as_asked_and_spread_evenly() {
        let mut drawn = [0u32; 10];
        for seed in 0..5_000 {
            let ranks = ranks(10, 3, seed);
            assert_eq!(ranks.len(), 3);
            ranks.into_iter().for_each(|rank| drawn[rank as usize] += 1);
        }
        // 1,500 each, with a deviation of 32.
        assert!(drawn.iter().all(|times| (1_370..=1_630).contains(times)), "{drawn:?}");
    }

    #[test]
    fn a_thinned_reference_is_a_part_of_the_whole() {
        let values = (0..1_000).map(|i| f64::from(i % 40)).collect();
        let whole = Reference::new(Runs::from_values(values), 500);
        let thinned = whole.thinned(300, 7);
        assert_eq!(thinned.moments.n + thinned.null_count, 300);
        assert!((60..140).contains(&thinned.null_count), "{}", thinned.null_count);
        for (value, count) in thinned.runs.pairs() {
            let at = whole.runs.values.iter().position(|&known| known == value).unwrap();
            assert!(count <= whole.runs.counts[at]);
        }
        assert_eq!(thinned, whole.thinned(300, 7));
        assert_ne!(thinned, whole.thinned(300, 8));
        assert_eq!(whole.thinned(1_500, 7), whole);
    }

    #[test]
    fn all_but_one_row_of_distinct_values_remain() {
        let whole = Reference::new(Runs::from_values((0..9).map(f64::from).collect()), 1);
        let thinned = whole.thinned(9, 3);
        assert_eq!(thinned.moments.n + thinned.null_count, 9);
        assert!(thinned.runs.counts.iter().all(|&count| count == 1));
    }
}
