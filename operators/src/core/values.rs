//! The values of a table's versions: one store a column, in which each version has a place.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, StringArray,
    UInt32Array, downcast_primitive,
};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

/// Where the values of a version are; [`NOWHERE`] where there are none.
pub type Place = u32;

pub const NOWHERE: Place = Place::MAX;

/// The values of one column, by place.
pub trait Store {
    /// Keeps the values of rows of a column at places, one after the other: `(row, place)`.
    ///
    /// # Errors
    /// If the column is not of the type that the store is of.
    fn keep(&mut self, column: &ArrayRef, rows: &[(u32, Place)]) -> Result<(), ArrowError>;

    /// Gives back the room of the value at a place, which is asked for no more.
    fn forget(&mut self, place: Place);

    /// Moves the values from places to the first places, in this order; all others are gone.
    fn close_ranks(&mut self, from: &[Place]);

    /// The values at places, `[places]`; null at [`NOWHERE`].
    fn gather(&self, places: &[Place]) -> Result<ArrayRef, ArrowError>;
}

/// A store for values of a type.
///
/// # Errors
/// If the type is neither of fixed width nor text, and has no row format.
pub fn store_of(data_type: &DataType) -> Result<Box<dyn Store>, ArrowError> {
    macro_rules! primitive {
        ($t:ty) => {
            Ok(Box::new(Numbers::<$t> { data_type: data_type.clone(), values: Vec::new() }))
        };
    }
    downcast_primitive! {
        data_type => (primitive),
        DataType::Boolean => Ok(Box::new(Booleans::default())),
        DataType::Utf8 => Ok(Box::new(Texts::default())),
        other => Ok(Box::new(InRows {
            converter: RowConverter::new(vec![SortField::new(other.clone())])?,
            values: Vec::new(),
        })),
    }
}

/// Writes to a place, which may be one more than there are.
fn put<V>(values: &mut Vec<Option<V>>, place: Place, value: Option<V>) {
    let place = place as usize;
    if place >= values.len() {
        values.resize_with(place + 1, || None);
    }
    values[place] = value;
}

fn moved<V>(values: &mut [Option<V>], from: &[Place]) -> Vec<Option<V>> {
    from.iter().map(|&place| values.get_mut(place as usize).and_then(Option::take)).collect()
}

fn get<V>(values: &[Option<V>], place: Place) -> Option<&V> {
    values.get(place as usize).and_then(Option::as_ref)
}

/// Values of a fixed width.
struct Numbers<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<Option<T::Native>>,
}

impl<T: ArrowPrimitiveType> Store for Numbers<T> {
    fn keep(&mut self, column: &ArrayRef, rows: &[(u32, Place)]) -> Result<(), ArrowError> {
        let column = column.as_primitive_opt::<T>().ok_or_else(|| unlike(column))?;
        for &(row, place) in rows {
            let row = row as usize;
            put(&mut self.values, place, column.is_valid(row).then(|| column.value(row)));
        }
        Ok(())
    }

    fn forget(&mut self, _place: Place) {}

    fn close_ranks(&mut self, from: &[Place]) {
        self.values = moved(&mut self.values, from);
    }

    fn gather(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let values = places.iter().map(|&place| get(&self.values, place).copied());
        let values: PrimitiveArray<T> = values.collect();
        Ok(Arc::new(values.with_data_type(self.data_type.clone())))
    }
}

#[derive(Default)]
struct Booleans(Vec<Option<bool>>);

impl Store for Booleans {
    fn keep(&mut self, column: &ArrayRef, rows: &[(u32, Place)]) -> Result<(), ArrowError> {
        let column = column.as_boolean_opt().ok_or_else(|| unlike(column))?;
        for &(row, place) in rows {
            let row = row as usize;
            put(&mut self.0, place, column.is_valid(row).then(|| column.value(row)));
        }
        Ok(())
    }

    fn forget(&mut self, _place: Place) {}

    fn close_ranks(&mut self, from: &[Place]) {
        self.0 = moved(&mut self.0, from);
    }

    fn gather(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let values = places.iter().map(|&place| get(&self.0, place).copied());
        Ok(Arc::new(values.collect::<BooleanArray>()))
    }
}

#[derive(Default)]
struct Texts(Vec<Option<Box<str>>>);

