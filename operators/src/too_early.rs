//! Rows whose event time is further in the future of their own message than a job allows. They move no
//! watermark: one of them would make all that follow it late.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;

use crate::admit::event_times;

/// The job's `event.future_horizon_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureHorizon {
    pub horizon_ms: i64,
    /// The column that says when a row was sent; none where rows are messages.
    pub sent_column: Option<usize>,
}

impl FutureHorizon {
    /// When rows were sent, in ms since 1970, null where that is not known, `[rows]`. `of_messages`:
    /// when they were, if they are messages.
    ///
    /// # Errors
    /// If the column cannot be read as times.
    pub fn sent(
        &self,
        rows: &RecordBatch,
        of_messages: Option<&Int64Array>,
    ) -> Result<Int64Array, ArrowError> {
        match (self.sent_column, of_messages) {
            (Some(column), _) => sent_times(rows.column(column)),
            (None, Some(sent)) => Ok(sent.clone()),
            (None, None) => Ok(Int64Array::new_null(rows.num_rows())),
        }
    }

    /// By how many ms a row is beyond the horizon, if it is.
    pub fn beyond(&self, time: i64, sent: &Int64Array, row: usize) -> Option<i64> {
        let ahead = time.saturating_sub(sent.is_valid(row).then(|| sent.value(row))?);
        (ahead > self.horizon_ms).then_some(ahead)
    }

    /// The times of rows that count: null where one is too early.
    pub fn counted(&self, times: &Int64Array, sent: &Int64Array) -> Int64Array {
        let time = |(row, time): (usize, Option<i64>)| {
            time.filter(|&time| self.beyond(time, sent, row).is_none())
        };
        times.iter().enumerate().map(time).collect()
    }
}

/// A number counts ms. A negative time is none: Kafka has -1 for it.
fn sent_times(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let times = match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().unary_opt(|ms| {
            let is_time = ms.is_finite() && ms.abs() < i64::MAX as f64;
            is_time.then_some(ms as i64)
        }),
        DataType::Null => Int64Array::new_null(column.len()),
        _ => event_times(column)?,
    };
    Ok(times.unary_opt(|time| (time >= 0).then_some(time)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn rows_are_judged_by_their_own_message_up_to_the_horizon() {
        let horizon = FutureHorizon { horizon_ms: 10, sent_column: None };
        let times = Int64Array::from(vec![Some(110), Some(111), Some(5), None, Some(999)]);
        let sent = Int64Array::from(vec![Some(100), Some(100), Some(100), Some(0), None]);
        let counted = horizon.counted(&times, &sent);
        let expected = Int64Array::from(vec![Some(110), None, Some(5), None, Some(999)]);
        assert_eq!(counted, expected);
        assert_eq!(horizon.beyond(111, &sent, 1), Some(11));
        assert_eq!(horizon.beyond(i64::MAX, &sent, 0), Some(i64::MAX - 100));
        assert_eq!(horizon.beyond(i64::MIN, &sent, 0), None);
    }

    #[test]
    fn a_column_of_times_may_be_numbers_and_less_than_nothing_is_none() {
        let columns: [ArrayRef; 3] = [
            Arc::new(Int64Array::from(vec![Some(5), Some(-1), None])),
            Arc::new(Float64Array::from(vec![Some(5.0), Some(-1.0), Some(f64::NAN)])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(5_999), Some(-1), None])),
        ];
        for column in columns {
            let rows = RecordBatch::try_from_iter_with_nullable([("s", column, true)]).unwrap();
            let horizon = FutureHorizon { horizon_ms: 0, sent_column: Some(0) };
            let sent = horizon.sent(&rows, None).unwrap();
            assert_eq!(sent, Int64Array::from(vec![Some(5), None, None]));
        }
    }
}
