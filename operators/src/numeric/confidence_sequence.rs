//! Where a mean is, said again after every row and right all the time.
//!
//! A confidence interval holds for one look, after a number of rows that was settled before. Who looks at a live
//! figure looks again and again, and stops when it pleases: of intervals of 95 % far more than one in twenty
//! miss at some look. A *confidence sequence* of 95 % misses ever, at any look, in at most one of twenty.
//!
//! The boundary is Robbins' mixture of normal distributions, with the deviation of the rows in place of one that
//! is known: I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy, A. Ramdas, *Time-uniform central limit theory
//! and asymptotic confidence sequences* (Annals of Statistics 52(6), 2024), theorem 2.2. For n rows of mean x̄ and
//! standard deviation s, two-sided, and at level α,
//!
//! ```text
//! x̄ ± s · √( 2(nρ² + 1) / (n²ρ²) · ln( √(nρ² + 1) / α ) )
//! ```
//!
//! *Limits.* It is asymptotic: the deviation is estimated, and means are taken for normal, so the level is that of
//! many rows, and with fewer than [`ROWS_MIN`] nothing is said. Rows are counted as independent and of one
//! distribution. Those of one key are alike, and then it is narrower than it ought to be; a mean that moves in
//! time is that of the rows so far. Several sequences, each of 95 %, are not all right in 95 %.

/// With fewer rows nothing is said.
pub const ROWS_MIN: u64 = 30;

/// What is said of the values of rows: how many there are, their mean and their variance (ddof = 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub n: u64,
    pub mean: f64,
    pub variance: f64,
}

/// A figure, and how far from it the truth may be to either side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub half_width: f64,
}

/// Confidence sequences of a level, narrowest about some number of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfidenceSequence {
    alpha: f64,
    /// ρ² of the boundary.
    rho_squared: f64,
}

impl ConfidenceSequence {
    /// Sequences that ever miss with a probability of `alpha`, in (0, 1), and are about as narrow as can be at
    /// `rows` rows:
    ///
    /// ```text
    /// ρ² = (−2 ln α + ln(1 − 2 ln α)) / rows
    /// ```
    ///
    /// (appendix B.2 of the paper; x = nρ² of the least width solves x = ln(1 + x) − 2 ln α, and this is the first
    /// step towards it from x = −2 ln α, at 5 % wider than the least by 0.003 %). A tenth of the rows cost a
    /// quarter of width, ten times as many a fourteenth. `rows` must not follow from what was seen.
    ///
    /// # Panics
    /// If alpha or the number of rows is out of range.
    pub fn tuned_for(rows: u64, alpha: f64) -> Self {
        assert!(rows > 0 && alpha > 0.0 && alpha < 1.0, "a level of {alpha} at {rows} rows");
        let beyond = -2.0 * alpha.ln();
        ConfidenceSequence { alpha, rho_squared: (beyond + beyond.ln_1p()) / rows as f64 }
    }

    /// The mean of rows; `None` of fewer than [`ROWS_MIN`].
    pub fn mean(&self, sample: Sample) -> Option<Estimate> {
        let half_width = self.half_width(sample.variance_of_mean()?, sample.n as f64);
        Some(Estimate { value: sample.mean, half_width })
    }

    /// By how much the mean of `sample` is above that of `other`, whose rows are others; `None` if either has fewer
    /// than [`ROWS_MIN`].
    ///
    /// It is the boundary of a mean, with the variance of the difference, and for n what such a difference has
    /// of rows, as many as either if both have as many:
    ///
    /// ```text
    /// x̄₁ − x̄₂ ± √( v · 2(1 + 1/(tρ²)) · ln( √(tρ² + 1) / α ) )    with v = s₁²/n₁ + s₂²/n₂, t = (s₁² + s₂²)/v
    /// ```
    ///
    /// Why: however rows are shared out, the mean of n rows and that of the first k of them have the covariance s²/n,
    /// the variance of the later one. The same is then so of differences of two such means, the later one having the variance v.
    /// That is the covariance of Brownian motion at the times v, so 1/v times the error of the difference is one at the times 1/v, by
    /// inversion of time: as n times the error of a mean is at the times n/s². So one boundary serves both, and no
    /// level is shared out over two sequences, whose widths, added, are half as wide again. Shares may change as
    /// rows come, but in theory not because of their values; see the tests for how little that does.
    pub fn difference(&self, sample: Sample, other: Sample) -> Option<Estimate> {
        let variance = sample.variance_of_mean()? + other.variance_of_mean()?;
        let rows = (sample.variance + other.variance) / variance;
        let half_width = if variance > 0.0 { self.half_width(variance, rows) } else { 0.0 };
        Some(Estimate { value: sample.mean - other.mean, half_width })
    }

