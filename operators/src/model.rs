//! The seam to whatever computes scores: columns in, columns out.

use arrow::array::{Array, Float32Array, RecordBatch};

/// A loaded model, owned by one worker.
pub trait Model {
    /// Scores `features`, whose columns are the model's inputs in order, `[rows, inputs]`.
    ///
    /// # Errors
    /// If the model refuses the batch as a whole; the caller may try its rows one by one.
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError>;

    /// How many numbers a prediction has: classes, or 1 for a regression.
    fn width(&self) -> usize;

    fn task(&self) -> Task;
}

/// Scores `features`, and makes sure that there is a prediction for each row.
///
/// # Errors
/// If the model refuses the batch, or gives another number of predictions than there are rows.
pub fn score_rows(model: &mut dyn Model, features: &RecordBatch) -> Result<Scores, ModelError> {
    let scores = model.score(features)?;
    let (rows, width) = (features.num_rows(), model.width());
    let input = rows * features.num_columns();
    if scores.predictions.len() != rows * width {
        let found = scores.predictions.len();
        let message = format!("the model gave {found} numbers for {rows} rows of {width}");
        return Err(ModelError(message));
    }
    match scores.input.as_ref().map(Array::len) {
        Some(found) if found != input => {
            let message = format!("the model kept {found} numbers for an input of {input}");
            Err(ModelError(message))
        }
        _ => Ok(scores),
    }
}

/// What the prediction vector means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Two class probabilities; the score is the second one.
    Binary,
    /// More than two class probabilities; the score is the largest.
    Multiclass,
    /// One number, which is the score.
    Regression,
}

/// Scores of a batch.
pub struct Scores {
    /// Prediction vectors, row after row, `[rows * width]`.
    pub predictions: Vec<f32>,
    /// The features as floats, `[rows * inputs]`, where the model was asked to keep them: the tensor
    /// of one that has a single input of floats; a text is NaN.
    pub input: Option<Float32Array>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ModelError(pub String);

/// What a prediction says of the model that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelIdentity {
    pub name: String,
    pub version: String,
}
