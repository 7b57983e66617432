//! Rows as a source read them.

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};

use crate::watermark::{Mark, Reached};

/// Rows of one partition as a source read them.
pub struct Chunk {
    pub epoch: u64,
    pub stream: usize,
    /// Partitions are numbered over all streams: the events' first, then those of each table.
    pub partition: u32,
    /// The stream's own columns, `[rows]`.
    pub rows: RecordBatch,
    /// The position of each row in its partition, `[rows]`.
    pub offsets: UInt64Array,
    /// The bytes each row came as, where it came as bytes, `[rows]`.
    pub raw: Option<ArrayRef>,
    /// Records that are no events at all: position, what is wrong, bytes.
    pub undecoded: Vec<(u64, String, Vec<u8>)>,
    /// The highest event time (ms) of the partition before this chunk; [`i64::MIN`] if there is none.
    pub highest_before: i64,
    /// Partitions that have nothing more after this chunk.
    pub finished: Vec<u32>,
    /// Partitions that have been silent for too long: watermarks no longer wait for them.
    pub idle: Vec<u32>,
    /// The partition was idle before this chunk.
    pub was_idle: bool,
}

impl Chunk {
    /// What the chunk says of its partition, whose highest event time is now `highest`, and of
    /// others.
    pub fn marks(&self, highest: i64) -> Vec<Mark> {
        let mark = |reached| move |&partition: &u32| Mark { partition, reached };
        let own = Mark { partition: self.partition, reached: Reached::Time(highest) };
        std::iter::once(own)
            .chain(self.idle.iter().map(mark(Reached::Idle)))
            .chain(self.finished.iter().map(mark(Reached::Finished)))
            .collect()
    }
}
