//! The numbers of predictions, as wide as the model gives them: no bit is lost on the way to the sinks.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array};
use arrow::datatypes::DataType;

use crate::model::Task;

/// Predictions, row after row, `[rows * width]`, all floats or all doubles.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

/// Does the same with numbers of either width.
macro_rules! each {
    ($numbers:expr, $values:ident => $made:expr) => {
        match $numbers {
            Numbers::Floats($values) => $made,
            Numbers::Doubles($values) => $made,
        }
    };
}

/// The same, where what is made is as wide as the numbers.
macro_rules! each_kept {
    ($numbers:expr, $values:ident => $made:expr) => {
        match $numbers {
            Numbers::Floats($values) => Numbers::Floats($made),
            Numbers::Doubles($values) => Numbers::Doubles($made),
        }
    };
}

impl Numbers {
    /// None yet, with room for so many.
    pub fn with_capacity(are_doubles: bool, count: usize) -> Self {
        match are_doubles {
            true => Numbers::Doubles(Vec::with_capacity(count)),
            false => Numbers::Floats(Vec::with_capacity(count)),
        }
    }

    pub fn are_doubles(&self) -> bool {
        matches!(self, Numbers::Doubles(_))
    }

    /// Of columns of them.
    pub fn data_type(are_doubles: bool) -> DataType {
        if are_doubles { DataType::Float64 } else { DataType::Float32 }
    }

    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them; of floats nothing is lost.
    pub fn iter(&self) -> impl Iterator<Item = f64> {
        (0..self.len()).map(|at| self.at(at))
    }

    /// The number at a place.
    pub fn at(&self, place: usize) -> f64 {
        match self {
            Numbers::Floats(values) => f64::from(values[place]),
            Numbers::Doubles(values) => values[place],
        }
    }

    /// As texts, each the shortest that is read as the same number of its width.
    pub fn texts(&self) -> Vec<String> {
        each!(self, values => values.iter().map(ToString::to_string).collect())
    }

    /// As floats, rounded where they are doubles.
    pub fn into_floats(self) -> Vec<f32> {
        match self {
            Numbers::Floats(values) => values,
            Numbers::Doubles(values) => values.into_iter().map(|number| number as f32).collect(),
        }
    }

    pub fn into_doubles(self) -> Vec<f64> {
        match self {
            Numbers::Floats(values) => values.into_iter().map(f64::from).collect(),
            Numbers::Doubles(values) => values,
        }
    }

