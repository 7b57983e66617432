//! Where a key lives: key group, and the worker that owns the group.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use twox_hash::XxHash3_64;

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
/// Strings hash as their bytes, integers and timestamps as the eight little-endian bytes of their
/// value. A null key belongs to the group of its origin (`partition`, `offset`), so that rows
/// without a key spread over the workers.
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
            let keys = keys.as_string::<i32>();
            for row in 0..keys.len() {
                let group = if keys.is_null(row) {
                    origin(row)
                } else {
                    group_of_bytes(keys.value(row).as_bytes())
                };
                with(row, group);
            }
        }
        DataType::Int64 => {
            let keys = keys.as_primitive::<Int64Type>();
            for row in 0..keys.len() {
                let group = if keys.is_null(row) {
                    origin(row)
                } else {
                    group_of_bytes(&keys.value(row).to_le_bytes())
                };
                with(row, group);
            }
        }
        other => {
            return Err(ArrowError::SchemaError(format!(
                "a key must be a string or an integer, not {other}"
            )));
        }
    }
    Ok(())
}

/// The column as a key: strings as Utf8, everything that counts as an integer as Int64.
///
/// # Errors
/// If the type cannot be a key (floats, lists, structs).
pub fn as_key(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match key_type(column.data_type()) {
        Some(to) if *column.data_type() == to => Ok(column.clone()),
        Some(to) => arrow::compute::cast(column, &to),
        None => Err(ArrowError::SchemaError(format!(
            "a key must be a string or an integer, not {}",
            column.data_type()
        ))),
    }
}

/// The type that [`as_key`] gives for a column of type `from`, or `None` if it cannot be a key.
pub fn key_type(from: &DataType) -> Option<DataType> {
    match from {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        DataType::Boolean | DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            Some(DataType::Int64)
        }
        integer if integer.is_integer() => Some(DataType::Int64),
        _ => None,
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

    /// Part of the checkpoint format: the value that the algorithm's authors publish for no input,
    /// and of it the lowest byte.
    #[test]
    fn hash_is_the_published_one() {
        assert_eq!(XxHash3_64::oneshot(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(group_of_bytes(b""), 0xc2);
    }
}
