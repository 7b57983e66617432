//! The functions that SQL expressions may call: DataFusion's immutable ones, and a program's own.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimeUnit};
use arrow::error::ArrowError;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, TableReference, plan_err};
use datafusion_expr::planner::{
    ContextProvider, ExprPlanner, PlannerResult, RawFieldAccessExpr, TypePlanner,
};
use datafusion_expr::{
    AggregateUDF, ColumnarValue, Expr, GetFieldAccess, HigherOrderUDF, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, TableSource, Volatility, WindowUDF, lit,
};
use datafusion_sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

use crate::features::bounded::bounded;

/// What a function does with the columns of its arguments, `[rows]` each.
type Body = dyn Fn(&[ArrayRef]) -> Result<ArrayRef, ArrowError> + Send + Sync;

/// A function in Rust that SQL expressions of a job can call.
///
/// It must be pure: a row's value may depend on the arguments of the row and on nothing else, or
/// replays are not reproducible.
///
/// ```
/// use driftline_operators::features::functions::SqlFunction;
///
/// // hypotenuse(a, b) is null where an argument is.
/// let function = SqlFunction::of_numbers("hypotenuse", 2, |sides| sides[0].hypot(sides[1]));
/// assert_eq!(function.name(), "hypotenuse");
/// ```
#[derive(Clone)]
pub struct SqlFunction {
    name: String,
    signature: Signature,
    returns: DataType,
    body: Arc<Body>,
}

impl SqlFunction {
    /// A function over columns: `body` gets a column of each type of `arguments` and gives one of
    /// `returns` with as many rows. Arguments of other types are cast, as SQL does.
    pub fn new(
        name: impl Into<String>,
        arguments: Vec<DataType>,
        returns: DataType,
        body: impl Fn(&[ArrayRef]) -> Result<ArrayRef, ArrowError> + Send + Sync + 'static,
    ) -> Self {
        SqlFunction {
            name: name.into(),
            signature: Signature::exact(arguments, Volatility::Immutable),
            returns,
            body: Arc::new(body),
        }
    }

    /// A function of `arguments` numbers, row by row; null where one of them is.
    pub fn of_numbers(
        name: impl Into<String>,
        arguments: usize,
        body: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
    ) -> Self {
        let types = vec![DataType::Float64; arguments];
        Self::new(name, types, DataType::Float64, move |columns| {
            let columns: Vec<&Float64Array> =
                columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
            let rows = columns.first().map_or(0, |column| column.len());
            let mut row_values = vec![0.0; columns.len()];
            let values = (0..rows).map(|row| {
                for (value, column) in row_values.iter_mut().zip(&columns) {
                    *value = column.is_valid(row).then(|| column.value(row))?;
                }
                Some(body(&row_values))
            });
            Ok(Arc::new(values.collect::<Float64Array>()))
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Debug for SqlFunction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlFunction").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for SqlFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.body, &other.body)
    }
}

impl Eq for SqlFunction {}

impl Hash for SqlFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// A program's function gave something else than it says it does, whatever it was given.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BrokenWord(String);

/// Whether an error is not of the values of a row but of a program's function.
pub(super) fn is_broken(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::External(error) if error.is::<BrokenWord>())
}

impl ScalarUDFImpl for SqlFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> datafusion_common::Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(
        &self,
        arguments: ScalarFunctionArgs,
    ) -> datafusion_common::Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let columns = arguments.args.into_iter().map(|argument| argument.into_array(rows));
        let value = (self.body)(&columns.collect::<Result<Vec<_>, _>>()?)?;
        if value.len() != rows || *value.data_type() != self.returns {
            return Err(DataFusionError::External(Box::new(BrokenWord(format!(
                "function {:?} gave {} values of {}, not {rows} of {}",
                self.name,
                value.len(),
                value.data_type(),
                self.returns
            )))));
        }
        Ok(ColumnarValue::Array(value))
    }
}

/// Members of structures by name, `payload['user']['age']`: names that are words of SQL, such as
/// `user`, cannot be written with points.
#[derive(Debug)]
struct Members;

impl ExprPlanner for Members {
    fn plan_array_literal(
        &self,
        _elements: Vec<Expr>,
        _schema: &DFSchema,
    ) -> datafusion_common::Result<PlannerResult<Vec<Expr>>> {
        plan_err!("lists cannot be written in SQL here; IN ('a', 'b') compares with several values")
    }

    fn plan_field_access(
        &self,
        access: RawFieldAccessExpr,
        _schema: &DFSchema,
    ) -> datafusion_common::Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { expr, field_access } = access;
        match field_access {
            GetFieldAccess::NamedStructField { name } => {
                let arguments: Vec<Expr> = vec![expr, lit(name)];
                Ok(PlannerResult::Planned(datafusion_functions::core::get_field().call(arguments)))
            }
            field_access => Ok(PlannerResult::Original(RawFieldAccessExpr { expr, field_access })),
        }
    }
}

/// `overlay(a PLACING b FROM n)`, with a bound of what it gives.
#[derive(Debug)]
struct BoundedOverlay;

impl ExprPlanner for BoundedOverlay {
    fn plan_overlay(
        &self,
        arguments: Vec<Expr>,
    ) -> datafusion_common::Result<PlannerResult<Vec<Expr>>> {
        let overlay = bounded(datafusion_functions::core::overlay());
        Ok(PlannerResult::Planned(overlay.call(arguments)))
    }
}

/// The functions that the expressions of a job may call.
#[derive(Clone)]
pub struct Functions {
    scalar: Arc<HashMap<String, Arc<ScalarUDF>>>,
    planners: Arc<[Arc<dyn ExprPlanner>]>,
    options: Arc<ConfigOptions>,
}

static STANDARD: LazyLock<Functions> = LazyLock::new(|| {
    let mut scalar = HashMap::new();
    for function in datafusion_functions::all_default_functions() {
        if function.signature().volatility != Volatility::Immutable {
            continue;
        }
        for name in function.aliases().iter().map(String::as_str).chain([function.name()]) {
            scalar.insert(name.to_owned(), bounded(function.clone()));
        }
    }
    Functions {
        scalar: Arc::new(scalar),
        planners: Arc::new([
            Arc::new(BoundedOverlay),
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            Arc::new(Members),
        ]),
        options: Arc::new(ConfigOptions::default()),
    }
});

/// DataFusion's functions, as far as they are immutable.
impl Default for Functions {
    fn default() -> Self {
        STANDARD.clone()
    }
}

impl Functions {
    /// These and `own`; one of the same name takes the place of the one there is.
    #[must_use]
    pub fn with(mut self, own: impl IntoIterator<Item = SqlFunction>) -> Self {
        let scalar = Arc::make_mut(&mut self.scalar);
        for function in own {
            scalar.insert(function.name.clone(), Arc::new(ScalarUDF::from(function)));
        }
        self
    }
}

/// A timestamp without a precision is of µs, as columns of times are: of ns it would end in 2262.
#[derive(Debug)]
struct Times;

impl TypePlanner for Times {
    fn plan_type_field(&self, sql_type: &SqlType) -> datafusion_common::Result<Option<FieldRef>> {
        let zone = match sql_type {
            SqlType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => None,
            SqlType::Timestamp(None, _) => Some("UTC".into()),
            _ => return Ok(None),
        };
        let micros = DataType::Timestamp(TimeUnit::Microsecond, zone);
        Ok(Some(Arc::new(Field::new("", micros, true))))
    }
}

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

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Times))
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
