//! Models of the tests, which say what they were asked.

use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::Float64Type;
use driftline_operators::model::{Model, ModelError, Scores, Task};

/// A batch that a model was given.
#[derive(Clone, Debug)]
pub struct Call {
    pub worker: usize,
    /// The features of each row.
    pub rows: Vec<Vec<Option<f64>>>,
    pub refused: bool,
}

impl Call {
    /// The last feature of each row, which tells it from all others.
    pub fn places(&self) -> Vec<f64> {
        self.rows.iter().map(|row| row[row.len() - 1].unwrap()).collect()
    }
}

#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<Vec<Call>>>);

impl Calls {
    pub fn all(&self) -> Vec<Call> {
        self.0.lock().unwrap().clone()
    }
}

/// The prediction vector of a row of features, or why the model refuses it.
pub type ScoreRow = Box<dyn Fn(&[Option<f64>]) -> Result<Vec<f32>, String> + Send>;

/// Scores row by row, and refuses a batch if it refuses one of its rows.
pub struct RowByRow {
    worker: usize,
    task: Task,
    score: ScoreRow,
    calls: Calls,
    asked: u64,
    /// Larger batches are refused as a whole.
    pub rows_max: usize,
    /// One call in so many is refused, if not 0.
    pub fails_one_in: u64,
    /// So many numbers more than there should be are given.
    pub miscounts_by: i64,
}

impl RowByRow {
    pub fn new(
        worker: usize,
        task: Task,
        score: impl Fn(&[Option<f64>]) -> Result<Vec<f32>, String> + Send + 'static,
        calls: Calls,
    ) -> Self {
        let score = Box::new(score);
        let (asked, rows_max, fails_one_in, miscounts_by) = (0, usize::MAX, 0, 0);
        RowByRow { worker, task, score, calls, asked, rows_max, fails_one_in, miscounts_by }
    }

    fn scores(&mut self, rows: &[Vec<Option<f64>>]) -> Result<Vec<f32>, String> {
        self.asked += 1;
        if self.fails_one_in > 0 && self.asked.is_multiple_of(self.fails_one_in) {
            return Err("not now".to_owned());
        }
        if rows.len() > self.rows_max {
            return Err(format!("{} rows are too many", rows.len()));
        }
        let vectors: Result<Vec<_>, _> = rows.iter().map(|row| (self.score)(row)).collect();
        let mut scores = vectors?.concat();
        let count = scores.len() as i64 + self.miscounts_by;
        scores.resize(count as usize, 0.0);
        Ok(scores)
    }
}

impl Model for RowByRow {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let value = |row: usize, at: usize| {
            let column = features.column(at).as_primitive::<Float64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let features_of =
            |row: usize| (0..features.num_columns()).map(|at| value(row, at)).collect();
        let rows: Vec<Vec<Option<f64>>> = (0..features.num_rows()).map(features_of).collect();
        let scores = self.scores(&rows);
        let refused = scores.is_err() || self.miscounts_by != 0;
        let as_float = |value: &Option<f64>| value.map_or(f32::NAN, |value| value as f32);
        let input: Float32Array = rows.iter().flatten().map(as_float).collect::<Vec<_>>().into();
        self.calls.0.lock().unwrap().push(Call { worker: self.worker, rows, refused });
        Ok(Scores { predictions: scores.map_err(ModelError::Refused)?, input: Some(input) })
    }

    fn width(&self) -> usize {
        match self.task {
            Task::Regression => 1,
            Task::Binary => 2,
            Task::Multiclass => 3,
        }
    }

    fn task(&self) -> Task {
        self.task
    }
}
