//! One type for what several files hold in a column of one name.
//!
//! Types are those of [`super::columns::normal_type`] for one use of the column: widths of
//! numbers, kinds of text and dictionaries are out of the way by then.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use super::columns::{ColumnUse, normal_type};

/// A type that takes the values of `a` and of `b`, if there is one: the finer of two units of time,
/// integers for keys that are integers in one file and floats in another (as pandas writes integers
/// among which some are missing), all fields of two structures. No value is of type Null, which goes
/// with every type.
pub fn unify(a: &DataType, b: &DataType, column_use: &ColumnUse) -> Option<DataType> {
    use DataType::{
        Binary, Date32, Duration, FixedSizeBinary, Float64, Int64, LargeList, List, Null, Struct,
        Time32, Time64, Timestamp, UInt64,
    };
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        // Whatever does not fit is refused row by row.
        (UInt64, Int64 | Float64) | (Int64 | Float64, UInt64) => UInt64,
        (Int64, Float64) | (Float64, Int64) if matches!(column_use, ColumnUse::Key) => Int64,
        (Int64, Float64) | (Float64, Int64) => Float64,
        (Timestamp(a, zone), Timestamp(b, other)) => {
            Timestamp(finer(*a, *b), zone.clone().or(other.clone()))
        }
        // As a key a day is another text than its midnight.
        (Date32, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date32)
            if !matches!(column_use, ColumnUse::Key) =>
        {
            Timestamp(*unit, zone.clone())
        }
        (Time32(a) | Time64(a), Time32(b) | Time64(b)) => Time64(match finer(*a, *b) {
            TimeUnit::Nanosecond => TimeUnit::Nanosecond,
            _ => TimeUnit::Microsecond,
        }),
        (Duration(a), Duration(b)) => Duration(finer(*a, *b)),
        (Binary, FixedSizeBinary(_)) | (FixedSizeBinary(_), Binary) => Binary,
        (FixedSizeBinary(_), FixedSizeBinary(_)) => Binary,
        (List(a), List(b)) => List(unify_items(a, b)?),
        (List(a) | LargeList(a), List(b) | LargeList(b)) => LargeList(unify_items(a, b)?),
        (Struct(a), Struct(b)) => Struct(unify_fields(a, b)?),
        _ => return None,
    })
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    let rank = |unit: TimeUnit| match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// What is within a column is no key.
fn unify_inner(a: &DataType, b: &DataType) -> Option<DataType> {
    let normal = |stored: &DataType| normal_type(stored, &ColumnUse::Value);
    unify(&normal(a), &normal(b), &ColumnUse::Value)
}

fn unify_items(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    let item = unify_inner(a.data_type(), b.data_type())?;
    Some(Arc::new(Field::new(a.name(), item, true)))
}

fn unify_fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let of = |name: &str, fields: &Fields| {
        fields.iter().find(|field| field.name() == name).map(|field| field.data_type().clone())
    };
    let further = b.iter().filter(|field| of(field.name(), a).is_none());
    let fields = a.iter().chain(further).map(|field| {
        let name = field.name();
        let data_type = match (of(name, a), of(name, b)) {
            (Some(a), Some(b)) => unify_inner(&a, &b)?,
            (Some(one), None) | (None, Some(one)) => normal_type(&one, &ColumnUse::Value),
            (None, None) => return None,
        };
        Some(Field::new(name, data_type, true))
    });
    fields.collect()
}

/// Whether a column has a value at all; NaN is none.
pub fn has_value(column: &dyn Array) -> bool {
    let valid = column.len() - column.logical_null_count();
    let is_number = |value: Option<f64>| value.is_some_and(|value| !value.is_nan());
    match column.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 if valid > 0 => {
            let floats = cast(column, &DataType::Float64);
            floats.is_ok_and(|floats| {
                floats.as_primitive::<arrow::datatypes::Float64Type>().iter().any(is_number)
            })
        }
        _ => valid > 0,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, NullArray, StringArray};
    use arrow::datatypes::DataType::{
        Binary, Boolean, Date32, Duration, FixedSizeBinary, Float64, Int64, Null, Struct, Time32,
        Time64, Timestamp, UInt64, Utf8,
    };

    use super::*;

    fn as_value(a: &DataType, b: &DataType) -> Option<DataType> {
        let found = unify(a, b, &ColumnUse::Value);
        assert_eq!(found, unify(b, a, &ColumnUse::Value), "{a} and {b}");
        found
    }

    fn as_key(a: &DataType, b: &DataType) -> Option<DataType> {
        unify(a, b, &ColumnUse::Key)
    }

    fn utc(unit: TimeUnit) -> DataType {
        Timestamp(unit, Some("UTC".into()))
    }

    #[test]
    fn types_that_go_together() {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        for (a, b, both) in [
            (Utf8, Utf8, Some(Utf8)),
            (Null, Utf8, Some(Utf8)),
            (Null, Null, Some(Null)),
            (Utf8, Float64, None),
            (Boolean, Float64, None),
            (Boolean, Utf8, None),
            (Date32, Float64, None),
            (Date32, Utf8, None),
            (utc(Second), utc(Nanosecond), Some(utc(Nanosecond))),
            (utc(Microsecond), utc(Millisecond), Some(utc(Microsecond))),
            (Date32, utc(Microsecond), Some(utc(Microsecond))),
            (Time32(Second), Time64(Nanosecond), Some(Time64(Nanosecond))),
            (Time32(Second), Time32(Millisecond), Some(Time64(Microsecond))),
            (Duration(Second), Duration(Microsecond), Some(Duration(Microsecond))),
            (Binary, FixedSizeBinary(4), Some(Binary)),
        ] {
            assert_eq!(as_value(&a, &b), both, "{a} and {b}");
        }
    }

    #[test]
    fn keys_stay_integers() {
        assert_eq!(as_key(&Int64, &Float64), Some(Int64));
        assert_eq!(as_key(&Float64, &Int64), Some(Int64));
        assert_eq!(as_key(&Int64, &UInt64), Some(UInt64));
        assert_eq!(as_key(&Int64, &Utf8), None);
        assert_eq!(as_key(&Date32, &utc(TimeUnit::Microsecond)), None);
    }

    fn structure(fields: &[(&str, DataType)]) -> DataType {
        let field =
            |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
        Struct(fields.iter().map(field).collect())
    }

    #[test]
    fn structures_have_all_fields_of_both() {
        let a = structure(&[("x", Float64), ("s", Utf8)]);
        let b = structure(&[("s", DataType::LargeUtf8), ("y", Boolean)]);
        let both = structure(&[("x", Float64), ("s", Utf8), ("y", Boolean)]);
        assert_eq!(unify(&a, &b, &ColumnUse::Value), Some(both.clone()));
        assert_eq!(as_value(&a, &structure(&[("x", Utf8)])), None);
    }

    #[test]
    fn null_and_nan_are_no_values() {
        assert!(!has_value(&Float64Array::from(vec![None, Some(f64::NAN)])));
        assert!(has_value(&Float64Array::from(vec![Some(f64::NAN), Some(f64::INFINITY)])));
        assert!(!has_value(&NullArray::new(3)));
        assert!(has_value(&Int64Array::from(vec![None, Some(0)])));
        assert!(!has_value(&StringArray::from(vec![None::<&str>])));
        let none = StringArray::from(vec![None::<&str>; 2]);
        let keys = arrow::array::Int32Array::from(vec![0, 1]);
        assert!(!has_value(&arrow::array::DictionaryArray::new(keys, Arc::new(none))));
    }
}
