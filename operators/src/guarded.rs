//! Panics of libraries as errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread becomes an error. A panic hook that ends the process has to ask.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// What `work` gives, or what its panic says. What it was changing must not be used again.
///
/// # Errors
/// If it panics.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.map_err(|panic| panic_text(panic.as_ref()))
}

/// What a panic says, on one line.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}
