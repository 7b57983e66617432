//! Columns by name, while features are compiled.

use arrow::datatypes::DataType;

use crate::features::declaration::Problem;
use crate::features::sql::{Expression, SqlError};

/// Names and types of the columns seen so far.
pub(super) struct Columns(pub Vec<(String, DataType)>);

impl Columns {
    /// The last column of that name: a feature hides the event's column.
    pub fn position(&self, name: &str) -> Result<usize, Problem> {
        let found = self.0.iter().rposition(|(known, _)| known == name);
        found.ok_or_else(|| Problem::UnknownColumn(name.to_owned()))
    }

    /// A column by its name, whatever characters that has, else an SQL expression.
    pub fn expression(&self, text: &str, to: Option<&str>) -> Result<Expression, SqlError> {
        let plain = match self.position(text) {
            Ok(_) => format!("\"{}\"", text.replace('"', "\"\"")),
            Err(_) => text.to_owned(),
        };
        match to {
            Some(to) => Expression::compile(&format!("CAST(({plain}) AS {to})"), &self.0),
            None => Expression::compile(&plain, &self.0),
        }
    }
}
