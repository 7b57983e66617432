//! Processing time, as a value that tests can hold in their hands.

use std::time::Duration;

/// A monotonic clock. Operators read processing time only through it.
pub trait Clock: Send + Sync {
    /// Time since an instant that is the same for all workers; never falls.
    fn now(&self) -> Duration;

    /// The CPU time that the thread has taken which asks; the time, where nobody knows. It takes longer
    /// to tell.
    fn thread_time(&self) -> Duration {
        self.now()
    }
}
