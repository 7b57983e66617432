//! A model that does nothing.

use arrow::array::RecordBatch;
use driftline::model::{Model, ModelError, Scores, Task};

/// Gives every row the same score.
pub struct Empty;

impl Model for Empty {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        Ok(Scores { predictions: vec![0.5f32; 2 * features.num_rows()].into(), input: None })
    }

    fn width(&self) -> usize {
        2
    }

    fn task(&self) -> Task {
        Task::Binary
    }
}
