//! Rows that wait at their home for the answers of owners.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use arrow::error::ArrowError;

use super::owner::answered_rows;
use super::requests::ANSWER_VALUES;
use crate::control::Turn;

/// The answers of one trip to one batch, as they came.
#[derive(Default)]
struct TripAnswers {
    /// Columns of answers, of each batch of answers that holds some for this batch of rows.
    pieces: Vec<Vec<ArrayRef>>,
    /// The piece and the position of each row's answer, `[rows]`; empty while one piece is all, in
    /// the order of the rows.
    at: Vec<(usize, usize)>,
}

impl TripAnswers {
    /// Adds the answers for all rows of a batch, in their order.
    fn add_all(&mut self, answers: &RecordBatch) {
        self.pieces.push(answers.columns()[ANSWER_VALUES..].to_vec());
    }

    /// Adds the answers for rows `places` of a batch of `rows`.
    fn add(&mut self, answers: &RecordBatch, places: Vec<usize>, rows: usize) {
        let piece = self.pieces.len();
        self.pieces.push(answers.columns()[ANSWER_VALUES..].to_vec());
        self.at.resize(rows, (0, 0));
        for (position, place) in places.into_iter().enumerate() {
            self.at[place] = (piece, position);
        }
    }

    /// The answers as columns, `[rows]`.
    fn columns(self) -> Result<Vec<ArrayRef>, ArrowError> {
        let TripAnswers { mut pieces, at } = self;
        if at.is_empty() {
            return Ok(pieces.pop().unwrap_or_default());
        }
        let columns = pieces.first().map_or(0, Vec::len);
        (0..columns)
            .map(|column| {
                let pieces: Vec<&dyn Array> =
                    pieces.iter().map(|piece| piece[column].as_ref()).collect();
                interleave(&pieces, &at)
            })
            .collect()
    }
}

/// A batch that waits at its home for its answers.
struct Batch {
    turn: Turn,
    batch: RecordBatch,
    first_row: u64,
    answers: Vec<TripAnswers>,
    missing: usize,
}

impl Batch {
    /// The position of a numbered row in the batch, if it is one of it.
    fn place(&self, row: u64) -> Option<usize> {
        let place = row.checked_sub(self.first_row)? as usize;
        (place < self.batch.num_rows()).then_some(place)
    }
}

/// Batches in the order of their numbers, and the answers that have come for them.
pub struct Waiting {
    waiting: VecDeque<Batch>,
    trips: usize,
}

/// A batch whose answers are all there: columns over all trips, `[rows]`.
pub struct Answered {
    pub turn: Turn,
    pub batch: RecordBatch,
    pub answers: Vec<ArrayRef>,
}

impl Answered {
    /// The first `count` rows, and the others, if there are more.
    #[must_use]
    pub fn split_at(self, count: usize) -> (Self, Option<Self>) {
        let rows = self.batch.num_rows();
        if rows <= count {
            return (self, None);
        }
        let part = |from: usize, rows: usize| Answered {
            turn: self.turn,
            batch: self.batch.slice(from, rows),
            answers: self.answers.iter().map(|answers| answers.slice(from, rows)).collect(),
        };
        (part(0, count), Some(part(count, rows - count)))
    }
}

impl Waiting {
    pub fn new(trips: usize) -> Self {
        Waiting { waiting: VecDeque::new(), trips }
    }

    /// The epoch of the first batch that waits.
    pub fn first_epoch(&self) -> Option<u64> {
        self.waiting.front().map(|batch| batch.turn.epoch)
    }

    /// The lowest epoch of which rows wait.
    pub fn lowest_epoch(&self) -> Option<u64> {
        self.waiting.iter().map(|batch| batch.turn.epoch).min()
    }

    /// How many answers the first batch lacks.
    pub fn missing(&self) -> usize {
        self.waiting.front().map_or(0, |batch| batch.missing)
    }

    /// Adds rows that are numbered from `first_row` on.
    pub fn insert(&mut self, turn: Turn, batch: RecordBatch, first_row: u64) {
        let missing = batch.num_rows() * self.trips;
        let answers = (0..self.trips).map(|_| TripAnswers::default()).collect();
        self.waiting.push_back(Batch { turn, batch, first_row, answers, missing });
    }

