//! Rows to try a model with when it is loaded.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{Field, Schema};

use super::file::FileFacts;
use super::inputs::{BoundInput, Element};

/// Rows that are made up where a model takes texts or whole numbers, not all of which it may know.
const ROWS: usize = 256;

/// Rows of the model's features for which only some values will do: texts and whole numbers that the
/// file of the model knows. Other columns are null: any number does.
pub fn made_up(features: &[Field], inputs: &[BoundInput], facts: &FileFacts) -> RecordBatch {
    let element = |at: usize| {
        let input = inputs.iter().find(|input| input.features.contains(&at));
        input.map_or(Element::Float, |input| input.declared.element)
    };
    let elements: Vec<Element> = (0..features.len()).map(element).collect();
    let any_number = |element: &Element| matches!(element, Element::Float | Element::Double);
    let rows = if elements.iter().all(any_number) { 1 } else { ROWS };
    let column = |(at, field): (usize, &Field)| -> ArrayRef {
        // Of features of a type the position: nodes may know the words of one feature each.
        let nth = elements[..at].iter().filter(|other| **other == elements[at]).count();
        let alike = elements.iter().filter(|other| **other == elements[at]).count();
        let numbers: ArrayRef = match elements[at] {
            Element::Text => {
                let default = ["", "a"].map(str::to_owned);
                let draw = |row| known(&facts.words, &default, row, nth, alike);
                Arc::new(StringArray::from_iter_values((0..rows).map(draw)))
            }
            Element::Int64 | Element::Int32 => {
                let draw = |row| known(&facts.numbers, &[0, 1, 2, 5], row, nth, alike) as f64;
                Arc::new(Float64Array::from_iter_values((0..rows).map(draw)))
            }
            Element::Bool => {
                let draw = |row: usize| (row >> nth & 1) as f64;
                Arc::new(Float64Array::from_iter_values((0..rows).map(draw)))
            }
            Element::Float | Element::Double => new_null_array(field.data_type(), rows),
        };
        cast(&numbers, field.data_type()).expect("small numbers are of every type of numbers")
    };
    let columns = features.iter().enumerate().map(column).collect();
    let schema = Arc::new(Schema::new(features.to_vec()));
    RecordBatch::try_new(schema, columns).expect("columns of the features' types")
}

/// A value that the model knows, for the `nth` of `alike` features. If it has a list for each, in
/// every other row one of that list, else one of all.
fn known<T: Clone>(lists: &[Vec<T>], default: &[T], row: usize, nth: usize, alike: usize) -> T {
    let mixed =
        (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(8 * nth as u32) >> 20;
    let own = lists
        .get(nth)
        .filter(|list| lists.len() == alike && row.is_multiple_of(2) && !list.is_empty());
    if let Some(list) = own {
        return list[mixed as usize % list.len()].clone();
    }
    let all: Vec<&T> = lists.iter().flatten().collect();
    match all.len() {
        0 => default[mixed as usize % default.len()].clone(),
        count => all[mixed as usize % count].clone(),
    }
}

/// The rows with zero in the columns of which any number does.
pub fn with_zeros(rows: &RecordBatch) -> RecordBatch {
    let zeros: ArrayRef = Arc::new(Float64Array::from(vec![0.0; rows.num_rows()]));
    let is_open = |column: &ArrayRef| {
        column.data_type().is_numeric() && column.null_count() == rows.num_rows()
    };
    let columns = rows.columns().iter().map(|column| match is_open(column) {
        true => cast(&zeros, column.data_type()).expect("zero is of every type of numbers"),
        false => column.clone(),
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).expect("columns of the same types")
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::DataType;

    use super::super::inputs::Declared;
    use super::*;

    #[test]
    fn texts_are_those_that_the_model_knows() {
        let features = [("s", DataType::Utf8), ("a", DataType::Float64), ("t", DataType::Utf8)]
            .map(|(name, to)| Field::new(name, to, true));
        let input = |name: &str, element, at: usize| {
            let declared = Declared { name: name.to_owned(), element, shape: vec![-1, 1] };
            BoundInput { declared, features: vec![at] }
        };
        let inputs = [
            input("s", Element::Text, 0),
            input("a", Element::Float, 1),
            input("t", Element::Text, 2),
        ];
        let words = [vec!["x", "y"], vec!["z"]];
        let words = words.map(|list| list.into_iter().map(str::to_owned).collect()).to_vec();
        let rows = made_up(&features, &inputs, &FileFacts { words, ..FileFacts::default() });
        assert_eq!(rows.column(1).null_count(), ROWS);
        let texts = |at: usize| rows.column(at).as_string::<i32>();
        assert!((0..ROWS).step_by(2).all(|row| texts(0).value(row) != "z"));
        assert!((0..ROWS).step_by(2).all(|row| texts(2).value(row) == "z"));
        assert!(["x", "y", "z"].iter().all(|word| texts(2).iter().any(|t| t == Some(*word))));
        assert_eq!(with_zeros(&rows).column(1).null_count(), 0);
    }
}
