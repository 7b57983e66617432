use arrow::array::{
    AsArray, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int64Array, LargeStringArray, StringArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{Float64Type, Int64Type, UInt64Type};
use driftline_operators::admit::event_time_parts;

use super::*;

fn uses(keys: &[&str], declared: &[(&str, JsonType)]) -> ColumnUses {
    ColumnUses {
        time: Some("t".to_owned()),
        keys: keys.iter().map(|&key| key.to_owned()).collect(),
        declared: declared.iter().map(|&(name, to)| (name.to_owned(), to)).collect(),
        columns_key: "[event.columns]".to_owned(),
        ..ColumnUses::default()
    }
}

/// The column in its normal form, and the rows that are refused.
fn normal(column: ArrayRef, uses: &ColumnUses) -> (ArrayRef, Vec<(usize, String)>) {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from_value(0, column.len()));
    let batch = RecordBatch::try_from_iter([("t", times), ("c", column)]).unwrap();
    let schema = normal_schema(&batch.schema(), uses).unwrap();
    let Normalised { rows, refused } =
        normalise(batch.columns(), batch.num_rows(), &schema, uses).unwrap();
    assert_eq!(rows.schema(), schema);
    (rows.column(1).clone(), refused)
}

/// Columns of every type of number that hold 1, null and 3.
fn numbers() -> Vec<ArrayRef> {
    let ones: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let types = [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Float16,
        DataType::Float32,
        DataType::Float64,
        DataType::Decimal128(38, 0),
        DataType::Decimal128(12, 2),
        DataType::Decimal256(40, 3),
    ];
    types.iter().map(|to| cast(&ones, to).unwrap()).collect()
}

#[test]
fn a_number_is_float64_whoever_wrote_it() {
    for column in numbers() {
        let stored = column.data_type().clone();
        let (found, refused) = normal(column, &uses(&[], &[]));
        let found: Vec<_> = found.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(found, [Some(1.0), None, Some(3.0)], "{stored}");
        assert!(refused.is_empty(), "{stored}");
    }
}

#[test]
fn whole_numbers_that_are_declared_so_are_integers() {
    for column in numbers() {
        let stored = column.data_type().clone();
        let (found, refused) = normal(column, &uses(&[], &[("c", JsonType::Int64)]));
        let found: Vec<_> = found.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(found, [Some(1), None, Some(3)], "{stored}");
        assert!(refused.is_empty(), "{stored}");
    }
}

#[test]
fn keys_of_integers_stay_integers_and_those_of_floats_floats() {
    for column in numbers() {
        let stored = column.data_type().clone();
        let (found, _) = normal(column, &uses(&["c"], &[]));
        let expected = match stored {
            DataType::UInt64 => DataType::UInt64,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
            DataType::Decimal128(12, 2) | DataType::Decimal256(..) => DataType::Float64,
            _ => DataType::Int64,
        };
        assert_eq!(*found.data_type(), expected, "{stored}");
        let values = cast(&found, &DataType::Float64).unwrap();
        let values: Vec<_> = values.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(1.0), None, Some(3.0)], "{stored}");
    }
}

#[test]
fn integers_keep_their_last_digit_as_keys() {
    let big = 9_007_199_254_740_993;
    let decimals =
        Decimal128Array::from(vec![Some(i128::from(big)), None, Some(i128::from(big) - 1)]);
    let decimals: ArrayRef = Arc::new(decimals.with_precision_and_scale(38, 0).unwrap());
    let (found, refused) = normal(decimals, &uses(&["c"], &[]));
    let found: Vec<_> = found.as_primitive::<Int64Type>().iter().collect();
    assert_eq!((found, refused.len()), (vec![Some(big), None, Some(big - 1)], 0));
    let counts = vec![Some(u64::MAX), None, Some(1 << 63)];
    let (found, refused) = normal(Arc::new(UInt64Array::from(counts.clone())), &uses(&["c"], &[]));
    assert_eq!(found.as_primitive::<UInt64Type>().iter().collect::<Vec<_>>(), counts);
    assert!(refused.is_empty());
}

