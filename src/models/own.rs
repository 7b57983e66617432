//! Models that the program brings itself.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use driftline_operators::model::{Model, ModelError};

/// Makes a worker's model on its thread, given the features that it is handed, in the order of
/// `model.features`: Float64, Utf8, or Int64 where the job declares a column to be int64.
pub type ModelFactory = Arc<dyn Fn(&[Field]) -> Result<Box<dyn Model>, ModelError> + Send + Sync>;

/// Makes such a model, and looks whether what it says of its predictions can be.
///
/// # Errors
/// If it cannot be made, or its task does not have predictions of its width.
pub fn make(factory: &ModelFactory, features: &[Field]) -> Result<Box<dyn Model>, ModelError> {
    let model = factory(features)?;
    let (task, width) = (model.task(), model.width());
    if !task.has_width(width) {
        return Err(ModelError::Refused(format!(
            "the program's own model has predictions of {width} numbers, and its task is {task:?}"
        )));
    }
    Ok(model)
}

/// A row to try such a model with: any number will do for numbers, texts are empty.
///
/// # Errors
/// Never: the columns are those of the features.
pub fn sample(features: &[Field]) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Field| -> ArrayRef {
        match field.data_type() {
            DataType::Utf8 => Arc::new(StringArray::from(vec![""])),
            other => new_null_array(other, 1),
        }
    };
    let columns = features.iter().map(column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(features.to_vec())), columns)
}
