//! Exact sums of many values and of their squares at once.
//!
//! An [`ExactSum`] takes each value to its place in a long integer, with carries. Values of one exponent
//! need neither: their mantissas are whole numbers of one unit, and so are the squares of these. So a
//! block of values is added up by exponent, and only these few sums go to their places: R. M. Neal, *Fast
//! exact summation using small and large superaccumulators*, arXiv 1505.05571 (2015), §3. What comes out
//! is what the values one by one would have given, as sums are exact.

use super::ExactSum;

/// Biased exponents of a float.
const EXPONENTS: usize = 2_048;

/// Values that are added up before sums go to their places: 2¹⁰ mantissas below 2⁵³ are below 2⁶³.
const BLOCK: usize = 1_024;

/// Exponents of values whose squares are whole numbers of 2⁻¹⁰⁷⁴ and finite; the others are added one by
/// one, as [`ExactSum::add_product`] says what becomes of their squares.
const LOWEST: usize = 538;
const HIGHEST: usize = 1_533;

/// Exponents that are looked through together.
const GROUP: usize = 32;

/// Room for sums by exponent, 48 KiB: all zero between calls, so one serves any number of columns.
pub struct ExponentSums {
    sums: Box<[i64; EXPONENTS]>,
    squares: Box<[u128; EXPONENTS]>,
    /// By group, whether any of its sums may not be zero.
    touched: [bool; EXPONENTS / GROUP],
}

impl Default for ExponentSums {
    fn default() -> Self {
        ExponentSums {
            sums: Box::new([0; EXPONENTS]),
            squares: Box::new([0; EXPONENTS]),
            touched: [false; EXPONENTS / GROUP],
        }
    }
}

impl ExponentSums {
    /// Adds finite values to `sum` and their squares to `squares`, as [`ExactSum::add`] and
    /// [`ExactSum::add_product`] would one by one.
    pub fn add(&mut self, values: &[f64], sum: &mut ExactSum, squares: &mut ExactSum) {
        for block in values.chunks(BLOCK) {
            for &value in block {
                if !self.take(value) {
                    sum.add(value);
                    squares.add_product(value, value);
                }
            }
            self.give(sum, squares);
        }
    }

    /// Adds a value by its exponent; returns whether its exponent is one that has sums.
    #[inline]
    fn take(&mut self, value: f64) -> bool {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as usize & (EXPONENTS - 1);
        // No short cuts: which values are zero is anybody's guess. Their mantissa here is 0.
        let is_summed = (LOWEST..=HIGHEST).contains(&exponent) | (bits << 1 == 0);
        if !is_summed {
            return false;
        }
        let mantissa = bits & ((1 << 52) - 1) | u64::from(exponent != 0) << 52;
        let sign = bits as i64 >> 63;
        self.sums[exponent] += (mantissa as i64 ^ sign) - sign;
        self.squares[exponent] += u128::from(mantissa) * u128::from(mantissa);
        self.touched[exponent / GROUP] = true;
        true
    }

    /// Takes all sums to their places.
    fn give(&mut self, sum: &mut ExactSum, squares: &mut ExactSum) {
        let groups = self.touched.iter_mut().enumerate().filter(|(_, touched)| **touched);
        for (group, touched) in groups {
            *touched = false;
            for exponent in group * GROUP..(group + 1) * GROUP {
                let added = std::mem::take(&mut self.sums[exponent]);
                let squared = std::mem::take(&mut self.squares[exponent]);
                if squared > 0 {
                    // In units of 2⁻¹⁰⁷⁴ a mantissa of exponent e counts 2^(e − 1), its square 2^(2(e − 1) − 1074).
                    let position = exponent as u32 - 1;
                    sum.add_integer(added.unsigned_abs().into(), position, added < 0);
                    squares.add_integer(squared, 2 * position - 1_074, false);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(values: &[f64]) -> (ExactSum, ExactSum) {
        let (mut sum, mut squares) = (ExactSum::new(), ExactSum::new());
        for &value in values {
            sum.add(value);
            squares.add_product(value, value);
        }
        (sum, squares)
    }

    /// Values whose exponents spread over `spread`, of both signs, some of few bits, some zero; seeded.
    fn values(seed: u64, count: usize, lowest: i32, spread: u64) -> Vec<f64> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut value = || {
            let bits = [next() >> 11, next() >> 60, (1 << 53) - 1][(next() >> 20) as usize % 3];
            let value = bits as f64 * 2f64.powi(lowest + (next() % spread) as i32);
            [value, -value, value, 0.0, -0.0][(next() >> 40) as usize % 5]
        };
        (0..count).map(|_| value()).collect()
    }

    #[test]
    fn sums_are_those_of_the_values_one_by_one() {
        let mut room = ExponentSums::default();
        for seed in 0..60u64 {
            let count = [0, 1, 5, 1_023, 1_024, 1_025, 5_000][seed as usize % 7];
            let (lowest, spread) =
                [(-60, 8), (-53, 1), (-30, 90), (-1_074, 2_000), (-560, 40), (440, 60)]
                    [seed as usize % 6];
            let values = values(seed, count, lowest, spread);
            let (mut sum, mut squares) = (ExactSum::new(), ExactSum::new());
            room.add(&values, &mut sum, &mut squares);
            assert_eq!((sum, squares), one_by_one(&values), "seed {seed}");
            assert!(room.sums.iter().all(|&sum| sum == 0), "seed {seed}");
            assert!(room.squares.iter().all(|&sum| sum == 0), "seed {seed}");
        }
    }

    /// Each exponent alone, with the most that its sums have to hold.
    #[test]
    fn a_block_of_the_largest_mantissas_fits() {
        let mut room = ExponentSums::default();
        for exponent in (0..2_047u64).step_by(3).chain(LOWEST as u64 - 2..LOWEST as u64 + 2) {
            let largest = f64::from_bits(exponent << 52 | ((1 << 52) - 1));
            for value in [largest, -largest] {
                let (mut sum, mut squares) = (ExactSum::new(), ExactSum::new());
                room.add(&[value; BLOCK + 1], &mut sum, &mut squares);
                assert_eq!((sum, squares), one_by_one(&[value; BLOCK + 1]), "{exponent}");
            }
        }
    }
}
