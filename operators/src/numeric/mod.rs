//! Exact sums, the Kolmogorov–Smirnov test as SciPy computes it, tests of shares, and where a mean is.
//!
//! Plain functions and structs over numbers: no streams, no Arrow, no clock.

mod binomial;
pub mod confidence_sequence;
pub mod exact_sum;
mod exponent_sums;
pub mod kolmogorov;
pub mod ks_distance;
pub mod ks_reference;
mod ks_statistic;
mod out_of_range;
mod squares;
mod two_proportions;
pub mod two_sample;

pub use confidence_sequence::ConfidenceSequence;
pub use exact_sum::ExactSum;
pub use exponent_sums::ExponentSums;
pub use kolmogorov::kolmogorov_sf;
pub use ks_distance::KsDistance;
pub use ks_reference::KsReference;
pub use ks_statistic::{KsMethod, KsStatistic};
pub use out_of_range::out_of_range_p_value;
pub use squares::squares_around;
pub use two_proportions::{Z_OF_ONE_PERCENT, two_proportions_z};
pub use two_sample::{
    KsPValue, Runs, ks_p_value_asymptotic, ks_p_value_auto, ks_p_value_exact, ks_statistic,
};
