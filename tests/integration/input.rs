//! Random input of a whole job: every kind of record that is some trouble.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt64Array,
};
use driftline_operators::chunk::{Chunk, Undecoded};
use driftline_operators::ingest::Source;
use driftline_operators::watermark::EVENTS;

use crate::job::place_of;
use crate::record::Origin;
use crate::support::{MakeChunk, Random, Scripted, events};

/// An event any of whose columns may be null.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub time: Option<i64>,
    pub id: Option<i64>,
    pub key: Option<String>,
    pub value: Option<f64>,
}

/// What a partition holds at a place; `None` is a record that is no event.
pub type Record = Option<Event>;

/// What is drawn.
#[derive(Clone, Copy)]
pub struct Shape {
    pub rows: usize,
    pub keys: u64,
    /// Of a chunk, at most.
    pub chunk_rows: u64,
    /// How far (ms) one event in eight is behind, at most.
    pub disorder: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { rows: 500, keys: 7, chunk_rows: 25, disorder: 120 }
    }
}

/// Partitions of records, and the chunks they come in: chunk `i` is epoch `i + 1`.
pub struct Input {
    pub partitions: Vec<Vec<Record>>,
    pub chunks: Vec<MakeChunk>,
}

impl Input {
    /// The last one is empty.
    pub const PARTITIONS: usize = 4;
    pub const UNOPENED: [u32; 1] = [3];

    /// Events three a millisecond, with ties, repeats, nulls in every column, disorder, records that
    /// are no events, empty chunks and a partition without rows.
    pub fn random(seed: u64, shape: Shape) -> Self {
        let mut random = Random::new(seed);
        let mut partitions: Vec<Vec<Record>> = vec![Vec::new(); Self::PARTITIONS];
        let mut last: Record = None;
        for row in 0..shape.rows {
            let record = match random.below(30) {
                0 => None,
                1 | 2 => last.clone(),
                _ => Some(event(row as i64, shape, &mut random)),
            };
            partitions[random.below(3) as usize].push(record.clone());
            last = record;
        }
        Self::cut(partitions, shape.chunk_rows, &mut random)
    }

    /// Cuts partitions into chunks; mostly the one that is furthest behind comes next.
    pub fn cut(partitions: Vec<Vec<Record>>, chunk_rows: u64, random: &mut Random) -> Self {
        let mut at = vec![0; partitions.len()];
        let mut chunks: Vec<MakeChunk> = Vec::new();
        loop {
            let open: Vec<usize> =
                (0..partitions.len()).filter(|&p| at[p] < partitions[p].len()).collect();
            let Some(&furthest) = open.iter().min_by_key(|&&p| at[p]) else { break };
            let any = open[random.below(open.len() as u64) as usize];
            let next = if random.below(3) == 0 { any } else { furthest };
            let rows = if random.below(8) == 0 { 0 } else { 1 + random.below(chunk_rows) as usize };
            let (start, end) = (at[next], (at[next] + rows).min(partitions[next].len()));
            at[next] = end;
            let (records, epoch) = (partitions[next].clone(), chunks.len() as u64 + 1);
            chunks.push(Arc::new(move || chunk(&records, next as u32, epoch, start, end)));
        }
        Input { partitions, chunks }
    }

    pub fn source(chunks: &[MakeChunk], worker: usize, workers: usize) -> Box<dyn Source> {
        Scripted::share_without(chunks, worker, workers, &Self::UNOPENED)
    }

    /// Every record with its origin.
    pub fn records(&self) -> impl Iterator<Item = (Origin, &Record)> {
        self.partitions.iter().enumerate().flat_map(|(partition, records)| {
            let origin = move |(offset, record)| ((partition as u32, offset as u64), record);
            records.iter().enumerate().map(origin)
        })
    }

    /// Every event with its origin.
    pub fn events(&self) -> impl Iterator<Item = (Origin, &Event)> {
        self.records().filter_map(|(origin, record)| Some((origin, record.as_ref()?)))
    }

    /// The epoch of the chunk that holds each record.
    pub fn epochs(&self) -> BTreeMap<Origin, u64> {
        let mut epochs = BTreeMap::new();
        for chunk in self.chunks.iter().map(|make| make()) {
            let undecoded = chunk.undecoded.iter().map(|record| record.offset);
            let offsets = chunk.offsets.values().iter().copied().chain(undecoded);
            epochs.extend(offsets.map(|offset| ((chunk.partition, offset), chunk.epoch)));
        }
        epochs
    }
}

fn event(row: i64, shape: Shape, random: &mut Random) -> Event {
    let behind = match random.below(8) {
        0 => random.below(shape.disorder + 1),
        _ => random.below(4),
    };
    let has = |random: &mut Random, one_in: u64| random.below(one_in) != 0;
    Event {
        time: has(random, 25).then_some(row / 3 - behind as i64),
        id: has(random, 25).then_some(row - random.below(3) as i64),
        key: has(random, 12).then(|| format!("k{}", random.below(shape.keys))),
        value: has(random, 10).then(|| random.below(400) as f64 / 4.0 - 20.0),
    }
}

/// The bytes of a record that is no event.
pub fn damaged(origin: Origin) -> Vec<u8> {
    format!("{{\"damaged\": {origin:?}").into_bytes()
}

fn chunk(records: &[Record], partition: u32, epoch: u64, start: usize, end: usize) -> Chunk {
    let inside = || (start..end).map(|at| (at as u64, &records[at]));
    let read: Vec<(u64, &Event)> =
        inside().filter_map(|(offset, record)| Some((offset, record.as_ref()?))).collect();
    let undecoded = inside().filter(|(_, record)| record.is_none()).map(|(offset, _)| Undecoded {
        offset,
        why: "not an event".to_owned(),
        bytes: Some(damaged((partition, offset))),
        envelope: None,
    });
    let before = records[..start].iter().flatten().filter_map(|event| event.time).max();
    let finished = if end == records.len() { vec![partition] } else { vec![] };
    let offsets = UInt64Array::from_iter_values(read.iter().map(|(offset, _)| *offset));
    Chunk {
        undecoded: undecoded.collect(),
        highest_before: before.unwrap_or(i64::MIN),
        finished,
        ..Chunk::new(epoch, EVENTS, partition, columns(&read, partition), offsets)
    }
}

fn columns(read: &[(u64, &Event)], partition: u32) -> RecordBatch {
    let rows: Vec<&Event> = read.iter().map(|(_, event)| *event).collect();
    let origins = read.iter().map(|(offset, _)| place_of((partition, *offset)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(
            rows.iter().map(|r| r.time.map(|ms| ms * 1_000)).collect::<TimestampMicrosecondArray>(),
        ),
        Arc::new(rows.iter().map(|r| r.id).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.key.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.value).collect::<Float64Array>()),
        Arc::new(Float64Array::from_iter_values(origins)),
    ];
    RecordBatch::try_new(events(&[]).schema(), columns).unwrap()
}
