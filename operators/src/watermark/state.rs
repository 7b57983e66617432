//! The clock of a worker as a piece of state. It is the same on every worker: one of them exports it,
//! all import it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StructArray, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, UInt32Type, UInt64Type};

use super::epochs::Progress;
use super::{Partition, Span, StreamState, Watermarks};
use crate::state::lists::{list, list_type, lists};
use crate::state::{Piece, PieceKind, StateError};

/// Columns of its one row, by position.
const EPOCH: usize = 0;
const JOB: usize = 1;
const STREAMS: usize = 2;
const PARTITIONS: usize = 3;

fn stream_fields() -> Fields {
    Fields::from(vec![
        Field::new("watermark", DataType::Int64, false),
        Field::new("seen_first", DataType::Int64, false),
        Field::new("seen_last", DataType::Int64, false),
    ])
}

/// Of partitions that are not at their end.
fn partition_fields() -> Fields {
    Fields::from(vec![
        Field::new("number", DataType::UInt32, false),
        Field::new("stream", DataType::UInt32, false),
        Field::new("highest", DataType::Int64, false),
        Field::new("is_idle", DataType::Boolean, false),
    ])
}

/// The piece of the clock of a job with the streams of `watermarks`.
pub fn clock_kind(part: String, watermarks: &Watermarks) -> PieceKind {
    let schema = Schema::new(vec![
        Field::new("epoch", DataType::UInt64, false),
        Field::new("job", DataType::Int64, false),
        Field::new("streams", list_type(DataType::Struct(stream_fields()), false), false),
        Field::new("partitions", list_type(DataType::Struct(partition_fields()), false), false),
    ]);
    let of_stream =
        |stream: &StreamState| format!("{} {}", stream.allowed_lateness_ms, stream.holds_events);
    let spec: Vec<String> = watermarks.streams.iter().map(of_stream).collect();
    PieceKind::new(part, Arc::new(schema), &spec)
}

impl Progress {
    /// # Errors
    /// If it cannot be put into columns.
    pub fn export(&self, kind: &PieceKind) -> Result<Piece, StateError> {
        let watermarks = self.watermarks();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(vec![self.epoch()])),
            Arc::new(Int64Array::from(vec![watermarks.job])),
            lists([watermarks.streams.len()], watermarks.streams_column(), false)?,
            lists([watermarks.open.len()], watermarks.partitions_column(), false)?,
        ];
        kind.piece(0, RecordBatch::try_new(kind.schema().clone(), columns)?)
    }

    /// Goes on from there. A partition that it does not know is at its end, or has to join.
    ///
    /// # Errors
    /// If it is not the clock of a job with these streams.
    pub fn import(&self, kind: &PieceKind, piece: &Piece) -> Result<(), StateError> {
        let rows = kind.open(piece)?;
        if rows.num_rows() != 1 {
            return Err(StateError::damaged("it is not one clock"));
        }
        let epoch = rows.column(EPOCH).as_primitive::<UInt64Type>().value(0);
        let restored = self.watermarks().restored(rows)?;
        self.restore(epoch, restored);
        Ok(())
    }
}

impl Watermarks {
    /// Whether some partition is not at its end.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    fn streams_column(&self) -> ArrayRef {
        let number = |of: fn(&StreamState) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(self.streams.iter().map(of)))
        };
        let columns = vec![
            number(|stream| stream.watermark),
            number(|stream| stream.seen.first),
            number(|stream| stream.seen.last),
        ];
        Arc::new(StructArray::new(stream_fields(), columns, None))
    }

    fn partitions_column(&self) -> ArrayRef {
        let open = || self.open.iter();
        let is_idle = |(number, partition): (&u32, &Partition)| {
            let active = &self.streams[partition.stream].active;
            Some(!active.contains(&(partition.highest, *number)))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(open().map(|(number, _)| *number))),
            Arc::new(UInt32Array::from_iter_values(open().map(|(_, p)| p.stream as u32))),
            Arc::new(Int64Array::from_iter_values(open().map(|(_, p)| p.highest))),
            Arc::new(open().map(is_idle).collect::<BooleanArray>()),
        ];
        Arc::new(StructArray::new(partition_fields(), columns, None))
    }

    /// These streams, as far as they had come.
    fn restored(&self, rows: &RecordBatch) -> Result<Self, StateError> {
        let streams = list(rows.column(STREAMS), 0);
        let streams = streams.as_struct();
        if streams.len() != self.streams.len() {
            return Err(StateError::damaged("it is a clock of other streams"));
        }
        let of_stream =
            |column: usize, at: usize| streams.column(column).as_primitive::<Int64Type>().value(at);
        let restored = self.streams.iter().enumerate().map(|(at, stream)| StreamState {
            watermark: of_stream(0, at),
            seen: Span { first: of_stream(1, at), last: of_stream(2, at) },
            open: 0,
            active: BTreeSet::new(),
            ..stream.clone()
        });
        let mut watermarks = Watermarks {
            open: BTreeMap::new(),
            streams: restored.collect(),
            job: rows.column(JOB).as_primitive::<Int64Type>().value(0),
        };
        let partitions = list(rows.column(PARTITIONS), 0);
        let partitions = partitions.as_struct();
        let number =
            |column: usize, at| partitions.column(column).as_primitive::<UInt32Type>().value(at);
        for at in 0..partitions.len() {
            let (number, stream) = (number(0, at), number(1, at) as usize);
            let highest = partitions.column(2).as_primitive::<Int64Type>().value(at);
            let is_idle = partitions.column(3).as_boolean().value(at);
            let Some(state) = watermarks.streams.get_mut(stream) else {
                return Err(StateError::damaged("a partition is of a stream that is none"));
            };
            state.open += 1;
            state.active.extend((!is_idle).then_some((highest, number)));
            watermarks.open.insert(number, Partition { stream, highest });
        }
        Ok(watermarks)
    }
}
