//! The tensors of a batch, made of its columns.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use driftline_operators::model::ModelError;
use ort::session::SessionInputValue;
use ort::value::{Tensor, TensorRef};

use super::inputs::{BoundInput, Element};
use crate::models::trees::Block;

/// One input's tensor, row after row; kept for its memory.
#[derive(Clone)]
enum Buffer {
    Float(Vec<f32>),
    Double(Vec<f64>),
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Bool(Vec<bool>),
    Text(Vec<String>),
}

/// Fills one input of a model, again and again.
#[derive(Clone)]
pub struct TensorInput {
    pub bound: BoundInput,
    buffer: Buffer,
}

impl TensorInput {
    pub fn new(bound: BoundInput) -> Self {
        let buffer = match bound.declared.element {
            Element::Float => Buffer::Float(Vec::new()),
            Element::Double => Buffer::Double(Vec::new()),
            Element::Int64 => Buffer::Int64(Vec::new()),
            Element::Int32 => Buffer::Int32(Vec::new()),
            Element::Bool => Buffer::Bool(Vec::new()),
            Element::Text => Buffer::Text(Vec::new()),
        };
        TensorInput { bound, buffer }
    }

    /// Takes over the values of `features`, `[rows, features]`. Numbers are rounded to float; null is
    /// NaN in a tensor of floats or doubles. A tensor of integers takes those of Int64 as they are, and
    /// floats below 2^53: beyond it a float stands for several integers.
    ///
    /// # Errors
    /// The first value that the tensor cannot hold.
    pub fn fill(&mut self, features: &RecordBatch) -> Result<(), ModelError> {
        let TensorInput { bound, buffer } = self;
        match buffer {
            Buffer::Float(tensor) => {
                gather(bound, features, tensor, |value| value as f32, f32::NAN)
            }
            Buffer::Double(tensor) => gather(bound, features, tensor, |value| value, f64::NAN),
            Buffer::Int64(tensor) => gather_exact(bound, features, tensor, |value| match value {
                Number::Integer(value) => Some(value),
                Number::Float(value) => whole(value),
            })?,
            Buffer::Int32(tensor) => gather_exact(bound, features, tensor, |value| match value {
                Number::Integer(value) => i32::try_from(value).ok(),
                Number::Float(value) => whole(value).and_then(|value| i32::try_from(value).ok()),
            })?,
            Buffer::Bool(tensor) => gather_exact(bound, features, tensor, |value| {
                let value = match value {
                    Number::Integer(value) => value as f64,
                    Number::Float(value) => value,
                };
                (value == 0.0 || value == 1.0).then_some(value == 1.0)
            })?,
            Buffer::Text(tensor) => gather_texts(bound, features, tensor)?,
        }
        Ok(())
    }

    /// The tensor of the `rows` that it was filled with.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn tensor(&self, rows: usize) -> ort::Result<SessionInputValue<'_>> {
        let shape = self.bound.shape(rows);
        Ok(match &self.buffer {
            Buffer::Float(tensor) => TensorRef::from_array_view((shape, tensor.as_slice()))?.into(),
            Buffer::Double(tensor) => {
                TensorRef::from_array_view((shape, tensor.as_slice()))?.into()
            }
            Buffer::Int64(tensor) => TensorRef::from_array_view((shape, tensor.as_slice()))?.into(),
            Buffer::Int32(tensor) => TensorRef::from_array_view((shape, tensor.as_slice()))?.into(),
            Buffer::Bool(tensor) => TensorRef::from_array_view((shape, tensor.as_slice()))?.into(),
            Buffer::Text(tensor) => Tensor::from_string_array((shape, tensor.as_slice()))?.into(),
        })
    }

    /// The tensor, if it is one of floats.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.buffer {
            Buffer::Float(tensor) => Some(tensor),
            _ => None,
        }
    }
}

/// From here on a float no longer tells an integer from the next.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// A float as the integer that it surely is.
fn whole(value: f64) -> Option<i64> {
    (value.abs() < EXACT_BELOW && value.fract() == 0.0).then_some(value as i64)
}

