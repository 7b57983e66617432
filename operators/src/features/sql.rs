//! SQL expressions over columns, compiled once and evaluated on Arrow by DataFusion.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{DFSchema, DataFusionError, exec_err, plan_err};
use datafusion_expr::Expr;
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::simplify::SimplifyContext;
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr, utils};
use datafusion_sql::parser::DFParserBuilder;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};

use crate::features::bounded::{can_join, text_sizes};
use crate::features::functions::{Functions, is_broken};
use crate::features::refusals::{Refusals, Refused, reason};
use crate::features::sql_bounds::{OPERATORS_MAX, operators};
use crate::features::sql_checked::{checked, fold_integers, with_bounded_joins, with_long_epochs};
use crate::guarded::guarded;

/// Why an expression does not compile.
#[derive(Debug, thiserror::Error)]
#[error("{sql:?}: {message}")]
pub struct SqlError {
    pub sql: String,
    pub message: String,
}

/// A compiled expression over some of the columns it was compiled against.
#[derive(Clone)]
pub struct Expression {
    physical: Arc<dyn PhysicalExpr>,
    /// Positions of the columns it reads, in the order of `inputs`.
    columns: Vec<usize>,
    inputs: SchemaRef,
    data_type: DataType,
    refusals: Arc<Refusals>,
}

impl Expression {
    /// Compiles `sql` against named columns, given as (name, type); where a name stands twice the
    /// last one counts, so that a feature hides the event's column of the same name. The types are
    /// those that the expression sees: columns of others are cast when it is evaluated.
    ///
    /// Only immutable functions are known: the same columns give the same values, always.
    ///
    /// # Errors
    /// If `sql` does not parse, names an unknown column or function, or does not fit the types.
    pub fn compile(
        sql: &str,
        columns: &[(String, DataType)],
        functions: &Functions,
    ) -> Result<Self, SqlError> {
        let error = |message: String| SqlError { sql: sql.to_owned(), message };
        let mut last: HashMap<&str, usize> = HashMap::new();
        for (position, (name, _)) in columns.iter().enumerate() {
            last.insert(name, position);
        }
        let mut visible: Vec<usize> = last.into_values().collect();
        visible.sort_unstable();
        let fields: Vec<Field> = visible
            .iter()
            .map(|&at| Field::new(&columns[at].0, columns[at].1.clone(), true))
            .collect();
        let compiled = guarded(|| compile(sql, &Schema::new(fields), functions));
        let compiled = compiled
            .unwrap_or_else(|panic| plan_err!("{panic}"))
            .map_err(|e| error(first_line(&e)))?;

        let mut read: Vec<(String, usize)> = utils::collect_columns(&compiled)
            .into_iter()
            .map(|column| (column.name().to_owned(), visible[column.index()]))
            .collect();
        read.sort_by_key(|(_, position)| *position);
        let inputs = Arc::new(Schema::new(
            read.iter()
                .map(|(name, at)| Field::new(name, columns[*at].1.clone(), true))
                .collect::<Vec<_>>(),
        ));
        let physical = utils::reassign_expr_columns(compiled, &inputs)
            .and_then(|physical| checked(physical, &inputs))
            .map_err(|e| error(e.to_string()))?;
        let data_type = physical.data_type(&inputs).map_err(|e| error(e.to_string()))?;
        let columns = read.into_iter().map(|(_, position)| position).collect();
        let expression =
            Expression { physical, columns, inputs, data_type, refusals: Arc::default() };
        expression.try_none().map_err(|e| error(first_line(&e)))?;
        Ok(expression)
    }

    /// The expression over more columns, of which those it was compiled against stand at `positions`.
    #[must_use]
    pub fn among(mut self, positions: &[usize]) -> Self {
        self.columns.iter_mut().for_each(|column| *column = positions[*column]);
        self
    }

    /// What cannot be computed whatever the values are is found without any.
    fn try_none(&self) -> Result<(), DataFusionError> {
        match self.try_values(&RecordBatch::new_empty(self.inputs.clone())) {
            Err(error) => match error.find_root() {
                DataFusionError::NotImplemented(_) | DataFusionError::Internal(_) => Err(error),
                _ => Ok(()),
            },
            Ok(_) => Ok(()),
        }
    }

    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Positions of the columns the expression reads.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The value of the expression for each row, `[rows]`; null where it has none, such as for an
    /// integer division by zero, a sum that is out of range, or a function that refuses its arguments or
    /// panics: one row must not end a run of all. Rows that are null for such a reason are counted.
    ///
    /// # Errors
    /// If a program's own function breaks its word.
    pub fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, ArrowError> {
        let seen = |(&at, field): (&usize, &Arc<Field>)| match columns[at].data_type() {
            stored if stored == field.data_type() => Ok(columns[at].clone()),
            _ => cast(&columns[at], field.data_type()),
        };
        let inputs = self.columns.iter().zip(self.inputs.fields()).map(seen);
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.inputs.clone(), inputs, &options)?;
        let failed = |error: DataFusionError| ArrowError::ComputeError(reason(&error));
        let mut pieces = Vec::new();
        self.values(&batch, &mut pieces).map_err(failed)?;
        match pieces.as_slice() {
            [one] => Ok(one.clone()),
            several => concat(&several.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
        }
    }