    fn half_width(&self, variance_of_mean: f64, rows: f64) -> f64 {
        let grown = rows * self.rho_squared;
        let log_odds = 0.5 * grown.ln_1p() - self.alpha.ln();
        (2.0 * variance_of_mean * (1.0 + 1.0 / grown) * log_odds).sqrt()
    }
}

impl Sample {
    fn variance_of_mean(self) -> Option<f64> {
        let is_enough = self.n >= ROWS_MIN && self.variance.is_finite();
        is_enough.then(|| self.variance / self.n as f64)
    }
}

impl Estimate {
    /// From where to where the truth is.
    pub fn bounds(&self) -> (f64, f64) {
        (self.value - self.half_width, self.value + self.half_width)
    }

    /// Whether the truth is on this side of 0.
    pub fn is_not_zero(&self) -> bool {
        self.value.abs() > self.half_width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u64, mean: f64, variance: f64) -> Sample {
        Sample { n, mean, variance }
    }

    fn near(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= 1e-12 * expected.abs()
    }

    /// By numpy, of the formula above; those of 5 % at 30 and 1,000 rows are also what the mixture comes to by
    /// integration (scipy.integrate.quad) and a search for where it is 1/α.
    #[test]
    fn half_widths_of_means_are_those_of_numpy() {
        let cases = [
            (1_000, 0.05, 30, 0.25, 0.518_550_196_411_919_1),
            (1_000, 0.05, 1_000, 0.0123, 0.010_644_889_453_052_494),
            (1_000, 0.05, 1_000_000, 2.5, 0.006_118_141_277_424_941),
            (100, 0.05, 30, 0.25, 0.292_086_652_585_117_5),
            (100, 0.05, 1_000, 0.0123, 0.011_369_162_594_620_813),
            (5_000, 0.01, 1_000, 0.0123, 0.013_545_695_572_579_864),
            (5_000, 0.01, 37, 0.0, 0.0),
        ];
        for (tuned_for, alpha, n, variance, half_width) in cases {
            let sequence = ConfidenceSequence::tuned_for(tuned_for, alpha);
            let found = sequence.mean(sample(n, 0.7, variance)).unwrap();
            assert!(near(found.half_width, half_width), "{n} rows: {}", found.half_width);
            assert_eq!(found.value, 0.7);
        }
    }

    /// By scipy: the mixture over Brownian motion at the time 1/v, integrated by quad, is 1/α there (brentq).
    #[test]
    fn half_widths_of_differences_are_those_of_scipy() {
        let cases = [
            ((500, 0.01), (500, 0.02), 0.023_885_220_555_269_673),
            ((9_000, 0.03), (1_000, 0.04), 0.020_063_824_455_582_2),
            ((40, 0.25), (100_000, 1.5), 0.255_129_842_090_425_16),
        ];
        let sequence = ConfidenceSequence::tuned_for(1_000, 0.05);
        for ((n, variance), (m, other), half_width) in cases {
            let (one, other) = (sample(n, 0.7, variance), sample(m, 0.5, other));
            let found = sequence.difference(one, other).unwrap();
            let off = (found.half_width / half_width - 1.0).abs();
            assert!(off < 1e-9, "{n} and {m} rows: {}", found.half_width);
            let back = sequence.difference(other, one).unwrap();
            assert!(found.value == -back.value && near(found.half_width, back.half_width));
        }
    }

    #[test]
    fn nothing_is_said_of_few_rows_or_without_a_variance() {
        let sequence = ConfidenceSequence::tuned_for(1_000, 0.05);
        let enough = sample(ROWS_MIN, 0.5, 0.1);
        for too_little in [sample(ROWS_MIN - 1, 0.5, 0.1), sample(90, 0.5, f64::NAN)] {
            assert_eq!(sequence.mean(too_little), None);
            assert_eq!(sequence.difference(too_little, enough), None);
            assert_eq!(sequence.difference(enough, too_little), None);
        }
        let found = sequence.difference(enough, sample(40, 0.1, 0.0)).unwrap();
        assert!(found.half_width > 0.0 && found.half_width.is_finite());
        let all_alike = sequence.difference(sample(30, 0.5, 0.0), sample(40, 0.5, 0.0)).unwrap();
        assert_eq!((all_alike.value, all_alike.half_width), (0.0, 0.0));
        assert!(!all_alike.is_not_zero());
    }

