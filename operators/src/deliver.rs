//! The sink end of the graph.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::dataflow::{Stream, StreamVec};

use crate::failure::Failure;
use crate::rows::Rows;

/// One worker's end of an output. Parquet, JSON lines and Kafka are each one of these.
pub trait Sink {
    /// Takes a batch over.
    ///
    /// # Errors
    /// Whatever keeps it from being written; it ends the run.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError>;

    /// Rows that have become durable since the last call.
    fn durable_rows(&mut self) -> u64;

    /// The end of the input: makes everything durable.
    ///
    /// # Errors
    /// Whatever keeps it from being so.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// Why an output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{output}: {message}")]
pub struct SinkError {
    /// The file or topic.
    pub output: String,
    pub message: String,
}

/// Writes `rows` to `sink` and tells `durable` how many have become durable. The stream it returns
/// carries nothing; its frontier says how far the sink has taken rows over.
pub fn deliver<'scope>(
    rows: Stream<'scope, u64, Rows>,
    name: &str,
    schema: SchemaRef,
    sink: Box<dyn Sink>,
    durable: impl Fn(u64) + 'static,
    failure: Failure,
) -> StreamVec<'scope, u64, ()> {
    rows.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        name,
        move |_capability, _info| {
            let mut sink = Some(sink);
            move |(input, frontier), _output| {
                input.for_each(|_capability, container| {
                    let Some(open) = sink.as_mut() else { return };
                    let Some(batch) = failure.check(container.take(&schema)) else { return };
                    if !failure.is_set() && failure.check(open.write(&batch)).is_some() {
                        durable(open.durable_rows());
                    }
                });
                if frontier.is_empty()
                    && !failure.is_set()
                    && let Some(mut open) = sink.take()
                    && failure.check(open.finish()).is_some()
                {
                    durable(open.durable_rows());
                }
            }
        },
    )
}
