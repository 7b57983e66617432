//! The order gate: rows wait at their home until their turn has come.

mod state;
mod tally;

pub use state::GatePieces;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub use self::tally::{GateRows, GateTally};
use crate::beside;
use crate::rows::own_bytes;
use crate::sort::{OrderColumns, RowOrder, sorted};

/// The order in which events reach stateful features; the job's `job.order`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they come; nothing waits, nothing is reproducible.
    Arrival,
    /// An epoch's events in order once the epoch is complete.
    Epoch,
    /// By event time: rows wait until the watermark has passed them.
    EventTime,
}

impl Order {
    /// The order's name in job files.
    pub fn name(self) -> &'static str {
        match self {
            Order::Arrival => "arrival",
            Order::Epoch => "epoch",
            Order::EventTime => "event_time",
        }
    }
}

/// Runs are merged up to so many rows.
const RUN_ROWS_MAX: usize = 8_192;

/// The rows that wait, and which of them may go.
///
/// Rows wait in sorted runs. A run is merged with the one before while that is not twice as long, up to
/// 8,192 rows: a row is sorted once and merged a few times, and no merge takes long, however many
/// rows wait. What goes on waiting is copied when it is less than half of what it holds on to in memory,
/// be it rows of a chunk that others are the home of, or some that have left.
pub struct OrderGate {
    order: Order,
    columns: OrderColumns,
    schema: SchemaRef,
    runs: Vec<Run>,
}

/// Rows in order.
struct Run {
    rows: RecordBatch,
    /// Bytes of memory that they hold on to; known of rows that went on waiting.
    bytes: Option<usize>,
}

/// Memory in bytes of rows that is not looked into.
const SMALL_BYTES: usize = 64 << 10;

impl Run {
    /// The first `count` rows, which do not wait any longer.
    fn let_go(&mut self, count: usize) -> RecordBatch {
        let free = self.rows.slice(0, count);
        self.rows = self.rows.slice(count, self.rows.num_rows() - count);
        self.bytes = None;
        free
    }

    /// The rows go on waiting. They are copied if most of what they hold on to is not theirs.
    fn wait(&mut self) -> Result<(), ArrowError> {
        if self.bytes.is_some() {
            return Ok(());
        }
        let mut bytes = self.rows.get_array_memory_size();
        if bytes > SMALL_BYTES && 2 * own_bytes(&self.rows) < bytes {
            self.rows = copied(&self.rows)?;
            bytes = self.rows.get_array_memory_size();
        }
        self.bytes = Some(bytes);
        Ok(())
    }
}

/// The same rows in memory of their own.
fn copied(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let rows = take_record_batch(rows, &UInt32Array::from_iter_values(0..rows.num_rows() as u32))?;
    Ok(beside::copied(rows))
}

impl OrderGate {
    pub fn new(order: Order, columns: OrderColumns, schema: SchemaRef) -> Self {
        OrderGate { order, columns, schema, runs: Vec::new() }
    }

    /// Adds rows in any order.
    ///
    /// # Errors
    /// If they are not of the gate's schema.
    pub fn insert(&mut self, batches: &[RecordBatch]) -> Result<(), ArrowError> {
        let mut rows = self.sorted(batches)?;
        while let Some(last) = self.runs.pop_if(|last| is_merged(&last.rows, &rows)) {
            rows = self.sorted(&[last.rows, rows])?;
        }
        if rows.num_rows() > 0 {
            self.runs.push(Run { rows: beside::packed(rows), bytes: None });
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.rows.num_rows()).sum()
    }

    /// Bytes of memory that rows hold on to which went on waiting.
    pub fn bytes(&self) -> usize {
        self.runs.iter().filter_map(|run| run.bytes).sum()
    }

    /// The rows whose turn has come when event time has reached `watermark`, in order of
    /// (event time, id, origin); those at or beyond the watermark go on waiting.
    ///
    /// # Errors
    /// If batches of differing schema were inserted.
    pub fn release(&mut self, watermark: i64) -> Result<Option<RecordBatch>, ArrowError> {
        let mut ready = Vec::new();
        for run in &mut self.runs {
            let times = RowOrder::new(&run.rows, self.columns).times();
            let count = match self.order {
                Order::EventTime => times.partition_point(|&time| time < watermark),
                Order::Arrival | Order::Epoch => times.len(),
            };
            if count > 0 {
                ready.push(run.let_go(count));
            }
        }
        self.runs.retain(|run| run.rows.num_rows() > 0);
        self.runs.iter_mut().try_for_each(Run::wait)?;
        match ready.as_slice() {
            [] => Ok(None),
            // A run is in order.
            [run] => Ok(Some(run.clone())),
            runs => self.sorted(runs).map(Some),
        }
    }

    fn sorted(&self, batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
        sorted(batches, &self.schema, self.columns)
    }
}

