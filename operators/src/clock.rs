//! Processing time, as a value that tests can hold in their hands.

use std::time::Duration;

/// A monotonic clock. Operators read processing time only through it.
pub trait Clock {
    /// Time since some fixed instant; never falls.
    fn now(&self) -> Duration;
}

impl<C: Clock + ?Sized> Clock for std::rc::Rc<C> {
    fn now(&self) -> Duration {
        (**self).now()
    }
}
