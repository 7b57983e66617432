//! Squares of differences, out of sums that can be merged.

use super::ExactSum;

/// Σ(x − c)² = Σx² − 2cΣx + nc² of `n` values, with every product split into terms that are exact: what is rounded
/// is the result, while values are between 1e-146 and 1e154 in magnitude. Infinite where a square is, and NaN where c is no
/// number.
pub fn squares_around(c: f64, n: f64, sum: &ExactSum, squares: &ExactSum) -> f64 {
    if !c.is_finite() {
        return f64::NAN;
    }
    if !squares.value().is_finite() {
        return f64::INFINITY;
    }
    let (mut squares, mut sum) = (squares.clone(), sum.clone());
    // The sum as up to three floats that add up to it.
    for _ in 0..3 {
        let part = sum.value();
        // Twice the product may be infinite where the squares are not.
        squares.sub_product(c, part);
        squares.sub_product(c, part);
        sum.sub(part);
    }
    let rounded = n * c;
    squares.add_product(c, rounded);
    squares.add_product(c, n.mul_add(c, -rounded));
    // Squares of tiny values are rounded, and what is left of them may be negative.
    squares.value().max(0.0)
}
