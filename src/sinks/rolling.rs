//! Results of a run that does not end as Parquet files: the newest is written anew as it grows, so that
//! readers always find whole files, and not many.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use driftline_operators::sinks::{Sink, SinkError};
use driftline_operators::wake::Wake;

use super::failed;
use super::parquet::ParquetSink;

/// A file with so many rows is not written again.
const FILE_ROWS_MAX: usize = 16_384;
/// Batches that are kept as they came.
const BATCHES_MAX: usize = 64;
/// Rows are readable after so long.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// Writes `NAME-00000.parquet`, `NAME-00001.parquet` and so on into a folder.
pub struct RollingParquet {
    folder: PathBuf,
    name: String,
    schema: SchemaRef,
    metadata: Vec<(String, String)>,
    /// Of the newest file.
    rows: Vec<RecordBatch>,
    file: usize,
    /// Rows that no file has.
    unwritten: u64,
    written_at: Instant,
    durable: u64,
    /// Set when nobody has to wake the sink any more.
    is_closed: Arc<AtomicBool>,
}

impl RollingParquet {
    /// # Errors
    /// If the folder cannot be made.
    pub fn create(
        folder: &Path,
        name: String,
        schema: SchemaRef,
        metadata: &[(String, String)],
    ) -> Result<Self, SinkError> {
        fs::create_dir_all(folder).map_err(|error| failed(folder.display(), error))?;
        Ok(RollingParquet {
            folder: folder.to_owned(),
            name,
            schema,
            metadata: metadata.to_vec(),
            rows: Vec::new(),
            file: 0,
            unwritten: 0,
            written_at: Instant::now(),
            durable: 0,
            is_closed: Arc::default(),
        })
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

    fn is_due(&self) -> bool {
        self.unwritten > 0 && self.written_at.elapsed() >= WRITE_INTERVAL
    }

    /// Writes the newest file, under another name until it is whole.
    fn write_file(&mut self) -> Result<(), SinkError> {
        let last = self.folder.join(format!("{}-{:05}.parquet", self.name, self.file));
        let temporary = self.folder.join(format!(".{}-{:05}.tmp", self.name, self.file));
        let mut sink =
            ParquetSink::create(temporary.clone(), self.schema.clone(), &self.metadata, &[])?;
        self.rows.iter().try_for_each(|rows| sink.write(rows))?;
        sink.finish()?;
        let moved =
            fs::rename(&temporary, &last).and_then(|()| File::open(&self.folder)?.sync_all());
        moved.map_err(|error| failed(last.display(), error))?;
        self.durable += std::mem::take(&mut self.unwritten);
        self.written_at = Instant::now();
        if self.rows.iter().map(RecordBatch::num_rows).sum::<usize>() >= FILE_ROWS_MAX {
            self.rows.clear();
            self.file += 1;
        }
        Ok(())
    }
}

impl Sink for RollingParquet {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        if batch.num_rows() > 0 {
            self.rows.push(batch.clone());
            self.unwritten += batch.num_rows() as u64;
        }
        self.join()?;
        self.tick()
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        if self.is_due() { self.write_file() } else { Ok(()) }
    }

    fn wake_with(&mut self, wake: Wake) {
        let is_closed = self.is_closed.clone();
        std::thread::spawn(move || {
            while !is_closed.load(Relaxed) {
                std::thread::sleep(WRITE_INTERVAL);
                wake();
            }
        });
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.is_closed.store(true, Relaxed);
        if self.unwritten > 0 { self.write_file() } else { Ok(()) }
    }
}

impl Drop for RollingParquet {
    fn drop(&mut self) {
        self.is_closed.store(true, Relaxed);
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
        RollingParquet::create(folder, "part-1".to_owned(), schema, &[]).unwrap()
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
        let mut sink = sink(path);
        let first = "part-1-00000.parquet".to_owned();
        sink.write(&rows(0, 10)).unwrap();
        assert!(written(path).is_empty() && sink.durable_rows() == 0);
        sink.written_at -= WRITE_INTERVAL;
        sink.tick().unwrap();
        assert_eq!((written(path), sink.durable_rows()), (vec![(first.clone(), 10)], 10));
        sink.write(&rows(10, FILE_ROWS_MAX as i64)).unwrap();
        sink.written_at -= WRITE_INTERVAL;
        sink.write(&rows(0, 5)).unwrap();
        let full = FILE_ROWS_MAX + 15;
        assert_eq!(written(path), [(first.clone(), full)]);
        sink.write(&rows(0, 3)).unwrap();
        sink.finish().unwrap();
        assert_eq!(written(path), [(first, full), ("part-1-00001.parquet".to_owned(), 3)]);
        assert_eq!(sink.durable_rows(), FILE_ROWS_MAX as u64 + 8);
    }

    #[test]
    fn many_small_batches_are_written_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = sink(folder.path());
        (0..1_000).for_each(|n| sink.write(&rows(3 * n, 3)).unwrap());
        assert!(sink.rows.len() < BATCHES_MAX);
        sink.finish().unwrap();
        let file = File::open(folder.path().join("part-1-00000.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let numbers = reader.flat_map(|rows| {
            let rows = rows.unwrap();
            rows.column(0).as_primitive::<Int64Type>().values().to_vec()
        });
        assert!(numbers.eq(0..3_000));
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
