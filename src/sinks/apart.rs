//! Sinks that write on a thread of their own, as to encode, to compress and to sync a file takes longer
//! than a worker may stand still.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::RecordBatch;
use driftline_operators::guarded::guarded;
use driftline_operators::rows::own_bytes;
use driftline_operators::sinks::{Sink, SinkError};

/// Bytes of batches that wait for the thread; with more of them the worker waits, too.
const QUEUED_BYTES_MAX: usize = 4 << 20;
/// Bytes for which the thread is woken, and down to which it writes before it wakes the worker: where
/// they share a core, each change costs what both have in its cache.
const TURN_BYTES: usize = QUEUED_BYTES_MAX / 2;
/// When the thread looks for batches that are fewer than these.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The sink on a thread of its own. Where the process has one core it stays where it is: the thread would
/// only take turns with the worker, and each would find what the other has left of the core's cache.
pub fn apart(sink: impl Sink + Send + 'static) -> Box<dyn Sink> {
    match std::thread::available_parallelism().map_or(1, NonZero::get) {
        1 => Box::new(sink),
        _ => Box::new(Apart::new(sink)),
    }
}

/// A sink on a thread of its own, which starts with the first batch, or at the end.
struct Apart<S> {
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
}

struct Shared<S> {
    state: Mutex<State>,
    changed: Condvar,
    sink: Mutex<S>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(RecordBatch, usize)>,
    /// Of these, and of the batch that is being written.
    bytes: usize,
    /// Nothing more comes: everything is to be durable, or else what there is is of no use.
    end: Option<End>,
    /// Rows of which the worker has not heard.
    durable: u64,
    failure: Option<SinkError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Finish,
    Drop,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Sink + Send + 'static> Apart<S> {
    fn new(sink: S) -> Self {
        let (state, changed) = Default::default();
        Apart { shared: Arc::new(Shared { state, changed, sink: Mutex::new(sink) }), thread: None }
    }

    /// # Errors
    /// If no thread can be started.
    fn start(&mut self) -> Result<(), SinkError> {
        if self.thread.is_none() {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("writer".to_owned());
            let thread = thread.spawn(move || shared.work()).map_err(|error| SinkError {
                output: "a thread that writes".to_owned(),
                message: error.to_string(),
            })?;
            self.thread = Some(thread);
        }
        Ok(())
    }

    /// # Errors
    /// If a batch could not be written.
    fn check(&self) -> Result<(), SinkError> {
        lock(&self.shared.state).failure.clone().map_or(Ok(()), Err)
    }
}

impl<S> Apart<S> {
    /// Ends the thread, when it has done what that takes.
    fn end(&mut self, end: End) {
        let mut state = lock(&self.shared.state);
        if end == End::Drop {
            state.queue.clear();
        }
        state.end = Some(end);
        drop(state);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // What it may have to say is in the state.
            let _ = thread.join();
        }
    }
}

impl<S: Sink> Shared<S> {
    /// Writes batches as they come, and makes them durable at the end.
    fn work(&self) {
        while let Some((batch, bytes)) = self.next() {
            let mut sink = lock(&self.sink);
            let written = self.guard(|| sink.write(&batch));
            let durable = sink.durable_rows();
            drop((sink, batch));
            let mut state = lock(&self.state);
            state.bytes -= bytes;
            state.durable += durable;
            if let Err(error) = written {
                state.failure = Some(error);
                state.queue.clear();
                state.bytes = 0;
            }
            let is_turn = state.bytes <= TURN_BYTES;
            drop(state);
            if is_turn {
                self.changed.notify_all();
            }
        }
        let is_whole = |state: &State| state.end == Some(End::Finish) && state.failure.is_none();
        if is_whole(&lock(&self.state)) {
            let mut sink = lock(&self.sink);
            let finished = self.guard(|| sink.finish());
            let durable = sink.durable_rows();
            let mut state = lock(&self.state);
            state.durable += durable;
            state.failure = finished.err();
        }
    }

    /// A panic is an error.
    fn guard(&self, work: impl FnOnce() -> Result<(), SinkError>) -> Result<(), SinkError> {
        guarded(work).unwrap_or_else(|panic| {
            let message = format!("it has panicked: {panic}");
            Err(SinkError { output: "a sink".to_owned(), message })
        })
    }

