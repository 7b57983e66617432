//! Static tables: rows by key, loaded once and shared by all workers of a process.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{TakeOptions, cast, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt64Type};
use arrow::error::ArrowError;

use crate::key_group::{as_key, as_key_of};
use crate::key_map::KeyMap;

/// A table whose rows never change during the run, looked up by one key column.
#[derive(Clone)]
pub struct StaticTable {
    rows: RecordBatch,
    index: Arc<KeyIndex>,
}

enum KeyIndex {
    Text(KeyMap<String, u32>),
    Number(KeyMap<i64, u32>),
    Count(KeyMap<u64, u32>),
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("the table has no column {0:?}")]
    NoColumn(String),
    #[error("the key {0:?} stands in two rows; a static table has one row a key")]
    DuplicateKey(String),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl StaticTable {
    /// Indexes `rows` by `key`. Rows with a null key are never found. Columns of Int64 are integers as
    /// features, too, but for the key.
    ///
    /// # Errors
    /// If the key column is missing, of a type that cannot be a key, or not unique.
    pub fn new(rows: RecordBatch, key: &str) -> Result<Self, TableError> {
        let column =
            rows.column_by_name(key).ok_or_else(|| TableError::NoColumn(key.to_owned()))?;
        let keys = as_key(column)?;
        let index = match keys.data_type() {
            DataType::Utf8 => KeyIndex::Text(unique(
                keys.as_string::<i32>().iter().map(|k| k.map(str::to_owned)),
            )?),
            DataType::UInt64 => KeyIndex::Count(unique(keys.as_primitive::<UInt64Type>().iter())?),
            _ => KeyIndex::Number(unique(keys.as_primitive::<Int64Type>().iter())?),
        };
        let rows = if column.data_type().is_integer() { with_number(&rows, key)? } else { rows };
        Ok(StaticTable { rows, index: Arc::new(index) })
    }

    pub fn column(&self, name: &str) -> Result<usize, TableError> {
        self.rows.schema().index_of(name).map_err(|_| TableError::NoColumn(name.to_owned()))
    }

    pub fn column_type(&self, column: usize) -> DataType {
        self.rows.schema().field(column).data_type().clone()
    }

    pub fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether it is a copy of the other: the same rows by the same key.
    pub fn is_same(&self, other: &StaticTable) -> bool {
        Arc::ptr_eq(&self.index, &other.index)
    }

    /// The type that keys are looked up by: Utf8, Int64 or UInt64.
    pub fn key_type(&self) -> DataType {
        match *self.index {
            KeyIndex::Text(_) => DataType::Utf8,
            KeyIndex::Number(_) => DataType::Int64,
            KeyIndex::Count(_) => DataType::UInt64,
        }
    }

    /// The row of each key, null where the table has none, `[rows]`.
    ///
    /// # Errors
    /// If `keys` cannot be among those of the table.
    pub fn find(&self, keys: &ArrayRef) -> Result<UInt32Array, ArrowError> {
        let keys = as_key_of(keys, &self.key_type())?;
        match (&*self.index, keys.data_type()) {
            (KeyIndex::Text(index), DataType::Utf8) => {
                Ok(keys.as_string::<i32>().iter().map(|key| index.get(key?).copied()).collect())
            }
            (KeyIndex::Number(index), DataType::Int64) => Ok(keys
                .as_primitive::<Int64Type>()
                .iter()
                .map(|key| index.get(&key?).copied())
                .collect()),
            (KeyIndex::Count(index), DataType::UInt64) => Ok(keys
                .as_primitive::<UInt64Type>()
                .iter()
                .map(|key| index.get(&key?).copied())
                .collect()),
            (_, other) => Err(ArrowError::SchemaError(format!(
                "the table is keyed by {}, the lookup by {other}",
                self.key_type()
            ))),
        }
    }

    /// Values of `column` at the rows that [`StaticTable::find`] gave, `[rows]`.
    ///
    /// # Errors
    /// If a position is beyond the table.
    pub fn values(&self, column: usize, found: &UInt32Array) -> Result<ArrayRef, ArrowError> {
        take(self.rows.column(column), found, Some(TakeOptions { check_bounds: true }))
    }
}

/// The rows with one of their columns as Float64.
fn with_number(rows: &RecordBatch, name: &str) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let column = match field.name() == name {
            true => cast(column, &DataType::Float64)?,
            false => column.clone(),
        };
        Ok((field.as_ref().clone().with_data_type(column.data_type().clone()), column))
    });
    let (fields, columns): (Vec<Field>, Vec<ArrayRef>) =
        columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn unique<K: std::hash::Hash + Eq + ToString>(
    keys: impl Iterator<Item = Option<K>>,
) -> Result<KeyMap<K, u32>, TableError> {
    let mut index = KeyMap::default();
    for (row, key) in keys.enumerate() {
        let Some(key) = key else { continue };
        match index.entry(key) {
            Entry::Occupied(twice) => {
                return Err(TableError::DuplicateKey(twice.key().to_string()));
            }
            Entry::Vacant(free) => {
                free.insert(row as u32);
            }
        }
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, StringArray};
    use arrow::datatypes::Float64Type;

    use super::*;

    fn table(keys: Vec<Option<&str>>) -> Result<StaticTable, TableError> {
        let seats = Float64Array::from_iter_values((0..keys.len()).map(|i| i as f64));
        let columns: [(&str, ArrayRef); 2] =
            [("plane", Arc::new(StringArray::from(keys))), ("seats", Arc::new(seats))];
        StaticTable::new(RecordBatch::try_from_iter(columns).unwrap(), "plane")
    }

    #[test]
    fn a_missing_key_and_a_null_key_find_nothing() {
        let table = table(vec![Some("N1"), None, Some("N3")]).unwrap();
        let keys: ArrayRef = Arc::new(StringArray::from(vec![Some("N3"), None, Some("N9")]));
        let seats = table.values(1, &table.find(&keys).unwrap()).unwrap();
        let seats: Vec<_> = seats.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(seats, [Some(2.0), None, None]);
    }

    #[test]
    fn integers_beyond_those_with_a_sign_are_keys_and_look_up_others() {
        use arrow::array::{Int64Array, UInt64Array};
        let keys: ArrayRef = Arc::new(UInt64Array::from(vec![5, (1 << 63) + 11, u64::MAX]));
        let rows = RecordBatch::try_from_iter([("k", keys.clone())]).unwrap();
        let table = StaticTable::new(rows, "k").unwrap();
        let found = |keys: ArrayRef| table.find(&keys).unwrap().iter().collect::<Vec<_>>();
        assert_eq!(found(keys), [Some(0), Some(1), Some(2)]);
        let signed = Int64Array::from(vec![Some(5), Some(-1), None, Some(i64::MIN + 11)]);
        assert_eq!(found(Arc::new(signed)), [Some(0), None, None, None]);
        // As a feature the key is a number like others.
        assert_eq!(table.column_type(0), DataType::Float64);
    }

    #[test]
    fn a_key_twice_is_an_error() {
        let error = table(vec![Some("N1"), Some("N1")]).err().unwrap();
        assert!(error.to_string().contains("N1"), "{error}");
    }
}