    /// The numbers at some places.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        each_kept!(self, values => values[range].to_vec())
    }

    /// Adds the numbers at some places of others. Those of a model are as wide; of two widths all are doubles then.
    pub fn extend(&mut self, others: &Numbers, range: Range<usize>) {
        match (&mut *self, others) {
            (Numbers::Floats(values), Numbers::Floats(more)) => {
                values.extend_from_slice(&more[range]);
            }
            (Numbers::Doubles(values), Numbers::Doubles(more)) => {
                values.extend_from_slice(&more[range]);
            }
            (Numbers::Doubles(values), Numbers::Floats(more)) => {
                values.extend(more[range].iter().copied().map(f64::from));
            }
            (values, others) => {
                let more: Vec<f64> = others.iter().skip(range.start).take(range.len()).collect();
                *self = Numbers::Doubles(values.iter().chain(more).collect());
            }
        }
    }

    /// By how much a number differs, at the same place, from one of others that are as wide: nothing if their bits
    /// are the same.
    pub fn differences(&self, others: &Numbers) -> impl Iterator<Item = Option<f64>> {
        self.iter()
            .zip(others.iter())
            .map(|(one, other)| (one.to_bits() != other.to_bits()).then(|| (one - other).abs()))
    }

    /// Which rows have finite numbers alone, `[rows]`; `None` if all have.
    pub fn finite_rows(&self, width: usize) -> Option<BooleanArray> {
        each!(self, values => {
            if values.iter().all(|number| number.is_finite()) {
                return None;
            }
            let rows = values.chunks_exact(width);
            Some(rows.map(|row| Some(row.iter().all(|number| number.is_finite()))).collect())
        })
    }

    /// The rows that are `kept`.
    #[must_use]
    pub fn of_rows(&self, width: usize, kept: &BooleanArray) -> Self {
        each_kept!(self, values => {
            let rows = values.chunks_exact(width.max(1)).zip(kept);
            rows.filter(|(_, kept)| *kept == Some(true)).flat_map(|(row, _)| row).copied().collect()
        })
    }

    /// The one number of each row that stands for its prediction, `[rows]`.
    #[must_use]
    pub fn scores(&self, task: Task, width: usize) -> Self {
        let at = match task {
            Task::Binary => 1,
            Task::Multiclass => return self.largest(width),
            Task::Regression => 0,
        };
        each_kept!(self, values => values.chunks_exact(width).map(|row| row[at]).collect())
    }

    /// The largest of each row, `[rows]`.
    #[must_use]
    pub fn largest(&self, width: usize) -> Self {
        each_kept!(self, values => {
            let rows = values.chunks_exact(width).map(|row| row.iter().copied());
            rows.map(|row| row.reduce(|a, b| a.max(b)).unwrap_or_default()).collect()
        })
    }

    /// Of each probability that of the opposite, and itself.
    #[must_use]
    pub fn with_opposites(self) -> Self {
        each_kept!(self, values => values.into_iter().flat_map(|p| [1.0 - p, p]).collect())
    }

    pub fn into_array(self) -> ArrayRef {
        match self {
            Numbers::Floats(values) => Arc::new(Float32Array::from(values)),
            Numbers::Doubles(values) => Arc::new(Float64Array::from(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of them is another number as a float.
    const DOUBLES: [f64; 6] = [0.1, 1.0 / 3.0, 1e-300, 1.0 + f64::EPSILON, 0.7, 16_777_217.0];

    fn both() -> [Numbers; 2] {
        let floats = DOUBLES.map(|number| number as f32).to_vec();
        [Numbers::Doubles(DOUBLES.to_vec()), Numbers::Floats(floats)]
    }

    #[test]
    fn numbers_keep_their_width_and_bits() {
        for numbers in both() {
            let mut copied = Numbers::with_capacity(numbers.are_doubles(), 6);
            copied.extend(&numbers, 0..1);
            copied.extend(&numbers, 1..6);
            assert_eq!(copied, numbers);
            assert!(copied.differences(&numbers).all(|difference| difference.is_none()));
            assert_eq!(numbers.slice(2..4).len(), 2);
            let bits = |numbers: &Numbers| numbers.iter().map(f64::to_bits).collect::<Vec<_>>();
            let wanted: Vec<f64> = numbers.iter().collect();
            let at = |places: &[usize]| {
                places.iter().map(|&at| wanted[at].to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(bits(&numbers.scores(Task::Binary, 2)), at(&[1, 3, 5]));
            assert_eq!(bits(&numbers.scores(Task::Multiclass, 3)), at(&[1, 5]));
            assert_eq!(bits(&numbers.scores(Task::Regression, 1)), at(&[0, 1, 2, 3, 4, 5]));
            let kept = BooleanArray::from(vec![false, true, true]);
            assert_eq!(bits(&numbers.of_rows(2, &kept)), at(&[2, 3, 4, 5]));
            let array = numbers.clone().into_array();
            assert_eq!(array.data_type(), &Numbers::data_type(numbers.are_doubles()));
        }
        let [doubles, floats] = both();
        assert_eq!(doubles.iter().collect::<Vec<_>>(), DOUBLES);
        assert_eq!(doubles.clone().into_floats(), floats.clone().into_floats());
        assert_eq!((doubles.texts()[0].as_str(), floats.texts()[0].as_str()), ("0.1", "0.1"));
        assert_eq!(doubles.texts()[3], "1.0000000000000002");
        assert!(doubles.differences(&floats).all(|difference| difference.is_some()));
        let opposites = Numbers::Doubles(vec![0.1]).with_opposites();
        assert_eq!(opposites, Numbers::Doubles(vec![1.0 - 0.1, 0.1]));
    }

    #[test]
    fn of_two_widths_none_is_cut() {
        let [doubles, floats] = both();
        for (mut first, then) in [(doubles.clone(), &floats), (floats.clone(), &doubles)] {
            let wanted: Vec<f64> = first.iter().chain(then.iter().skip(1).take(2)).collect();
            first.extend(then, 1..3);
            assert_eq!(first, Numbers::Doubles(wanted));
        }
    }

    #[test]
    fn finite_is_what_is_no_infinity_and_a_number() {
        assert!(Numbers::Doubles(vec![1e300, -0.0]).finite_rows(2).is_none());
        let some = Numbers::Doubles(vec![1.0, f64::NAN, 1.0, 1e39]).finite_rows(2);
        assert_eq!(some, Some(BooleanArray::from(vec![false, true])));
        let some = Numbers::Floats(vec![1.0, f32::INFINITY]).finite_rows(1);
        assert_eq!(some, Some(BooleanArray::from(vec![true, false])));
    }
}
