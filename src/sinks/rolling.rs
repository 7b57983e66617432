//! Results of a run that does not end as Parquet files: the newest is written anew as it grows, so that
//! readers always find whole files, and not many.
//!
//! A thread of the run writes them: compressing and syncing a file takes longer than a worker may stand
//! still. It writes as soon as there is something, but rests a second at least after it has written a file,
//! and ten times as long as that took, so that the newest rows are durable soon and the work is bounded.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use driftline_operators::guarded::guarded;
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::wake::Wake;

use super::failed;
use super::parquet::{Footer, ParquetSink};

/// A file with so many rows is not written again.
const FILE_ROWS_MAX: usize = 16_384;
/// Batches that are kept as they came.
const BATCHES_MAX: usize = 64;
/// How long a file is left alone after it was written, and how much longer than writing it took.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_SHARE: u32 = 10;
/// Batches that wait for the thread; those beyond hold up the flow.
const QUEUED_MAX: usize = 1_024;

/// The thread that writes files; ends when nobody has anything to write any more.
#[derive(Clone)]
pub struct Writer(Arc<Thread>);

struct Thread {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is to do. Files are numbered by [`Order::Open`].
enum Order {
    Open(Box<Rolling>),
    Write(Arc<Told>, RecordBatch),
    /// Everything is to be durable, and the answer is whether it is.
    Finish(Arc<Told>, mpsc::Sender<Result<(), SinkError>>),
}

/// What a sink and the thread tell each other.
#[derive(Default)]
struct Told {
    queued: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Rows of which the sink has not heard.
    durable: u64,
    failure: Option<SinkError>,
    wake: Option<Wake>,
}

impl Told {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has come of writing rows, of which so many are durable.
    fn tell(&self, written: Result<u64, SinkError>) {
        let mut state = self.state();
        match written {
            Ok(rows) => state.durable += rows,
            Err(error) => state.failure = Some(error),
        }
        let wake = state.wake.clone();
        drop(state);
        if let Some(wake) = wake {
            wake();
        }
    }

    /// # Errors
    /// If rows could not be written.
    fn check(&self) -> Result<(), SinkError> {
        self.state().failure.clone().map_or(Ok(()), Err)
    }
}

impl Writer {
    pub fn start() -> Self {
        let (orders, received) = mpsc::channel();
        let thread = std::thread::spawn(move || work(&received));
        Writer(Arc::new(Thread { orders: Some(orders), thread: Some(thread) }))
    }

