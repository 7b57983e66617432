//! What is said on standard error.

/// A line on standard error, as `eprintln!`, which however ends the program where nobody reads it.
macro_rules! say {
    ($($said:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($said)*);
    }};
}
