//! Where a key lives: key group, and the worker that owns the group.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Date32Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::temporal_conversions::timestamp_s_to_datetime;
use twox_hash::XxHash3_64;

use crate::admit::event_time_parts;

/// The unit of placement and of state hand-over. Part of the checkpoint format.
pub const KEY_GROUPS: u64 = 256;

/// The owner of a key group among `workers`.
pub fn worker_of_group(group: u64, workers: usize) -> usize {
    (group * workers as u64 / KEY_GROUPS) as usize
}

/// The key group of a key given by its typed bytes: XXH3-64, seed 0, modulo [`KEY_GROUPS`].
pub fn group_of_bytes(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes) % KEY_GROUPS
}

/// Calls `with(row, group)` for each row of a key column, `[rows]`.
///
/// Strings hash as their bytes, integers as the eight little-endian bytes of their value: one of Int64
/// and one of UInt64 are of the same group where they are equal. A null key belongs to the group of
/// its origin (`partition`, `offset`), so that rows without a key spread over the workers.
///
/// # Errors
/// If the column is of a type that cannot be a key.
pub fn for_each_group(
    keys: &ArrayRef,
    partition: &UInt32Array,
    offset: &UInt64Array,
    mut with: impl FnMut(usize, u64),
) -> Result<(), ArrowError> {
    let origin = |row: usize| {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&partition.value(row).to_le_bytes());
        bytes[4..].copy_from_slice(&offset.value(row).to_le_bytes());
        group_of_bytes(&bytes)
    };
    match keys.data_type() {
        DataType::Utf8 => {
            let texts = keys.as_string::<i32>();
            spread(keys, |row| group_of_bytes(texts.value(row).as_bytes()), origin, &mut with);
        }
        DataType::Int64 => {
            let numbers = keys.as_primitive::<Int64Type>().values();
            spread(keys, |row| group_of_bytes(&numbers[row].to_le_bytes()), origin, &mut with);
        }
        DataType::UInt64 => {
            let numbers = keys.as_primitive::<UInt64Type>().values();
            spread(keys, |row| group_of_bytes(&numbers[row].to_le_bytes()), origin, &mut with);
        }
        other => {
            return Err(ArrowError::SchemaError(format!(
                "a key must be a string or an integer, not {other}"
            )));
        }
    }
    Ok(())
}

/// Calls `with(row, group)` for each row of `keys`: by its key, or by its origin where that is null.
fn spread(
    keys: &ArrayRef,
    by_key: impl Fn(usize) -> u64,
    by_origin: impl Fn(usize) -> u64,
    with: &mut impl FnMut(usize, u64),
) {
    for row in 0..keys.len() {
        with(row, if keys.is_null(row) { by_origin(row) } else { by_key(row) });
    }
}

/// The column as a key: strings as Utf8, unsigned integers of 64 bits as UInt64, everything else that
/// counts as an integer as Int64; times and dates as text of RFC 3339, in UTC and without zeros at the
/// end, so that it does not depend on the unit they are stored in.
///
/// # Errors
/// If the type cannot be a key (floats, bytes, lists, structs).
pub fn as_key(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match (column.data_type(), key_type(column.data_type())) {
        (from, Some(to)) if *from == to => Ok(column.clone()),
        (DataType::Timestamp(..) | DataType::Date32 | DataType::Date64, Some(_)) => {
            times_as_text(column)
        }
        (_, Some(to)) => arrow::compute::cast(column, &to),
        (from, None) => Err(ArrowError::SchemaError(format!(
            "a key must be a string or an integer, not {from}"
        ))),
    }
}

/// Keys of [`as_key`] as those of a table that is keyed by `to`: integers of one kind as those of the
/// other, null where they are out of its range.
///
/// # Errors
/// If the types do not go together; see [`can_find`].
pub fn as_key_of(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let keys = as_key(column)?;
    if keys.data_type() == to { Ok(keys) } else { arrow::compute::cast(&keys, to) }
}

/// Whether a key of type `lookup` can be in a table that is keyed by `table`, both as of [`key_type`].
pub fn can_find(lookup: &DataType, table: &DataType) -> bool {
    lookup == table || (lookup.is_integer() && table.is_integer())
}

/// The type that [`as_key`] gives for a column of type `from`, or `None` if it cannot be a key.
pub fn key_type(from: &DataType) -> Option<DataType> {
    match from {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
            Some(DataType::Utf8)
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(DataType::Utf8),
        DataType::UInt64 => Some(DataType::UInt64),
        DataType::Boolean => Some(DataType::Int64),
        integer if integer.is_integer() => Some(DataType::Int64),
        _ => None,
    }
}

