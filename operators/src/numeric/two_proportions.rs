//! Whether two shares differ by more than chance.

/// The statistic of the test that two binomial proportions are equal, with the pooled variance and
/// Yates's correction for continuity (F. Yates, *Contingency tables involving small numbers and the χ²
/// test*, 1934). It is positive where the first share is larger. Its square is the statistic of
/// `scipy.stats.chi2_contingency([[a, n - a], [b, m - b]])`; 0 where all are hits or none is, or a
/// sample is empty.
///
/// `a` of `n` are hits in the first sample, `b` of `m` in the second.
pub fn two_proportions_z((a, n): (u64, u64), (b, m): (u64, u64)) -> f64 {
    let (hits, size) = ((a + b) as f64, (n + m) as f64);
    let misses = (n - a + (m - b)) as f64;
    if n == 0 || m == 0 || hits == 0.0 || misses == 0.0 {
        return 0.0;
    }
    let (a, n, m) = (a as f64, n as f64, m as f64);
    // Hits of the first sample beyond those expected of it; the correction never turns the sign.
    let beyond = a - n * hits / size;
    let corrected = (beyond.abs() - 0.5).max(0.0);
    let variance = (n / size) * (m / size) * (hits / size) * misses;
    corrected.copysign(beyond) / variance.sqrt()
}

/// Two-sided, the standard normal distribution is beyond it with a probability of 1 %:
/// `scipy.stats.norm.isf(0.005)`.
pub const Z_OF_ONE_PERCENT: f64 = 2.575_829_303_548_901;

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;

    #[test]
    fn squares_are_scipys() {
        // scipy.stats.chi2_contingency([[a, n - a], [b, m - b]]).statistic
        let cases = [
            ((8, 30), (108, 1_000), 5.835_353_552_025_956),
            ((30, 30), (0, 200), 221.267_826_388_888_9),
            ((1, 30), (100, 1_000), 0.806_922_433_362_819_3),
            ((0, 30), (40, 200), 5.937_757_675_438_595),
            ((3, 30), (100, 1_000), 0.0),
            ((50_000, 500_000), (9_000, 100_000), 93.875_155_236_692_9),
        ];
        for (now, before, statistic) in cases {
            let z = two_proportions_z(now, before);
            assert!((z * z - statistic).abs() <= 1e-9 * statistic, "{now:?} {before:?}: {}", z * z);
            assert!((two_proportions_z(before, now) + z).abs() <= 1e-12 * z.abs());
        }
        assert!(two_proportions_z((1, 30), (100, 1_000)) < 0.0);
    }

    #[test]
    fn without_two_kinds_of_rows_there_is_no_difference() {
        for (now, before) in [((0, 30), (0, 9)), ((30, 30), (9, 9)), ((0, 0), (4, 9))] {
            assert_eq!(two_proportions_z(now, before), 0.0);
        }
    }

    #[test]
    fn the_limit_is_the_normal_distributions() {
        let normal = Normal::new(0.0, 1.0).unwrap();
        assert!((2.0 * normal.sf(Z_OF_ONE_PERCENT) - 0.01).abs() < 1e-12);
    }
}