    /// What it has refused so far, in all clones of it.
    pub fn refused(&self) -> Refused {
        self.refusals.get()
    }

    /// The values of a batch in pieces: it is halved until only rows without a value are left out.
    fn values(
        &self,
        batch: &RecordBatch,
        pieces: &mut Vec<ArrayRef>,
    ) -> Result<(), DataFusionError> {
        let rows = batch.num_rows();
        match self.try_values(batch) {
            Ok(values) => pieces.push(values),
            Err(error) if is_broken(&error) => return Err(error),
            Err(_) if rows > 1 => {
                let half = rows / 2;
                self.values(&batch.slice(0, half), pieces)?;
                self.values(&batch.slice(half, rows - half), pieces)?;
            }
            Err(error) => {
                self.refusals.add(rows as u64, &reason(&error));
                pieces.push(new_null_array(&self.data_type, rows));
            }
        }
        Ok(())
    }

    /// The values of a batch, if all of its rows have theirs.
    fn try_values(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        let rows = batch.num_rows();
        // Nothing of an expression changes while it is evaluated, so it is sound after a panic.
        let evaluate = || self.physical.evaluate(batch).and_then(|value| value.into_array(rows));
        let values = guarded(evaluate).unwrap_or_else(|panic| exec_err!("{panic}"))?;
        let values = match *values.data_type() == self.data_type {
            true => values,
            false => cast(&values, &self.data_type)?,
        };
        match self.is_too_long(batch, &values) {
            true => exec_err!(
                "a text of more than {RESULT_BYTES_MAX} bytes, and than the texts it is made of"
            ),
            false => Ok(values),
        }
    }

    /// Whether a text is longer than what its row holds, and long. What is kept of a batch is bounded
    /// by this, whatever its rows hold.
    fn is_too_long(&self, batch: &RecordBatch, values: &ArrayRef) -> bool {
        if !can_join(values.data_type()) && *values.data_type() != DataType::Utf8View {
            return false;
        }
        let lengths = text_sizes(values);
        if lengths.iter().all(|&length| length <= RESULT_BYTES_MAX) {
            return false;
        }
        let mut held = vec![0u64; lengths.len()];
        for column in batch.columns() {
            held.iter_mut().zip(text_sizes(column)).for_each(|(held, more)| *held += more);
        }
        lengths.iter().zip(held).any(|(&length, held)| length > RESULT_BYTES_MAX.max(held))
    }
}

/// The longest text that an expression gives, in bytes, of a row whose own texts are shorter.
pub const RESULT_BYTES_MAX: u64 = 64 << 10;

fn compile(
    sql: &str,
    schema: &Schema,
    functions: &Functions,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let operators = operators(sql);
    if operators > OPERATORS_MAX {
        return plan_err!(
            "{operators} operators, and {OPERATORS_MAX} are the most; make it several features"
        );
    }
    let schema = DFSchema::try_from(schema.clone())?;
    let parsed = DFParserBuilder::new(sql).build()?.parse_into_expr()?.expr;
    let options = ParserOptions::new().with_enable_ident_normalization(false);
    let planner = SqlToRel::new_with_options(functions, options);
    let expr = planner.sql_to_expr(parsed, &schema, &mut PlannerContext::new())?;
    if expr.contains_outer() || matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_)) {
        return plan_err!("subqueries have no meaning in a feature");
    }
    if expr.exists(|part| Ok(matches!(part, Expr::SimilarTo(_))))? {
        return plan_err!(
            "SIMILAR TO has no meaning here; use ~ with a regular expression, or LIKE"
        );
    }
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let expr = with_long_epochs(simplifier.coerce(expr, &schema)?, &schema)?;
    let expr = with_bounded_joins(expr, &schema)?;
    let expr = fold_integers(expr)?;
    let expr = simplifier.simplify(expr)?;
    create_physical_expr(&expr, &schema, &ExecutionProps::new(), &Default::default())
}

