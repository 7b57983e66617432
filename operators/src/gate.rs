//! The order gate: rows wait at their home until their turn has come.

mod tally;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

pub use self::tally::{GateRows, GateTally};
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

/// The rows that wait, and which of them may go.
///
/// Rows wait in sorted runs, of which each is at least twice as long as the next: a row is sorted
/// once and merged a number of times that grows with the logarithm of the rows that wait.
pub struct OrderGate {
    order: Order,
    columns: OrderColumns,
    schema: SchemaRef,
    runs: Vec<RecordBatch>,
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
        let mut run = self.sorted(batches)?;
        while let Some(last) = self.runs.pop_if(|last| last.num_rows() < 2 * run.num_rows()) {
            run = self.sorted(&[last, run])?;
        }
        if run.num_rows() > 0 {
            self.runs.push(run);
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.runs.iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows whose turn has come when event time has reached `watermark`, in order of
    /// (event time, id, origin); those at or beyond the watermark go on waiting.
    ///
    /// # Errors
    /// If batches of differing schema were inserted.
    pub fn release(&mut self, watermark: i64) -> Result<Option<RecordBatch>, ArrowError> {
        let mut ready = Vec::new();
        for run in &mut self.runs {
            let times = RowOrder::new(run, self.columns).times();
            let count = match self.order {
                Order::EventTime => times.partition_point(|&time| time < watermark),
                Order::Arrival | Order::Epoch => times.len(),
            };
            if count > 0 {
                ready.push(run.slice(0, count));
                *run = run.slice(count, run.num_rows() - count);
            }
        }
        self.runs.retain(|run| run.num_rows() > 0);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, AsArray, Int64Array, StringArray, UInt32Array as Partitions, UInt64Array,
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
}