#[test]
fn what_a_column_cannot_hold_refuses_its_row_by_name() {
    let declared = [("c", JsonType::Int64)];
    let check = |column: ArrayRef, keys: &[&str], declared: &[_], refused: &[(usize, &str)]| {
        let stored = column.data_type().clone();
        let (_, found) = normal(column, &uses(keys, declared));
        assert_eq!(found.len(), refused.len(), "{stored}: {found:?}");
        for ((row, why), (expected, part)) in found.iter().zip(refused) {
            assert_eq!(row, expected, "{stored}");
            assert!(why.starts_with("column \"c\" is ") && why.contains(part), "{why}");
        }
    };
    let floats =
        vec![Some(1.5), None, Some(2.0), Some(9.3e18), Some(f64::NAN), Some(f64::INFINITY)];
    check(
        Arc::new(Float64Array::from(floats)),
        &[],
        &declared,
        &[(0, "1.5, which is no Int64"), (3, "9.3e18"), (5, "inf")],
    );
    let counts = UInt64Array::from(vec![5, 1 << 63]);
    check(Arc::new(counts), &[], &declared, &[(1, "9223372036854775808")]);
    let decimals = Decimal128Array::from(vec![150, 200]).with_precision_and_scale(12, 2).unwrap();
    check(Arc::new(decimals), &[], &declared, &[(0, "1.50")]);
    let large =
        Decimal128Array::from(vec![1_i128 << 64, 7]).with_precision_and_scale(38, 0).unwrap();
    check(Arc::new(large.clone()), &["c"], &[], &[(0, "18446744073709551616")]);
    check(Arc::new(large), &[], &[], &[]);
}

#[test]
fn a_refused_row_leaves_the_others_in_their_places() {
    let uses = uses(&[], &[("c", JsonType::Int64)]);
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![5, 6, 7]));
    let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 0.5, 3.0]));
    let batch = RecordBatch::try_from_iter([("t", times), ("c", values)]).unwrap();
    let schema = normal_schema(&batch.schema(), &uses).unwrap();
    let sound = normalise(batch.columns(), batch.num_rows(), &schema, &uses).unwrap();
    let Sound { rows, offsets, undecoded } =
        sound.sound(&batch, UInt64Array::from(vec![10, 11, 12])).unwrap();
    assert_eq!(rows.column(1).as_primitive::<Int64Type>().values(), &[1, 3]);
    assert_eq!(offsets.values(), &[10, 12]);
    let [only] = undecoded.as_slice() else { panic!("{undecoded:?}") };
    assert_eq!(only.offset, 11);
    let payload = String::from_utf8(only.bytes.clone().unwrap()).unwrap();
    assert!(payload.contains("\"c\":0.5"), "{payload}");
}

#[test]
fn nan_is_null_in_every_role_and_infinity_is_not() {
    for uses in [uses(&[], &[]), uses(&["c"], &[]), uses(&[], &[("c", JsonType::Float64)])] {
        let floats = vec![f32::NAN, 1.0, f32::INFINITY];
        let (found, refused) = normal(Arc::new(Float32Array::from(floats)), &uses);
        let found: Vec<_> = found.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(found, [None, Some(1.0), Some(f64::INFINITY)]);
        assert!(refused.is_empty());
    }
}

#[test]
fn text_is_text_whatever_its_offsets_and_dictionary() {
    let values = vec![Some("a"), None, Some("b")];
    let dictionary: DictionaryArray<arrow::datatypes::Int8Type> = values.iter().copied().collect();
    let of_large = DictionaryArray::new(
        UInt8Array::from(vec![Some(0), None, Some(1)]),
        Arc::new(LargeStringArray::from(vec!["a", "b"])),
    );
    let columns: [ArrayRef; 4] = [
        Arc::new(StringArray::from(values.clone())),
        Arc::new(LargeStringArray::from(values.clone())),
        Arc::new(dictionary),
        Arc::new(of_large),
    ];
    for column in columns {
        for uses in [uses(&[], &[]), uses(&["c"], &[]), uses(&[], &[("c", JsonType::Utf8)])] {
            let (found, refused) = normal(column.clone(), &uses);
            assert_eq!(found.as_string::<i32>().iter().collect::<Vec<_>>(), values);
            assert!(refused.is_empty());
        }
    }
}

#[test]
fn sixteen_bytes_of_a_key_are_a_uuid() {
    let bytes: Vec<u8> = (0..16).map(|at| at * 17).collect();
    let column = FixedSizeBinaryArray::try_from_iter([bytes].into_iter()).unwrap();
    let column: ArrayRef = Arc::new(column);
    let text = "00112233-4455-6677-8899-aabbccddeeff";
    for uses in [uses(&["c"], &[]), uses(&[], &[("c", JsonType::Utf8)])] {
        let (found, _) = normal(column.clone(), &uses);
        assert_eq!(found.as_string::<i32>().value(0), text);
    }
    let (found, _) = normal(column, &uses(&[], &[]));
    assert_eq!(*found.data_type(), DataType::FixedSizeBinary(16));
}

