//! Rows as a source read them.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, UInt64Array};

use crate::watermark::{Mark, Reached};

/// A record that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    /// Its position in the partition.
    pub offset: u64,
    /// What is wrong.
    pub why: String,
    /// None of a message without a value.
    pub bytes: Option<Vec<u8>>,
    /// What came around the bytes, of a message.
    pub envelope: Option<Vec<u8>>,
}

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
    /// What came around them, where rows came as messages, `[rows]`.
    pub envelopes: Option<ArrayRef>,
    /// Rows of a table that say that their key has nothing any more, `[rows]`.
    pub deleted: Option<BooleanArray>,
    /// Records that are no events at all.
    pub undecoded: Vec<Undecoded>,
    /// The highest event time (ms) of the partition before this chunk; [`i64::MIN`] if there is none.
    pub highest_before: i64,
    /// Partitions that have nothing more after this chunk.
    pub finished: Vec<u32>,
    /// Partitions that have been silent for too long: watermarks no longer wait for them.
    pub idle: Vec<u32>,
    /// The partition was idle before this chunk.
    pub was_idle: bool,
    /// The partition is new to the run, and this is its first chunk.
    pub joined: bool,
    /// When rows were sent, in ms since 1970, null where that is not known, `[rows]`; of messages.
    pub sent: Option<Int64Array>,
}

impl Chunk {
    /// The first rows of a partition, with nothing else to say of them or of it.
    pub fn new(
        epoch: u64,
        stream: usize,
        partition: u32,
        rows: RecordBatch,
        offsets: UInt64Array,
    ) -> Self {
        Chunk {
            epoch,
            stream,
            partition,
            rows,
            offsets,
            raw: None,
            envelopes: None,
            deleted: None,
            undecoded: Vec::new(),
            highest_before: i64::MIN,
            finished: Vec::new(),
            idle: Vec::new(),
            was_idle: false,
            joined: false,
            sent: None,
        }
    }

    /// What the chunk says of its partition, whose highest event time is now `highest`, and of
    /// others. `lowest` is that of its own rows, where they have any.
    pub fn marks(&self, highest: i64, lowest: Option<i64>) -> Vec<Mark> {
        let mark = |reached| move |&partition: &u32| Mark { partition, reached };
        let own = Mark { partition: self.partition, reached: Reached::Time(highest) };
        let stream = self.stream as u32;
        let joined = Mark { partition: self.partition, reached: Reached::Joined { stream } };
        let joined = self.joined.then_some(joined);
        // Of rows in order those at the beginning say it for all.
        let may_be_lowest =
            |time: &i64| *time < self.highest_before || self.highest_before == i64::MIN;
        let lowest = lowest.filter(may_be_lowest);
        let lowest =
            lowest.map(|time| Mark { partition: self.partition, reached: Reached::From(time) });
        joined
            .into_iter()
            .chain(std::iter::once(own))
            .chain(lowest)
            .chain(self.idle.iter().map(mark(Reached::Idle)))
            .chain(self.finished.iter().map(mark(Reached::Finished)))
            .collect()
    }
}
