//! Does a model score rows as its trainer did? Found out when it is loaded, if somebody has kept rows and
//! the trainer's predictions of them.

use arrow::array::RecordBatch;

use crate::batch_probe::doubled;
use crate::model::{Model, ModelError, score_rows};
use crate::numbers::Numbers;

/// Rows that are scored together.
const BATCH_ROWS: usize = 256;

/// By how much a number may differ from the one expected: |given − expected| ≤ absolute +
/// relative·|expected|, as `numpy.isclose` has it. NaN is as good as NaN, an infinity as itself alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

impl Default for Tolerance {
    /// Some hundred roundings to float32, of a probability and of any other number.
    fn default() -> Self {
        Tolerance { absolute: 1e-5, relative: 1e-4 }
    }
}

impl Tolerance {
    /// How far a number is beyond what is allowed; 0 if it is not.
    fn excess(self, given: f64, expected: f64) -> f64 {
        let apart = difference(given, expected);
        let allowed = self.absolute + self.relative * expected.abs();
        match apart.is_finite() {
            true => (apart - allowed).max(0.0),
            false => f64::INFINITY,
        }
    }
}

/// |given − expected|; infinite where one of them is no number, or infinite, and the other is not.
fn difference(given: f64, expected: f64) -> f64 {
    if given == expected || (given.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let difference = (given - expected).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// What a trainer predicts.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// The score of each row, `[rows]`.
    Scores(Vec<f64>),
    /// Its prediction, `[rows, width]`, row after row.
    Predictions { width: usize, values: Vec<f64> },
}

impl Expected {
    /// Of a row.
    fn of(&self, row: usize) -> &[f64] {
        match self {
            Expected::Scores(values) => &values[row..=row],
            Expected::Predictions { width, values } => &values[row * width..(row + 1) * width],
        }
    }
}

/// What came of comparing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parity {
    pub rows: usize,
    /// Rows that differ by more than is allowed, or that the model refuses.
    pub beyond: usize,
    /// Of a number, in any row that the model does not refuse.
    pub largest_difference: f64,
    /// The row that is furthest beyond what is allowed, the first of such; one that the model refuses is
    /// worse than any other.
    pub worst: Option<Worst>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Worst {
    pub row: usize,
    pub expected: Vec<f64>,
    /// What the model gives, or why it gives nothing.
    pub given: Result<Numbers, String>,
}

/// Scores the rows, and compares what is given with what is expected of them.
///
/// # Errors
/// If the predictions that are expected have another width than those of the model.
pub fn compare(
    model: &mut dyn Model,
    rows: &RecordBatch,
    expected: &Expected,
    tolerance: Tolerance,
) -> Result<Parity, ModelError> {
    let (width, task) = (model.width(), model.task());
    match expected {
        Expected::Predictions { width: wanted, .. } if *wanted != width => {
            return Err(ModelError::Refused(format!(
                "what is expected of a row has {wanted} numbers; the model's predictions have {width}"
            )));
        }
        _ => {}
    }
    let mut found = Parity { rows: rows.num_rows(), ..Parity::default() };
    let mut worst_excess = 0.0;
    for start in (0..rows.num_rows()).step_by(BATCH_ROWS) {
        let batch = rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start));
        for (at, scored) in score_each(model, &batch).into_iter().enumerate() {
            let (row, expected_of) = (start + at, expected.of(start + at));
            let given = scored.map(|vector| match expected {
                Expected::Scores(_) => vector.scores(task, width),
                Expected::Predictions { .. } => vector,
            });
            let excess = match &given {
                Ok(given) => {
                    let pairs = given.iter().zip(expected_of);
                    pairs.fold(0.0, |most: f64, (given, &expected)| {
                        let apart = difference(given, expected);
                        found.largest_difference = found.largest_difference.max(apart);
                        most.max(tolerance.excess(given, expected))
                    })
                }
                Err(_) => f64::INFINITY,
            };
            found.beyond += usize::from(excess > 0.0);
            let was_refused = found.worst.as_ref().is_some_and(|worst| worst.given.is_err());
            if excess > worst_excess || (given.is_err() && !was_refused) {
                worst_excess = excess;
                found.worst = Some(Worst { row, expected: expected_of.to_vec(), given });
            }
        }
    }
    Ok(found)
}

