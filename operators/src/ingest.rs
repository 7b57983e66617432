//! The source end of the graph: chunks become admitted rows, dead letters and marks.

use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::{ProbeHandle, Scope, Stream, StreamVec};

use crate::admit::{Admission, Chunk};
use crate::failure::Failure;
use crate::rows::Rows;
use crate::watermark::Mark;

/// One worker's share of an input. Kafka, Parquet and JSON lines are each one of these.
///
/// Epochs start at 1 and each chunk's is higher than the one before on the same worker.
pub trait Source {
    /// The epoch of the next chunk, as far as it is known; `None` at the end of the input.
    fn next_epoch(&self) -> Option<u64>;

    /// The next chunk, if there is one by now.
    ///
    /// # Errors
    /// Whatever keeps the input from being read on; it ends the run.
    fn poll(&mut self) -> Result<Polled, SourceError>;
}

pub enum Polled {
    Chunk(Box<Chunk>),
    /// Nothing yet; ask again after this long.
    Wait(Duration),
    End,
}

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{input}: {message}")]
pub struct SourceError {
    /// The file or topic.
    pub input: String,
    pub message: String,
}

pub struct Ingested<'scope> {
    pub rows: Stream<'scope, u64, Rows>,
    pub dead_letters: Stream<'scope, u64, Rows>,
    /// Broadcast: every worker sees every mark.
    pub marks: StreamVec<'scope, u64, Mark>,
}

/// Reads `source` for as long as no more than `epochs_in_flight_max` epochs are under way, by `probe`.
pub fn ingest<'scope>(
    scope: Scope<'scope, u64>,
    mut source: Box<dyn Source>,
    admission: Admission,
    probe: ProbeHandle<u64>,
    epochs_in_flight_max: u64,
    failure: Failure,
) -> Ingested<'scope> {
    let mut builder = OperatorBuilder::new("Ingest".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let (rows_out, rows) = builder.new_output();
    let (dead_out, dead_letters) = builder.new_output();
    let (marks_out, marks) = builder.new_output::<Vec<Mark>>();
    let mut rows_out = OutputBuilder::<_, CapacityContainerBuilder<Rows>>::from(rows_out);
    let mut dead_out = OutputBuilder::<_, CapacityContainerBuilder<Rows>>::from(dead_out);
    let mut marks_out = OutputBuilder::from(marks_out);

    builder.build(move |capabilities| {
        let mut held = Some(capabilities);
        move |_frontiers| {
            let Some(capabilities) = held.as_mut() else { return };
            // 1. Stand at the next epoch, so that everything before it can complete.
            let Some(epoch) = source.next_epoch().filter(|_| !failure.is_set()) else {
                held = None;
                return;
            };
            capabilities.iter_mut().for_each(|capability| {
                if *capability.time() < epoch {
                    capability.downgrade(&epoch);
                }
            });
            // 2. Wait while too much is under way; the probe's progress reactivates nobody.
            if probe.less_than(&epoch.saturating_sub(epochs_in_flight_max)) {
                activator.activate();
                return;
            }
            // 3. Read one chunk and send it at its epoch.
            let chunk = match failure.check(source.poll()) {
                Some(Polled::Chunk(chunk)) => chunk,
                Some(Polled::Wait(delay)) => return activator.activate_after(delay),
                Some(Polled::End) | None => {
                    held = None;
                    return;
                }
            };
            let at: Vec<_> = capabilities.iter().map(|c| c.delayed(&chunk.epoch)).collect();
            let Some(admitted) = failure.check(admission.admit(*chunk)) else {
                held = None;
                return;
            };
            let mut rows_out = rows_out.activate();
            rows_out.session(&at[0]).give_container(&mut Rows::new(admitted.rows));
            let mut dead_out = dead_out.activate();
            dead_out.session(&at[1]).give_container(&mut Rows::new(admitted.dead_letters));
            let mut marks_out = marks_out.activate();
            marks_out.session(&at[2]).give_iterator(admitted.marks.into_iter());
            activator.activate();
        }
    });
    Ingested { rows, dead_letters, marks: marks.broadcast() }
}
