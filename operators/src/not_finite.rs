//! What is said of a prediction that is no number.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;

use crate::model_input::ModelInput;
use crate::numbers::Numbers;

/// Says what the prediction of a row is, and which feature may be why. `inputs` are columns of
/// `events`, but for those that are scores of other models; the prediction has a number that is not finite.
pub fn detail(
    prediction: &Numbers,
    events: &RecordBatch,
    inputs: &[ModelInput],
    row: usize,
) -> String {
    let (at, number) = prediction
        .iter()
        .enumerate()
        .find(|(_, number)| !number.is_finite())
        .unwrap_or((0, f64::NAN));
    let what = if number.is_nan() { "NaN".to_owned() } else { format!("infinite ({number})") };
    let which = match prediction.len() {
        1 => String::new(),
        width => format!(", number {} of {width}", at + 1),
    };
    let why = inputs.iter().find_map(|input| {
        let column = events.columns().get(input.column)?;
        if column.is_null(row) {
            return Some(format!("; feature {:?} is null", input.name));
        }
        let numbers = column.as_primitive_opt::<Float64Type>()?;
        let is_infinite = numbers.value(row).is_infinite();
        is_infinite.then(|| format!("; feature {:?} is {}", input.name, numbers.value(row)))
    });
    format!("the model's prediction is {what}{which}{}", why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};

    use super::*;

    #[test]
    fn what_it_is_and_which_feature_is_unusual() {
        let columns: [(&str, ArrayRef); 3] = [
            ("key", Arc::new(StringArray::from(vec!["a"; 3]))),
            ("x", Arc::new(Float64Array::from(vec![Some(1.0), None, Some(2.0)]))),
            ("y", Arc::new(Float64Array::from(vec![1.0, 1.0, f64::NEG_INFINITY]))),
        ];
        let events = RecordBatch::try_from_iter(columns).unwrap();
        let inputs: Vec<ModelInput> = [(3, "score"), (1, "x"), (2, "y"), (0, "key")]
            .map(|(column, name)| ModelInput { column, name: name.to_owned(), allow_null: true })
            .into();
        let said = |prediction: &[f32], row| {
            let doubles = prediction.iter().copied().map(f64::from).collect();
            let told = detail(&Numbers::Floats(prediction.to_vec()), &events, &inputs, row);
            assert_eq!(told, detail(&Numbers::Doubles(doubles), &events, &inputs, row));
            told
        };
        assert_eq!(said(&[f32::NAN], 0), "the model's prediction is NaN");
        assert_eq!(said(&[f32::NAN], 1), "the model's prediction is NaN; feature \"x\" is null");
        assert_eq!(
            said(&[0.5, f32::NEG_INFINITY, f32::NAN], 2),
            "the model's prediction is infinite (-inf), number 2 of 3; feature \"y\" is -inf"
        );
        assert_eq!(said(&[f32::INFINITY], 0), "the model's prediction is infinite (inf)");
    }
}