/// The prediction of each row. If the model refuses the batch, rows are asked for one by one.
fn score_each(model: &mut dyn Model, batch: &RecordBatch) -> Vec<Result<Numbers, String>> {
    let width = model.width();
    if let Ok(scores) = score_rows(model, batch) {
        let vector = |row| scores.predictions.slice(row * width..(row + 1) * width);
        return (0..batch.num_rows()).map(|row| Ok(vector(row))).collect();
    }
    let mut one = |row| {
        // Beside itself: some models have other bits for a row alone.
        let twice = doubled(&batch.slice(row, 1))?;
        score_rows(model, &twice)
    };
    (0..batch.num_rows())
        .map(|row| match one(row) {
            Ok(scores) => Ok(scores.predictions.slice(0..width)),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, AsArray, Float64Array};
    use arrow::datatypes::Float64Type;

    use super::*;
    use crate::model::{Scores, Task};

    /// Probabilities (1 − x, x); refuses negative ones.
    struct Binary;

    impl Model for Binary {
        fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
            let x = features.column(0).as_primitive::<Float64Type>().values();
            if let Some(x) = x.iter().find(|x| **x < 0.0) {
                return Err(ModelError::Refused(format!("{x} is negative")));
            }
            let predictions = x.iter().flat_map(|&x| [1.0 - x as f32, x as f32]).collect();
            Ok(Scores { predictions, input: None })
        }

        fn width(&self) -> usize {
            2
        }

        fn task(&self) -> Task {
            Task::Binary
        }
    }

    fn rows(x: &[f64]) -> RecordBatch {
        let x: ArrayRef = Arc::new(Float64Array::from(x.to_vec()));
        RecordBatch::try_from_iter([("x", x)]).unwrap()
    }

    fn scores(x: &[f64], expected: &[f64]) -> Parity {
        let expected = Expected::Scores(expected.to_vec());
        compare(&mut Binary, &rows(x), &expected, Tolerance::default()).unwrap()
    }

    #[test]
    fn numbers_are_near_as_numpy_has_it() {
        let tolerance = Tolerance { absolute: 0.5, relative: 0.25 };
        let (nan, infinite) = (f64::NAN, f64::INFINITY);
        // numpy.isclose(given, expected, rtol=0.25, atol=0.5, equal_nan=True)
        for (given, expected, wanted) in [
            (1.0, 1.0, true),
            (5.5, 4.0, true),
            (2.5, 4.0, true),
            (5.625, 4.0, false),
            // What is allowed goes by what is expected.
            (4.0, 5.875, true),
            (4.0, 2.75, false),
            (-2.5, -4.0, true),
            (0.5, 0.0, true),
            (0.625, 0.0, false),
            (nan, nan, true),
            (nan, 0.0, false),
            (0.0, nan, false),
            (infinite, infinite, true),
            (-infinite, infinite, false),
            (1.0, infinite, false),
            (infinite, 1.0, false),
        ] {
            assert_eq!(tolerance.excess(given, expected) == 0.0, wanted, "{given} for {expected}");
        }
    }

    #[test]
    fn rows_that_agree_have_no_worst() {
        let found = scores(&[0.25, 0.5], &[0.25, 0.500_001]);
        assert_eq!((found.rows, found.beyond, found.worst), (2, 0, None));
        assert!((found.largest_difference - 1e-6).abs() < 1e-9);
    }

    #[test]
    fn the_worst_row_is_that_furthest_beyond() {
        let x: Vec<f64> = (0..600).map(|row| f64::from(row) / 1_000.0).collect();
        let mut expected = x.clone();
        expected[3] += 0.1;
        expected[300] -= 0.25;
        expected[599] += 0.2;
        let found = scores(&x, &expected);
        assert_eq!((found.rows, found.beyond), (600, 3));
        assert!((found.largest_difference - 0.25).abs() < 1e-6);
        let worst = found.worst.unwrap();
        assert_eq!((worst.row, worst.expected), (300, vec![expected[300]]));
        assert_eq!(worst.given, Ok(Numbers::Floats(vec![0.3])));
    }

    #[test]
    fn a_prediction_is_compared_number_by_number() {
        let expected = Expected::Predictions { width: 2, values: vec![0.75, 0.25, 0.75, 0.5] };
        let found =
            compare(&mut Binary, &rows(&[0.25, 0.5]), &expected, Tolerance::default()).unwrap();
        assert_eq!((found.beyond, found.largest_difference), (1, 0.25));
        let worst = found.worst.unwrap();
        assert_eq!(
            (worst.row, worst.expected, worst.given),
            (1, vec![0.75, 0.5], Ok(Numbers::Floats(vec![0.5; 2])))
        );
        let three = Expected::Predictions { width: 3, values: vec![0.0; 6] };
        let error = compare(&mut Binary, &rows(&[0.25, 0.5]), &three, Tolerance::default());
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("has 3 numbers; the model's predictions have 2")
        );
    }

    #[test]
    fn rows_that_the_model_refuses_are_beyond_and_the_worst() {
        let found = scores(&[0.25, -1.0, 0.5, -2.0], &[f64::NAN, 0.0, 0.5, 0.0]);
        assert_eq!((found.rows, found.beyond), (4, 3));
        let worst = found.worst.unwrap();
        assert_eq!((worst.row, worst.given), (1, Err("-1 is negative".to_owned())));
    }
}
