//! From the columns that a program brings to those of a stream.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;

use super::columns::{ColumnUses, Normalised, normal_schema, normalise};

/// The columns as a program brings them, and which of them are wanted.
#[derive(Clone)]
pub struct StoredColumns {
    stored: Schema,
    uses: ColumnUses,
    schema: SchemaRef,
}

impl StoredColumns {
    /// All columns of `stored`.
    ///
    /// # Errors
    /// If none of them is the time of rows, or one cannot be what the job declares it.
    pub fn new(stored: &Schema, uses: ColumnUses) -> Result<Self, ArrowError> {
        let schema = normal_schema(stored, &uses)?;
        Ok(StoredColumns { stored: stored.clone(), uses, schema })
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
        self.schema = Arc::new(self.schema.project(columns).expect("positions in the schema"));
    }

    /// What a column is stored as.
    pub fn stored_type(&self, name: &str) -> Option<&DataType> {
        self.stored.field_with_name(name).ok().map(Field::data_type)
    }

    /// What is done with each column.
    pub fn uses(&self) -> &ColumnUses {
        &self.uses
    }

    /// The wanted columns in their order and form.
    ///
    /// # Errors
    /// If one of them is missing, or cannot take the form of the schema.
    pub fn arrange(&self, batch: &RecordBatch) -> Result<Normalised, ArrowError> {
        normalise(&self.wanted(batch)?, batch.num_rows(), &self.schema, &self.uses)
    }

    /// The same of a batch that has been arranged before, with more columns.
    ///
    /// # Errors
    /// If it has not.
    pub fn of_arranged(&self, batch: &RecordBatch) -> Result<Normalised, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let columns = self.wanted(batch)?;
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(Normalised { rows, refused: Vec::new() })
    }

    fn wanted(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        let (schema, fields) = (batch.schema_ref(), self.schema.fields());
        let wanted = fields.iter().map(|field| schema.index_of(field.name()));
        wanted.map(|at| at.map(|at| batch.column(at).clone())).collect()
    }
}
