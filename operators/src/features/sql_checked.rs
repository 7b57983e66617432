//! Integer arithmetic of expressions is checked: DataFusion's wraps around, and what wrapped is no value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::{BinaryExpr as Binary, Expr, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, NegativeExpr, lit};

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
