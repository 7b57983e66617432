//! What a table's own column says of the order of rows with equal key and time.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use arrow::error::ArrowError;

use crate::fine_time::{FineTimes, fine_times, is_fine};

/// The rows' places in that order: by `high`, then by `low`. A row without one is before all others.
pub struct Sequences {
    /// Null where there is none, or the value is none, `[rows]`.
    pub high: Int64Array,
    /// 0 where the high part is null, else above; `None` where the high part tells all, `[rows]`.
    pub low: Option<UInt32Array>,
}

/// Whether a column of the type can be a sequence: integers, timestamps, dates and RFC 3339 text.
pub fn can_be_sequence(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Utf8
        )
}

/// Whether sequences of the type have a low part.
pub fn has_low(data_type: &DataType) -> bool {
    *data_type == DataType::UInt64 || is_fine(data_type)
}

/// The sequences of a column: integers by their value, times by the instant.
///
/// # Errors
/// If [`can_be_sequence`] says no.
pub fn sequences(column: &ArrayRef) -> Result<Sequences, ArrowError> {
    match column.data_type() {
        DataType::UInt64 => {
            // Halved, so that all of them fit, and the last bit apart.
            let stored = column.as_primitive::<UInt64Type>();
            let low = stored.iter().map(|n| n.map_or(0, |n| (n & 1) as u32 + 1));
            Ok(Sequences {
                high: stored.iter().map(|n| n.map(|n| (n >> 1) as i64)).collect(),
                low: Some(UInt32Array::from_iter_values(low)),
            })
        }
        integer if integer.is_integer() => {
            let integers = cast(column, &DataType::Int64)?;
            Ok(Sequences { high: integers.as_primitive().clone(), low: None })
        }
        time if can_be_sequence(time) => {
            let FineTimes { ms, ns } = fine_times(column)?;
            let low = ns.map(|ns| {
                let low = |row| if ms.is_valid(row) { ns.value(row) + 1 } else { 0 };
                UInt32Array::from_iter_values((0..ns.len()).map(low))
            });
            Ok(Sequences { high: ms, low })
        }
        other => Err(ArrowError::SchemaError(format!(
            "a sequence must be an integer, a timestamp, a date or RFC 3339 text, not {other}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Int16Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
        UInt64Array,
    };

    use super::*;

    /// The rows in their order, those of one place in brackets.
    fn order(column: impl Array + 'static) -> Vec<Vec<usize>> {
        let rows = column.len();
        let column: ArrayRef = Arc::new(column);
        assert!(can_be_sequence(column.data_type()));
        let Sequences { high, low } = sequences(&column).unwrap();
        assert_eq!(low.is_some(), has_low(column.data_type()));
        let place = |row: usize| {
            let high = if high.is_valid(row) { high.value(row) } else { i64::MIN };
            (high, low.as_ref().map_or(0, |low| low.value(row)))
        };
        let mut sorted: Vec<usize> = (0..rows).collect();
        sorted.sort_by_key(|&row| place(row));
        sorted.chunk_by(|&a, &b| place(a) == place(b)).map(<[usize]>::to_vec).collect()
    }

    #[test]
    fn integers_of_any_width_are_in_order_and_null_comes_first() {
        assert_eq!(order(Int16Array::from(vec![Some(3), None, Some(-3)])), [[1], [2], [0]]);
        let most = u64::MAX;
        let wide = [Some(most), Some(0), None, Some(most - 1), Some(most / 2), Some(1), Some(0)];
        let wide = order(UInt64Array::from(wide.to_vec()));
        assert_eq!(wide, [vec![2], vec![1, 6], vec![5], vec![4], vec![3], vec![0]]);
    }

    #[test]
    fn times_are_in_order_of_the_instant() {
        let texts = StringArray::from(vec![
            Some("2022-11-25T10:00:00+02:00"),
            Some("2022-11-25T09:00:00Z"),
            Some("2022-11-25T08:00:00.000000001Z"),
            Some("2022-11-25"),
            Some("2022-11-25T08:00:00Z"),
            None,
            Some("once"),
        ]);
        assert_eq!(order(texts), [vec![5, 6], vec![3], vec![0, 4], vec![2], vec![1]]);
        let us = TimestampMicrosecondArray::from(vec![Some(2_001), None, Some(2_000), Some(-1)]);
        assert_eq!(order(us), [[1], [3], [2], [0]]);
        let ms = TimestampMillisecondArray::from(vec![Some(5), Some(-5)]);
        assert_eq!(order(ms), [[1], [0]]);
        assert_eq!(order(Date32Array::from(vec![Some(5), None, Some(-5)])), [[1], [2], [0]]);
    }

    #[test]
    fn what_has_no_order_is_refused() {
        for other in [DataType::Float64, DataType::Boolean, DataType::Binary] {
            assert!(!can_be_sequence(&other));
            assert!(sequences(&arrow::array::new_empty_array(&other)).is_err());
        }
    }
}
