//! Drift in two phases: each worker gathers what it sees into panes, and the owner of a column
//! merges the workers' parts into windows.

use arrow::datatypes::SchemaRef;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::{Stream, StreamVec};

use crate::drift::panes::OpenPanes;
use crate::drift::partials::{OWNER, PartialCodec, owners};
use crate::drift::sample::Mode;
use crate::drift::windows::{OpenWindows, Schedule, WindowOutput};
use crate::exchange::{Route, RowDistributor};
use crate::failure::Failure;
use crate::rows::Rows;
use crate::run::Run;
use crate::watched::Watched;
use crate::watermark::{BatchesByEpoch, CompleteEpochs, EVENTS, Mark, Watermarks};

type RowsBuilder = CapacityContainerBuilder<Rows>;

/// The windows that watched rows are gathered into.
pub struct DriftWindows {
    pub schedule: Schedule,
    pub mode: Mode,
    pub watched: Watched,
    pub watermarks: Watermarks,
}

/// Gathers watched rows into windows; `format` turns those that are issued together into rows of the
/// output, at the owner of their columns.
pub fn collect_windows<'scope, O: WindowOutput>(
    rows: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    windows: DriftWindows,
    format: O,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let DriftWindows { schedule, mode, watched, watermarks } = windows;
    let codec = PartialCodec::new(&mode);
    let costs: Vec<u32> = (0..watched.names.len()).map(|column| format.cost(column)).collect();
    let owners = owners(&costs, rows.scope().peers());
    let rows = run.faults.behind("watched", rows, watched.schema.clone(), run.failure.clone());
    let gathering = Gathering {
        panes: OpenPanes::new(schedule.clone(), mode, watched.names.len()),
        schema: watched.schema,
        codec: codec.clone(),
        owners,
    };
    let partials = pane_parts(rows, marks.clone(), gathering, watermarks.clone(), run);
    let partials = run.faults.behind("panes", partials, codec.schema.clone(), run.failure.clone());
    let windows = OpenWindows::new(schedule);
    let merging = Merging { windows, codec, format };
    merge_windows(partials, marks, merging, watermarks, run.failure.clone())
}

/// The first phase, at each row's home.
struct Gathering {
    panes: OpenPanes,
    /// Of the watched rows.
    schema: SchemaRef,
    codec: PartialCodec,
    /// By column.
    owners: Vec<u32>,
}

fn pane_parts<'scope>(
    watched: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    gathering: Gathering,
    watermarks: Watermarks,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let Gathering { mut panes, schema, codec, owners } = gathering;
    let Run { counters, failure, .. } = run.clone();
    watched.binary_frontier::<_, RowsBuilder, _, _, _, _>(
        marks,
        Pipeline,
        Pipeline,
        "DriftPanes",
        move |_capability, _info| {
            let mut epochs = BatchesByEpoch::new(CompleteEpochs::new(watermarks));
            move |(rows, row_frontier), (marks, mark_frontier), output| {
                // Rows are scored out of step, but each at its own epoch. A late row of a later epoch
                // must not slip into a pane that an earlier one closes.
                rows.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    if let Some(batch) = failure.check(container.take(&schema)) {
                        epochs.hold(epoch, batch);
                    }
                });
                epochs.read(marks, output.output_index());
                while let Some((capability, batches)) = epochs.next([row_frontier, mark_frontier]) {
                    for batch in batches {
                        counters.rows_late_for_drift(&panes.add(&batch));
                    }
                    let closed = panes.close(epochs.watermarks().of_job());
                    if closed.is_empty() {
                        continue;
                    }
                    if let Some(batch) = failure.check(codec.encode(&closed, &owners)) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                }
            }
        },
    )
}

/// The second phase, at the owner of each column.
struct Merging<O: WindowOutput> {
    windows: OpenWindows<O::Figures>,
    codec: PartialCodec,
    format: O,
}

fn merge_windows<'scope, O: WindowOutput>(
    partials: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    merging: Merging<O>,
    watermarks: Watermarks,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let Merging { mut windows, codec, format } = merging;
    let pact = {
        let (schema, failure) = (codec.schema.clone(), failure.clone());
        DistributorPact(move |peers| {
            RowDistributor::new(Route::Worker { column: OWNER }, schema, failure, peers)
        })
    };
    partials.binary_frontier::<_, RowsBuilder, _, _, _, _>(
        marks,
        pact,
        Pipeline,
        "DriftWindows",
        move |_capability, _info| {
            let mut epochs = BatchesByEpoch::new(CompleteEpochs::new(watermarks));
            move |(parts, part_frontier), (marks, mark_frontier), output| {
                parts.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    let decoded =
                        container.take(&codec.schema).and_then(|rows| codec.decode(&rows));
                    if let Some(parts) = failure.check(decoded) {
                        epochs.hold(epoch, parts);
                    }
                });
                epochs.read(marks, output.output_index());
                while let Some((capability, parts)) = epochs.next([part_frontier, mark_frontier]) {
                    // Every worker closes a pane at the same epoch, so its parts are all here.
                    parts.into_iter().flatten().for_each(|part| windows.add(part));
                    let issued = windows.issue(epochs.watermarks().of_job(), &format);
                    if issued.is_empty() {
                        continue;
                    }
                    let seen = epochs.watermarks().seen(EVENTS);
                    if let Some(batch) = failure.check(format.batch(&issued, seen)) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                }
            }
        },
    )
}