/// A value of a feature.
#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    Integer(i64),
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Number::Float(value) => value.fmt(f),
            Number::Integer(value) => value.fmt(f),
        }
    }
}

/// A feature as floats, whichever numbers it is of; `None` of text.
fn as_numbers(column: &ArrayRef) -> Option<Float64Array> {
    match column.as_primitive_opt::<Int64Type>() {
        Some(integers) => Some(integers.unary(|value| value as f64)),
        None => column.as_primitive_opt::<Float64Type>().cloned(),
    }
}

fn numbers(bound: &BoundInput, features: &RecordBatch) -> Vec<Float64Array> {
    let columns = bound.features.iter().map(|&at| as_numbers(features.column(at)));
    columns.map(|column| column.expect("the input was bound to numbers")).collect()
}

/// Some rows of columns of numbers as those of a block, rounded to float; null is NaN.
pub fn fill_block(
    bound: &BoundInput,
    features: &RecordBatch,
    rows: Range<usize>,
    block: &mut Block,
) {
    for (feature, &at) in bound.features.iter().enumerate() {
        let column = features.column(at);
        match column.as_primitive_opt::<Int64Type>() {
            Some(integers) => {
                let values = integers.values()[rows.clone()].iter();
                block.set(feature, values.map(|&value| value as f64 as f32));
            }
            None => {
                let values = column.as_primitive::<Float64Type>().values()[rows.clone()].iter();
                block.set(feature, values.map(|&value| value as f32));
            }
        }
        if column.null_count() > 0 {
            let nulls = rows.clone().filter(|&row| column.is_null(row));
            nulls.for_each(|row| block.set_nan(row - rows.start, feature));
        }
    }
}

/// Columns into rows, `[rows, features]`.
fn gather<T: Copy>(
    bound: &BoundInput,
    features: &RecordBatch,
    tensor: &mut Vec<T>,
    convert: impl Fn(f64) -> T,
    null: T,
) {
    let columns = numbers(bound, features);
    gather_columns(&Vec::from_iter(&columns), tensor, convert, null);
}

/// Rows that are filled together: a line of the cache holds some columns of a row, and is to be there still
/// when the next of them comes.
const TILE_CELLS: usize = 4_096;
const TILE_ROWS_MIN: usize = 16;

fn gather_columns<T: Copy>(
    columns: &[&Float64Array],
    tensor: &mut Vec<T>,
    convert: impl Fn(f64) -> T,
    null: T,
) {
    let (rows, width) = (columns.first().map_or(0, |column| column.len()), columns.len());
    // Each cell is written.
    tensor.resize(rows * width, null);
    if tensor.is_empty() {
        return;
    }
    let rows_of_tile = (TILE_CELLS / width).max(TILE_ROWS_MIN);
    for (tile, first) in tensor.chunks_mut(rows_of_tile * width).zip((0..).step_by(rows_of_tile)) {
        for (at, column) in columns.iter().enumerate() {
            let cells = tile[at..].iter_mut().step_by(width);
            for (cell, value) in cells.zip(&column.values()[first..]) {
                *cell = convert(*value);
            }
        }
    }
    for (at, column) in columns.iter().enumerate() {
        if column.null_count() > 0 {
            for row in (0..rows).filter(|&row| column.is_null(row)) {
                tensor[row * width + at] = null;
            }
        }
    }
}

/// Columns into rows, of types that do not hold every number.
fn gather_exact<T: Copy>(
    bound: &BoundInput,
    features: &RecordBatch,
    tensor: &mut Vec<T>,
    convert: impl Fn(Number) -> Option<T>,
) -> Result<(), ModelError> {
    tensor.clear();
    tensor.reserve(features.num_rows() * bound.features.len());
    for row in 0..features.num_rows() {
        for &at in &bound.features {
            let column = features.column(at);
            if column.is_null(row) {
                return Err(refused(bound, features, at, "null"));
            }
            let value = match column.as_primitive_opt::<Int64Type>() {
                Some(integers) => Number::Integer(integers.value(row)),
                None => Number::Float(column.as_primitive::<Float64Type>().value(row)),
            };
            let Some(converted) = convert(value) else {
                return Err(refused(bound, features, at, &value.to_string()));
            };
            tensor.push(converted);
        }
    }
    Ok(())
}

