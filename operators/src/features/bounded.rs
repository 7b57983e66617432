//! Functions that can make much of little: what they would give is bounded before they run, so that no
//! row, whatever it holds, takes the memory or the time of the process.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::cast;
use arrow::compute::kernels::concat_elements::concat_elements_dyn;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion_common::{DataFusionError, exec_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

/// What a function of texts gives for a row, in bytes; a longer text is no value.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;
/// What a function may take for the rows of a batch, or for one row where only its run tells how long
/// its text is: bytes, or pairs of characters that are compared.
pub const WORK_MAX: u64 = 64 << 20;

/// How the text that a function gives grows with its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
    Repeat,
    Pad,
    Replace,
    ReplaceMatches,
    Translate,
    Joined,
    JoinedWith,
    Overlay,
    Format,
    Encode,
    /// It compares each character of the first text with each of the second.
    Pairs,
}

impl Growth {
    fn of(name: &str) -> Option<Growth> {
        Some(match name {
            "repeat" => Growth::Repeat,
            "lpad" | "rpad" => Growth::Pad,
            "replace" => Growth::Replace,
            "regexp_replace" => Growth::ReplaceMatches,
            "translate" => Growth::Translate,
            "concat" | "||" => Growth::Joined,
            "concat_ws" => Growth::JoinedWith,
            "overlay" => Growth::Overlay,
            "to_char" => Growth::Format,
            "encode" => Growth::Encode,
            "levenshtein" | "btrim" | "ltrim" | "rtrim" => Growth::Pairs,
            _ => return None,
        })
    }

    /// What the function takes at most for arguments of these sizes: bytes of texts, values of numbers.
    fn bound(self, sizes: &[u64]) -> u64 {
        let size = |at: usize| sizes.get(at).copied().unwrap_or(0);
        let (text, second, third) = (size(0), size(1), size(2));
        let sum = |sizes: &[u64]| sizes.iter().copied().fold(0, u64::saturating_add);
        match self {
            Growth::Repeat => text.saturating_mul(second),
            Growth::Pad if sizes.len() > 2 && third == 0 => text,
            // A character is of up to four bytes, of ASCII of one.
            Growth::Pad => text.max(second.saturating_mul(third.clamp(1, 4))),
            Growth::Replace if second == 0 || third <= second => text,
            Growth::Replace => text.saturating_add((text / second).saturating_mul(third - second)),
            // A reference to a group takes two bytes, and gives no more than the match.
            Growth::ReplaceMatches if sizes.len() < 4 => {
                text.saturating_mul(2 + third / 2).saturating_add(third)
            }
            Growth::ReplaceMatches => {
                (text + 1).saturating_mul(third + third / 2).saturating_add(text)
            }
            Growth::Translate => text.saturating_mul(4),
            Growth::Joined => sum(sizes),
            Growth::JoinedWith => {
                sum(sizes).saturating_add(text.saturating_mul(sizes.len() as u64))
            }
            Growth::Overlay => text.saturating_add(second),
            Growth::Format => second.saturating_mul(32).saturating_add(64),
            Growth::Encode => text.saturating_mul(2).saturating_add(4),
            Growth::Pairs => text.saturating_mul(second),
        }
    }

    fn does(self) -> &'static str {
        match self {
            Growth::Pairs => "compare texts of more than",
            _ => "give a text of more than",
        }
    }
}

/// The function, bounded where its text can be longer than its arguments.
pub fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match Growth::of(function.name()) {
        Some(growth) => Arc::new(ScalarUDF::from(Bounded { inner: function, growth })),
        None => function,
    }
}

/// Two texts, or two values of bytes, of the same type after one another: null where one of them is.
pub fn joined() -> Arc<ScalarUDF> {
    let signature = Signature::any(2, Volatility::Immutable);
    bounded(Arc::new(ScalarUDF::from(Join { signature })))
}

