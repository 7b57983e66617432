//! The home's end of the trips back: rows wait for their answers.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::interleave;
use arrow::datatypes::UInt64Type;
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};

use super::request::{ANSWER_HOME, ANSWER_ROW, ANSWER_VALUES, TripSchemas};
use crate::exchange::{Route, RowDistributor};
use crate::features::plan::FeaturePlan;
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::run::Run;
use crate::warm_up::WarmUp;

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
struct Waiting<C> {
    capability: C,
    batch: RecordBatch,
    first_row: u64,
    answers: Vec<TripAnswers>,
    missing: usize,
}

impl<C> Waiting<C> {
    /// The position of a numbered row in the batch, if it is one of it.
    fn place(&self, row: u64) -> Option<usize> {
        let place = row.checked_sub(self.first_row)? as usize;
        (place < self.batch.num_rows()).then_some(place)
    }
}

/// Batches in the order of their numbers, and the answers that have come for them.
struct Rejoin<C> {
    waiting: VecDeque<Waiting<C>>,
    trips: usize,
}

impl<C> Rejoin<C> {
    fn insert(&mut self, capability: C, batch: RecordBatch, first_row: u64) {
        let missing = batch.num_rows() * self.trips;
        let answers = (0..self.trips).map(|_| TripAnswers::default()).collect();
        self.waiting.push_back(Waiting { capability, batch, first_row, answers, missing });
    }

    /// Puts answers of a trip in their places.
    ///
    /// # Errors
    /// If an answer is for a row that does not wait here.
    fn answer(&mut self, answers: &RecordBatch, trip: usize) -> Result<(), ArrowError> {
        let rows = answers.column(ANSWER_ROW).as_primitive::<UInt64Type>().values();
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

    /// The next batch whose answers are all there, and the answers as columns over all trips.
    fn pop(&mut self) -> Option<(C, RecordBatch, Result<Vec<ArrayRef>, ArrowError>)> {
        self.waiting.front().filter(|waiting| waiting.missing == 0)?;
        let done = self.waiting.pop_front()?;
        let mut columns = Vec::new();
        for trip in done.answers {
            match trip.columns() {
                Ok(answers) => columns.extend(answers),
                Err(error) => return Some((done.capability, done.batch, Err(error))),
            }
        }
        Some((done.capability, done.batch, Ok(columns)))
    }
}

/// Holds each batch until the answers of all trips are there, then appends its features. Batches go
/// on in the order they came.
pub fn rejoin<'scope>(
    rows: Stream<'scope, u64, Rows>,
    answers: Vec<(Stream<'scope, u64, Rows>, TripSchemas)>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    warm_up: WarmUp,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let Run { counters, failure, .. } = run.clone();
    let mut builder = OperatorBuilder::new("Rejoin".to_owned(), rows.scope());
    let mut rows_in = builder.new_input(rows, Pipeline);
    let mut trips_in = Vec::new();
    for (stream, schemas) in answers {
        let (edge, failure) = (schemas.answer.clone(), failure.clone());
        let pact = DistributorPact(move |peers| {
            RowDistributor::new(Route::Worker { column: ANSWER_HOME }, edge, failure, peers)
        });
        trips_in.push((builder.new_input(stream, pact), schemas.answer));
    }
    let (out, enriched_rows) = builder.new_output();
    let mut out = OutputBuilder::<_, CapacityContainerBuilder<Rows>>::from(out);
    let enriched = plan.enriched_schema(&layout);
    builder.build(move |_capabilities| {
        let mut rejoin = Rejoin { waiting: VecDeque::new(), trips: trips_in.len() };
        move |frontiers| {
            rows_in.for_each(|capability, container| {
                let number = container.number();
                let Some(retained) = capability.retain_least(0) else { return };
                let Some(batch) = failure.check(container.take(&layout.schema)) else { return };
                counters.rows_held(warm_up.counted(&batch, &layout));
                rejoin.insert(retained, batch, number);
            });
            for (trip, (input, schema)) in trips_in.iter_mut().enumerate() {
                input.for_each(|_capability, container| {
                    let answers = container.take(schema);
                    failure.check(answers.and_then(|batch| rejoin.answer(&batch, trip)));
                });
            }
            let mut out = out.activate();
            while let Some((capability, batch, answers)) = rejoin.pop() {
                counters.rows_held(-warm_up.counted(&batch, &layout));
                let enriched = answers.and_then(|answers| plan.append(&batch, answers, &enriched));
                if let Some(batch) = failure.check(enriched) {
                    out.session(&capability).give_container(&mut Rows::new(batch));
                }
            }
            // An epoch that is complete on every trip owes nothing any more.
            if let Some(waiting) = rejoin.waiting.front() {
                let epoch = waiting.capability.time();
                if frontiers.iter().all(|frontier| !frontier.less_equal(epoch)) {
                    failure.report(format!("{} answers of side trips are lost", waiting.missing));
                    rejoin.waiting.clear();
                }
            }
        }
    });
    enriched_rows
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray, UInt32Array, UInt64Array};
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

    fn popped(rejoin: &mut Rejoin<()>) -> Vec<(f64, String)> {
        let ((), _, columns) = rejoin.pop().unwrap();
        let columns = columns.unwrap();
        let numbers = columns[0].as_primitive::<Float64Type>().values();
        let texts = columns[1].as_string::<i32>().iter().flatten();
        numbers.iter().copied().zip(texts.map(str::to_owned)).collect()
    }

    fn expected(rows: std::ops::Range<u64>) -> Vec<(f64, String)> {
        rows.map(|row| (row as f64 * 10.0, format!("t{row}"))).collect()
    }

    #[test]
    fn answers_find_their_rows_in_any_order_and_batch_size() {
        let mut rejoin = Rejoin { waiting: VecDeque::new(), trips: 1 };
        rejoin.insert((), rows(3), 0);
        rejoin.insert((), rows(4), 3);
        rejoin.answer(&answers(&[6, 2, 0]), 0).unwrap();
        assert!(rejoin.pop().is_none());
        rejoin.answer(&answers(&[1, 3, 5, 4]), 0).unwrap();
        assert_eq!(popped(&mut rejoin), expected(0..3));
        assert_eq!(popped(&mut rejoin), expected(3..7));
    }

    #[test]
    fn one_batch_of_answers_serves_several_batches_of_rows() {
        let mut rejoin = Rejoin { waiting: VecDeque::new(), trips: 1 };
        rejoin.insert((), rows(2), 10);
        rejoin.insert((), rows(2), 12);
        rejoin.answer(&answers(&[10, 11, 12, 13]), 0).unwrap();
        assert_eq!(popped(&mut rejoin), expected(10..12));
        assert_eq!(popped(&mut rejoin), expected(12..14));
    }

    #[test]
    fn an_answer_without_a_row_is_an_error() {
        let mut rejoin = Rejoin { waiting: VecDeque::new(), trips: 1 };
        rejoin.insert((), rows(2), 10);
        assert!(rejoin.answer(&answers(&[9]), 0).is_err());
        assert!(rejoin.answer(&answers(&[12]), 0).is_err());
    }
}
