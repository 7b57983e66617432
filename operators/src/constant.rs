//! Columns that have the same value in all rows, or nearly all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray, StringBuilder, new_null_array};
use arrow::datatypes::DataType;

/// A column that has the same value in all rows, for as many rows as the largest batch had.
#[derive(Clone)]
pub struct Constant {
    longest: ArrayRef,
    /// What the last batch had of it: the next is often as large.
    last: ArrayRef,
}

impl Constant {
    pub fn new(of_type: &DataType) -> Self {
        let none = new_null_array(of_type, 0);
        Constant { longest: none.clone(), last: none }
    }

    /// The column, `[rows]`, of which `make` makes one of any length.
    fn rows(&mut self, rows: usize, make: impl FnOnce(usize) -> ArrayRef) -> ArrayRef {
        if self.last.len() != rows {
            if self.longest.len() < rows {
                self.longest = make(rows);
            }
            self.last = self.longest.slice(0, rows);
        }
        self.last.clone()
    }

    /// Null in all rows.
    pub fn null(&mut self, rows: usize) -> ArrayRef {
        let of_type = self.longest.data_type().clone();
        self.rows(rows, |rows| new_null_array(&of_type, rows))
    }
}

/// A text that all rows of a batch have, or nearly all.
#[derive(Clone)]
pub struct Usual {
    text: String,
    column: Constant,
}

impl Usual {
    pub fn new(text: impl Into<String>) -> Self {
        Usual { text: text.into(), column: Constant::new(&DataType::Utf8) }
    }

    /// The text, `[rows]`.
    pub fn repeated(&mut self, rows: usize) -> ArrayRef {
        self.column.rows(rows, |rows| {
            let mut column = StringBuilder::with_capacity(rows, rows * self.text.len());
            (0..rows).for_each(|_| column.append_value(&self.text));
            Arc::new(column.finish())
        })
    }

    /// The text, but `other` where `condition` is true.
    pub fn unless(&mut self, condition: &BooleanArray, other: &str) -> ArrayRef {
        if condition.true_count() == 0 {
            return self.repeated(condition.len());
        }
        let text = |other_here: Option<bool>| match other_here {
            Some(true) => Some(other),
            _ => Some(self.text.as_str()),
        };
        Arc::new(condition.iter().map(text).collect::<StringArray>())
    }
}
