//! Drift in two phases: each worker sorts what it saw of a pane, and the owner of a column merges
//! the workers' parts into windows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    Array, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::{Stream, StreamVec};

use crate::drift::calendar::WindowLength;
use crate::drift::runs::Runs;
use crate::exchange::{Route, RowDistributor};
use crate::failure::Failure;
use crate::rows::Rows;
use crate::run::Run;
use crate::score::Watched;
use crate::watermark::{CompleteEpochs, Mark, Watermarks};

type RowsBuilder = CapacityContainerBuilder<Rows>;

/// What a worker has seen of one column in one pane.
#[derive(Default)]
struct PaneColumn {
    values: Vec<f64>,
    null_count: u64,
}

/// The open panes of one worker: values as they came, by column.
pub struct OpenPanes {
    pane: WindowLength,
    columns: usize,
    open: BTreeMap<i64, Vec<PaneColumn>>,
    /// Panes that end at or before it are closed.
    closed_until: i64,
}

impl OpenPanes {
    pub fn new(pane: WindowLength, columns: usize) -> Self {
        OpenPanes { pane, columns, open: BTreeMap::new(), closed_until: i64::MIN }
    }

    /// Adds watched rows; returns how many were left out because their pane is closed.
    pub fn add(&mut self, rows: &RecordBatch) -> u64 {
        let times = rows.column(Watched::TIME).as_primitive::<Int64Type>().values();
        let mut left_out = 0;
        let mut start = 0;
        while start < times.len() {
            let (pane_start, pane_end) = self.pane.around(times[start]);
            let inside = |time: &i64| (pane_start..pane_end).contains(time) || pane_end == i64::MAX;
            let length = times[start..].iter().take_while(|time| inside(time)).count();
            if pane_end <= self.closed_until {
                left_out += length as u64;
            } else {
                let columns = self.columns;
                let pane = self
                    .open
                    .entry(pane_start)
                    .or_insert_with(|| (0..columns).map(|_| PaneColumn::default()).collect());
                for (column, seen) in pane.iter_mut().enumerate() {
                    let values = rows.column(Watched::FIRST + column).as_primitive::<Float64Type>();
                    seen.extend(&values.slice(start, length));
                }
            }
            start += length;
        }
        left_out
    }

    /// Closes the panes that end at or before `watermark`: start, column, values, nulls of each.
    pub fn close(&mut self, watermark: i64) -> Vec<Partial> {
        self.closed_until = self.closed_until.max(watermark);
        let mut partials = Vec::new();
        while let Some(entry) = self.open.first_entry() {
            let pane_start = *entry.key();
            if self.pane.around(pane_start).1 > watermark {
                break;
            }
            for (column, seen) in entry.remove().into_iter().enumerate() {
                partials.push(Partial {
                    pane_start,
                    column,
                    null_count: seen.null_count,
                    runs: Runs::from_values(seen.values),
                });
            }
        }
        partials
    }
}

impl PaneColumn {
    /// NaN counts as null.
    fn extend(&mut self, values: &Float64Array) {
        let before = self.values.len();
        if values.null_count() == 0 {
            self.values.extend(values.values().iter().filter(|value| !value.is_nan()));
        } else {
            self.values.extend(values.iter().flatten().filter(|value| !value.is_nan()));
        }
        self.null_count += (values.len() - (self.values.len() - before)) as u64;
    }
}

/// One worker's part of a pane, for one column.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    pub pane_start: i64,
    pub column: usize,
    pub null_count: u64,
    pub runs: Runs,
}

fn partial_schema() -> SchemaRef {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, false)));
    Arc::new(Schema::new(vec![
        Field::new("owner", DataType::UInt32, false),
        Field::new("pane_start", DataType::Int64, false),
        Field::new("column", DataType::UInt32, false),
        Field::new("null_count", DataType::UInt64, false),
        Field::new("values", list(DataType::Float64), false),
        Field::new("counts", list(DataType::UInt64), false),
    ]))
}

/// The worker that merges a column.
fn owner(column: usize, workers: usize) -> u32 {
    (column % workers) as u32
}