fn refused(bound: &BoundInput, features: &RecordBatch, at: usize, value: &str) -> ModelError {
    let (name, input) = (features.schema_ref().field(at).name(), &bound.declared);
    let why = match value.parse::<f64>() {
        Ok(number)
            if matches!(input.element, Element::Int64 | Element::Int32)
                && number.is_finite()
                && number.abs() >= EXACT_BELOW
                && features.column(at).as_primitive_opt::<Int64Type>().is_none() =>
        {
            " exactly: numbers of 2^53 and more are integers only in a column that is declared int64"
        }
        _ => "",
    };
    ModelError::Refused(format!(
        "feature {name:?} is {value}, which the model's input {input} cannot hold{why}"
    ))
}

/// Text columns into rows; the texts of the last time lend their memory.
fn gather_texts(
    bound: &BoundInput,
    features: &RecordBatch,
    tensor: &mut Vec<String>,
) -> Result<(), ModelError> {
    let width = bound.features.len();
    tensor.resize_with(features.num_rows() * width, String::new);
    for (offset, &at) in bound.features.iter().enumerate() {
        let column = features.column(at).as_string::<i32>();
        for (cell, text) in tensor[offset..].iter_mut().step_by(width).zip(column) {
            let text = text.ok_or_else(|| refused(bound, features, at, "null"))?;
            // ONNX Runtime takes texts that end with a zero byte.
            if text.contains('\0') {
                return Err(refused(bound, features, at, &format!("{text:?}")));
            }
            cell.clear();
            cell.push_str(text);
        }
    }
    Ok(())
}

