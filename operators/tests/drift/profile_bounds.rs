//! Profile mode never leaves the bound that it states: on seeded samples, and on such as are made to
//! get as far from the truth as they can.

use std::sync::Arc;

use driftline_operators::drift::baseline::Reference;
use driftline_operators::drift::figures::{Comparison, Figures};
use driftline_operators::drift::profile::{Bins, Profile};
use driftline_operators::drift::runs::Runs;
use driftline_operators::drift::sample::{Mode, Sample};

use crate::Random;

/// A value from a number below 2⁵³.
type Shape = fn(u64) -> f64;

/// A seeded sample.
fn random(seed: u64, count: usize, shape: Shape) -> Vec<f64> {
    let mut random = Random::new(seed);
    (0..count).map(|_| shape(random.bits())).collect()
}

/// The reference's largest share strictly between two edges.
fn largest_share(runs: &Runs, bins: &Bins) -> f64 {
    let between = |edges: &[f64]| {
        let inside = |value: f64| edges[0] < value && value < edges[1];
        runs.pairs().filter(|&(value, _)| inside(value)).map(|(_, count)| count).sum::<u64>()
    };
    let most = bins.edges().windows(2).map(between).max().unwrap_or(0);
    most as f64 / runs.total() as f64
}

/// Returns how much of the bound the truth needs, as a share.
#[track_caller]
fn assert_within_bounds(reference: &[f64], current: &[f64], bins: usize, what: &str) -> f64 {
    let reference = Reference::new(Runs::from_values(reference.to_vec()), 0);
    let profile = Comparison::profile(&reference, bins);
    let Mode::Profile(kept) = Comparison::mode(&[Arc::new(profile.clone())]) else {
        panic!("a profile is kept in profile mode")
    };
    let mut counts = Profile::default();
    current.iter().for_each(|&value| counts.add(&kept[0], value));
    let found = profile.figures(&Sample::Profile(counts), 0);
    let exact = Sample::Exact(Runs::from_values(current.to_vec()));
    let exact = Comparison::exact(&reference).figures(&exact, 0);
    // As text, in which a NaN equals another.
    let same = |f: &Figures| {
        let counts = (f.current.n, f.current.infinite, f.share_beyond_3, f.share_out_of_range);
        format!("{:?}", (counts, f.current.mean, f.mean_shift_sd, f.z_test, f.out_of_range_p_value))
    };
    assert_eq!(same(&found), same(&exact), "{what}");
    let (Some(found), Some(exact)) = (found.ks, exact.ks) else {
        assert_eq!((found.ks, exact.ks), (None, None), "{what}");
        return 0.0;
    };
    assert!(found.statistic <= exact.statistic, "{what}: {found:?} {exact:?}");
    assert!(exact.statistic <= found.statistic + found.error_bound, "{what}: {found:?} {exact:?}");
    let share = largest_share(&reference.runs, &kept[0]);
    assert!(share < 1.0 / bins as f64, "{what}: {share}");
    assert!(found.error_bound <= share * (1.0 + 1e-12) + 1e-15, "{what}: {share} {found:?}");
    assert!(found.p_value >= exact.p_value, "{what}: {found:?} {exact:?}");
    if reference.runs.values.len() <= bins + 1 {
        assert_eq!((found.statistic, found.error_bound), (exact.statistic, 0.0), "{what}");
    }
    match found.error_bound {
        0.0 => 0.0,
        bound => (exact.statistic - found.statistic) / bound,
    }
}

#[test]
fn the_exact_statistic_is_never_outside_its_bounds() {
    let even = |x: u64| x as f64 / (1u64 << 53) as f64;
    let shapes: [(&str, Shape); 5] = [
        ("even", even),
        ("few values", |x| (x % 7) as f64),
        ("heavy ties", |x| if x % 3 > 0 { 0.5 } else { x as f64 / (1u64 << 53) as f64 }),
        ("skewed", |x| 1.0 / (1.0 + (x % 1_000_003) as f64)),
        ("with ends", |x| [f64::INFINITY, f64::NEG_INFINITY, (x % 97) as f64][x as usize % 3]),
    ];
    for seed in 1..=40 {
        for (name, reference) in shapes {
            for (other, current) in shapes {
                let reference = random(seed, 1 + seed as usize * 37, reference);
                let current = random(seed + 1_000, 1 + seed as usize * 11 % 300, current);
                for bins in [1, 2, 5, 32, 256] {
                    let what = format!("seed {seed}, {other} against {name}, {bins} bins");
                    assert_within_bounds(&reference, &current, bins, &what);
                }
            }
        }
    }
}

