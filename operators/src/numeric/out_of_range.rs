//! How many values fall out of the range of others by chance.

/// The probability that `k` or more of `n` values are below the least or above the greatest of `m`
/// others from the same distribution, whatever that is, as long as it has no ties (with ties they are
/// fewer). What the range covers has the distribution Beta(m − 1, 2) (S. Wilks, *Determination of sample
/// sizes for setting tolerance limits*, 1941), so it is `scipy.stats.betabinom(n, 2, m - 1).sf(k - 1)`.
///
/// # Derivation
/// All C(n + m, m) ways in which the m lie among the n + m are equally likely. With j of the n outside,
/// j + 1 ways of parting them between the ends, and C(n − j + m − 2, m − 2) of the rest between the
/// others; the sum over j ≥ k telescopes to
///
/// ```text
/// [(k + 1) C(n − k + m − 1, m − 1) + C(n − k + m − 1, m)] / C(n + m, m)
///     = (n − k + (k + 1) m) / (n − k + m) · ∏ (n − i) / (n + m − i),   i = 0 … k − 1
/// ```
///
/// 1 for `m` < 2.
pub fn out_of_range_p_value(k: u64, n: u64, m: u64) -> f64 {
    if m < 2 || k == 0 {
        return 1.0;
    }
    let mut product = 1.0;
    for i in 0..k {
        product *= (n - i) as f64 / (n + m - i) as f64;
        if product == 0.0 {
            break;
        }
    }
    let (k, n, m) = (k as f64, n as f64, m as f64);
    (product * (n - k + (k + 1.0) * m) / (n - k + m)).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the sum of the derivation, in whole numbers.
    fn summed(k: u64, n: u64, m: u64) -> f64 {
        let choose =
            |n: u64, k: u64| (0..k).fold(1u128, |c, i| c * u128::from(n - i) / u128::from(i + 1));
        let ways = (k..=n).map(|j| u128::from(j + 1) * choose(n - j + m - 2, m - 2));
        ways.sum::<u128>() as f64 / choose(n + m, m) as f64
    }

    #[test]
    fn tails_are_those_of_the_sum() {
        for n in [1, 2, 5, 30] {
            for m in [2, 3, 10, 40] {
                for k in 0..=n {
                    let (found, wanted) = (out_of_range_p_value(k, n, m), summed(k, n, m));
                    assert!(
                        (found - wanted).abs() <= 1e-12 * wanted,
                        "{k} {n} {m}: {found} {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn tails_are_scipys() {
        // scipy.stats.betabinom(n, 2, m - 1).sf(k - 1)
        for (k, n, m, wanted) in
            [(3, 30, 30, 0.305_976_806_422_836_76), (12, 200, 30, 0.473_920_670_257_881_76)]
        {
            let found = out_of_range_p_value(k, n, m);
            assert!((found / wanted - 1.0).abs() < 1e-9, "{k} {n} {m}: {found}");
        }
        assert!(out_of_range_p_value(100_000, 1_000_000, 5_000) < 1e-200);
        assert_eq!(out_of_range_p_value(1_000_000, 1_000_000, 5_000), 0.0);
        assert_eq!((out_of_range_p_value(9, 9, 1), out_of_range_p_value(9, 9, 0)), (1.0, 1.0));
    }
}