impl Store for Texts {
    fn keep(&mut self, column: &ArrayRef, rows: &[(u32, Place)]) -> Result<(), ArrowError> {
        let column = column.as_string_opt::<i32>().ok_or_else(|| unlike(column))?;
        for &(row, place) in rows {
            let row = row as usize;
            put(&mut self.0, place, column.is_valid(row).then(|| column.value(row).into()));
        }
        Ok(())
    }

    fn forget(&mut self, place: Place) {
        put(&mut self.0, place, None);
    }

    fn close_ranks(&mut self, from: &[Place]) {
        self.0 = moved(&mut self.0, from);
    }

    fn gather(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let values = places.iter().map(|&place| get(&self.0, place));
        Ok(Arc::new(values.collect::<StringArray>()))
    }
}

/// Values of any other type, in Arrow's row format, which keeps every bit.
struct InRows {
    converter: RowConverter,
    values: Vec<Option<Box<[u8]>>>,
}

impl Store for InRows {
    fn keep(&mut self, column: &ArrayRef, rows: &[(u32, Place)]) -> Result<(), ArrowError> {
        let converted = self.converter.convert_columns(std::slice::from_ref(column))?;
        for &(row, place) in rows {
            put(&mut self.values, place, Some(converted.row(row as usize).as_ref().into()));
        }
        Ok(())
    }

    fn forget(&mut self, place: Place) {
        put(&mut self.values, place, None);
    }

    fn close_ranks(&mut self, from: &[Place]) {
        self.values = moved(&mut self.values, from);
    }

    /// Each place is read once, however often it is asked for.
    fn gather(&self, places: &[Place]) -> Result<ArrayRef, ArrowError> {
        let mut distinct = places.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        distinct.retain(|&place| get(&self.values, place).is_some());
        let parser = self.converter.parser();
        let stored = distinct.iter().filter_map(|&place| get(&self.values, place));
        let read = self.converter.convert_rows(stored.map(|bytes| parser.parse(bytes)))?;
        let at = places.iter().map(|place| distinct.binary_search(place).ok().map(|at| at as u32));
        take(&read[0], &at.collect::<UInt32Array>(), None)
    }
}

fn unlike(column: &ArrayRef) -> ArrowError {
    ArrowError::SchemaError(format!("a column of a table cannot turn into {}", column.data_type()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        BinaryArray, Float64Array, ListArray, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::Int32Type;

    use super::*;

    /// Writes rows to places in turn and over each other, and takes them back.
    #[track_caller]
    fn check(column: impl Array + 'static) {
        let column: ArrayRef = Arc::new(column);
        let mut store = store_of(column.data_type()).unwrap();
        store.keep(&column, &[(0, 1), (1, 0), (0, 3)]).unwrap();
        store.keep(&column, &[(2, 3)]).unwrap();
        let found = store.gather(&[3, NOWHERE, 1, 0, 1, 3]).unwrap();
        let wanted = UInt32Array::from(vec![Some(2), None, Some(0), Some(1), Some(0), Some(2)]);
        assert_eq!(&found, &take(&column, &wanted, None).unwrap());
        store.forget(3);
        assert_eq!(&store.gather(&[1]).unwrap(), &column.slice(0, 1));
        store.close_ranks(&[1, 0]);
        assert_eq!(&store.gather(&[0, 1]).unwrap(), &column.slice(0, 2));
        assert_eq!(store.gather(&[]).unwrap().data_type(), column.data_type());
    }

    #[test]
    fn values_of_every_type_come_back_as_they_were() {
        check(Float64Array::from(vec![
            Some(f64::from_bits(0x7ff8_0000_0000_1234)),
            None,
            Some(-0.0),
        ]));
        check(TimestampMicrosecondArray::from(vec![Some(7), Some(-7), None]).with_timezone("UTC"));
        check(BooleanArray::from(vec![Some(true), None, Some(false)]));
        check(StringArray::from(vec![Some("a"), None, Some("")]));
        check(BinaryArray::from(vec![Some(b"a".as_slice()), None, Some(b"")]));
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![])];
        check(ListArray::from_iter_primitive::<Int32Type, _, _>(lists));
    }

    #[test]
    fn a_column_of_another_type_is_refused() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let mut store = store_of(&DataType::Float64).unwrap();
        assert!(store.keep(&column, &[(0, 0)]).is_err());
    }
}
