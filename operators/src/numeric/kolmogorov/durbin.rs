//! The exact P(Dₙ ≤ d) as an entry of a matrix power.
//!
//! J. Durbin (1968), in the form of G. Marsaglia, W. W. Tsang and J. Wang, *Evaluating Kolmogorov's
//! Distribution*, J. Stat. Software 8(18), 2003: write d = (k − h)/n with a whole k and 0 ≤ h < 1;
//! then P(Dₙ ≤ d) = n!/nⁿ · (Hⁿ)ₖₖ for a matrix H of m = 2k − 1 rows. All its entries are positive,
//! so nothing cancels. Cost: m³ log n.

use super::pelz_good;

/// From this n on, the series is tried first.
const SERIES_FROM_N: u64 = 5_000;

/// Below this the survival function is 1 to the last bit. From `SERIES_FROM_N` on the series is
/// within 3 % here, and what it calls smaller is smaller.
const INVISIBLE: f64 = 1e-18;

/// P(Dₙ ≤ `d`) for n·d > ½. Meant for small n·d: the matrix has about 2·n·d rows.
pub(super) fn cdf(d: f64, n: u64) -> f64 {
    if n >= SERIES_FROM_N && pelz_good::cdf(d, n) < INVISIBLE {
        return 0.0;
    }
    let k = (n as f64 * d).ceil();
    let matrix = durbin_matrix(k as usize, k - n as f64 * d);
    let power = row_of_power(&matrix, k as usize - 1, n);
    times_factorial_share(power.row[k as usize - 1], power.exponent, n)
}

/// How many columns of a product are made at a time.
const COLUMNS: usize = 8;

/// A square matrix by rows, with a power of two taken out: entries · 2^exponent.
struct Matrix {
    rows: usize,
    entries: Vec<f64>,
    exponent: i64,
}

/// A row vector · 2^exponent.
struct Row {
    row: Vec<f64>,
    exponent: i64,
}

/// H: 1/(i − j + 1)! on and below the first superdiagonal, with corrections for h in the first
/// column and last row.
fn durbin_matrix(k: usize, h: f64) -> Matrix {
    let rows = 2 * k - 1;
    let mut inverse_factorials = vec![1.0; rows + 1];
    for i in 1..=rows {
        inverse_factorials[i] = inverse_factorials[i - 1] / i as f64;
    }
    let mut entries = vec![0.0; rows * rows];
    for i in 0..rows {
        for j in 0..rows.min(i + 2) {
            entries[i * rows + j] = inverse_factorials[i + 1 - j];
        }
    }
    for i in 0..rows {
        let edge = (1.0 - h.powi(i as i32 + 1)) * inverse_factorials[i + 1];
        entries[i * rows] = edge;
        entries[rows * rows - 1 - i] = edge;
    }
    // Where column and row meet, both corrections apply, and their overlap comes back for h > ½.
    let corner = 1.0 - 2.0 * h.powi(rows as i32) + (2.0 * h - 1.0).max(0.0).powi(rows as i32);
    entries[(rows - 1) * rows] = corner * inverse_factorials[rows];
    Matrix { rows, entries, exponent: 0 }
}

/// Row `index` of the n-th power, by repeated squaring.
fn row_of_power(matrix: &Matrix, index: usize, n: u64) -> Row {
    let mut row = vec![0.0; matrix.rows];
    row[index] = 1.0;
    let mut result = Row { row, exponent: 0 };
    let mut square = None;
    let mut remaining = n;
    loop {
        let power = square.as_ref().unwrap_or(matrix);
        if remaining & 1 == 1 {
            result = result.times(power);
        }
        remaining >>= 1;
        if remaining == 0 {
            return result;
        }
        square = Some(power.squared());
    }
}

impl Matrix {
    /// A few columns at a time, which stay in the cache and their sums in registers. Each sum goes over
    /// the rows in order.
    fn squared(&self) -> Self {
        let rows = self.rows;
        let mut entries = vec![0.0; rows * rows];
        let mut columns = vec![[0.0; COLUMNS]; rows];
        for first in (0..rows).step_by(COLUMNS) {
            let width = COLUMNS.min(rows - first);
            let inside = first..first + width;
            for (column, row) in columns.iter_mut().zip(self.entries.chunks_exact(rows)) {
                column[..width].copy_from_slice(&row[inside.clone()]);
            }
            let lefts = self.entries.chunks_exact(rows);
            for (target, left) in entries.chunks_exact_mut(rows).zip(lefts) {
                let mut sums = [0.0; COLUMNS];
                for (&factor, column) in left.iter().zip(&columns) {
                    for (sum, &entry) in sums.iter_mut().zip(column) {
                        *sum += factor * entry;
                    }
                }
                target[inside.clone()].copy_from_slice(&sums[..width]);
            }
        }
        let shift = normalize(&mut entries);
        Self { rows, entries, exponent: 2 * self.exponent + shift }
    }
}

impl Row {
    fn times(&self, matrix: &Matrix) -> Self {
        let mut row = vec![0.0; matrix.rows];
        add_row_times(&mut row, &self.row, &matrix.entries);
        let shift = normalize(&mut row);
        Self { row, exponent: self.exponent + matrix.exponent + shift }
    }
}

/// target += left · matrix, row by row so that the inner loop runs over neighbours in memory.
fn add_row_times(target: &mut [f64], left: &[f64], matrix: &[f64]) {
    for (&factor, right) in left.iter().zip(matrix.chunks_exact(target.len())) {
        // All of the row but one entry is zero at first.
        if factor != 0.0 {
            for (sum, &entry) in target.iter_mut().zip(right) {
                *sum += factor * entry;
            }
        }
    }
}

/// Takes the power of two out that brings the largest (positive) entry near 1, and returns its
/// exponent.
fn normalize(entries: &mut [f64]) -> i64 {
    let largest = entries.iter().copied().fold(0.0, f64::max);
    let exponent = (largest.to_bits() >> 52) as i64 - 1023;
    let scale = 2f64.powi(-exponent as i32);
    entries.iter_mut().for_each(|entry| *entry *= scale);
    exponent
}

/// value · 2^exponent · n!/nⁿ. The last two would over- and underflow on their own.
fn times_factorial_share(value: f64, exponent: i64, n: u64) -> f64 {
    const STEP: i32 = 512;
    let floor = 2f64.powi(-STEP);
    let size = n as f64;
    let (mut product, mut exponent) = (value, exponent);
    for i in 1..=n {
        product *= i as f64 / size;
        if product < floor {
            product *= 2f64.powi(STEP);
            exponent -= i64::from(STEP);
        }
    }
    // Beyond ±2000 the result is 0 (or would be above 1, which cannot be).
    product * 2f64.powi(exponent.clamp(-2000, 2000) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Row by row into the sums, as the definition has it.
    #[test]
    fn squares_are_sums_in_order() {
        for (k, h) in [(1, 0.25), (2, 0.0), (4, 0.9), (5, 0.5), (9, 0.1), (30, 0.7)] {
            let mut matrix = durbin_matrix(k, h);
            for _ in 0..6 {
                let rows = matrix.rows;
                let mut naive = vec![0.0; rows * rows];
                for (i, j, by) in (0..rows * rows * rows)
                    .map(|at| (at / rows / rows, at / rows % rows, at % rows))
                {
                    naive[i * rows + by] +=
                        matrix.entries[i * rows + j] * matrix.entries[j * rows + by];
                }
                normalize(&mut naive);
                matrix = matrix.squared();
                let bits =
                    |entries: &[f64]| entries.iter().map(|e| e.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&matrix.entries), bits(&naive), "{k} {h}");
            }
        }
    }
}
