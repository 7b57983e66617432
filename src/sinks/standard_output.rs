//! Standard output, and whether anybody still reads it.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who reads standard output. One that has seen enough and closes the pipe is no error, and nothing
/// more is done for it.
#[derive(Clone, Default)]
pub struct Reader(Arc<AtomicBool>);

impl Reader {
    /// Whether it has left.
    pub fn has_left(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Calls `left` as soon as the reader has left, also while there is nothing to write: from a thread
    /// that waits for it until the end of the process.
    pub fn watch(&self, left: impl FnOnce() + Send + 'static) {
        let reader = self.clone();
        std::thread::spawn(move || {
            if wait_until_closed() {
                reader.0.store(true, Ordering::Release);
                left();
            }
        });
    }

    /// What is written for it.
    pub fn output(&self) -> StandardOutput {
        StandardOutput(self.clone())
    }

    fn noting<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                self.0.store(true, Ordering::Release);
            }
        })
    }
}

/// Standard output; an error where it is closed is noted with its reader.
pub struct StandardOutput(Reader);

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.noting(io::stdout().write(bytes))
    }

    /// Nobody else of the process writes in between.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.noting(io::stdout().write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.noting(io::stdout().flush())
    }
}

/// Returns once the other end of standard output is closed; false if that cannot be known.
fn wait_until_closed() -> bool {
    // Nothing is asked for: an error and the other end's leaving are told all the same.
    let mut output = libc::pollfd { fd: libc::STDOUT_FILENO, events: 0, revents: 0 };
    loop {
        // SAFETY: it is one pollfd, and it outlives the call.
        let found = unsafe { libc::poll(&raw mut output, 1, -1) };
        match found {
            1.. => return output.revents & (libc::POLLERR | libc::POLLHUP) != 0,
            _ if io::Error::last_os_error().kind() == ErrorKind::Interrupted => {}
            _ => return false,
        }
    }
}