    /// Puts answers of a trip in their places.
    ///
    /// # Errors
    /// If an answer is for a row that does not wait here.
    pub fn answer(&mut self, answers: &RecordBatch, trip: usize) -> Result<(), ArrowError> {
        let rows = answered_rows(answers);
        let mut from = 0;
        while let Some(&row) = rows.get(from) {
            let at = self.waiting.partition_point(|w| w.first_row <= row).wrapping_sub(1);
            let Some(waiting) = self.waiting.get_mut(at).filter(|w| w.place(row).is_some()) else {
                return Err(ArrowError::ComputeError(format!(
                    "an answer for row {row}, which does not wait"
                )));
            };
            let size = waiting.batch.num_rows();
            let in_order = waiting.first_row..waiting.first_row + size as u64;
            let count = if rows[from..].iter().copied().take(size).eq(in_order) {
                waiting.answers[trip].add_all(&answers.slice(from, size));
                size
            } else {
                // As many as are for the same batch.
                let places: Vec<usize> =
                    rows[from..].iter().map_while(|&row| waiting.place(row)).collect();
                let count = places.len();
                waiting.answers[trip].add(&answers.slice(from, count), places, size);
                count
            };
            waiting.missing = waiting.missing.saturating_sub(count);
            from += count;
        }
        Ok(())
    }

    /// The next batch whose answers are all there.
    ///
    /// # Errors
    /// If answers of a trip are of differing types.
    pub fn pop(&mut self) -> Result<Option<Answered>, ArrowError> {
        let Some(done) = self.waiting.pop_front_if(|batch| batch.missing == 0) else {
            return Ok(None);
        };
        let mut answers = Vec::new();
        for trip in done.answers {
            answers.extend(trip.columns()?);
        }
        Ok(Some(Answered { turn: done.turn, batch: done.batch, answers }))
    }
}

/// Why rows cannot be enriched: answers that will not come any more.
pub fn lost(answers: usize) -> ArrowError {
    ArrowError::ComputeError(format!("{answers} answers of side trips are lost"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float64Array, StringArray, UInt32Array, UInt64Array};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn rows(count: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..count as u32));
        RecordBatch::try_from_iter([("x", column)]).unwrap()
    }

    fn answers(rows: &[u64]) -> RecordBatch {
        let values = rows.iter().map(|&row| row as f64 * 10.0);
        let texts = rows.iter().map(|row| format!("t{row}"));
        let columns: [(&str, ArrayRef); 4] = [
            ("home", Arc::new(UInt32Array::from_value(0, rows.len()))),
            ("row", Arc::new(UInt64Array::from(rows.to_vec()))),
            ("number", Arc::new(Float64Array::from_iter_values(values))),
            ("text", Arc::new(StringArray::from_iter_values(texts))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn popped(rejoin: &mut Waiting) -> Vec<(f64, String)> {
        let columns = rejoin.pop().unwrap().unwrap().answers;
        let numbers = columns[0].as_primitive::<Float64Type>().values();
        let texts = columns[1].as_string::<i32>().iter().flatten();
        numbers.iter().copied().zip(texts.map(str::to_owned)).collect()
    }

    const TURN: Turn = Turn { epoch: 1, control: 0 };

    fn expected(rows: std::ops::Range<u64>) -> Vec<(f64, String)> {
        rows.map(|row| (row as f64 * 10.0, format!("t{row}"))).collect()
    }

    #[test]
    fn answers_find_their_rows_in_any_order_and_batch_size() {
        let mut rejoin = Waiting::new(1);
        rejoin.insert(TURN, rows(3), 0);
        rejoin.insert(TURN, rows(4), 3);
        rejoin.answer(&answers(&[6, 2, 0]), 0).unwrap();
        assert!(rejoin.pop().unwrap().is_none());
        rejoin.answer(&answers(&[1, 3, 5, 4]), 0).unwrap();
        assert_eq!(popped(&mut rejoin), expected(0..3));
        assert_eq!(popped(&mut rejoin), expected(3..7));
    }

    #[test]
    fn one_batch_of_answers_serves_several_batches_of_rows() {
        let mut rejoin = Waiting::new(1);
        rejoin.insert(TURN, rows(2), 10);
        rejoin.insert(TURN, rows(2), 12);
        rejoin.answer(&answers(&[10, 11, 12, 13]), 0).unwrap();
        assert_eq!(popped(&mut rejoin), expected(10..12));
        assert_eq!(popped(&mut rejoin), expected(12..14));
    }

    #[test]
    fn an_answer_without_a_row_is_an_error() {
        let mut rejoin = Waiting::new(1);
        rejoin.insert(TURN, rows(2), 10);
        assert!(rejoin.answer(&answers(&[9]), 0).is_err());
        assert!(rejoin.answer(&answers(&[12]), 0).is_err());
    }
}
