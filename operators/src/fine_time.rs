//! Instants finer than a millisecond, without a wrap at either end of the calendar.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;

use crate::admit::event_time_parts;

const NS_PER_MS: i64 = 1_000_000;

/// An instant as ms since 1970 and the ns within that ms, so that year 1 and year 9999 are as exact
/// as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FineTime {
    pub ms: i64,
    /// Below 1,000,000.
    pub ns: u32,
}

impl FineTime {
    /// The beginning of a millisecond.
    pub const fn of_ms(ms: i64) -> Self {
        FineTime { ms, ns: 0 }
    }

    /// The first whole ms that is not before it.
    pub fn ms_up(self) -> i64 {
        self.ms.saturating_add(i64::from(self.ns > 0))
    }

    /// The instant `ms` before.
    #[must_use]
    pub fn minus_ms(self, ms: i64) -> Self {
        FineTime { ms: self.ms.saturating_sub(ms), ..self }
    }

    /// How long (ms, with their fraction) after `earlier` it is: the nearest Float64.
    pub fn ms_since(self, earlier: FineTime) -> f64 {
        let ms = i128::from(self.ms) - i128::from(earlier.ms);
        match i128::from(self.ns) - i128::from(earlier.ns) {
            0 => ms as f64,
            ns => (ms * i128::from(NS_PER_MS) + ns) as f64 / NS_PER_MS as f64,
        }
    }
}

/// A column of instants.
pub struct FineTimes {
    /// ms since 1970, null where there is none, `[rows]`.
    pub ms: Int64Array,
    /// The ns within the ms, `[rows]`; `None` where the column holds nothing finer than ms.
    pub ns: Option<UInt32Array>,
}

impl FineTimes {
    pub fn get(&self, row: usize) -> Option<FineTime> {
        let ns = self.ns.as_ref().map_or(0, |ns| ns.value(row));
        self.ms.is_valid(row).then(|| FineTime { ms: self.ms.value(row), ns })
    }
}

/// Whether a column of the type may hold instants that are finer than a millisecond.
pub fn is_fine(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) | DataType::Utf8
    )
}

/// A column as instants of the precision that it holds; what [`event_time_parts`] reads as times.
///
/// # Errors
/// As [`event_time_parts`].
pub fn fine_times(column: &ArrayRef) -> Result<FineTimes, ArrowError> {
    if *column.data_type() == DataType::Utf8 {
        return Ok(text_times(column));
    }
    let (ms, ns) = event_time_parts(column)?;
    Ok(FineTimes { ms, ns })
}

/// RFC 3339 text; what is no time is null.
fn text_times(column: &ArrayRef) -> FineTimes {
    let texts = column.as_string::<i32>();
    let times: Vec<Option<FineTime>> = texts.iter().map(|text| text.and_then(parse_time)).collect();
    FineTimes {
        ms: times.iter().map(|time| time.map(|time| time.ms)).collect(),
        ns: Some(times.iter().map(|time| time.map_or(0, |time| time.ns)).map(Some).collect()),
    }
}

/// RFC 3339 text, or a date, as an instant; UTC where it has no zone.
pub fn parse_time(text: &str) -> Option<FineTime> {
    let time = string_to_datetime(&chrono::Utc, text).ok()?;
    // The first of a leap second's two seconds' worth of ns are its own.
    let ns = time.timestamp_subsec_nanos().min(999_999_999);
    let ms = time.timestamp().checked_mul(1_000)?.checked_add(i64::from(ns) / NS_PER_MS)?;
    Some(FineTime { ms, ns: (i64::from(ns) % NS_PER_MS) as u32 })
}

/// The ns within the ms of each row as a column without nulls, `[rows]`.
///
/// # Errors
/// As [`event_time_parts`].
pub fn ns_within_ms(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let times = fine_times(column)?;
    let ns = times.ns.unwrap_or_else(|| UInt32Array::from_value(0, column.len()));
    Ok(Arc::new(UInt32Array::new(ns.values().clone(), None)))
}

/// Instants of two columns: ms since 1970, and the ns within each ms where they are told apart.
pub fn instants<'a>(
    ms: &'a ArrayRef,
    ns: Option<&'a ArrayRef>,
) -> impl Fn(usize) -> FineTime + Copy + 'a {
    let ms = ms.as_primitive::<Int64Type>().values();
    let ns = ns.map(|ns| ns.as_primitive::<arrow::datatypes::UInt32Type>().values());
    move |row| FineTime { ms: ms[row], ns: ns.map_or(0, |ns| ns[row]) }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    };

    use super::*;

    fn of(column: impl Array + 'static) -> Vec<Option<(i64, u32)>> {
        let column: ArrayRef = Arc::new(column);
        let times = fine_times(&column).unwrap();
        (0..column.len()).map(|row| times.get(row).map(|time| (time.ms, time.ns))).collect()
    }

    #[test]
    fn every_unit_keeps_what_it_stores_before_1970_too() {
        let ms = TimestampMillisecondArray::from(vec![Some(-1), None, Some(7)]);
        assert_eq!(of(ms), [Some((-1, 0)), None, Some((7, 0))]);
        let us = TimestampMicrosecondArray::from(vec![Some(-1), Some(1_600), None]);
        assert_eq!(of(us), [Some((-1, 999_000)), Some((1, 600_000)), None]);
        let ns = TimestampNanosecondArray::from(vec![Some(-1), Some(1_000_001), None]);
        assert_eq!(of(ns), [Some((-1, 999_999)), Some((1, 1)), None]);
    }

    #[test]
    fn text_keeps_its_digits_and_any_year_is_a_time() {
        let texts = StringArray::from(vec![
            Some("1970-01-01T00:00:00.000600001Z"),
            Some("1969-12-31T23:59:59.999999999Z"),
            Some("1970-01-01T02:00:00+02:00"),
            Some("9999-12-31T23:59:59.999999Z"),
            Some("0001-01-01"),
            Some("yesterday"),
            None,
        ]);
        let wanted = [
            Some((0, 600_001)),
            Some((-1, 999_999)),
            Some((0, 0)),
            Some((253_402_300_799_999, 999_000)),
            Some((-62_135_596_800_000, 0)),
            None,
            None,
        ];
        assert_eq!(of(texts), wanted);
    }

    #[test]
    fn lengths_are_exact_to_the_float() {
        let at = |ms, ns| FineTime { ms, ns };
        assert_eq!(at(5, 100_000).ms_since(at(4, 600_000)), 0.5);
        assert_eq!(at(5, 1).ms_since(at(5, 0)), 1e-6);
        assert_eq!(at(9_007_199_254_740_991, 7).ms_since(at(0, 7)), 9_007_199_254_740_991.0);
        assert_eq!(at(i64::MAX, 0).ms_since(at(i64::MIN, 0)), u64::MAX as f64);
        assert_eq!((at(3, 0).ms_up(), at(3, 1).ms_up(), at(i64::MAX, 1).ms_up()), (3, 4, i64::MAX));
        assert_eq!(at(i64::MIN, 9).minus_ms(1), at(i64::MIN, 9));
    }
}
