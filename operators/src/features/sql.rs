//! SQL expressions over columns, compiled once and evaluated on Arrow by DataFusion.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{
    AggregateUDF, Expr, HigherOrderUDF, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr, utils};
use datafusion_sql::parser::DFParserBuilder;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};

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
}

impl Expression {
    /// Compiles `sql` against named columns, given as (name, type); where a name stands twice the
    /// last one counts, so that a feature hides the event's column of the same name.
    ///
    /// Only immutable functions are known: the same columns give the same values, always.
    ///
    /// # Errors
    /// If `sql` does not parse, names an unknown column or function, or does not fit the types.
    pub fn compile(sql: &str, columns: &[(String, DataType)]) -> Result<Self, SqlError> {
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
        let compiled = compile(sql, &Schema::new(fields)).map_err(|e| error(first_line(&e)))?;

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
        let physical =
            utils::reassign_expr_columns(compiled, &inputs).map_err(|e| error(e.to_string()))?;
        let data_type = physical.data_type(&inputs).map_err(|e| error(e.to_string()))?;
        let columns = read.into_iter().map(|(_, position)| position).collect();
        Ok(Expression { physical, columns, inputs, data_type })
    }

    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Positions of the columns the expression reads.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The value of the expression for each row, `[rows]`.
    ///
    /// # Errors
    /// What the functions themselves refuse, such as an integer division by zero.
    pub fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef, ArrowError> {
        let inputs = self.columns.iter().map(|&at| columns[at].clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.inputs.clone(), inputs, &options)?;
        let value = self.physical.evaluate(&batch).and_then(|value| value.into_array(rows));
        value.map_err(|error| ArrowError::ComputeError(error.to_string()))
    }
}

fn compile(
    sql: &str,
    schema: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, datafusion_common::DataFusionError> {
    let schema = DFSchema::try_from(schema.clone())?;
    let parsed = DFParserBuilder::new(sql).build()?.parse_into_expr()?.expr;
    let options = ParserOptions::new().with_enable_ident_normalization(false);
    let planner = SqlToRel::new_with_options(&*FUNCTIONS, options);
    let expr = planner.sql_to_expr(parsed, &schema, &mut PlannerContext::new())?;
    if expr.contains_outer() || matches!(expr, Expr::ScalarSubquery(_) | Expr::Exists(_)) {
        return plan_err!("subqueries have no meaning in a feature");
    }
    let context = SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build();
    let simplifier = ExprSimplifier::new(context);
    let expr = simplifier.simplify(simplifier.coerce(expr, &schema)?)?;
    create_physical_expr(&expr, &schema, &ExecutionProps::new(), &Default::default())
}

fn first_line(error: &datafusion_common::DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}

/// The functions that an expression may call: DataFusion's, as far as they are immutable.
struct Functions {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

static FUNCTIONS: LazyLock<Functions> = LazyLock::new(|| {
    let mut scalar = HashMap::new();
    for function in datafusion_functions::all_default_functions() {
        if function.signature().volatility != Volatility::Immutable {
            continue;
        }
        for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
            scalar.insert(name.to_owned(), function.clone());
        }
    }
    Functions {
        scalar,
        planners: vec![
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
        ],
        options: ConfigOptions::default(),
    }
});

impl ContextProvider for Functions {
    fn get_table_source(
        &self,
        name: TableReference,
    ) -> datafusion_common::Result<Arc<dyn TableSource>> {
        plan_err!("a feature reads columns, not the table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float64Array, Int32Array};
    use arrow::datatypes::Float64Type;

    use super::*;

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

    #[test]
    fn the_last_column_of_a_name_counts_and_nulls_stay_null() {
        let (names, values) = columns();
        let sum = Expression::compile("x + y", &names).unwrap();
        let sum = sum.evaluate(&values, 3).unwrap();
        let sum: Vec<_> = sum.as_primitive::<Float64Type>().iter().collect();
        assert_eq!(sum, [Some(10.5), None, Some(32.0)]);
    }

    #[test]
    fn a_constant_has_a_value_for_each_row() {
        let (names, values) = columns();
        let constant = Expression::compile("1.5 * 2", &names).unwrap();
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
            let error = Expression::compile(sql, &columns().0).err().expect(sql).to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    }
}