    /// How values come: one of a mean that is known.
    type Draw = fn(&mut fastrand::Rng) -> f64;
    const EVEN: (f64, Draw) = (0.5, |random| random.f64());
    const THREE_IN_TEN: (f64, Draw) = (0.3, |random| f64::from(u8::from(random.f64() < 0.3)));
    const EXPONENTIAL: (f64, Draw) = (1.0, |random| -(1.0 - random.f64()).ln());
    const SEQUENCES: u64 = 1_000;
    const ROWS: u64 = 4_000;

    /// B. P. Welford's way: mean and variance of the rows so far.
    #[derive(Default)]
    struct Running {
        n: u64,
        mean: f64,
        squares: f64,
    }

    impl Running {
        fn add(&mut self, value: f64) {
            self.n += 1;
            let off = value - self.mean;
            self.mean += off / self.n as f64;
            self.squares += off * (value - self.mean);
        }

        fn sample(&self) -> Sample {
            sample(self.n, self.mean, self.squares / (self.n.max(2) - 1) as f64)
        }
    }

    fn misses(found: Option<Estimate>, truth: f64) -> bool {
        found.is_some_and(|found| (found.value - truth).abs() > found.half_width)
    }

    /// In how many of a hundred sequences `misses` is true after any of the rows.
    fn ever(mut misses: impl FnMut(&mut fastrand::Rng, u64) -> bool) -> f64 {
        let missed = (0..SEQUENCES).filter(|&seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..ROWS).any(|row| misses(&mut random, row))
        });
        100.0 * missed.count() as f64 / SEQUENCES as f64
    }

    #[test]
    fn it_covers_the_mean_at_all_times_at_once() {
        for (truth, draw) in [EVEN, THREE_IN_TEN, EXPONENTIAL] {
            let sequence = ConfidenceSequence::tuned_for(1_000, 0.05);
            let mut running = Running::default();
            let share = ever(|random, row| {
                if row == 0 {
                    running = Running::default();
                }
                running.add(draw(random));
                misses(sequence.mean(running.sample()), truth)
            });
            assert!((0.5..=5.0).contains(&share), "of mean {truth}: {share} % miss");
        }
    }

    /// What a sequence is for: an interval that is right at each of the looks is wrong at some of them.
    #[test]
    fn an_interval_for_one_look_does_not() {
        let (truth, draw) = EVEN;
        let mut running = Running::default();
        let share = ever(|random, row| {
            if row == 0 {
                running = Running::default();
            }
            running.add(draw(random));
            let Sample { n, mean, variance } = running.sample();
            n >= ROWS_MIN && (mean - truth).abs() > 1.96 * (variance / n as f64).sqrt()
        });
        assert!(share > 25.0, "{share} % miss");
    }

    /// In how many of a hundred sequences a difference is ever missed, where `share_of` of so far says how many of a hundred rows go
    /// to the first of the two.
    fn ever_of_differences(
        draws: [(f64, Draw); 2],
        share_of: impl Fn(u64, Option<Estimate>) -> u64,
    ) -> f64 {
        let sequence = ConfidenceSequence::tuned_for(1_000, 0.05);
        let truth = draws[0].0 - draws[1].0;
        let (mut arms, mut share) = <([Running; 2], u64)>::default();
        ever(|random, row| {
            if row == 0 {
                (arms, share) = Default::default();
            }
            let found = sequence.difference(arms[0].sample(), arms[1].sample());
            if row % 100 == 0 {
                share = share_of(share, found);
            }
            let arm = usize::from(random.u64(..100) >= share);
            arms[arm].add(draws[arm].1(random));
            misses(found, truth)
        })
    }

    #[test]
    fn it_covers_a_difference_at_all_times_at_once() {
        for draws in [[EVEN, EXPONENTIAL], [THREE_IN_TEN, THREE_IN_TEN]] {
            for share in [50, 90] {
                let missed = ever_of_differences(draws, |_, _| share);
                assert!((0.5..=5.0).contains(&missed), "{share} of 100: {missed} % miss");
            }
        }
    }

    /// More to the first for as long as it looks better, fewer while it looks worse: and the other way round.
    #[test]
    fn it_covers_a_difference_while_weights_follow_it() {
        for is_bold in [true, false] {
            let missed = ever_of_differences([EXPONENTIAL, EXPONENTIAL], |share, found| {
                let looks_better = found.is_some_and(|found| found.value > 0.0) == is_bold;
                match share {
                    0 => 10,
                    _ if looks_better => (share * 3 / 2).min(90),
                    _ => (share * 2 / 3).max(2),
                }
            });
            assert!(missed <= 5.0, "{missed} % miss");
        }
    }
}
