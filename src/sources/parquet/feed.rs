//! A stream of Parquet files as one of several that are merged.

use std::sync::Arc;
use std::time::Instant;

use crate::sources::SourceError;
use crate::sources::feed::{Feed, Offer, Taken};
use crate::sources::parquet::row_groups::PieceReader;
use crate::sources::parquet::schedule::Piece;

/// Offers the pieces of the stream's own schedule, each at the time that it is estimated to begin.
pub struct ParquetFeed {
    reader: PieceReader,
    pieces: Arc<[Piece]>,
    taken: usize,
}

impl ParquetFeed {
    pub fn new(reader: PieceReader, pieces: Arc<[Piece]>) -> Self {
        ParquetFeed { reader, pieces, taken: 0 }
    }
}

impl Feed for ParquetFeed {
    fn offer(&mut self, _now: Instant) -> Result<Offer, SourceError> {
        let next = self.pieces.get(self.taken);
        Ok(next.map_or(Offer::End, |piece| Offer::Rows {
            partition: piece.partition,
            lowest: piece.estimate,
        }))
    }

    fn take(&mut self, epoch: u64) -> Result<Taken, SourceError> {
        let mut taken = self.reader.read(&self.pieces[self.taken])?;
        self.taken += 1;
        taken.chunk.epoch = epoch;
        Ok(taken)
    }
}
