//! The thread of a run that makes messages of large batches, hands them over, and hears of deliveries:
//! what is allocated for a message is given back by the thread that asked for it. Of deliveries of
//! small batches, which workers hand over themselves, they hear themselves, a few at a time: a thread
//! that is woken for each takes longer to wake than a message takes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use driftline_operators::guarded::panic_text;
use driftline_operators::sinks::SinkError;

use super::Messages;
use super::producer::{Batch, Producer};
use crate::sinks::failed;

/// Batches of so many rows are handed over by whoever brings them, if no others wait: another thread
/// would take longer to wake than they take.
const AT_ONCE_ROWS_MAX: usize = 64;

/// When deliveries are looked for at the latest.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Rows that are to be sent.
pub struct Unsent {
    pub messages: Arc<dyn Messages>,
    pub rows: RecordBatch,
    pub batch: Arc<Batch>,
}

/// Sends batches in the order in which they come; shared by all sinks of a run.
#[derive(Clone)]
pub struct Sender(Arc<Owner>);

/// Ends the thread when nobody sends any more.
struct Owner {
    shared: Arc<Shared>,
    errands: mpsc::Sender<Errand>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    producer: Producer,
    /// Batches that wait for the thread, or are with it.
    queued: AtomicUsize,
    is_over: AtomicBool,
    failure: OnceLock<SinkError>,
}

/// What the thread is to do.
enum Errand {
    Send(Unsent),
    End,
}

impl Sender {
    pub fn start(producer: Producer) -> Self {
        let shared = Arc::new(Shared {
            producer,
            queued: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            failure: OnceLock::new(),
        });
        let (errands, received) = mpsc::channel();
        let working = shared.clone();
        let thread = std::thread::spawn(move || working.work(&received));
        Sender(Arc::new(Owner { shared, errands, thread: Some(thread) }))
    }

    /// Sends rows, now or when those before them are sent.
    ///
    /// # Errors
    /// If something could not be sent, be it this or an earlier batch.
    pub fn send(&self, unsent: Unsent) -> Result<(), SinkError> {
        self.check()?;
        let Owner { shared, errands, .. } = self.0.as_ref();
        if unsent.rows.num_rows() <= AT_ONCE_ROWS_MAX && shared.queued.load(Acquire) == 0 {
            return shared.hand_over(&unsent);
        }
        shared.queued.fetch_add(1, AcqRel);
        // The thread lives as long as this; if it has panicked, that is its failure.
        let _ = errands.send(Errand::Send(unsent));
        Ok(())
    }

    /// Hears of deliveries, unless the thread does.
    ///
    /// # Errors
    /// If something could not be sent.
    pub fn hear(&self) -> Result<(), SinkError> {
        let shared = &self.0.shared;
        if shared.queued.load(Acquire) == 0 {
            shared.producer.serve();
        }
        self.check()
    }

    fn check(&self) -> Result<(), SinkError> {
        self.0.shared.failure.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        let _ = self.errands.send(Errand::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The thread.
    fn work(&self, errands: &mpsc::Receiver<Errand>) {
        let working = AssertUnwindSafe(|| {
            loop {
                match errands.recv_timeout(LOOK_INTERVAL) {
                    Ok(Errand::Send(unsent)) if !self.is_over.load(Relaxed) => self.take(&unsent),
                    Ok(Errand::End) | Err(RecvTimeoutError::Disconnected) => return,
                    _ => {}
                }
                self.producer.serve();
            }
        });
        if let Err(panic) = catch_unwind(working) {
            let text = panic_text(panic.as_ref());
            let _ = self.failure.set(failed("kafka", format!("the sender has panicked: {text}")));
        }
    }

    fn take(&self, unsent: &Unsent) {
        if let Err(failure) = self.hand_over(unsent) {
            let _ = self.failure.set(failure);
        }
        self.queued.fetch_sub(1, AcqRel);
    }

    fn hand_over(&self, unsent: &Unsent) -> Result<(), SinkError> {
        let Unsent { messages, rows, batch } = unsent;
        messages.send(rows, &self.producer, batch)?;
        batch.done();
        Ok(())
    }
}
