//! Arithmetic of integers and of times does not wrap around, as DataFusion's does, and is not cut off: what
//! is out of range is no value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{BinaryExpr as Binary, Expr, ExprSchemable, Operator, cast};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, NegativeExpr, lit};

use crate::features::bounded::{can_join, joined};

/// The expression with constant arithmetic of integers worked out: null where it is out of range.
///
/// # Errors
/// Never for an expression whose types fit.
pub(super) fn fold_integers(expr: Expr) -> Result<Expr, DataFusionError> {
    let folded = expr.transform_up(|expr| {
        let Expr::BinaryExpr(Binary { left, op, right }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let (Some(a), Some(b)) = (integer(left), integer(right)) else {
            return Ok(Transformed::no(expr));
        };
        if a.data_type() != b.data_type() {
            return Ok(Transformed::no(expr));
        }
        let value = match op {
            Operator::Plus => a.add_checked(b),
            Operator::Minus => a.sub_checked(b),
            Operator::Multiply => a.mul_checked(b),
            _ => return Ok(Transformed::no(expr)),
        };
        let value = match value {
            Ok(value) => value,
            Err(_) => ScalarValue::try_from(&a.data_type())?,
        };
        Ok(Transformed::yes(Expr::Literal(value, None)))
    })?;
    Ok(folded.data)
}

/// The expression with `date_part('epoch', ...)` of a difference of times as the division that it is:
/// DataFusion's (55.2) goes by seconds of 32 bits, and has no value for a difference of 68 years.
///
/// # Errors
/// If the types of the expression do not fit.
pub(super) fn with_long_epochs(expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let long = expr.transform_up(|expr| {
        let Expr::ScalarFunction(ScalarFunction { func, args }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let [part, difference] = args.as_slice() else { return Ok(Transformed::no(expr)) };
        let is_epoch = matches!(part, Expr::Literal(value, _) if value
            .try_as_str()
            .flatten()
            .is_some_and(|part| part.eq_ignore_ascii_case("epoch")));
        if func.name() != "date_part" || !is_epoch {
            return Ok(Transformed::no(expr));
        }
        let DataType::Duration(unit) = difference.get_type(schema)? else {
            return Ok(Transformed::no(expr));
        };
        let per_second = match unit {
            TimeUnit::Second => 1.0,
            TimeUnit::Millisecond => 1e3,
            TimeUnit::Microsecond => 1e6,
            TimeUnit::Nanosecond => 1e9,
        };
        let ticks = cast(cast(difference.clone(), DataType::Int64), DataType::Float64);
        Ok(Transformed::yes(ticks / Expr::Literal(ScalarValue::from(per_second), None)))
    })?;
    Ok(long.data)
}

/// The expression with functions that are bounded in place of `||`.
///
/// # Errors
/// If the types of the expression do not fit.
pub(super) fn with_bounded_joins(expr: Expr, schema: &DFSchema) -> Result<Expr, DataFusionError> {
    let bounded = expr.transform_up(|expr| {
        let Expr::BinaryExpr(Binary { left, op: Operator::StringConcat, right }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let data_type = left.get_type(schema)?;
        if data_type != right.get_type(schema)? || !can_join(&data_type) {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(joined().call(vec![*left.clone(), *right.clone()])))
    })?;
    Ok(bounded.data)
}

fn integer(expr: &Expr) -> Option<&ScalarValue> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => Some(value),
        _ => None,
    }
}

/// The compiled expression over columns of `inputs`, whose arithmetic fails where it overflows.
///
/// # Errors
/// Never for an expression over these columns.
pub(super) fn checked(
    expr: Arc<dyn PhysicalExpr>,
    inputs: &Schema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    let checked = expr.transform_up(|expr| {
        if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            let (left, op, right) = (binary.left().clone(), *binary.op(), binary.right().clone());
            let checked = BinaryExpr::new(left, op, right).with_fail_on_overflow(true);
            return Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>));
        }
        if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            let zero = match negative.arg().data_type(inputs)? {
                DataType::Int8 => lit(0_i8),
                DataType::Int16 => lit(0_i16),
                DataType::Int32 => lit(0_i32),
                DataType::Int64 => lit(0_i64),
                _ => return Ok(Transformed::no(expr)),
            };
            let arg = negative.arg().clone();
            let checked = BinaryExpr::new(zero, Operator::Minus, arg).with_fail_on_overflow(true);
            return Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>));
        }
        Ok(Transformed::no(expr))
    })?;
    Ok(checked.data)
}