    /// A sink that writes `NAME-00000.parquet`, `NAME-00001.parquet` and so on into a folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn sink(
        &self,
        folder: &Path,
        name: String,
        schema: SchemaRef,
        footer: &Footer,
    ) -> Result<RollingParquet, SinkError> {
        fs::create_dir_all(folder).map_err(|error| failed(folder.display(), error))?;
        let told = Arc::new(Told::default());
        let folder = folder.to_owned();
        let rolling = Rolling::new(told.clone(), folder.clone(), name, schema, footer.clone());
        let sink = RollingParquet { writer: self.clone(), told, folder };
        sink.order(Order::Open(Box::new(rolling)))?;
        Ok(sink)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread.
fn work(orders: &Receiver<Order>) {
    let mut files: Vec<Rolling> = Vec::new();
    loop {
        let due = files.iter().filter_map(Rolling::due).min();
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let order = match left {
            Some(left) => orders.recv_timeout(left),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(Order::Open(file)) => files.push(*file),
            Ok(Order::Write(told, batch)) => {
                told.queued.fetch_sub(1, AcqRel);
                of(&mut files, &told).for_each(|file| file.take(batch.clone()));
            }
            Ok(Order::Finish(told, answer)) => {
                of(&mut files, &told).for_each(Rolling::write);
                // Who has left has nothing to hear.
                let _ = answer.send(told.check());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        let due = files.iter_mut().filter(|file| file.due().is_some_and(|due| due <= now));
        due.for_each(Rolling::write);
    }
}

fn of<'a>(files: &'a mut [Rolling], told: &'a Arc<Told>) -> impl Iterator<Item = &'a mut Rolling> {
    files.iter_mut().filter(|file| Arc::ptr_eq(&file.told, told))
}

/// The files of one sink.
struct Rolling {
    told: Arc<Told>,
    folder: PathBuf,
    name: String,
    schema: SchemaRef,
    footer: Footer,
    /// Of the newest file.
    rows: Vec<RecordBatch>,
    file: usize,
    /// Rows that no file has.
    unwritten: u64,
    /// It is not written before.
    rests_until: Instant,
    has_failed: bool,
}

impl Rolling {
    fn new(
        told: Arc<Told>,
        folder: PathBuf,
        name: String,
        schema: SchemaRef,
        footer: Footer,
    ) -> Self {
        Rolling {
            told,
            folder,
            name,
            schema,
            footer,
            rows: Vec::new(),
            file: 0,
            unwritten: 0,
            rests_until: Instant::now(),
            has_failed: false,
        }
    }

    /// When it is to be written, if it is.
    fn due(&self) -> Option<Instant> {
        (self.unwritten > 0 && !self.has_failed).then_some(self.rests_until)
    }

    fn take(&mut self, batch: RecordBatch) {
        self.unwritten += batch.num_rows() as u64;
        self.rows.push(batch);
    }

    /// Writes the newest file, and tells of it.
    fn write(&mut self) {
        if self.due().is_none() {
            return;
        }
        let began = Instant::now();
        let written = guarded(|| self.write_file()).unwrap_or_else(|panic| {
            Err(failed(self.folder.display(), format!("the writer has panicked: {panic}")))
        });
        self.rests_until = Instant::now() + REST_MIN.max(began.elapsed() * REST_SHARE);
        self.has_failed = written.is_err();
        self.told.tell(written);
    }

    /// Writes the newest file, under another name until it is whole; the rows that were in none.
    fn write_file(&mut self) -> Result<u64, SinkError> {
        self.join()?;
        let last = self.folder.join(format!("{}-{:05}.parquet", self.name, self.file));
        let temporary = self.folder.join(format!(".{}-{:05}.tmp", self.name, self.file));
        let Footer { pairs, footnotes } = &self.footer;
        let mut sink = ParquetSink::create(temporary.clone(), self.schema.clone(), pairs, &[])?
            .with(footnotes.clone());
        self.rows.iter().try_for_each(|rows| sink.write(rows))?;
        sink.finish()?;
        let moved =
            fs::rename(&temporary, &last).and_then(|()| File::open(&self.folder)?.sync_all());
        moved.map_err(|error| failed(last.display(), error))?;
        if self.rows.iter().map(RecordBatch::num_rows).sum::<usize>() >= FILE_ROWS_MAX {
            self.rows.clear();
            self.file += 1;
        }
        Ok(std::mem::take(&mut self.unwritten))
    }

    /// Makes one batch of many: windows come a few rows at a time, and a small batch takes more than
    /// its rows.
    fn join(&mut self) -> Result<(), SinkError> {
        if self.rows.len() >= BATCHES_MAX {
            let schema = self.rows[0].schema();
            let joined = concat_batches(&schema, &self.rows);
            self.rows = vec![joined.map_err(|error| failed(self.folder.display(), error))?];
        }
        Ok(())
    }
}

/// One worker's end of the files.
pub struct RollingParquet {
    writer: Writer,
    told: Arc<Told>,
    folder: PathBuf,
}

impl RollingParquet {
    fn order(&self, order: Order) -> Result<(), SinkError> {
        let orders = self.writer.0.orders.as_ref();
        let sent = orders.is_some_and(|orders| orders.send(order).is_ok());
        if sent { Ok(()) } else { Err(self.has_left()) }
    }

    fn has_left(&self) -> SinkError {
        failed(self.folder.display(), "the thread that writes has ended")
    }
}

impl Sink for RollingParquet {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.told.check()?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.told.queued.fetch_add(1, AcqRel);
        self.order(Order::Write(self.told.clone(), batch.clone()))
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.told.state().durable)
    }

    fn unacknowledged(&mut self) -> usize {
        self.told.queued.load(Acquire).saturating_sub(QUEUED_MAX)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.told.check()
    }

    fn wake_with(&mut self, wake: Wake) {
        self.told.state().wake = Some(wake);
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let (answer, answered) = mpsc::channel();
        self.order(Order::Finish(self.told.clone(), answer))?;
        answered.recv().unwrap_or_else(|_| Err(self.has_left()))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn rows(from: i64, count: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    fn sink(folder: &Path) -> RollingParquet {
        let schema = rows(0, 0).schema();
        Writer::start().sink(folder, "part-1".to_owned(), schema, &Footer::default()).unwrap()
    }

    fn rolling(folder: &Path) -> Rolling {
        let schema = rows(0, 0).schema();
        let footer = Footer::default();
        Rolling::new(Arc::default(), folder.to_owned(), "part-1".to_owned(), schema, footer)
    }

    /// Rows by file.
    fn written(folder: &Path) -> Vec<(String, usize)> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let count = |path: PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let file = File::open(path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            (name, reader.map(|rows| rows.unwrap().num_rows()).sum())
        };
        let mut files: Vec<(String, usize)> = entries.map(count).collect();
        files.sort();
        files
    }

    #[test]
    fn the_newest_file_is_whole_at_any_time_and_full_ones_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let mut rolling = rolling(path);
        let first = "part-1-00000.parquet".to_owned();
        rolling.write();
        assert!(written(path).is_empty());
        rolling.take(rows(0, 10));
        rolling.write();
        assert_eq!(written(path), [(first.clone(), 10)]);
        assert_eq!(rolling.told.state().durable, 10);
        rolling.take(rows(10, FILE_ROWS_MAX as i64));
        rolling.take(rows(0, 5));
        assert_eq!(rolling.told.state().durable, 10);
        rolling.write();
        let full = FILE_ROWS_MAX + 15;
        assert_eq!(written(path), [(first.clone(), full)]);
        rolling.take(rows(0, 3));
        rolling.write();
        assert_eq!(written(path), [(first, full), ("part-1-00001.parquet".to_owned(), 3)]);
        assert_eq!(rolling.told.state().durable, FILE_ROWS_MAX as u64 + 18);
    }

    #[test]
    fn a_file_that_was_written_rests() {
        let folder = tempfile::tempdir().unwrap();
        let mut rolling = rolling(folder.path());
        rolling.take(rows(0, 1));
        assert!(rolling.due().unwrap() <= Instant::now());
        let before = Instant::now();
        rolling.write();
        assert_eq!(rolling.due(), None);
        rolling.take(rows(1, 1));
        assert!(rolling.due().unwrap() >= before + REST_MIN);
    }

    #[test]
    fn many_small_batches_are_written_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = sink(folder.path());
        let mut durable = 0;
        for n in 0..1_000 {
            sink.write(&rows(3 * n, 3)).unwrap();
            durable += sink.durable_rows();
        }
        sink.finish().unwrap();
        assert_eq!((durable + sink.durable_rows(), sink.unacknowledged()), (3_000, 0));
        let file = File::open(folder.path().join("part-1-00000.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let numbers = reader.flat_map(|rows| {
            let rows = rows.unwrap();
            rows.column(0).as_primitive::<Int64Type>().values().to_vec()
        });
        assert!(numbers.eq(0..3_000));
    }

    #[test]
    fn one_thread_writes_for_many_and_wakes_them() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start();
        let schema = rows(0, 0).schema();
        let footer = Footer::default();
        let sink =
            |name: &str| writer.sink(folder.path(), name.to_owned(), schema.clone(), &footer);
        let mut sinks = ["part-1", "part-2"].map(|name| sink(name).unwrap());
        for (sink, count) in sinks.iter_mut().zip([5, 7]) {
            let (woken, wakes) = mpsc::channel();
            let woken = Mutex::new(woken);
            sink.wake_with(Arc::new(move || woken.lock().unwrap().send(()).unwrap()));
            sink.write(&rows(0, count)).unwrap();
            wakes.recv().unwrap();
            assert_eq!(sink.durable_rows(), count as u64);
        }
        let files = [("part-1-00000.parquet", 5), ("part-2-00000.parquet", 7)];
        assert_eq!(written(folder.path()), files.map(|(name, rows)| (name.to_owned(), rows)));
    }

    #[test]
    fn what_cannot_be_written_is_told_when_the_worker_comes_by() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = sink(&folder.path().join("drift"));
        fs::remove_dir(folder.path().join("drift")).unwrap();
        sink.write(&rows(0, 1)).unwrap();
        let error = sink.finish().unwrap_err().to_string();
        assert!(error.contains("part-1-00000"), "{error}");
        assert_eq!(sink.tick().unwrap_err().to_string(), error);
        assert_eq!(sink.durable_rows(), 0);
    }

    #[test]
    fn a_run_without_rows_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = sink(folder.path());
        sink.write(&rows(0, 0)).unwrap();
        sink.finish().unwrap();
        assert!(written(folder.path()).is_empty());
    }
}