fn encode(
    partials: &[Partial],
    schema: &SchemaRef,
    workers: usize,
) -> Result<RecordBatch, ArrowError> {
    let offsets = OffsetBuffer::from_lengths(partials.iter().map(|p| p.runs.values.len()));
    let values: Float64Array =
        partials.iter().flat_map(|p| p.runs.values.iter().copied()).map(Some).collect();
    let counts: UInt64Array =
        partials.iter().flat_map(|p| p.runs.counts.iter().copied()).map(Some).collect();
    let item = |data_type| Arc::new(Field::new_list_field(data_type, false));
    let number = |f: fn(&Partial) -> u64| UInt64Array::from_iter_values(partials.iter().map(f));
    RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(UInt32Array::from_iter_values(
                partials.iter().map(|p| owner(p.column, workers)),
            )),
            Arc::new(Int64Array::from_iter_values(partials.iter().map(|p| p.pane_start))),
            Arc::new(UInt32Array::from_iter_values(partials.iter().map(|p| p.column as u32))),
            Arc::new(number(|p| p.null_count)),
            Arc::new(ListArray::try_new(
                item(DataType::Float64),
                offsets.clone(),
                Arc::new(values),
                None,
            )?),
            Arc::new(ListArray::try_new(item(DataType::UInt64), offsets, Arc::new(counts), None)?),
        ],
    )
}

fn decode(batch: &RecordBatch) -> Vec<Partial> {
    let starts = batch.column(1).as_primitive::<Int64Type>();
    let columns = batch.column(2).as_primitive::<UInt32Type>();
    let nulls = batch.column(3).as_primitive::<UInt64Type>();
    let (values, counts) = (batch.column(4).as_list::<i32>(), batch.column(5).as_list::<i32>());
    (0..batch.num_rows())
        .map(|row| Partial {
            pane_start: starts.value(row),
            column: columns.value(row) as usize,
            null_count: nulls.value(row),
            runs: Runs {
                values: values.value(row).as_primitive::<Float64Type>().values().to_vec(),
                counts: counts.value(row).as_primitive::<UInt64Type>().values().to_vec(),
            },
        })
        .collect()
}

/// A closed window of one column, merged over panes and workers.
pub struct ClosedWindow {
    pub length: WindowLength,
    pub start: i64,
    pub end: i64,
    pub column: usize,
    pub null_count: u64,
    pub runs: Runs,
}

/// The open windows of the columns that one worker owns.
pub struct OpenWindows {
    lengths: Vec<WindowLength>,
    /// By length, start and column: the parts so far.
    open: BTreeMap<(WindowLength, i64, usize), WindowParts>,
}

#[derive(Default)]
struct WindowParts {
    parts: Vec<Arc<Runs>>,
    null_count: u64,
}

impl OpenWindows {
    pub fn new(lengths: Vec<WindowLength>) -> Self {
        OpenWindows { lengths, open: BTreeMap::new() }
    }

    /// Adds one pane of one column, given the parts of all workers.
    fn add(&mut self, pane_start: i64, column: usize, parts: Vec<Partial>) {
        let null_count: u64 = parts.iter().map(|part| part.null_count).sum();
        let runs = Arc::new(match parts.as_slice() {
            [one] => one.runs.clone(),
            many => Runs::merge(many.iter().map(|part| &part.runs)),
        });
        for &length in &self.lengths {
            let (start, _) = length.around(pane_start);
            let window = self.open.entry((length, start, column)).or_default();
            window.parts.push(runs.clone());
            window.null_count += null_count;
        }
    }

    /// Closes the windows that end at or before `watermark`, by length, start and column.
    pub fn close(&mut self, watermark: i64) -> Vec<ClosedWindow> {
        let ends = |&(length, start, _): &(WindowLength, i64, usize)| length.around(start).1;
        let closing: Vec<_> =
            self.open.keys().filter(|key| ends(key) <= watermark).copied().collect();
        closing
            .into_iter()
            .filter_map(|key| {
                let window = self.open.remove(&key)?;
                let (length, start, column) = key;
                Some(ClosedWindow {
                    length,
                    start,
                    end: length.around(start).1,
                    column,
                    null_count: window.null_count,
                    runs: Runs::merge(window.parts.iter().map(Arc::as_ref)),
                })
            })
            .collect()
    }
}

/// The windows that watched rows are gathered into.
pub struct DriftWindows {
    pub lengths: Vec<WindowLength>,
    pub watched: Watched,
    pub watermarks: Watermarks,
}

