//! A sink that hands batches to a function of the program.

use std::error::Error;

use arrow::array::RecordBatch;
use driftline_operators::layout::Published;
use driftline_operators::sinks::{Sink, SinkError};

use super::failed;

/// Calls a function with the published columns of each batch; its rows count as durable when it
/// returns.
pub struct FunctionSink<F> {
    name: String,
    function: F,
    published: Published,
    durable: u64,
}

impl<F> FunctionSink<F>
where
    F: FnMut(RecordBatch) -> Result<(), Box<dyn Error + Send + Sync>>,
{
    /// `name` is what error messages call the sink.
    pub fn new(name: impl Into<String>, function: F) -> Self {
        FunctionSink { name: name.into(), function, published: Published::default(), durable: 0 }
    }
}

impl<F> Sink for FunctionSink<F>
where
    F: FnMut(RecordBatch) -> Result<(), Box<dyn Error + Send + Sync>>,
{
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        (self.function)(self.published.of(batch)).map_err(|error| failed(&self.name, error))?;
        self.durable += batch.num_rows() as u64;
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}
