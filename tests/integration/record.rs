//! What comes over an edge of a graph, with its epoch and its worker, and when it should come.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{
    Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType, UInt32Type, UInt64Type,
};
use driftline_operators::layout::{EventLayout, OFFSET, PARTITION};
use driftline_operators::rows::Rows;
use driftline_operators::sinks::Output;
use driftline_operators::watermark::EVENTS;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;

use crate::support::MakeChunk;

/// The partition of a row, and its place there.
pub type Origin = (u32, u64);

/// Rows that came over an edge at once.
#[derive(Clone)]
pub struct Came {
    pub worker: usize,
    pub epoch: u64,
    pub rows: RecordBatch,
}

/// What came over an edge, of all workers; of each in the order it came.
#[derive(Clone, Default)]
pub struct Recorded(Arc<Mutex<Vec<Came>>>);

impl Recorded {
    pub fn all(&self) -> Vec<Came> {
        self.0.lock().unwrap().clone()
    }

    pub fn batches(&self) -> Vec<RecordBatch> {
        self.all().into_iter().map(|came| came.rows).collect()
    }

    pub fn add(&self, worker: usize, epoch: u64, rows: RecordBatch) {
        self.0.lock().unwrap().push(Came { worker, epoch, rows });
    }

    /// The epoch of each row, which must have come once.
    pub fn epochs(&self, name: &str) -> BTreeMap<Origin, u64> {
        let mut epochs = BTreeMap::new();
        for came in self.all() {
            for origin in origins(&came.rows) {
                let before = epochs.insert(origin, came.epoch);
                assert_eq!(before, None, "{name}: row {origin:?} came twice");
            }
        }
        epochs
    }

    /// Each row has come once, in the epoch in which it was due.
    pub fn assert_epochs(&self, due: &BTreeMap<Origin, u64>, name: &str) {
        let epochs = self.epochs(name);
        for (row, epoch) in due {
            assert_eq!(epochs.get(row), Some(epoch), "{name}: the epoch of row {row:?}");
        }
        assert_eq!(epochs.len(), due.len(), "{name}: rows that nobody sent");
    }

    /// Each worker's rows, which begin with the columns of `layout`, come by epoch and, within it, by
    /// (event time, id, origin).
    pub fn assert_in_order(&self, layout: &EventLayout, name: &str) {
        let mut last = BTreeMap::new();
        for Came { worker, epoch, rows } in self.all() {
            let times = layout.times(&rows).values();
            let ids = layout.id.map(|id| rows.column(id).as_primitive::<Int64Type>());
            for (row, origin) in origins(&rows).into_iter().enumerate() {
                let id = ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row));
                let place = (epoch, times[row], id, origin);
                let before = last.insert(worker, place);
                let is_behind = before.is_none_or(|before| before < place);
                assert!(is_behind, "{name}: {place:?} came after {before:?} on worker {worker}");
            }
        }
    }
}

/// Records what comes of some outputs, and lets all pass.
pub fn record<'scope>(
    rows: Stream<'scope, u64, Rows>,
    wanted: Vec<(Output, SchemaRef, Recorded)>,
) -> Stream<'scope, u64, Rows> {
    let worker = rows.scope().index();
    rows.unary::<CapacityContainerBuilder<Rows>, _, _, _>(Pipeline, "Record", move |_, _| {
        move |input, output| {
            input.for_each(|capability, container| {
                let epoch = *capability.least().expect("rows come with a capability");
                let kind = container.kind();
                let mut wanted = wanted.iter();
                let found = wanted.find(|(output, ..)| usize::from(u8::from(*output)) == kind);
                if let Some((_, schema, recorded)) = found {
                    let rows = container.take(schema).unwrap();
                    recorded.add(worker, epoch, rows.clone());
                    output.session(&capability).give_container(&mut Rows::of_kind(kind, rows));
                } else {
                    output.session(&capability).give_container(container);
                }
            });
        }
    })
}

/// Where each row is from, by the internal columns.
pub fn origins(rows: &RecordBatch) -> Vec<Origin> {
    let partitions: &UInt32Array =
        rows.column_by_name(PARTITION).unwrap().as_primitive::<UInt32Type>();
    let offsets: &UInt64Array = rows.column_by_name(OFFSET).unwrap().as_primitive::<UInt64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}

/// The last `N` columns of what came, Float64, by origin.
pub fn last_numbers<const N: usize>(recorded: &Recorded) -> BTreeMap<Origin, [Option<f64>; N]> {
    let mut found = BTreeMap::new();
    for rows in recorded.batches() {
        let first = rows.num_columns() - N;
        for (row, origin) in origins(&rows).into_iter().enumerate() {
            let value = |at: usize| {
                let column = rows.column(first + at).as_primitive::<Float64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            found.insert(origin, std::array::from_fn(value));
        }
    }
    found
}

/// The epoch of the chunk that each row comes in.
pub fn epochs_of_chunks(chunks: &[MakeChunk]) -> BTreeMap<Origin, u64> {
    let epochs = chunks.iter().map(|make| make()).flat_map(|chunk| {
        let origin = move |&offset: &u64| ((chunk.partition, offset), chunk.epoch);
        chunk.offsets.values().iter().map(origin).collect::<Vec<_>>()
    });
    epochs.collect()
}

/// A stream of events or of versions as watermarks see it.
pub struct Bounds {
    pub partitions: usize,
    pub allowed_lateness_ms: i64,
    /// Whether events wait for it.
    pub holds_events: bool,
}

/// By which epoch each event with a time passes the gate, by the definition: a partition's watermark
/// is its highest event time less the lateness, or none once it is at its end; the job's is the
/// lowest; an epoch frees what is below the watermark after it.
pub fn released(
    chunks: &[MakeChunk],
    streams: &[Bounds],
    unopened: &[u32],
) -> BTreeMap<Origin, u64> {
    // Of each partition that events wait for: the highest event time so far, and the lateness.
    let of_stream = |stream: &Bounds| {
        let held = stream.holds_events.then_some((i64::MIN, stream.allowed_lateness_ms));
        std::iter::repeat_n(held, stream.partitions)
    };
    let mut partitions: Vec<Option<(i64, i64)>> = streams.iter().flat_map(of_stream).collect();
    unopened.iter().for_each(|&partition| partitions[partition as usize] = None);
    let mut waiting: Vec<(i64, Origin)> = Vec::new();
    let mut released = BTreeMap::new();
    for chunk in chunks.iter().map(|make| make()) {
        let time = usize::from(chunk.stream != EVENTS);
        let times = chunk.rows.column(time).as_primitive::<TimestampMicrosecondType>();
        for (time, &offset) in times.iter().zip(chunk.offsets.values()) {
            let Some(time) = time.map(|us| us.div_euclid(1_000)) else { continue };
            if chunk.stream == EVENTS {
                waiting.push((time, (chunk.partition, offset)));
            }
            if let Some((highest, _)) = &mut partitions[chunk.partition as usize] {
                *highest = time.max(*highest);
            }
        }
        chunk.finished.iter().for_each(|&partition| partitions[partition as usize] = None);
        let reached = partitions.iter().flatten().map(|(time, late)| time.saturating_sub(*late));
        let watermark = reached.min().unwrap_or(i64::MAX);
        let free = waiting.extract_if(.., |(time, _)| *time < watermark);
        released.extend(free.map(|(_, origin)| (origin, chunk.epoch)));
    }
    assert!(waiting.is_empty(), "the chunks are not the whole input");
    released
}
