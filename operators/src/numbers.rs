//! The numbers of predictions, as wide as the model gives them: no bit is lost on the way to the sinks.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float32Array, Float64Array};
use arrow::datatypes::DataType;

/// Numbers that are all of one width.
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

/// The same, where what is made has the width of the numbers.
macro_rules! each_kept {
    ($numbers:expr, $values:ident => $made:expr) => {
        match $numbers {
            Numbers::Floats($values) => Numbers::Floats($made),
            Numbers::Doubles($values) => Numbers::Doubles($made),
        }
    };
}

impl From<Vec<f32>> for Numbers {
    fn from(values: Vec<f32>) -> Self {
        Numbers::Floats(values)
    }
}

impl From<Vec<f64>> for Numbers {
    fn from(values: Vec<f64>) -> Self {
        Numbers::Doubles(values)
    }
}

impl FromIterator<f32> for Numbers {
    fn from_iter<I: IntoIterator<Item = f32>>(values: I) -> Self {
        Numbers::Floats(values.into_iter().collect())
    }
}

impl FromIterator<f64> for Numbers {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Numbers::Doubles(values.into_iter().collect())
    }
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

    /// Float64 or Float32.
    pub fn data_type(are_doubles: bool) -> DataType {
        if are_doubles { DataType::Float64 } else { DataType::Float32 }
    }

    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number; nothing of it is lost.
    pub fn get(&self, at: usize) -> f64 {
        match self {
            Numbers::Floats(values) => f64::from(values[at]),
            Numbers::Doubles(values) => values[at],
        }
    }

    /// Whether the numbers at places of both have the same bits.
    pub fn is_same(&self, at: usize, other: &Numbers, there: usize) -> bool {
        match (self, other) {
            (Numbers::Floats(a), Numbers::Floats(b)) => a[at].to_bits() == b[there].to_bits(),
            (Numbers::Doubles(a), Numbers::Doubles(b)) => a[at].to_bits() == b[there].to_bits(),
            _ => false,
        }
    }

    pub fn all_finite(&self) -> bool {
        each!(self, values => values.iter().all(|number| number.is_finite()))
    }

    /// Adds some of the numbers of others, which have the same width.
    pub fn extend(&mut self, others: &Numbers, range: Range<usize>) {
        match (self, others) {
            (Numbers::Floats(values), Numbers::Floats(more)) => {
                values.extend_from_slice(&more[range])
            }
            (Numbers::Doubles(values), Numbers::Doubles(more)) => {
                values.extend_from_slice(&more[range]);
            }
            (Numbers::Floats(values), Numbers::Doubles(more)) => {
                values.extend(more[range].iter().map(|&number| number as f32));
            }
            (Numbers::Doubles(values), Numbers::Floats(more)) => {
                values.extend(more[range].iter().map(|&number| f64::from(number)));
            }
        }
    }

    /// The numbers of rows that are `kept`, where each has `width`.
    #[must_use]
    pub fn of_rows(&self, width: usize, kept: &BooleanArray) -> Self {
        let is_kept = |row: usize| kept.value(row);
        each_kept!(self, values => {
            let rows = values.chunks_exact(width.max(1)).enumerate();
            rows.filter(|(row, _)| is_kept(*row)).flat_map(|(_, row)| row).copied().collect()
        })
    }

    /// Of every `width` numbers the one at `place`.
    #[must_use]
    pub fn at_place(&self, width: usize, place: usize) -> Self {
        each_kept!(self, values => values.chunks_exact(width).map(|vector| vector[place]).collect())
    }

    /// Of every `width` numbers the largest.
    #[must_use]
    pub fn largest(&self, width: usize) -> Self {
        match self {
            Numbers::Floats(values) => Numbers::Floats(
                values
                    .chunks_exact(width)
                    .map(|vector| vector.iter().copied().fold(f32::NEG_INFINITY, f32::max))
                    .collect(),
            ),
            Numbers::Doubles(values) => Numbers::Doubles(
                values
                    .chunks_exact(width)
                    .map(|vector| vector.iter().copied().fold(f64::NEG_INFINITY, f64::max))
                    .collect(),
            ),
        }
    }

    /// Of each probability that of the opposite, and itself.
    #[must_use]
    pub fn with_opposites(self) -> Self {
        each_kept!(self, values => values.into_iter().flat_map(|p| [1.0 - p, p]).collect())
    }

    /// As floats, rounded where they are wider.
    pub fn to_floats(&self) -> Vec<f32> {
        match self {
            Numbers::Floats(values) => values.clone(),
            Numbers::Doubles(values) => values.iter().map(|&number| number as f32).collect(),
        }
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

    #[test]
    fn numbers_keep_their_width_and_bits() {
        // Each of them is another number as a float.
        let doubles = [0.1, 1.0 / 3.0, 1e-300, 1.0 + f64::EPSILON];
        let numbers = Numbers::from(doubles.to_vec());
        let floats = Numbers::from(doubles.map(|number| number as f32).to_vec());
        for numbers in [&numbers, &floats] {
            let mut copied = Numbers::with_capacity(numbers.are_doubles(), 4);
            copied.extend(numbers, 0..1);
            copied.extend(numbers, 1..4);
            assert_eq!(&copied, numbers);
            assert!((0..4).all(|at| copied.is_same(at, numbers, at)));
            assert_eq!(numbers.at_place(2, 1).get(0), numbers.get(1));
            assert_eq!(numbers.largest(2).get(1), numbers.get(3));
            let kept = BooleanArray::from(vec![false, true]);
            assert_eq!(numbers.of_rows(2, &kept).get(0), numbers.get(2));
            let wanted = Numbers::data_type(numbers.are_doubles());
            assert_eq!(numbers.clone().into_array().data_type(), &wanted);
        }
        assert_eq!(numbers.get(3), doubles[3]);
        assert!(!numbers.is_same(0, &floats, 0));
        let Numbers::Doubles(both) = numbers.with_opposites() else { panic!("they are doubles") };
        assert_eq!(both[..2], [1.0 - 0.1, 0.1]);
    }

    #[test]
    fn finite_is_what_is_no_infinity_and_a_number() {
        assert!(Numbers::from(vec![1e300]).all_finite());
        assert!(!Numbers::from(vec![1.0, f64::NAN]).all_finite());
        assert!(!Numbers::from(vec![f32::INFINITY]).all_finite());
    }
}
