//! Columns by name, while features are compiled.

use arrow::datatypes::DataType;

use crate::features::declaration::Problem;
use crate::features::functions::Functions;
use crate::features::sql::{Expression, SqlError};

/// Names and types of the columns seen so far, and the functions over them.
pub(super) struct Columns {
    pub columns: Vec<(String, DataType)>,
    pub functions: Functions,
}

impl Columns {
    /// The last column of that name: a feature hides the event's column.
    pub fn position(&self, name: &str) -> Result<usize, Problem> {
        let found = self.columns.iter().rposition(|(known, _)| known == name);
        found.ok_or_else(|| Problem::UnknownColumn(name.to_owned()))
    }

    /// A column by its name, whatever characters that has, else an SQL expression.
    pub fn expression(&self, text: &str, to: Option<&str>) -> Result<Expression, SqlError> {
        let plain = match self.position(text) {
            Ok(_) => format!("\"{}\"", text.replace('"', "\"\"")),
            Err(_) => text.to_owned(),
        };
        match to {
            Some(to) => self.sql(&format!("CAST(({plain}) AS {to})")),
            None => self.sql(&plain),
        }
    }

    pub fn sql(&self, sql: &str) -> Result<Expression, SqlError> {
        Expression::compile(sql, &self.columns, &self.functions)
    }
}
