//! How an operator stops the run: it reports, and every worker leaves at its next step.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// The first error of a run, shared by all its workers.
///
/// Operators cannot return errors to their caller, since timely calls them. They report here and go
/// on without output; the workers' driving loops look at [`Failure::is_set`] and leave.
#[derive(Clone, Default)]
pub struct Failure(Arc<State>);

#[derive(Default)]
struct State {
    set: AtomicBool,
    message: Mutex<Option<String>>,
}

impl Failure {
    /// Records `error` unless an earlier one is there already.
    pub fn report(&self, error: impl std::fmt::Display) {
        let mut message = self.0.message.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        message.get_or_insert_with(|| error.to_string());
        self.0.set.store(true, Ordering::Release);
    }

    /// Unwraps `result`, or reports its error and gives `None`.
    pub fn check<T, E: std::fmt::Display>(&self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.report(error)).ok()
    }

    /// Whether any worker has reported an error.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// The first error reported, if there is one.
    pub fn message(&self) -> Option<String> {
        self.0.message.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
