//! A second opinion on the Kolmogorov–Smirnov test: statrs 0.19, `stats_tests::ks_test`.
//!
//! What statrs has, and where it and SciPy (which we follow) differ:
//!
//! | statrs | here |
//! | --- | --- |
//! | statistic: the same distance, from sums of 1/n and 1/m | equal but for the rounding of up to n + m additions |
//! | `TwoSidedExact`: counts lattice paths (Schröer and Trenkler 1995) if n·m ≤ 10,000, else an error; ties are allowed | the exact branch, which SciPy has up to 10,000 values each; statrs computes 1 − inside / all in floats, so small values keep absolute precision only |
//! | `TwoSidedAsymptotic`: Kolmogorov's limit of 1933 at n·m/(n + m) | SciPy takes the distribution of the one-sample statistic at that size, rounded to a whole number: the two differ by the terms in 1/√size. statrs cuts its series at 1e-10, and does not end for D = 0 |
//! | `ks_onesample`, `TwoSidedApproximate`: twice Birnbaum and Tingey's one-sided tail | the tail of `kolmogorov_sf`, where it is the very formula |
//! | `TwoSidedExact` of one sample needs nalgebra | not compared: `kolmogorov_sf` has golden values |
//! | NaN: an error, a NaN, or left out (`NaNPolicy::Emit`) | left out before the test; see `missing` |

use driftline_operators::drift::runs::Runs;
use driftline_operators::numeric::{
    KsMethod, KsStatistic, kolmogorov_sf, ks_p_value_asymptotic, ks_p_value_auto, ks_statistic,
};
use statrs::distribution::Uniform;
use statrs::stats_tests::NaNPolicy;
use statrs::stats_tests::ks_test::{
    KSOneSampleAlternativeMethod, KSTwoSampleAlternativeMethod, ks_onesample, ks_twosample,
};

use crate::Random;

fn sample(random: &mut Random, size: u64, values: u64, shift: f64) -> Vec<f64> {
    (0..size).map(|_| random.below(values) as f64 / values as f64 + shift).collect()
}

fn ours(a: &[f64], b: &[f64]) -> KsStatistic {
    let [a, b] = [a, b].map(|values| Runs::from_values(values.to_vec()));
    ks_statistic(a.as_sample(), b.as_sample()).unwrap()
}

fn theirs(a: &[f64], b: &[f64], method: KSTwoSampleAlternativeMethod) -> (f64, f64) {
    ks_twosample(a.to_vec(), b.to_vec(), method, NaNPolicy::Error).unwrap()
}

#[test]
fn exact_p_values_equal_statrs() {
    for seed in 1..=400 {
        let mut random = Random::new(seed);
        let n = 1 + random.below(120);
        let m = if seed % 5 == 0 { n.min(100) } else { 1 + random.below(10_000 / n) };
        let (n, values) = (if seed % 5 == 0 { m } else { n }, [2, 9, 1 << 40][seed as usize % 3]);
        let shift = random.below(4) as f64 / 8.0;
        let (a, b) = (sample(&mut random, n, values, 0.0), sample(&mut random, m, values, shift));
        let statistic = ours(&a, &b);
        let found = ks_p_value_auto(&statistic);
        let (d, p) = theirs(&a, &b, KSTwoSampleAlternativeMethod::TwoSidedExact);
        let what = format!("seed {seed}, {n} and {m} of {values} values: {found:?}, {d} {p}");
        assert_eq!(found.method, KsMethod::Exact, "{what}");
        assert!((found.statistic - d).abs() < 1e-15 * (n + m) as f64, "{what}");
        assert!((found.p_value - p).abs() < 1e-11, "{what}");
    }
}

#[test]
fn infinities_and_signed_zeros_are_values_to_both() {
    let a = [f64::NEG_INFINITY, -0.0, 0.0, 1.0, f64::INFINITY];
    let b = [0.0, -0.0, f64::INFINITY, f64::INFINITY];
    let found = ks_p_value_auto(&ours(&a, &b));
    let (d, p) = theirs(&a, &b, KSTwoSampleAlternativeMethod::TwoSidedExact);
    assert!((found.statistic - d).abs() < 1e-15 && (found.p_value - p).abs() < 1e-14);
}

#[test]
fn asymptotic_p_values_are_statrs_limit_but_for_the_size() {
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let n = 10_001 + random.below(20_000);
        let m = 200 + random.below(20_000);
        let shift = random.below(100) as f64 / 2_000.0;
        let values = if seed % 2 == 0 { 12 } else { 1 << 40 };
        let (a, b) = (sample(&mut random, n, values, 0.0), sample(&mut random, m, values, shift));
        let statistic = ours(&a, &b);
        let p_value = ks_p_value_asymptotic(statistic.d, n, m);
        assert_eq!(ks_p_value_auto(&statistic).p_value, p_value);
        let (d, p) = theirs(&a, &b, KSTwoSampleAlternativeMethod::TwoSidedAsymptotic);
        let what = format!("seed {seed}, {n} and {m}: {} {p_value:e}, {d} {p:e}", statistic.d);
        assert!((statistic.d - d).abs() < 1e-16 * (n + m) as f64, "{what}");
        let size = n as f64 * m as f64 / (n + m) as f64;
        assert!((p_value - p).abs() < 0.4 / size.sqrt(), "{what}");
    }
}

#[test]
fn tails_of_one_sample_equal_statrs() {
    let uniform = Uniform::new(0.0, 1.0).unwrap();
    for n in [5u64, 20, 60, 140, 150, 170] {
        for squares in [4.5, 6.0, 10.0, 25.0, 60.0] {
            let d = (squares / n as f64).sqrt();
            if d > 0.95 {
                continue;
            }
            // All values are so far below their place that the distance is about d.
            let place = |i: u64| ((i as f64 + 0.5) / n as f64 - d + 0.5 / n as f64).max(0.0);
            let values: Vec<f64> = (0..n).map(place).collect();
            let method = KSOneSampleAlternativeMethod::TwoSidedApproximate;
            let (d, p) = ks_onesample(values, &uniform, method, NaNPolicy::Error).unwrap();
            let found = kolmogorov_sf(d, n);
            let error = (found / p - 1.0).abs();
            assert!(error < 1e-10, "n = {n}, d = {d}: {found:e}, statrs {p:e}");
        }
    }
}
