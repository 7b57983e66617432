//! The wish that a run ends.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// Set when the user asks the run to stop.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<OnceLock<Instant>>);

impl Interrupt {
    pub fn set(&self) {
        self.0.get_or_init(Instant::now);
    }

    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// When it was set.
    pub fn since(&self) -> Option<Instant> {
        self.0.get().copied()
    }
}
