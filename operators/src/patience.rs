//! How often a micro-batch is tried again, in halves, when runs of it take too long.

/// For one micro-batch. A single row that a model stays with for too long is found by halving: that costs a
/// run of each size, and the others are scored. Where more runs overstay, the rows that have no scores yet
/// have failed without being tried: a model that is slow for all rows costs a few limits, and not one or two
/// for each row.
pub struct Patience {
    allowed: u32,
    overstayed: u32,
    lost: Option<String>,
}

impl Patience {
    /// With a batch of so many rows: ⌈log₂ rows⌉ + 1 runs of it may overstay.
    pub fn with(rows: usize) -> Self {
        let allowed = rows.next_power_of_two().ilog2() + 1;
        Patience { allowed, overstayed: 0, lost: None }
    }

    /// Another run took longer than `limit_ms`.
    pub fn overstayed(&mut self, limit_ms: u64) {
        self.overstayed += 1;
        if self.overstayed > self.allowed {
            self.lost = Some(format!(
                "not tried again: {} runs of its micro-batch took longer than run_timeout_ms = {limit_ms}",
                self.overstayed
            ));
        }
    }

    /// Why nothing is tried any more, if it is not.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs that overstay, and which rows are scored, when the model stays with `slow` ones.
    fn halved(rows: usize, slow: &[usize]) -> (u32, Vec<usize>) {
        fn run(
            range: std::ops::Range<usize>,
            slow: &[usize],
            patience: &mut Patience,
            scored: &mut Vec<usize>,
        ) {
            if patience.lost().is_some() {
                return;
            }
            if !slow.iter().any(|row| range.contains(row)) {
                return scored.extend(range);
            }
            patience.overstayed(200);
            if range.len() > 1 {
                let middle = range.start + range.len() / 2;
                run(range.start..middle, slow, patience, scored);
                run(middle..range.end, slow, patience, scored);
            }
        }
        let (mut patience, mut scored) = (Patience::with(rows), Vec::new());
        run(0..rows, slow, &mut patience, &mut scored);
        (patience.overstayed, scored)
    }

    #[test]
    fn one_slow_row_costs_no_other_its_score() {
        for rows in 1..200 {
            for slow in 0..rows {
                let (runs, scored) = halved(rows, &[slow]);
                let others: Vec<usize> = (0..rows).filter(|&row| row != slow).collect();
                assert_eq!(scored, others, "{slow} of {rows}");
                assert!(runs <= rows.next_power_of_two().ilog2() + 1);
            }
        }
    }

    #[test]
    fn a_model_that_is_slow_costs_a_few_limits() {
        for rows in [1, 2, 3, 64, 65, 1_000, 1_024] {
            let (runs, scored) = halved(rows, &Vec::from_iter(0..rows));
            let most = rows.next_power_of_two().ilog2() + 2;
            assert!(runs <= most && scored.is_empty(), "{runs} of {rows} rows");
        }
        let mut patience = Patience::with(64);
        (0..8).for_each(|_| patience.overstayed(200));
        assert_eq!(
            patience.lost(),
            Some(
                "not tried again: 8 runs of its micro-batch took longer than run_timeout_ms = 200"
            )
        );
    }
}