fn times_as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if matches!(column.data_type(), DataType::Date32 | DataType::Date64) {
        let days = arrow::compute::cast(column, &DataType::Date32)?;
        let days = days.as_primitive::<Date32Type>();
        let text = (0..days.len()).map(|row| {
            let day = days.is_valid(row).then(|| days.value_as_date(row))??;
            Some(format!("{day:?}"))
        });
        return Ok(Arc::new(text.collect::<StringArray>()));
    }
    let (millis, below) = event_time_parts(column)?;
    let text = (0..millis.len()).map(|row| {
        let millis = millis.is_valid(row).then(|| millis.value(row))?;
        let second = timestamp_s_to_datetime(millis.div_euclid(1_000))?;
        let below = below.as_ref().map_or(0, |below| below.value(row));
        Some(rfc3339(&format!("{second:?}"), millis.rem_euclid(1_000) as u32, below))
    });
    Ok(Arc::new(text.collect::<StringArray>()))
}

/// `second` is of the form `2024-01-01T00:00:00`; after it 0, 3, 6 or 9 digits.
fn rfc3339(second: &str, millis: u32, nanos_below: u32) -> String {
    match (millis, nanos_below) {
        (0, 0) => format!("{second}Z"),
        (millis, 0) => format!("{second}.{millis:03}Z"),
        (millis, below) if below % 1_000 == 0 => {
            format!("{second}.{millis:03}{:03}Z", below / 1_000)
        }
        (millis, below) => format!("{second}.{millis:03}{below:06}Z"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_split_evenly_and_every_worker_owns_some() {
        for workers in 1..=7 {
            let mut owned = vec![0; workers];
            for group in 0..KEY_GROUPS {
                owned[worker_of_group(group, workers)] += 1;
            }
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            assert!(most - least <= 1, "{workers}: {owned:?}");
        }
    }

    #[test]
    fn a_worker_owns_groups_that_follow_each_other() {
        for workers in 1..=7 {
            let owners: Vec<usize> = (0..KEY_GROUPS).map(|g| worker_of_group(g, workers)).collect();
            assert!(owners.is_sorted(), "{workers}: {owners:?}");
            assert_eq!((owners[0], owners[255]), (0, workers - 1));
        }
    }

    #[test]
    fn a_time_is_the_same_key_in_every_unit() {
        use arrow::array::{
            Date32Array, TimestampMicrosecondArray, TimestampMillisecondArray,
            TimestampNanosecondArray, TimestampSecondArray,
        };
        let text = |column: ArrayRef| {
            let keys = as_key(&column).unwrap();
            keys.as_string::<i32>().iter().map(|key| key.map(str::to_owned)).collect::<Vec<_>>()
        };
        let seconds = [Some(1_700_000_000), None, Some(-1), Some(253_402_300_799)];
        let expected = [
            Some("2023-11-14T22:13:20Z"),
            None,
            Some("1969-12-31T23:59:59Z"),
            Some("9999-12-31T23:59:59Z"),
        ]
        .map(|key| key.map(str::to_owned));
        let times = |per: i64| seconds.iter().map(|s| s.map(|s| s * per)).collect::<Vec<_>>();
        assert_eq!(text(Arc::new(TimestampSecondArray::from(times(1)))), expected);
        assert_eq!(text(Arc::new(TimestampMillisecondArray::from(times(1_000)))), expected);
        let micros = TimestampMicrosecondArray::from(times(1_000_000)).with_timezone("UTC");
        assert_eq!(text(Arc::new(micros)), expected);
        let nanos = vec![1_700_000_000_000_000_000, 1_700_000_000_120_000_000, 1_500, -1];
        let expected = [
            "2023-11-14T22:13:20Z",
            "2023-11-14T22:13:20.120Z",
            "1970-01-01T00:00:00.000001500Z",
            "1969-12-31T23:59:59.999999999Z",
        ];
        assert_eq!(
            text(Arc::new(TimestampNanosecondArray::from(nanos))),
            expected.map(|key| Some(key.to_owned()))
        );
        let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(19_675), None]));
        assert_eq!(text(days), [Some("2023-11-14".to_owned()), None]);
    }

    #[test]
    fn equal_integers_live_in_the_same_group_whatever_their_kind() {
        let origin = (UInt32Array::from(vec![0; 3]), UInt64Array::from(vec![0, 1, 2]));
        let groups = |keys: ArrayRef| {
            let mut groups = Vec::new();
            for_each_group(&keys, &origin.0, &origin.1, |_, group| groups.push(group)).unwrap();
            groups
        };
        let signed: ArrayRef =
            Arc::new(arrow::array::Int64Array::from(vec![Some(5), None, Some(i64::MAX)]));
        let unsigned: ArrayRef =
            Arc::new(UInt64Array::from(vec![Some(5), None, Some(i64::MAX as u64)]));
        assert_eq!(groups(signed.clone()), groups(unsigned.clone()));
        let other = as_key_of(&unsigned, &DataType::Int64).unwrap();
        assert_eq!(&other, &signed);
        let beyond: ArrayRef = Arc::new(UInt64Array::from(vec![1 << 63, u64::MAX, 7]));
        let beyond = as_key_of(&beyond, &DataType::Int64).unwrap();
        assert_eq!((beyond.null_count(), beyond.is_null(2)), (2, false));
    }

    /// Part of the checkpoint format: the value that the algorithm's authors publish for no input,
    /// and of it the lowest byte.
    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(XxHash3_64::oneshot(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(group_of_bytes(b""), 0xc2);
    }
}
