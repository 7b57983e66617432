//! The seam to whatever computes scores: columns in, columns out.

use std::time::Duration;

use arrow::array::{Array, Float32Array, RecordBatch};

use crate::numbers::Numbers;

/// A loaded model, owned by one worker; it may be loaded on another thread.
pub trait Model: Send {
    /// Scores `features`, whose columns are the model's inputs in order, `[rows, inputs]`. The answer
    /// has a prediction of [`Model::width`] numbers for each row; one of another length is refused.
    ///
    /// # Errors
    /// If the model refuses the batch as a whole; the caller may try its rows one by one.
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError>;

    /// How many numbers a prediction has, always: classes, or 1 for a regression.
    fn width(&self) -> usize;

    fn task(&self) -> Task;

    /// Whether its predictions are doubles, always. Then [`Model::score_doubles`] is asked in place of
    /// [`Model::score`], and so are the columns of predictions.
    fn gives_doubles(&self) -> bool {
        false
    }

    /// From now on a run that takes longer than `limit` is ended, and fails as [`ModelError::Overstayed`].
    /// Asked for once, when the model is ready to score events. A model that cannot end its runs, or whose
    /// runs are short whatever they are given, lets it be.
    ///
    /// # Errors
    /// If it could, and cannot now.
    fn limit_runs(&mut self, limit: Duration) -> Result<(), ModelError> {
        let _ = limit;
        Ok(())
    }

    /// As [`Model::score`], no bit of a double lost.
    ///
    /// # Errors
    /// As [`Model::score`].
    fn score_doubles(&mut self, features: &RecordBatch) -> Result<Scores<f64>, ModelError> {
        let Scores { predictions, input } = self.score(features)?;
        Ok(Scores { predictions: predictions.into_iter().map(f64::from).collect(), input })
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

impl Task {
    /// Whether a prediction can have `width` numbers.
    pub fn has_width(self, width: usize) -> bool {
        match self {
            Task::Binary => width == 2,
            Task::Multiclass => width >= 2,
            Task::Regression => width == 1,
        }
    }
}

/// Scores of a batch.
pub struct Scores<Number = f32> {
    /// Prediction vectors, row after row, `[rows * width]`.
    pub predictions: Vec<Number>,
    /// The features as floats, `[rows * inputs]`, where the model was asked to keep them: the tensor
    /// of one that has a single input of floats; a text is NaN.
    pub input: Option<Float32Array>,
}

/// The same of floats or of doubles, and of all rows.
pub struct ScoredRows {
    pub predictions: Numbers,
    pub input: Option<Float32Array>,
}

/// Scores `features`, and refuses an answer that is not of all their rows.
///
/// # Errors
/// If the model refuses them, or what it gives is too short or too long.
pub fn score_rows(model: &mut dyn Model, features: &RecordBatch) -> Result<ScoredRows, ModelError> {
    let (rows, width) = (features.num_rows(), model.width());
    let scores = if model.gives_doubles() {
        let Scores { predictions, input } = model.score_doubles(features)?;
        ScoredRows { predictions: Numbers::Doubles(predictions), input }
    } else {
        let Scores { predictions, input } = model.score(features)?;
        ScoredRows { predictions: Numbers::Floats(predictions), input }
    };
    let given = scores.predictions.len();
    if given != rows * width {
        return Err(ModelError::Refused(format!(
            "the model gave {given} numbers for {rows} rows, whose predictions have {width} each"
        )));
    }
    let inputs = rows * features.num_columns();
    match scores.input.as_ref().map(Array::len).filter(|given| *given != inputs) {
        Some(given) => {
            Err(ModelError::Refused(format!("the model gave {given} inputs; it had {inputs}")))
        }
        None => Ok(scores),
    }
}

/// Why rows have no scores.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// The model does not take the rows, or gives what is no answer.
    #[error("{0}")]
    Refused(String),
    /// The run went on for too long, and was ended.
    #[error("the run took longer than run_timeout_ms = {limit_ms}")]
    Overstayed { limit_ms: u64 },
}

/// What a prediction says of the model that made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModelIdentity {
    pub name: String,
    pub version: String,
}

/// Which model scores the rows of which event times, as far as that is decided.
pub trait ModelsByTime: Send + Sync {
    /// The model of an event time (ms); where epochs decide, the newest.
    fn at(&self, time: i64) -> ModelIdentity;
}

/// One that scores all rows.
impl ModelsByTime for ModelIdentity {
    fn at(&self, _time: i64) -> ModelIdentity {
        self.clone()
    }
}
