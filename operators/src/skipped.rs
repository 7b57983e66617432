//! Rows that are skipped behind the source: nothing is written of them, and who commits the offsets of records
//! has to hear that they are done with.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::layout::{EventLayout, OFFSET, PARTITION};
use crate::sinks::{Outlet, Output, Sink, SinkError, Tally};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(PARTITION, DataType::UInt32, false),
        Field::new(OFFSET, DataType::UInt64, false),
    ]))
});

/// Which records rows are.
///
/// # Errors
/// If they are not rows of the layout.
pub fn records(rows: &RecordBatch, layout: &EventLayout) -> Result<RecordBatch, ArrowError> {
    let columns = [layout.partition, layout.offset].map(|at| rows.column(at).clone());
    RecordBatch::try_new(SCHEMA.clone(), columns.to_vec())
}

/// The outlet of such rows.
pub fn outlet() -> Outlet {
    let sink = Box::new(Settling::default());
    Outlet { output: Output::Skipped, schema: SCHEMA.clone(), sink, tally: Tally::Nothing }
}

/// Acknowledges what it is given.
#[derive(Default)]
struct Settling {
    taken: Vec<RecordBatch>,
    durable: u64,
}

impl Sink for Settling {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.durable += batch.num_rows() as u64;
        self.taken.push(batch.clone());
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    fn acknowledged(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.taken)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
