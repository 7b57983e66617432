//! Columns of lists.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field};
use arrow::error::ArrowError;

/// The type of a column of lists.
pub fn list_type(item: DataType, nullable: bool) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, nullable)))
}

/// A column of lists of these lengths, one after the other in `items`.
///
/// # Errors
/// If there are not as many items.
pub fn lists(
    lengths: impl IntoIterator<Item = usize>,
    items: ArrayRef,
    nullable: bool,
) -> Result<ArrayRef, ArrowError> {
    let item = Arc::new(Field::new_list_field(items.data_type().clone(), nullable));
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), items, None)?))
}

/// The list of a row.
pub fn list(column: &ArrayRef, row: usize) -> ArrayRef {
    column.as_list::<i32>().value(row)
}

/// The list of a row, without nulls.
pub fn numbers<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> Vec<T::Native> {
    list(column, row).as_primitive::<T>().values().to_vec()
}
