//! Columns by name, while features are compiled.

use arrow::datatypes::{DataType, TimeUnit};

use crate::features::declaration::Problem;
use crate::features::functions::Functions;
use crate::features::sql::{Expression, SqlError};

/// A column as it is in batches.
#[derive(Clone)]
pub(super) struct Column {
    pub name: String,
    pub data_type: DataType,
    /// Whether integers of it are integers to every expression.
    pub is_integer: bool,
    /// Whether features may read it by its name: columns of the event and features, not what
    /// operators keep beside them.
    pub is_named: bool,
}

impl Column {
    /// What it is as a feature: a number is Float64 unless the job declares it an integer.
    pub fn value_type(&self) -> DataType {
        match &self.data_type {
            integer if integer.is_integer() && !self.is_integer => DataType::Float64,
            other => other.clone(),
        }
    }

    /// What expressions see: a number is Float64 whoever wrote it, unless the job declares it an
    /// integer; the expression of a key sees integers as they are. Times are of µs in UTC.
    fn seen(&self, is_key: bool) -> DataType {
        let keeps_integers = is_key || self.is_integer;
        seen_by_sql(&self.data_type, keeps_integers)
    }
}

/// What SQL sees of a column of a type.
pub fn seen_by_sql(stored: &DataType, keeps_integers: bool) -> DataType {
    match stored {
        integer if integer.is_integer() && !keeps_integers => DataType::Float64,
        DataType::Timestamp(..) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        other => other.clone(),
    }
}

/// Names and types of the columns seen so far, and the functions over them.
pub(super) struct Columns {
    pub columns: Vec<Column>,
    pub functions: Functions,
}

impl Columns {
    /// The last column of that name: a feature hides the event's column.
    pub fn position(&self, name: &str) -> Result<usize, Problem> {
        let is_called = |column: &Column| column.is_named && column.name == name;
        let found = self.columns.iter().rposition(is_called);
        found.ok_or_else(|| Problem::UnknownColumn(name.to_owned()))
    }

    /// A column by its name, whatever characters that has, else an SQL expression, as a key.
    pub fn key(&self, text: &str) -> Result<Expression, SqlError> {
        self.compile(&self.plain(text), true)
    }

    /// A column by its name, whatever characters that has, else an SQL expression, as a number.
    pub fn number(&self, text: &str) -> Result<Expression, SqlError> {
        self.sql(&format!("CAST(({}) AS DOUBLE)", self.plain(text)))
    }

    fn plain(&self, text: &str) -> String {
        match self.position(text) {
            Ok(_) => format!("\"{}\"", text.replace('"', "\"\"")),
            Err(_) => text.to_owned(),
        }
    }

    pub fn sql(&self, sql: &str) -> Result<Expression, SqlError> {
        self.compile(sql, false)
    }

    fn compile(&self, sql: &str, is_key: bool) -> Result<Expression, SqlError> {
        let named = self.columns.iter().enumerate().filter(|(_, column)| column.is_named);
        let (positions, seen): (Vec<usize>, Vec<_>) =
            named.map(|(at, column)| (at, (column.name.clone(), column.seen(is_key)))).unzip();
        let expression = Expression::compile(sql, &seen, &self.functions)?;
        Ok(expression.among(&positions))
    }
}
