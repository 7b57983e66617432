//! From the columns that Parquet files hold to those of a stream.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::columns::{ColumnUses, Normalised, normal_schema, normalise};

/// The columns as they are stored, those that folders stand for last, and which of them are wanted.
#[derive(Clone)]
pub struct StoredColumns {
    stored: Schema,
    uses: ColumnUses,
    wanted: Vec<usize>,
    schema: SchemaRef,
}

impl StoredColumns {
    /// All columns of `stored`.
    ///
    /// # Errors
    /// If none of them is the time of rows, or one cannot be what the job declares it.
    pub fn new(stored: Schema, uses: ColumnUses) -> Result<Self, ArrowError> {
        let schema = normal_schema(&stored, &uses)?;
        let wanted = (0..stored.fields().len()).collect();
        Ok(StoredColumns { stored, uses, wanted, schema })
    }

    /// What is wanted, in the form of [`normalise`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The position of event time in the schema.
    ///
    /// # Errors
    /// If it is not wanted.
    pub fn time_column(&self) -> Result<usize, ArrowError> {
        self.schema.index_of(self.uses.time.as_deref().unwrap_or_default())
    }

    /// Wants only `columns`, by position in the schema.
    pub fn project(&mut self, columns: &[usize]) {
        self.wanted = columns.iter().map(|&column| self.wanted[column]).collect();
        self.schema = Arc::new(self.schema.project(columns).expect("positions in the schema"));
    }

    /// Positions of the wanted columns that a file with `own` columns has itself.
    pub fn in_file(&self, own: usize) -> impl Iterator<Item = usize> {
        self.wanted.iter().copied().filter(move |&column| column < own)
    }

    /// What is done with each column.
    pub fn uses(&self) -> &ColumnUses {
        &self.uses
    }

    /// The wanted columns in their order and form, those of the folders among them.
    ///
    /// # Errors
    /// If a column cannot take the form of the schema.
    pub fn arrange(
        &self,
        batch: &RecordBatch,
        hive: &[(String, String)],
    ) -> Result<Normalised, ArrowError> {
        let rows = batch.num_rows();
        let fields = self.wanted.iter().map(|&column| self.stored.field(column));
        let (fields, columns): (Vec<Field>, Vec<ArrayRef>) = fields
            .map(|field| {
                let column = match batch.column_by_name(field.name()) {
                    Some(stored) => stored.clone(),
                    None => hive_column(hive, field, rows),
                };
                // Nullability differs between files; it plays no part here.
                (Field::new(field.name(), column.data_type().clone(), true), column)
            })
            .unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(fields));
        let arranged = RecordBatch::try_new_with_options(schema, columns, &options)?;
        normalise(&arranged, &self.schema, &self.uses)
    }
}

fn hive_column(hive: &[(String, String)], field: &Field, rows: usize) -> ArrayRef {
    let value = hive.iter().find(|(name, _)| name == field.name());
    let value = value.map_or("", |(_, value)| value.as_str());
    if *field.data_type() == DataType::Int64 {
        Arc::new(Int64Array::from(vec![value.parse::<i64>().ok(); rows]))
    } else {
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, rows)))
    }
}