    /// The next batch; none when there will be none.
    fn next(&self) -> Option<(RecordBatch, usize)> {
        let mut state = lock(&self.state);
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some(next) = state.queue.pop_front() {
                return Some(next);
            }
            if state.end.is_some() {
                return None;
            }
            let waited = self.changed.wait_timeout(state, LOOK_INTERVAL);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<S: Sink + Send + 'static> Sink for Apart<S> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.check()?;
        self.start()?;
        let Shared { state, changed, .. } = &*self.shared;
        let mut state = lock(state);
        while state.bytes > QUEUED_BYTES_MAX {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.failure.is_none() {
            let bytes = own_bytes(batch);
            state.queue.push_back((batch.clone(), bytes));
            state.bytes += bytes;
        }
        let is_turn = state.bytes >= TURN_BYTES;
        drop(state);
        if is_turn {
            changed.notify_all();
        }
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut lock(&self.shared.state).durable)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.check()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.start()?;
        self.end(End::Finish);
        self.check()
    }
}

impl<S> Drop for Apart<S> {
    /// What is not written is of a run that has failed.
    fn drop(&mut self) {
        self.end(End::Drop);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    /// Writes a batch when it is let, and tells which; refuses numbers below 0.
    struct Slow {
        let_go: Receiver<()>,
        wrote: Sender<i64>,
        durable: u64,
    }

    impl Sink for Slow {
        fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
            let number = batch.column(0).as_primitive::<Int64Type>().value(0);
            self.let_go.recv().unwrap();
            match number {
                -2 => panic!("no more"),
                -1 => {
                    Err(SinkError { output: "slow".to_owned(), message: "it is full".to_owned() })
                }
                _ => {
                    self.wrote.send(number).unwrap();
                    self.durable += 1;
                    Ok(())
                }
            }
        }

        fn durable_rows(&mut self) -> u64 {
            std::mem::take(&mut self.durable)
        }

        fn finish(&mut self) -> Result<(), SinkError> {
            self.wrote.send(100).unwrap();
            self.durable += 10;
            Ok(())
        }
    }

    fn slow() -> (Apart<Slow>, Sender<()>, Receiver<i64>) {
        let ((go, let_go), (wrote, written)) = (channel(), channel());
        (Apart::new(Slow { let_go, wrote, durable: 0 }), go, written)
    }

    /// A batch of 3 MiB that begins with a number.
    fn batch(number: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_value(number, 3 << 17));
        RecordBatch::try_from_iter([("number", numbers)]).unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn everything_is_written_in_order_before_the_end() {
        let (mut sink, go, written) = slow();
        for number in 0..5 {
            sink.write(&batch(number)).unwrap();
            go.send(()).unwrap();
        }
        sink.finish().unwrap();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 100]);
        assert_eq!((sink.durable_rows(), sink.durable_rows()), (15, 0));
    }

    #[test]
    fn what_is_more_than_may_wait_has_the_worker_wait() {
        let (mut sink, go, written) = slow();
        for number in 0..2 {
            sink.write(&batch(number)).unwrap();
        }
        // The first is being written, and with the second more wait than may.
        let (done, third) = channel();
        let waiting = std::thread::spawn(move || {
            sink.write(&batch(2)).unwrap();
            done.send(()).unwrap();
            sink
        });
        assert!(third.recv_timeout(Duration::from_millis(50)).is_err());
        // Once it waits, it waits until there is little.
        go.send(()).unwrap();
        assert!(third.recv_timeout(Duration::from_millis(50)).is_err());
        go.send(()).unwrap();
        third.recv_timeout(PATIENCE).unwrap();
        go.send(()).unwrap();
        waiting.join().unwrap().finish().unwrap();
        assert_eq!(written.try_iter().collect::<Vec<_>>(), [0, 1, 2, 100]);
    }

    #[test]
    fn what_cannot_be_written_is_told_and_a_panic_is_an_error() {
        for (number, why) in [(-1, "slow: it is full"), (-2, "it has panicked: no more")] {
            let (mut sink, go, written) = slow();
            sink.write(&batch(number)).unwrap();
            sink.write(&batch(7)).unwrap();
            go.send(()).unwrap();
            let error = sink.finish().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(sink.tick().unwrap_err().to_string(), error);
            assert_eq!(sink.write(&batch(8)).unwrap_err().to_string(), error);
            assert!(written.try_recv().is_err());
        }
    }

    #[test]
    fn a_sink_that_is_dropped_writes_no_more_than_what_it_is_at() {
        let (mut sink, go, written) = slow();
        // A third one would have to wait.
        for number in 0..2 {
            sink.write(&batch(number)).unwrap();
        }
        go.send(()).unwrap();
        assert_eq!(written.recv_timeout(PATIENCE).unwrap(), 0);
        let dropping = std::thread::spawn(move || drop(sink));
        // What it is at ends, one way or the other.
        drop(go);
        dropping.join().unwrap();
        assert_eq!(written.try_iter().count(), 0);
    }
}
