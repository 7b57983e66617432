//! The distinct values of a column that has few: they are counted instead of sorted.

use crate::drift::keys::{ordered, unordered};
use crate::drift::runs::Runs;

/// How many distinct values a column may have to be counted by value. A dictionary takes at most
/// 96 KiB.
const CODES_MAX: usize = 2_048;

/// Fewer values are sorted sooner than counted.
const COUNTED_MIN: usize = 64;

/// A NaN: never a value that is counted.
const EMPTY: u64 = u64::MAX;

/// The codes of a column's values, in the order in which they were first seen.
#[derive(Default)]
pub struct Dictionary {
    /// By hash: the bits of a value and its code. At least half of the slots are empty; their number
    /// is a power of two.
    slots: Vec<(u64, u32)>,
    /// A value as an ordered key, and its code. By value when it is read, else new ones come last.
    order: Vec<(i64, u32)>,
    /// The column has more values than are counted; no more are looked up.
    is_full: bool,
}

/// How often each code was counted; of codes behind the last one, never.
pub type CountsByCode = Vec<u64>;

impl Dictionary {
    /// Counts `values`, without NaN, and takes them out, if that is quicker than to sort them; those
    /// that are more than it counts stay.
    pub fn count(&mut self, values: &mut Vec<f64>, counts: &mut CountsByCode) {
        if self.is_full || values.len() < COUNTED_MIN.max(self.order.len() / 2) {
            return;
        }
        counts.resize(counts.len().max(self.order.len()), 0);
        let mut first = self.count_known(values, counts);
        while let Some(&unknown) = values.get(first) {
            let Some(code) = self.code(unknown) else {
                self.slots = Vec::new();
                values.drain(..first);
                return;
            };
            counts.resize(counts.len().max(code + 1), 0);
            first += self.count_known(&values[first..], counts);
        }
        values.clear();
    }

    /// Counts up to the first value that has no code, and returns where that is.
    fn count_known(&self, values: &[f64], counts: &mut [u64]) -> usize {
        let slots = self.slots.as_slice();
        if slots.is_empty() {
            return 0;
        }
        for (at, &value) in values.iter().enumerate() {
            let bits = bits_of(value);
            let (found, code) = slots[slot(slots, bits)];
            if found != bits {
                return at;
            }
            counts[code as usize] += 1;
        }
        values.len()
    }

    /// `None`, and never a code again, for a value that is one too many.
    fn code(&mut self, value: f64) -> Option<usize> {
        let bits = bits_of(value);
        if self.order.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = slot(&self.slots, bits);
        let (found, code) = self.slots[slot];
        if found == bits {
            return Some(code as usize);
        }
        if self.order.len() == CODES_MAX {
            self.is_full = true;
            return None;
        }
        let code = self.order.len();
        self.slots[slot] = (bits, code as u32);
        self.order.push((ordered(bits), code as u32));
        Some(code)
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(64);
        let before = std::mem::replace(&mut self.slots, vec![(EMPTY, 0); slots]);
        for (bits, code) in before.into_iter().filter(|(bits, _)| *bits != EMPTY) {
            let slot = slot(&self.slots, bits);
            self.slots[slot] = (bits, code);
        }
    }

    /// What was counted, as runs.
    pub fn runs(&mut self, counts: &CountsByCode) -> Runs {
        // All but the new ones are in order: a sort that merges what is takes one pass.
        self.order.sort();
        let distinct = counts.iter().filter(|&&count| count > 0).count();
        // With room for what is written and not kept: a branch a value would be a guess.
        let mut runs = Runs { values: vec![0.0; distinct + 1], counts: vec![0; distinct + 1] };
        let mut next = 0;
        for &(key, code) in &self.order {
            let count = counts.get(code as usize).copied().unwrap_or(0);
            runs.values[next] = f64::from_bits(unordered(key));
            runs.counts[next] = count;
            next += usize::from(count > 0);
        }
        runs.values.truncate(distinct);
        runs.counts.truncate(distinct);
        runs
    }
}

/// Adding 0 makes one zero of both.
#[inline]
fn bits_of(value: f64) -> u64 {
    (value + 0.0).to_bits()
}

/// Where a value is, or is to be.
#[inline]
fn slot(slots: &[(u64, u32)], bits: u64) -> usize {
    let mask = slots.len() - 1;
    // The highest bits of the product depend on all bits (D. E. Knuth, The Art of Computer
    // Programming 3, 6.4: multiplication by the golden ratio); whole numbers have none at the end.
    let hash = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut slot = (hash >> mask.leading_zeros()) as usize & mask;
    while slots[slot].0 != bits && slots[slot].0 != EMPTY {
        slot = (slot + 1) & mask;
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeded whole numbers.
    fn numbers(seed: u64, count: usize, bound: u64) -> Vec<u64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % bound
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn what_is_counted_and_what_is_left_is_the_whole() {
        for seed in 0..60 {
            let distinct = [1, 7, 300, 2_000, 2_048, 5_000][seed as usize % 6];
            let mut dictionary = Dictionary::default();
            // Several panes over one dictionary; values of a part are unlike those of the last one.
            for pane in 0..4u64 {
                let (mut values, mut counts, mut all) = (Vec::new(), Vec::new(), Vec::new());
                for part in 0..3u64 {
                    let size = [10, 70, 900, 3_000][(seed + pane + part) as usize % 4];
                    let drawn = numbers(seed * 16 + pane * 4 + part, size, distinct);
                    let shift = (distinct * part / 3) as f64;
                    values.extend(drawn.iter().map(|&k| (shift - k as f64) * 0.37));
                    all.extend(drawn.iter().map(|&k| (shift - k as f64) * 0.37));
                    if part == 1 {
                        values.extend([-0.0, f64::INFINITY, 0.0, f64::NEG_INFINITY]);
                        all.extend([-0.0, f64::INFINITY, 0.0, f64::NEG_INFINITY]);
                    }
                    dictionary.count(&mut values, &mut counts);
                }
                let counted = dictionary.runs(&counts);
                let found = Runs::merge([&counted, &Runs::from_values(values)]);
                let mut sorted: Vec<f64> = all.iter().map(|value| value + 0.0).collect();
                sorted.sort_by(f64::total_cmp);
                let naive: Vec<(f64, u64)> =
                    sorted.chunk_by(|a, b| a == b).map(|c| (c[0], c.len() as u64)).collect();
                assert_eq!(found.pairs().collect::<Vec<_>>(), naive, "{seed} {pane}");
                assert!(found.values.iter().all(|value| value.to_bits() != (-0.0f64).to_bits()));
            }
            assert!(dictionary.is_full || distinct < 5_000, "{seed}");
            assert!(!dictionary.is_full || distinct > 300, "{seed}");
        }
    }

    #[test]
    fn few_values_are_left_to_be_sorted() {
        let mut dictionary = Dictionary::default();
        let (mut values, mut counts) = (vec![1.0; COUNTED_MIN - 1], Vec::new());
        dictionary.count(&mut values, &mut counts);
        assert_eq!((values.len(), counts.len()), (COUNTED_MIN - 1, 0));
        values.push(2.0);
        dictionary.count(&mut values, &mut counts);
        assert_eq!((values, counts), (vec![], vec![COUNTED_MIN as u64 - 1, 1]));
    }
}