#[test]
fn a_declaration_of_another_family_is_refused_at_the_start() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"1".as_slice()]));
    let number: ArrayRef = Arc::new(Int8Array::from(vec![1]));
    for (column, declared) in [
        (text.clone(), JsonType::Float64),
        (text, JsonType::Int64),
        (bytes, JsonType::Utf8),
        (number.clone(), JsonType::Utf8),
        (number, JsonType::Boolean),
    ] {
        let times: ArrayRef = Arc::new(Int64Array::from(vec![0]));
        let batch = RecordBatch::try_from_iter([("t", times), ("c", column.clone())]).unwrap();
        let error = normal_schema(&batch.schema(), &uses(&[], &[("c", declared)])).unwrap_err();
        let error = error.to_string();
        let stored = column.data_type().to_string();
        for part in ["\"c\"", &stored, &declared_type(declared).to_string(), "[event.columns]"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// Whole ms and the ns below, of the times of a column whose numbers count `unit`.
fn times(column: ArrayRef, unit: Option<TimeUnit>) -> Vec<Option<(i64, u32)>> {
    let normal = normal_times(&column, unit).unwrap();
    let (millis, below) = event_time_parts(&normal).unwrap();
    let part = |row| below.as_ref().map_or(0, |below| below.value(row));
    (0..millis.len())
        .map(|row| millis.is_valid(row).then(|| (millis.value(row), part(row))))
        .collect()
}

#[test]
fn times_of_every_unit_and_writer_are_the_same_instants() {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let second = 1_700_000_000;
    let whole = [Some((second * 1_000, 0))];
    let ints = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
    assert_eq!(times(ints(second * 1_000), None), whole);
    assert_eq!(times(ints(second), Some(Second)), whole);
    assert_eq!(times(ints(second * 1_000), Some(Millisecond)), whole);
    assert_eq!(
        times(ints(second * 1_000_000 + 7), Some(Microsecond)),
        [Some((second * 1_000, 7_000))]
    );
    assert_eq!(
        times(ints(second * 1_000_000_000 + 7), Some(Nanosecond)),
        [Some((second * 1_000, 7))]
    );
    assert_eq!(times(Arc::new(UInt32Array::from(vec![second as u32])), Some(Second)), whole);
    assert_eq!(times(Arc::new(Int16Array::from(vec![2])), Some(Second)), [Some((2_000, 0))]);
    let float = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    assert_eq!(times(float(second as f64 + 0.25), Some(Second)), [Some((second * 1_000 + 250, 0))]);
    assert_eq!(times(float(1.5), Some(Millisecond)), [Some((1, 500_000))]);
    for none in [f64::NAN, f64::INFINITY, 1e300] {
        assert_eq!(times(float(none), Some(Second)), [None]);
    }
    assert!(check_time(&DataType::Float64, None).unwrap_err().to_string().contains("time_unit"));
    let columns: [ArrayRef; 4] = [
        Arc::new(TimestampSecondArray::from(vec![second])),
        Arc::new(
            TimestampMillisecondArray::from(vec![second * 1_000]).with_timezone("Europe/Berlin"),
        ),
        Arc::new(TimestampMicrosecondArray::from(vec![second * 1_000_000])),
        Arc::new(TimestampNanosecondArray::from(vec![second * 1_000_000_000])),
    ];
    for column in columns {
        assert_eq!(times(column, None), whole);
    }
    let text = vec!["2023-11-14T22:13:20Z", "2023-11-14T23:13:20.000250+01:00", "soon"];
    let dictionary: DictionaryArray<arrow::datatypes::Int32Type> = text.iter().copied().collect();
    for column in [Arc::new(StringArray::from(text)) as ArrayRef, Arc::new(dictionary)] {
        let expected = [whole[0], Some((second * 1_000, 250_000)), None];
        assert_eq!(times(column, None), expected);
    }
    let days: ArrayRef = Arc::new(Date32Array::from(vec![1, 2_932_896]));
    assert_eq!(times(days, None), [Some((86_400_000, 0)), Some((253_402_214_400_000, 0))]);
}

#[test]
fn times_that_are_out_of_range_are_none_and_never_wrap() {
    let most = i64::MAX;
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![most, most / 1_000]));
    assert_eq!(times(seconds, None), [None, Some((most / 1_000 * 1_000, 0))]);
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![most, i64::MIN]));
    assert_eq!(times(integers, Some(TimeUnit::Second)), [None, None]);
    let counts: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    assert_eq!(times(counts, None), [None]);
    // The last of the calendar, as a value for SQL.
    let end = 253_402_300_799;
    let (found, refused) =
        normal(Arc::new(TimestampSecondArray::from(vec![end, most])), &uses(&[], &[]));
    let found = found.as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    assert_eq!(found.iter().collect::<Vec<_>>(), [Some(end * 1_000_000), None]);
    assert_eq!(refused.len(), 1);
}