/// Gathers watched rows into windows; `close` turns those that close together into rows of the
/// output, at the owner of their columns.
pub fn collect_windows<'scope>(
    rows: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    windows: DriftWindows,
    close: impl FnMut(Vec<ClosedWindow>) -> Result<RecordBatch, ArrowError> + 'static,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let DriftWindows { lengths, watched, watermarks } = windows;
    let panes = OpenPanes::new(WindowLength::common_pane(&lengths), watched.names.len());
    let rows = run.faults.behind("watched", rows, watched.schema.clone(), run.failure.clone());
    let partials = pane_parts(rows, marks.clone(), panes, watched.schema, &watermarks, run);
    let partials = run.faults.behind("panes", partials, partial_schema(), run.failure.clone());
    let windows = OpenWindows::new(lengths);
    merge_windows(partials, marks, windows, watermarks, close, run.failure.clone())
}

/// Phase one, at each row's home.
fn pane_parts<'scope>(
    watched: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    mut panes: OpenPanes,
    schema: SchemaRef,
    watermarks: &Watermarks,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let workers = watched.scope().peers();
    let partials = partial_schema();
    let Run { counters, failure, .. } = run.clone();
    let watermarks = watermarks.clone();
    watched.binary_frontier::<_, RowsBuilder, _, _, _, _>(
        marks,
        Pipeline,
        Pipeline,
        "DriftPanes",
        move |_capability, _info| {
            let mut epochs = CompleteEpochs::new(watermarks);
            let mut arrived: BTreeMap<u64, Vec<RecordBatch>> = BTreeMap::new();
            move |(rows, row_frontier), (marks, mark_frontier), output| {
                // Rows are scored out of step, but each at its own epoch. A late row of a later epoch
                // must not slip into a pane that an earlier one closes.
                rows.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    if let Some(batch) = failure.check(container.take(&schema)) {
                        arrived.entry(epoch).or_default().push(batch);
                    }
                });
                epochs.read(marks, output.output_index());
                let complete = |epoch: &u64| {
                    !row_frontier.less_equal(epoch) && !mark_frontier.less_equal(epoch)
                };
                while let Some(capability) = epochs.next(complete) {
                    for batch in arrived.remove(capability.time()).into_iter().flatten() {
                        counters.rows_late_for_drift(panes.add(&batch));
                    }
                    let closed = panes.close(epochs.watermarks().of_job());
                    if closed.is_empty() {
                        continue;
                    }
                    if let Some(batch) = failure.check(encode(&closed, &partials, workers)) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                }
            }
        },
    )
}

/// Phase two, at the owner of each column.
fn merge_windows<'scope>(
    partials: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    mut windows: OpenWindows,
    watermarks: Watermarks,
    mut close: impl FnMut(Vec<ClosedWindow>) -> Result<RecordBatch, ArrowError> + 'static,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let schema = partial_schema();
    let pact = {
        let (schema, failure) = (schema.clone(), failure.clone());
        DistributorPact(move |peers| {
            RowDistributor::new(Route::Worker { column: 0 }, schema, failure, peers)
        })
    };
    partials.binary_frontier::<_, RowsBuilder, _, _, _, _>(
        marks,
        pact,
        Pipeline,
        "DriftWindows",
        move |_capability, _info| {
            let mut epochs = CompleteEpochs::new(watermarks);
            let mut arrived: BTreeMap<u64, Vec<Partial>> = BTreeMap::new();
            move |(parts, part_frontier), (marks, mark_frontier), output| {
                parts.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    if let Some(batch) = failure.check(container.take(&schema)) {
                        arrived.entry(epoch).or_default().extend(decode(&batch));
                    }
                });
                epochs.read(marks, output.output_index());
                let complete = |epoch: &u64| {
                    !part_frontier.less_equal(epoch) && !mark_frontier.less_equal(epoch)
                };
                while let Some(capability) = epochs.next(complete) {
                    // Every worker closes a pane at the same epoch, so its parts are all here.
                    for (pane, column, parts) in by_pane(arrived.remove(capability.time())) {
                        windows.add(pane, column, parts);
                    }
                    let closed = windows.close(epochs.watermarks().of_job());
                    if closed.is_empty() {
                        continue;
                    }
                    if let Some(batch) = failure.check(close(closed)) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                }
            }
        },
    )
}

fn by_pane(parts: Option<Vec<Partial>>) -> impl Iterator<Item = (i64, usize, Vec<Partial>)> {
    let mut panes: HashMap<(i64, usize), Vec<Partial>> = HashMap::new();
    for part in parts.into_iter().flatten() {
        panes.entry((part.pane_start, part.column)).or_default().push(part);
    }
    panes.into_iter().map(|((pane, column), parts)| (pane, column, parts))
}
