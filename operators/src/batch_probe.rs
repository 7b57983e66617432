//! Does a row's score depend on the batch it is scored in? Found out when a model is loaded.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{cast, concat_batches, take};
use arrow::error::ArrowError;

use crate::model::{Model, ModelError, score_rows};
use crate::numbers::Numbers;

/// Batch sizes that are tried, in rows.
const SIZES: [usize; 9] = [1, 2, 3, 7, 8, 32, 33, 256, 1_024];
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finding of [`probe`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BatchDependence {
    /// The same bits in every batch tried.
    Invariant,
    /// Only a row alone gets other bits; beside a copy of itself it does not.
    PadSingleRow,
    /// Scores depend on the batch, by up to this much.
    Dependent { largest_difference: f32 },
}

/// Scores seeded random rows in batches of many sizes and compares bits. `sample` lends its schema,
/// and rows for the columns that are not null there: these are drawn together, so that what fits
/// together in the sample does so in the random rows.
///
/// # Errors
/// If the model refuses the rows.
pub fn probe(model: &mut dyn Model, sample: &RecordBatch) -> Result<BatchDependence, ModelError> {
    let rows = random_rows(sample, *SIZES.last().expect("there are sizes"))
        .map_err(|error| ModelError::Refused(error.to_string()))?;
    let together = score_rows(model, &rows)?.predictions;
    let mut largest = 0f32;
    let mut differing = Vec::new();
    for size in SIZES {
        let difference = largest_difference(model, &rows, &together, size)?;
        if let Some(difference) = difference {
            differing.push(size);
            largest = largest.max(difference);
        }
    }
    Ok(match differing.as_slice() {
        [] => BatchDependence::Invariant,
        [1] if padded_rows_agree(model, &rows, &together)? => BatchDependence::PadSingleRow,
        _ => BatchDependence::Dependent { largest_difference: largest },
    })
}

/// The largest difference to `expected` when `rows` are scored in batches of `size`; `None` if every
/// bit agrees.
fn largest_difference(
    model: &mut dyn Model,
    rows: &RecordBatch,
    expected: &Numbers,
    size: usize,
) -> Result<Option<f32>, ModelError> {
    let width = model.width();
    let mut largest = None;
    // Whole batches only: the rest would be a batch of another size.
    for start in (0..=rows.num_rows() - size).step_by(size) {
        let batch = rows.slice(start, size);
        let scores = score_rows(model, &batch)?.predictions;
        let expected = expected.slice(start * width..(start + size) * width);
        for difference in scores.differences(&expected).flatten() {
            largest = Some((difference as f32).max(largest.unwrap_or(0.0)));
        }
    }
    Ok(largest)
}

fn padded_rows_agree(
    model: &mut dyn Model,
    rows: &RecordBatch,
    expected: &Numbers,
) -> Result<bool, ModelError> {
    let width = model.width();
    for row in 0..rows.num_rows() {
        let scores = score_rows(model, &doubled(&rows.slice(row, 1))?)?.predictions;
        // Of the row and its copy, which comes behind it.
        let expected = expected.slice(row * width..(row + 1) * width);
        if scores.differences(&expected).flatten().next().is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A one-row batch beside a copy of itself.
///
/// # Errors
/// Never for a well-formed batch.
pub fn doubled(row: &RecordBatch) -> Result<RecordBatch, ModelError> {
    concat_batches(&row.schema(), [row, row])
        .map_err(|error| ModelError::Refused(error.to_string()))
}

/// Rows of the sample's schema: where it has no values normal-looking floats over several
/// magnitudes, else its own rows in random order.
fn random_rows(sample: &RecordBatch, rows: usize) -> Result<RecordBatch, ArrowError> {
    let mut state = SEED;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let is_open = |column: &ArrayRef| column.null_count() == sample.num_rows();
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(sample.num_columns());
    for column in sample.columns() {
        columns.push(if is_open(column) && column.data_type().is_numeric() {
            let scale = 10f64.powf(next() * 3.0);
            let values = (0..rows).map(|_| (next() - 0.3) * scale);
            let values: ArrayRef = Arc::new(Float64Array::from_iter_values(values));
            cast(&values, column.data_type())?
        } else {
            new_null_array(column.data_type(), rows)
        });
    }
    let drawn = (0..rows).map(|_| (next() * sample.num_rows() as f64) as u32);
    let drawn = UInt32Array::from_iter_values(drawn);
    for (column, own) in columns.iter_mut().zip(sample.columns()) {
        if !is_open(own) {
            *column = take(own, &drawn, None)?;
        }
    }
    RecordBatch::try_new(sample.schema(), columns)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::{DataType, Float64Type};

    use super::*;
    use crate::model::{Scores, Task};

    /// Sums a row; in batches of which `wrong` holds, one ulp too much.
    struct Sum(fn(usize) -> bool);

    impl Model for Sum {
        fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
            let x = features.column(0).as_primitive::<Float64Type>();
            let predictions = x.values().iter().map(|&x| {
                let x = x as f32;
                if (self.0)(features.num_rows()) { f32::from_bits(x.to_bits() + 1) } else { x }
            });
            Ok(Scores { predictions: predictions.collect(), input: None })
        }

        fn width(&self) -> usize {
            1
        }

        fn task(&self) -> Task {
            Task::Regression
        }
    }

    #[test]
    fn finds_each_kind_of_dependence() {
        let x: ArrayRef = Arc::new(Float64Array::from(vec![0.0]));
        let sample = RecordBatch::try_from_iter([("x", x)]).unwrap();
        let find = |wrong| probe(&mut Sum(wrong), &sample).unwrap();
        assert_eq!(find(|_| false), BatchDependence::Invariant);
        assert_eq!(find(|rows| rows == 1), BatchDependence::PadSingleRow);
        assert!(matches!(find(|rows| rows == 7), BatchDependence::Dependent { .. }));
        assert!(matches!(find(|rows| rows <= 2), BatchDependence::Dependent { .. }));
    }

    #[test]
    fn random_rows_keep_what_fits_together() {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["a", "b"])),
            new_null_array(&DataType::Float64, 2),
            Arc::new(Float64Array::from(vec![1.0, 2.0])),
        ];
        let sample = RecordBatch::try_from_iter_with_nullable(
            ["s", "x", "n"].into_iter().zip(columns).map(|(name, column)| (name, column, true)),
        );
        let rows = random_rows(&sample.unwrap(), 100).unwrap();
        let numbers = |at: usize| rows.column(at).as_primitive::<Float64Type>().values().to_vec();
        let texts = rows.column(0).as_string::<i32>();
        let together = texts.iter().flatten().zip(numbers(2));
        assert!(together.clone().all(|pair| pair == ("a", 1.0) || pair == ("b", 2.0)));
        assert!(together.clone().any(|(text, _)| text == "a"));
        assert!(together.clone().any(|(text, _)| text == "b"));
        assert!(numbers(1).iter().all(|number| number.is_finite()));
        assert_ne!(numbers(1)[0], numbers(1)[1]);
    }
}
