//! The seeds of a test: its own, or the one that the environment names.

use std::ops::RangeInclusive;

const VARIABLE: &str = "DRIFTLINE_SEED";

/// The seeds `own`, or the one of `DRIFTLINE_SEED`.
pub fn seeds(own: RangeInclusive<u64>) -> Vec<u64> {
    one().map_or_else(|| own.collect(), |seed| vec![seed])
}

/// Whether a test goes through all of its own seeds, so that sums over them mean something.
pub fn all_are_run() -> bool {
    one().is_none()
}

fn one() -> Option<u64> {
    let text = std::env::var(VARIABLE).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{VARIABLE}={text} is no number")))
}
