//! NaN is a missing value.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;

/// The column with null in place of NaN; one of another type than Float64 as it is.
pub fn without_nan(column: ArrayRef) -> ArrayRef {
    let Some(numbers) = column.as_primitive_opt::<Float64Type>() else { return column };
    // All of them: nearly always there is none, and a loop without an exit takes several at a time.
    if !numbers.values().iter().fold(false, |found, number| found | number.is_nan()) {
        return column;
    }
    let known = numbers.iter().map(|number| number.filter(|number| !number.is_nan()));
    Arc::new(known.collect::<Float64Array>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringArray;

    #[test]
    fn nan_is_null_and_nothing_else_is() {
        let column =
            [Some(1.0), Some(f64::NAN), None, Some(f64::INFINITY), Some(-f64::NAN), Some(-0.0)];
        let found = without_nan(Arc::new(column.into_iter().collect::<Float64Array>()));
        let found: Vec<Option<u64>> =
            found.as_primitive::<Float64Type>().iter().map(|n| n.map(f64::to_bits)).collect();
        let wanted = [Some(1.0), None, None, Some(f64::INFINITY), None, Some(-0.0)];
        assert_eq!(found, wanted.map(|n| n.map(f64::to_bits)));
        let known: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
        assert!(Arc::ptr_eq(&without_nan(known.clone()), &known));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["NaN"]));
        assert_eq!(&without_nan(text.clone()), &text);
    }
}
