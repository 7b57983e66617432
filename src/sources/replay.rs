//! One worker's share of a schedule over all streams.

use std::collections::VecDeque;

use driftline_operators::ingest::{Allowance, Polled, Source};
use driftline_operators::watermark::EVENTS;

use super::SourceError;
use super::parquet::row_groups::PieceReader;
use super::parquet::schedule::Piece;

/// Reads pieces in the order of their epochs, whatever is ahead: the schedule keeps files in step.
pub struct Replay {
    /// By stream.
    readers: Vec<PieceReader>,
    pieces: VecDeque<Piece>,
    /// Partitions without a row have nothing to wait for: the first piece of all says so.
    without_rows: Vec<u32>,
}

impl Replay {
    /// The share of `worker` in `pieces`, and `without_rows`, of which nothing is read.
    pub fn new(
        readers: Vec<PieceReader>,
        pieces: &[Piece],
        without_rows: &[u32],
        worker: usize,
        workers: usize,
    ) -> Self {
        let mine = |piece: &&Piece| piece.group_number % workers == worker;
        Replay {
            readers,
            pieces: pieces.iter().filter(mine).copied().collect(),
            without_rows: without_rows.to_vec(),
        }
    }
}

impl Source for Replay {
    fn next_epoch(&self) -> Option<u64> {
        self.pieces.front().map(|piece| piece.epoch)
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        let Some(piece) = self.pieces.front() else { return Ok(Polled::End) };
        // The schedule brings no more of a table than events need that come next: it is not held.
        if piece.stream == EVENTS && !allowance.holds_back(piece.partition) {
            return Ok(Polled::Held(piece.partition));
        }
        let mut chunk = self.readers[piece.stream].read(piece)?.chunk;
        if piece.epoch == 1 {
            chunk.finished.append(&mut self.without_rows);
        }
        self.pieces.pop_front();
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}