#[test]
fn adversarial_samples_stay_within_their_bounds() {
    let ramp: Vec<f64> = (0..1_000).map(f64::from).collect();
    let samples: [(&str, Vec<f64>); 9] = [
        ("all in one bin, at its lower end", vec![500.000_001; 50]),
        ("all in one bin, at its upper end", vec![503.999_999; 50]),
        ("two points", vec![1.5, 997.25]),
        ("one point on an edge", vec![0.0]),
        ("below the reference", vec![-1.0; 20]),
        ("above the reference", vec![1e300; 20]),
        ("on both sides", vec![-5.0, 2_000.0]),
        ("infinities", vec![f64::NEG_INFINITY, f64::INFINITY]),
        ("the reference itself", ramp.clone()),
    ];
    let references = [
        ("ramp", ramp),
        ("constant", vec![503.0; 77]),
        ("one value", vec![0.0]),
        ("two heavy ones", [vec![0.0; 400], vec![500.5; 399], vec![500.75]].concat()),
    ];
    for (name, reference) in &references {
        for (what, current) in &samples {
            for bins in [1, 3, 7, 256] {
                let what = format!("{what} against {name}, {bins} bins");
                assert_within_bounds(reference, current, bins, &what);
            }
        }
    }
}

/// Samples with their mass right beside an edge, where the distance from what is known is greatest:
/// all of it just above an edge or just below the next one, on both sides of the reference's own
/// values, or split over two bins.
fn placed_between_edges(runs: &Runs, bins: &Bins) -> Vec<(String, Vec<f64>)> {
    let mut samples = Vec::new();
    for (at, edges) in bins.edges().windows(2).enumerate() {
        let (above, below) = (edges[0].next_up(), edges[1].next_down());
        if above >= below {
            continue;
        }
        let known = runs.values.iter().copied().find(|value| above < *value && *value < below);
        samples.push((format!("{at}: all just above an edge"), vec![above; 40]));
        samples.push((format!("{at}: all just below an edge"), vec![below; 41]));
        let halves = [vec![above; 20], vec![below; 20]].concat();
        samples.push((format!("{at}: half above, half below"), halves));
        let far = [vec![below; 30], vec![f64::INFINITY; 11]].concat();
        samples.push((format!("{at}: below an edge and far above"), far));
        let far = [vec![f64::NEG_INFINITY; 7], vec![above; 3], vec![f64::MAX; 5]].concat();
        samples.push((format!("{at}: far below and above an edge"), far));
        if let Some(known) = known {
            let sides = [vec![known.next_down(); 9], vec![known; 2], vec![known.next_up(); 10]];
            samples.push((format!("{at}: around a value of the reference"), sides.concat()));
        }
    }
    samples
}

#[test]
fn samples_made_against_the_edges_stay_within_their_bounds() {
    let shapes: [(&str, Shape); 4] = [
        ("even", |x| x as f64 / (1u64 << 53) as f64),
        ("heavy ties", |x| if x % 3 > 0 { 0.5 } else { x as f64 / (1u64 << 53) as f64 }),
        ("skewed", |x| 1.0 / (1.0 + (x % 1_000_003) as f64)),
        ("with ends", |x| match x % 9 {
            0 => f64::INFINITY,
            1 => f64::NEG_INFINITY,
            2 => -0.0,
            _ => (x % 1_009) as f64 - 500.0,
        }),
    ];
    let mut loosest: f64 = 0.0;
    for seed in 1..=12 {
        for (name, shape) in shapes {
            let reference = random(seed, 20 + seed as usize * 97, shape);
            let runs = Runs::from_values(reference.clone());
            for bins in [1, 2, 7, 40] {
                let made = Bins::new(&runs, bins);
                for (placed, current) in placed_between_edges(&runs, &made) {
                    let what = format!("seed {seed}, {name}, {bins} bins, {placed}");
                    loosest = loosest.max(assert_within_bounds(&reference, &current, bins, &what));
                }
            }
        }
    }
    // They do get to where the bound is needed.
    assert!(loosest > 0.95, "at most {loosest} of a bound was used");
}
