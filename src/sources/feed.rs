//! One stream as the merge of several sees it.

use std::time::Instant;

use driftline_operators::chunk::Chunk;
use driftline_operators::wake::Wake;

use super::SourceError;

/// A stream that offers its next chunk before it is taken, so that the earliest of several streams
/// can go first.
pub trait Feed {
    /// What the stream has by `now`. The same until it is taken.
    ///
    /// # Errors
    /// Whatever keeps the stream from being read on.
    fn offer(&mut self, now: Instant) -> Result<Offer, SourceError>;

    /// What was offered last, as an epoch.
    ///
    /// # Errors
    /// Whatever keeps the stream from being read on.
    fn take(&mut self, epoch: u64) -> Result<Taken, SourceError>;

    /// `wake` has the stream asked again at once.
    fn wake_with(&mut self, _wake: Wake) {}

    /// By when a stream that has offered nothing is to be asked again, though it wakes nobody: at once
    /// where it does not wake for whatever comes.
    fn due(&self, now: Instant) -> Instant {
        now
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Rows of the partition, the lowest event time (ms) of which is known or estimated.
    Rows { partition: u32, lowest: i64 },
    /// No rows: the partition is finished or idle. There is nothing to wait for with that.
    News,
    /// A file that is being read and will have something in a moment.
    Pending,
    /// A live partition of which nothing has come; nobody knows whether something will.
    Nothing { partition: u32 },
    /// It may not be read yet.
    Waits,
    /// The stream is at its end.
    End,
}

pub struct Taken {
    pub chunk: Chunk,
    /// The highest event time (ms) of the partition with the chunk.
    pub highest: i64,
}