/// Whether [`joined`] takes values of the type.
pub fn can_join(data_type: &DataType) -> bool {
    use DataType::{Binary, LargeBinary, LargeUtf8, Utf8, Utf8View};
    matches!(data_type, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Join {
    signature: Signature,
}

impl ScalarUDFImpl for Join {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> datafusion_common::Result<DataType> {
        Ok(arguments[0].clone())
    }

    fn invoke_with_args(
        &self,
        arguments: ScalarFunctionArgs,
    ) -> datafusion_common::Result<ColumnarValue> {
        let texts = ColumnarValue::values_to_arrays(&arguments.args)?;
        let joined = concat_elements_dyn(&texts[0], &texts[1])?;
        // Of constants alone there is one row.
        let is_constant = arguments.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        if is_constant {
            return Ok(ColumnarValue::Scalar(datafusion_common::ScalarValue::try_from_array(
                &joined, 0,
            )?));
        }
        Ok(ColumnarValue::Array(joined))
    }
}

/// A function whose arguments are looked at before it runs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

impl Bounded {
    /// # Errors
    /// If a row would take more than [`WORK_MAX`], or all rows together: then they are tried apart.
    fn check(&self, arguments: &[ColumnarValue]) -> Result<(), DataFusionError> {
        let sizes = arguments.iter().map(sizes).collect::<Result<Vec<_>, _>>()?;
        let rows = arguments.iter().find_map(|argument| match argument {
            ColumnarValue::Array(array) => Some(array.len()),
            ColumnarValue::Scalar(_) => None,
        });
        let rows = rows.unwrap_or(1);
        let mut of_row = vec![0; sizes.len()];
        let mut total = 0u64;
        for row in 0..rows {
            for (size, sizes) in of_row.iter_mut().zip(&sizes) {
                // A constant has one size for all rows.
                *size = if sizes.len() == 1 { sizes[0] } else { sizes[row] };
            }
            total = total.saturating_add(self.growth.bound(&of_row));
            if total > WORK_MAX {
                return self.too_much(WORK_MAX);
            }
        }
        Ok(())
    }

    fn too_much<T>(&self, bytes: u64) -> Result<T, DataFusionError> {
        exec_err!("{} would {} {bytes} bytes", self.inner.name(), self.growth.does())
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> datafusion_common::Result<DataType> {
        self.inner.inner().return_type(arguments)
    }

    fn return_field_from_args(
        &self,
        arguments: ReturnFieldArgs,
    ) -> datafusion_common::Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> datafusion_common::Result<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn invoke_with_args(
        &self,
        arguments: ScalarFunctionArgs,
    ) -> datafusion_common::Result<ColumnarValue> {
        self.check(&arguments.args)?;
        let value = self.inner.invoke_with_args(arguments)?;
        let longest = match &value {
            ColumnarValue::Scalar(value) => {
                value.try_as_str().flatten().map_or(0, |text| text.len() as u64)
            }
            ColumnarValue::Array(values) => text_sizes(values).into_iter().max().unwrap_or(0),
        };
        match longest > TEXT_BYTES_MAX {
            true => self.too_much(TEXT_BYTES_MAX),
            false => Ok(value),
        }
    }
}

/// The sizes of an argument by row; one where it is a constant.
fn sizes(argument: &ColumnarValue) -> Result<Vec<u64>, DataFusionError> {
    let array = match argument {
        ColumnarValue::Array(array) => array.clone(),
        ColumnarValue::Scalar(value) => value.to_array()?,
    };
    if array.data_type().is_integer() {
        let values = cast(&array, &DataType::Int64)?;
        let values = values.as_primitive::<Int64Type>().iter();
        return Ok(values.map(|value| value.map_or(0, |value| value.max(0) as u64)).collect());
    }
    Ok(text_sizes(&array))
}

/// A text of a value of another kind, such as a number or a time, is no longer.
const OTHER_BYTES: u64 = 64;

/// How many bytes each text has; what is null has none.
pub fn text_sizes(array: &ArrayRef) -> Vec<u64> {
    fn by_offsets<O: OffsetSizeTrait>(offsets: &[O], array: &ArrayRef) -> Vec<u64> {
        let length = |(row, pair): (usize, &[O])| match array.is_null(row) {
            true => 0,
            false => (pair[1].as_usize() - pair[0].as_usize()) as u64,
        };
        offsets.windows(2).enumerate().map(length).collect()
    }
    match array.data_type() {
        DataType::Utf8 => by_offsets(array.as_string::<i32>().value_offsets(), array),
        DataType::LargeUtf8 => by_offsets(array.as_string::<i64>().value_offsets(), array),
        DataType::Binary => by_offsets(array.as_binary::<i32>().value_offsets(), array),
        DataType::LargeBinary => by_offsets(array.as_binary::<i64>().value_offsets(), array),
        DataType::Utf8View => {
            let texts = array.as_string_view().iter();
            texts.map(|text| text.map_or(0, |text| text.len() as u64)).collect()
        }
        DataType::BinaryView => {
            let values = array.as_binary_view().iter();
            values.map(|value| value.map_or(0, |value| value.len() as u64)).collect()
        }
        _ => vec![OTHER_BYTES; array.len()],
    }
}
