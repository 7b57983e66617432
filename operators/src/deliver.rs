//! The sink end of the graph.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::dataflow::{Stream, StreamVec};

use crate::accounting::Counters;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::ingest::Wake;
use crate::latency::Latencies;
use crate::layout::READ_AT;
use crate::reasons::{Reasons, Undurable};
use crate::rows::Rows;
use crate::run::Run;

/// One worker's end of an output. Parquet, JSON lines and Kafka are each one of these.
pub trait Sink {
    /// Takes a batch over. What is published of it are the columns of [`published`](crate::layout::published).
    ///
    /// # Errors
    /// Whatever keeps it from being written; it ends the run.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError>;

    /// Rows that have become durable since the last call; they become so in the order in which they
    /// were written.
    fn durable_rows(&mut self) -> u64;

    /// What has become durable since the last call as dead letters, as it could not be written as what
    /// it is.
    fn refused(&mut self) -> Reasons {
        Reasons::default()
    }

    /// How many of the last batches may still be refused, or have to be waited for before the next
    /// ones can be taken. The epochs of those before them are over.
    fn unacknowledged(&mut self) -> usize {
        0
    }

    /// Whatever is due, whenever the worker comes by.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// `wake` has the sink asked again at once, from any thread.
    fn wake_with(&mut self, _wake: Wake) {}

    /// The end of the input, when every batch is acknowledged: makes everything durable.
    ///
    /// # Errors
    /// Whatever keeps it from being so.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// Why an output could not be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{output}: {message}")]
pub struct SinkError {
    /// The file or topic.
    pub output: String,
    pub message: String,
}

/// What is counted of an output.
pub enum Tally {
    Nothing,
    DeadLetters(Counters, Undurable),
    /// Rows that take the place of predictions in the account.
    Rows(Counters),
    Predictions {
        counters: Counters,
        latencies: Latencies,
        clock: Arc<dyn Clock>,
    },
}

impl Tally {
    fn written(&mut self, batch: &RecordBatch) {
        match self {
            Tally::Predictions { latencies, clock, .. } => {
                if let Some(read_at) = batch.column_by_name(READ_AT) {
                    let read_at = read_at.as_primitive::<Int64Type>().values();
                    latencies.handed_over(read_at, clock.now());
                }
            }
            Tally::DeadLetters(_, written) => written.write(Reasons::of(batch)),
            Tally::Nothing | Tally::Rows(_) => {}
        }
    }

    fn refused(&self, refused: &Reasons) {
        match self {
            Tally::Nothing => {}
            Tally::DeadLetters(counters, _)
            | Tally::Rows(counters)
            | Tally::Predictions { counters, .. } => counters.dead_letters_durable(refused),
        }
    }

    fn durable(&mut self, rows: u64) {
        match self {
            Tally::Nothing => {}
            Tally::DeadLetters(counters, written) => {
                counters.dead_letters_durable(&written.durable(rows));
            }
            Tally::Rows(counters) | Tally::Predictions { counters, .. } => {
                counters.predictions_durable(rows);
            }
        }
    }
}

/// An output of a job on one worker.
pub struct Delivery {
    pub name: &'static str,
    /// Of the batches that come.
    pub schema: SchemaRef,
    pub sink: Box<dyn Sink>,
    pub tally: Tally,
}

impl Delivery {
    /// The dead letters of a job.
    pub fn dead_letters(sink: Box<dyn Sink>, run: &Run) -> Self {
        Delivery {
            name: "DeadLetters",
            schema: crate::dead_letter::SCHEMA.clone(),
            sink,
            tally: Tally::DeadLetters(run.counters.clone(), Undurable::default()),
        }
    }
}

/// Writes `rows` to the sink. The stream it returns carries nothing; its frontier says how far the
/// sink has taken rows over and acknowledged them.
pub fn deliver<'scope>(
    rows: Stream<'scope, u64, Rows>,
    delivery: Delivery,
    failure: Failure,
) -> StreamVec<'scope, u64, ()> {
    let Delivery { name, schema, sink, mut tally } = delivery;
    let scope = rows.scope();
    rows.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(
        Pipeline,
        name,
        move |_capability, info| {
            let mut sink = sink;
            let activator = scope.worker().sync_activator_for(info.address.to_vec());
            // A worker that has left has nothing to be woken for.
            sink.wake_with(Arc::new(move || {
                let _ = activator.activate();
            }));
            let mut sink = Some(sink);
            // Of batches that are not acknowledged, the oldest first.
            let mut held = VecDeque::new();
            move |(input, frontier), output| {
                input.for_each(|capability, container| {
                    let Some(open) = sink.as_mut() else { return };
                    let Some(batch) = failure.check(container.take(&schema)) else { return };
                    if !failure.is_set() && failure.check(open.write(&batch)).is_some() {
                        tally.written(&batch);
                        held.extend(capability.retain_least(output.output_index()));
                    }
                });
                let Some(open) = sink.as_mut() else { return };
                failure.check(open.tick());
                tally.durable(open.durable_rows());
                tally.refused(&open.refused());
                held.drain(..held.len().saturating_sub(open.unacknowledged()));
                if frontier.is_empty()
                    && held.is_empty()
                    && !failure.is_set()
                    && let Some(mut open) = sink.take()
                    && failure.check(open.finish()).is_some()
                {
                    tally.durable(open.durable_rows());
                }
            }
        },
    )
}