/// Whether a run becomes one with the one before.
fn is_merged(last: &RecordBatch, run: &RecordBatch) -> bool {
    let (last, run) = (last.num_rows(), run.num_rows());
    last < 2 * run && last + run <= RUN_ROWS_MAX
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, AsArray, BinaryArray, Int64Array, StringArray, UInt32Array as Partitions,
        UInt64Array,
    };

    use super::*;

    /// Rows of (time, id), each at its place of the partition `partition`.
    fn rows(partition: u32, rows: &[(i64, &str)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            ("time", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)))),
            ("id", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)))),
            ("partition", Arc::new(Partitions::from_value(partition, rows.len()))),
            ("offset", Arc::new(UInt64Array::from_iter_values(0..rows.len() as u64))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    const COLUMNS: OrderColumns = OrderColumns { time: 0, id: Some(1), partition: 2, offset: 3 };

    fn ids(batch: Option<RecordBatch>) -> String {
        let text = |batch: RecordBatch| {
            batch.column(1).as_string::<i32>().iter().flatten().collect::<String>()
        };
        batch.map_or_else(String::new, text)
    }

    #[test]
    fn rows_leave_in_order_of_time_and_id_once_the_watermark_has_passed() {
        let mut gate = OrderGate::new(Order::EventTime, COLUMNS, rows(0, &[]).schema());
        gate.insert(&[rows(0, &[(5, "c"), (1, "b")])]).unwrap();
        gate.insert(&[rows(1, &[(1, "a"), (9, "e"), (5, "d")])]).unwrap();
        assert_eq!(ids(gate.release(5).unwrap()), "ab");
        assert_eq!(ids(gate.release(5).unwrap()), "");
        gate.insert(&[rows(0, &[(4, "z"), (8, "f")])]).unwrap();
        assert_eq!(ids(gate.release(9).unwrap()), "zcdf");
        assert_eq!(gate.rows(), 1);
        assert_eq!(ids(gate.release(i64::MAX).unwrap()), "e");
        assert_eq!(gate.rows(), 0);
    }

    #[test]
    fn epoch_order_waits_for_no_watermark() {
        let mut gate = OrderGate::new(Order::Epoch, COLUMNS, rows(0, &[]).schema());
        gate.insert(&[rows(0, &[(5, "b"), (1, "a")])]).unwrap();
        assert_eq!(ids(gate.release(i64::MIN).unwrap()), "ab");
    }

    #[test]
    fn equal_time_and_id_are_in_order_of_origin() {
        let mut gate = OrderGate::new(Order::EventTime, COLUMNS, rows(0, &[]).schema());
        gate.insert(&[rows(1, &[(1, "x"), (1, "x")])]).unwrap();
        gate.insert(&[rows(0, &[(1, "x")])]).unwrap();
        let released = gate.release(2).unwrap().unwrap();
        let partitions = released.column(2).as_primitive::<arrow::datatypes::UInt32Type>();
        assert_eq!(partitions.values(), &[0, 1, 1]);
    }

    /// Wide rows of a chunk, of which few wait.
    #[test]
    fn rows_that_wait_do_not_hold_on_to_others() {
        let wide = |from: i64, rows: i64| {
            let ids = (from..from + rows).map(|time| format!("{time:01000}"));
            let raw = BinaryArray::from_iter_values(ids.clone());
            let columns: [(&str, ArrayRef); 5] = [
                ("time", Arc::new(Int64Array::from_iter_values(from..from + rows))),
                ("id", Arc::new(StringArray::from_iter_values(ids))),
                ("partition", Arc::new(Partitions::from_value(0, rows as usize))),
                ("offset", Arc::new(UInt64Array::from_iter_values(0..rows as u64))),
                ("raw", beside::views_of(&(Arc::new(raw) as ArrayRef))),
            ];
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let mut gate = OrderGate::new(Order::EventTime, COLUMNS, wide(0, 0).schema());
        for chunk in 0..200 {
            // A worker's part of the chunk, most of which is let go.
            let from = chunk * 1_000;
            gate.insert(&[wide(from, 1_000).slice(500, 400)]).unwrap();
            gate.release(from + 890).unwrap();
            assert_eq!(gate.rows(), 10);
            assert!(gate.bytes() < 100 << 10, "{} bytes", gate.bytes());
        }
        // And when many wait they take about what they are.
        for chunk in 200..250 {
            gate.insert(&[wide(chunk * 1_000, 1_000).slice(500, 100)]).unwrap();
            gate.release(200_000).unwrap();
        }
        assert_eq!(gate.rows(), 5_000);
        assert!((10_000_000..22_000_000).contains(&gate.bytes()), "{} bytes", gate.bytes());
    }

    #[test]
    fn no_merge_is_of_many_rows_however_many_wait() {
        let mut gate = OrderGate::new(Order::EventTime, COLUMNS, rows(0, &[]).schema());
        let mut wanted: Vec<(i64, String)> = Vec::new();
        for epoch in 0..400_i64 {
            let times = (0..200).map(|row| (row * 7 + epoch * 13) % 3_000);
            let batch: Vec<(i64, String)> =
                times.map(|time| (time, format!("{epoch:03}"))).collect();
            wanted.extend(batch.iter().cloned());
            let batch: Vec<(i64, &str)> = batch.iter().map(|(t, id)| (*t, id.as_str())).collect();
            gate.insert(&[rows(epoch as u32, &batch)]).unwrap();
        }
        let (longest, runs) =
            (gate.runs.iter().map(|run| run.rows.num_rows()).max(), gate.runs.len());
        assert!(longest <= Some(RUN_ROWS_MAX) && runs < 40, "{longest:?} rows, {runs} runs");
        wanted.sort();
        let released = gate.release(i64::MAX).unwrap().unwrap();
        let found = RowOrder::new(&released, COLUMNS).times().to_vec();
        assert_eq!(found, wanted.iter().map(|(time, _)| *time).collect::<Vec<_>>());
    }
}