fn first_line(error: &DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod forms;

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array, Int32Array, Int64Array};
    use arrow::datatypes::{Float64Type, Int64Type};

    use super::*;
    use crate::features::functions::SqlFunction;

    fn columns() -> (Vec<(String, DataType)>, Vec<ArrayRef>) {
        (
            vec![
                ("x".into(), DataType::Int32),
                ("y".into(), DataType::Float64),
                ("x".into(), DataType::Float64),
            ],
            vec![
                Arc::new(Int32Array::from(vec![1, 2, 3])),
                Arc::new(Float64Array::from(vec![Some(0.5), None, Some(2.0)])),
                Arc::new(Float64Array::from(vec![10.0, 20.0, 30.0])),
            ],
        )
    }

    fn compiled(sql: &str, columns: &[(String, DataType)]) -> Result<Expression, SqlError> {
        Expression::compile(sql, columns, &Functions::default())
    }

    #[test]
    fn functions_of_a_program_are_called_with_what_sql_casts() {
        let (names, values) = columns();
        let own = SqlFunction::of_numbers("weighted", 2, |x| 10.0 * x[0] + x[1]);
        let functions = Functions::default().with([own]);
        let sum = Expression::compile("weighted(1, y) + 1", &names, &functions).unwrap();
        let sum = sum.evaluate(&values, 3).unwrap();
        let sum: Vec<_> = sum.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(sum, [Some(11.5), None, Some(13.0)]);
        let error = Expression::compile("weighted(y)", &names, &functions).err().unwrap();
        assert!(error.to_string().contains("weighted"), "{error}");
    }

    #[test]
    fn a_function_that_gives_something_else_than_it_says_is_an_error() {
        let (names, values) = columns();
        let own = SqlFunction::new("bad", vec![DataType::Float64], DataType::Utf8, |columns| {
            Ok(columns[0].clone())
        });
        let functions = Functions::default().with([own]);
        let bad = Expression::compile("bad(y)", &names, &functions).unwrap();
        let error = bad.evaluate(&values, 3).unwrap_err().to_string();
        assert!(error.contains("gave 3 values of Float64, not 3 of Utf8"), "{error}");
    }

    #[test]
    fn a_row_without_a_value_is_null_and_its_neighbours_have_theirs() {
        let names = vec![("n".to_owned(), DataType::Int64)];
        let values: Vec<i64> = (0..100).map(|at| if at % 7 == 3 { 0 } else { at - 50 }).collect();
        let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        let quotient = compiled("1000 / n", &names).unwrap();
        let found = quotient.evaluate(std::slice::from_ref(&column), 100).unwrap();
        let expected: Vec<Option<i64>> = values.iter().map(|&n| 1000_i64.checked_div(n)).collect();
        assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), expected);
        let least: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -3]));
        let found = compiled("abs(n)", &names).unwrap().evaluate(&[least], 2).unwrap();
        assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [None, Some(3)]);
    }

    /// The value for each number, in the way of a naive evaluation.
    fn check_numbers(sql: &str, values: &[i64], expected: &[Option<f64>]) {
        let names = vec![("n".to_owned(), DataType::Int64)];
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        let found = compiled(sql, &names).unwrap().evaluate(&[column], values.len()).unwrap();
        let found = cast(&found, &DataType::Float64).unwrap();
        assert_eq!(
            found.as_primitive::<Float64Type>().iter().collect::<Vec<_>>(),
            expected,
            "{sql}"
        );
    }

    #[test]
    fn what_is_out_of_range_is_null_and_never_wraps() {
        let some = |value: i64| Some(value as f64);
        let (least, most) = (i64::MIN, i64::MAX);
        check_numbers("n + 1", &[1, most], &[some(2), None]);
        check_numbers("n - 1", &[1, least], &[some(0), None]);
        check_numbers("n * 2", &[3, most, least], &[some(6), None, None]);
        check_numbers("-n", &[3, least], &[some(-3), None]);
        check_numbers("abs(n)", &[-3, least], &[some(3), None]);
        check_numbers("n / -1", &[3, least], &[some(-3), None]);
        check_numbers("n % 0", &[3], &[None]);
        check_numbers("CAST(n AS INT)", &[3, 1 << 31], &[some(3), None]);
        check_numbers("CAST(n AS INT) * CAST(n AS INT)", &[3, 1 << 16], &[some(9), None]);
        check_numbers("n + (9223372036854775807 + 1)", &[3], &[None]);
        check_numbers(
            "CASE WHEN n > 0 THEN n + 1 ELSE 0 END",
            &[most, -1, 1],
            &[None, some(0), some(2)],
        );
    }

    #[test]
    fn a_function_that_refuses_a_value_gives_null_for_its_row() {
        check_numbers(
            "date_part('month', make_date(2024, n, 1))",
            &[1, 13, 3, 0, -5, 12],
            &[Some(1.0), None, Some(3.0), None, None, Some(12.0)],
        );
        check_numbers(
            "character_length(split_part('abc', 'b', n))",
            &[1, 0, 2],
            &[Some(1.0), None, Some(1.0)],
        );
    }

    #[test]
    fn times_go_to_the_end_of_the_calendar_and_literals_are_of_microseconds() {
        use arrow::array::TimestampMicrosecondArray;
        let micros =
            DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into()));
        let names = vec![("t".to_owned(), micros)];
        // 9999-12-31T23:59:59Z, 2024-01-12T00:00:00Z.
        let column = vec![Some(253_402_300_799_000_000), Some(1_705_017_600_000_000), None];
        let column: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(column).with_timezone("UTC"));
        for sql in [
            "date_part('epoch', t - CAST('2024-01-01' AS TIMESTAMP)) / 86400",
            "date_part('epoch', t - '2024-01-01'::timestamp) / 86400",
            "date_part('epoch', t - TIMESTAMP '2024-01-01 00:00:00') / 86400",
        ] {
            let days = compiled(sql, &names).unwrap();
            let days = days.evaluate(std::slice::from_ref(&column), 3).unwrap();
            let days: Vec<_> = days.as_primitive::<Float64Type>().iter().collect();
            // As Python's datetime has it.
            assert!((days[0].unwrap() - 2_913_173.999_988_426).abs() < 1e-6, "{sql}: {days:?}");
            assert_eq!(&days[1..], [Some(11.0), None], "{sql}");
        }
    }

    #[test]
    fn columns_are_seen_as_what_they_were_compiled_for() {
        let names = vec![("a".to_owned(), DataType::Float64), ("b".to_owned(), DataType::Float64)];
        let ratio = compiled("a / b", &names).unwrap();
        let columns: [ArrayRef; 2] =
            [Arc::new(Int64Array::from(vec![1, 7, 3])), Arc::new(Int32Array::from(vec![4, 2, 0]))];
        let ratio = ratio.evaluate(&columns, 3).unwrap();
        assert_eq!(ratio.as_primitive::<Float64Type>().values(), &[0.25, 3.5, f64::INFINITY]);
    }

    #[test]
    fn parts_of_texts_are_told_in_standard_words() {
        let names = vec![("s".to_owned(), DataType::Utf8)];
        let column: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["abc", "xab"]));
        for (sql, expected) in [
            ("CAST(substr(s, 1, 2) = 'ab' AS DOUBLE)", [1.0, 0.0]),
            ("CAST(substring(s FROM 2 FOR 1) = 'b' AS DOUBLE)", [1.0, 0.0]),
            ("CAST(position('b' IN s) AS DOUBLE)", [2.0, 3.0]),
        ] {
            let found = compiled(sql, &names).unwrap();
            let found = found.evaluate(std::slice::from_ref(&column), 2).unwrap();
            assert_eq!(found.as_primitive::<Float64Type>().values(), &expected, "{sql}");
        }
    }

    #[test]
    fn an_expression_that_would_end_the_stack_is_refused() {
        let (names, _) = columns();
        for long in [vec!["y"; 50_000].join(" + "), format!("y{}", "::double".repeat(50_000))] {
            let error = compiled(&long, &names).err().unwrap();
            assert!(error.to_string().contains("are the most"), "{}", error.message);
        }
        assert!(compiled(&vec!["y"; OPERATORS_MAX].join(" + "), &names).is_ok());
    }

    #[test]
    fn the_last_column_of_a_name_counts_and_nulls_stay_null() {
        let (names, values) = columns();
        let sum = compiled("x + y", &names).unwrap();
        let sum = sum.evaluate(&values, 3).unwrap();
        let sum: Vec<_> = sum.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(sum, [Some(10.5), None, Some(32.0)]);
    }

    #[test]
    fn a_constant_has_a_value_for_each_row() {
        let (names, values) = columns();
        let constant = compiled("1.5 * 2", &names).unwrap();
        assert_eq!(constant.evaluate(&values, 3).unwrap().len(), 3);
    }

    #[test]
    fn what_is_unknown_or_not_reproducible_is_an_error() {
        for (sql, expected) in [
            ("z + 1", "z"),
            ("random()", "random"),
            ("now()", "now"),
            ("sum(x)", "sum"),
            ("x +", "found: EOF"),
            ("(select 1)", ""),
        ] {
            let error = compiled(sql, &columns().0).err().expect(sql).to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