/// All features as floats, `[rows, features]`; a text is NaN.
pub fn as_floats(features: &RecordBatch) -> Vec<f32> {
    let texts = Float64Array::new_null(features.num_rows());
    let columns: Vec<Float64Array> = features
        .columns()
        .iter()
        .map(|column| as_numbers(column).unwrap_or_else(|| texts.clone()))
        .collect();
    let mut floats = Vec::new();
    gather_columns(&Vec::from_iter(&columns), &mut floats, |value| value as f32, f32::NAN);
    floats
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};

    use super::super::inputs::Declared;
    use super::*;

    fn filled(element: Element, features: &RecordBatch) -> Result<TensorInput, String> {
        let shape = vec![-1, features.num_columns() as i64];
        let declared = Declared { name: "X".to_owned(), element, shape };
        let features_of_it = (0..features.num_columns()).collect();
        let mut input = TensorInput::new(BoundInput { declared, features: features_of_it });
        input.fill(features).map_err(|error| error.to_string())?;
        Ok(input)
    }

    fn numbers(values: &[Option<f64>]) -> RecordBatch {
        let column: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        RecordBatch::try_from_iter([("a", column)]).unwrap()
    }

    fn refusal(element: Element, value: Option<f64>) -> String {
        filled(element, &numbers(&[Some(1.0), value])).err().unwrap_or_default()
    }

    #[test]
    fn columns_become_rows_and_null_becomes_nan() {
        let a: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.5), None]));
        let b: ArrayRef = Arc::new(Float64Array::from(vec![2.0, 3.0]));
        let batch = RecordBatch::try_from_iter([("a", a), ("b", b)]).unwrap();
        let input = filled(Element::Float, &batch).unwrap();
        assert_eq!(format!("{:?}", input.floats().unwrap()), "[1.5, 2.0, NaN, 3.0]");
        assert_eq!(format!("{:?}", as_floats(&batch)), "[1.5, 2.0, NaN, 3.0]");
    }

    /// Of as many rows and columns as tiles are cut at, into the tensor of another batch.
    #[test]
    fn tiles_of_rows_are_the_whole() {
        let value = |row: usize, column: usize| {
            let is_null = column % 3 == 1 && row % 5 == 2;
            (!is_null).then_some((row * 1_000 + column) as f64)
        };
        let mut found = Vec::new();
        for (rows, width) in [(0, 3), (40, 300), (16, 1_000), (5_000, 1), (17, 900), (300, 16)] {
            let column = |at: usize| (0..rows).map(|row| value(row, at)).collect::<Float64Array>();
            let columns: Vec<Float64Array> = (0..width).map(column).collect();
            gather_columns(&Vec::from_iter(&columns), &mut found, |value| value, -1.0);
            let of_row = |row| (0..width).map(move |at| value(row, at).unwrap_or(-1.0));
            let expected: Vec<f64> = (0..rows).flat_map(of_row).collect();
            assert_eq!(found, expected, "{rows} x {width}");
        }
    }

    #[test]
    fn whole_numbers_are_whole_and_in_range() {
        for value in [0.0, -3.0, 9_007_199_254_740_991.0, -9_007_199_254_740_991.0] {
            assert_eq!(refusal(Element::Int64, Some(value)), "");
        }
        assert_eq!(
            refusal(Element::Int64, Some(0.5)),
            "feature \"a\" is 0.5, which the model's input \"X\" (int64 [rows, 1]) cannot hold"
        );
        for value in [9_223_372_036_854_775_808.0, f64::NAN, f64::INFINITY] {
            assert_ne!(refusal(Element::Int64, Some(value)), "");
        }
        for value in [9_007_199_254_740_992.0, -9_007_199_254_740_992.0] {
            assert!(refusal(Element::Int64, Some(value)).contains("2^53"));
        }
        assert_eq!(refusal(Element::Int32, Some(2_147_483_647.0)), "");
        assert_ne!(refusal(Element::Int32, Some(2_147_483_648.0)), "");
        assert_eq!(refusal(Element::Bool, Some(0.0)), "");
        assert_ne!(refusal(Element::Bool, Some(2.0)), "");
        assert!(refusal(Element::Int64, None).contains("is null"));
        assert_eq!(refusal(Element::Double, None), "");
    }

    #[test]
    fn integers_are_the_same_bit_by_bit_in_a_tensor_of_integers() {
        let integers = |values: &[Option<i64>]| {
            let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
            RecordBatch::try_from_iter([("a", column)]).unwrap()
        };
        let values = [9_007_199_254_740_993, -9_007_199_254_740_993, i64::MAX, i64::MIN, 0];
        let batch = integers(&values.map(Some));
        let Buffer::Int64(tensor) = filled(Element::Int64, &batch).unwrap().buffer else {
            panic!("a tensor of integers")
        };
        assert_eq!(tensor, values);
        let floats = filled(Element::Float, &integers(&[Some(7), None])).unwrap();
        assert_eq!(format!("{:?}", floats.floats().unwrap()), "[7.0, NaN]");
        let refusal =
            |element, value| filled(element, &integers(&[value])).err().unwrap_or_default();
        assert_eq!(refusal(Element::Int32, Some(i64::from(i32::MIN))), "");
        assert!(refusal(Element::Int32, Some(1 << 31)).contains("is 2147483648"));
        assert_eq!(refusal(Element::Bool, Some(1)), "");
        assert!(refusal(Element::Bool, Some(2)).contains("is 2,"));
        assert!(refusal(Element::Int64, None).contains("is null"));
    }

    #[test]
    fn a_text_is_neither_null_nor_holds_a_zero_byte() {
        let texts = |values: &[Option<&str>]| {
            let column: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
            let batch = RecordBatch::try_from_iter([("s", column)]).unwrap();
            filled(Element::Text, &batch).err().unwrap_or_default()
        };
        assert_eq!(texts(&[Some("a"), Some("")]), "");
        assert!(texts(&[Some("a"), None]).contains("\"s\" is null"));
        assert!(texts(&[Some("a\0b")]).contains("\"a\\0b\""));
    }
}
