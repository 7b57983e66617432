use std::ffi::{c_int, c_long};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long (ms) memory that is free is kept. What a stream needs it needs again in a moment: with
/// mimalloc's own 10 ms a tenth of a live run's time goes into giving it back and asking for it.
const KEPT_FREE_MS: c_long = 1_000;
/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: c_int = 15;

unsafe extern "C" {
    fn mi_option_set(option: c_int, value: c_long);
}

fn main() -> ExitCode {
    // SAFETY: it is an option of mimalloc, and there is no other thread yet.
    unsafe { mi_option_set(PURGE_DELAY, KEPT_FREE_MS) };
    driftline::cli::main()
}
