//! Which output of a model is its prediction, and how it is read.

use driftline_operators::model::{ModelError, Task};
use driftline_operators::numbers::Numbers;
use ort::value::{
    DynMapValueType, DynSequenceValueType, DynValue, Outlet, TensorElementType, ValueType,
};

use super::file::Label;

/// What an output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Floats,
    Doubles,
    /// Whole numbers, of one of their types: labels, unless the job names the output.
    Integers(TensorElementType),
    /// A map from class to probability for each row, as ZipMap gives them.
    MapsOfNumbers,
    MapsOfTexts,
}

impl Form {
    fn of(dtype: &ValueType) -> Option<Self> {
        match dtype {
            ValueType::Tensor { ty: TensorElementType::Float32, .. } => Some(Form::Floats),
            ValueType::Tensor { ty: TensorElementType::Float64, .. } => Some(Form::Doubles),
            ValueType::Tensor { ty, .. } if is_whole(*ty) => Some(Form::Integers(*ty)),
            ValueType::Sequence(of) => match of.as_ref() {
                ValueType::Map { key, value: TensorElementType::Float32 } => match key {
                    TensorElementType::Int64 => Some(Form::MapsOfNumbers),
                    TensorElementType::String => Some(Form::MapsOfTexts),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

/// The output that is read.
#[derive(Clone, Debug)]
pub struct PredictionOutput {
    pub name: String,
    form: Form,
    /// The classes of maps in the order of the prediction.
    pub classes: Vec<Label>,
    /// Where in the prediction the classes go in ascending order, which is that of maps.
    positions: Vec<usize>,
}

/// What came out of a run.
pub struct Answer {
    pub columns: usize,
    /// `[rows, columns]`, row after row.
    pub values: Numbers,
}

impl PredictionOutput {
    /// The output called `wanted`; else the only one that can be a prediction, or of several the
    /// only one called something like probabilities.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn choose(outputs: &[Outlet], wanted: Option<&str>) -> Result<Self, String> {
        let all = || outputs.iter().map(describe).collect::<Vec<_>>().join(", ");
        let read =
            |output: &Outlet| Form::of(output.dtype()).map(|form| (output.name().to_owned(), form));
        let found = if let Some(name) = wanted {
            let output = outputs.iter().find(|output| output.name() == name).ok_or_else(|| {
                format!("it has no output {name:?} (model.output); it has {}", all())
            })?;
            read(output).ok_or_else(|| {
                format!("its output {} is neither numbers nor maps of classes", describe(output))
            })?
        } else {
            let is_no_label = |(_, form): &(String, Form)| !matches!(form, Form::Integers(_));
            let mut candidates: Vec<(String, Form)> =
                outputs.iter().filter_map(read).filter(is_no_label).collect();
            if candidates.len() > 1 {
                let likely = |(name, _): &(String, Form)| name.to_lowercase().contains("prob");
                if candidates.iter().filter(|candidate| likely(candidate)).count() == 1 {
                    candidates.retain(likely);
                }
            }
            match candidates.len() {
                1 => candidates.remove(0),
                0 => return Err(format!("none of its outputs is a prediction; it has {}", all())),
                _ => {
                    return Err(format!(
                        "several of its outputs could be the prediction; name one in model.output: {}",
                        all()
                    ));
                }
            }
        };
        let (name, form) = found;
        Ok(PredictionOutput { name, form, classes: Vec::new(), positions: Vec::new() })
    }

    /// Sets the order of classes: as the model file has it, or ascending as in the maps of a run.
    ///
    /// # Errors
    /// If the output is no sequence of maps.
    pub fn order_classes(
        &mut self,
        in_file: Option<&Vec<Label>>,
        value: &DynValue,
    ) -> Result<(), ModelError> {
        let ascending = match self.form {
            Form::Floats | Form::Doubles | Form::Integers(_) => return Ok(()),
            Form::MapsOfNumbers => first_labels(value, Label::Number)?,
            Form::MapsOfTexts => first_labels(value, Label::Text)?,
        };
        self.classes = match in_file {
            Some(classes) if classes.len() == ascending.len() => classes.clone(),
            _ => ascending.clone(),
        };
        let position = |label| self.classes.iter().position(|class| class == label);
        let positions: Option<Vec<usize>> = ascending.iter().map(position).collect();
        self.positions = positions.ok_or_else(|| {
            ModelError::Refused(format!(
                "the classes of output {:?} are not those of its ZipMap",
                self.name
            ))
        })?;
        Ok(())
    }

    /// Reads the output of a run of `rows` rows. What the model declares of its shape is not relied
    /// upon: some exporters declare it wrong.
    ///
    /// # Errors
    /// If it does not hold a prediction for each row.
    pub fn read(&self, value: &DynValue, rows: usize) -> Result<Answer, ModelError> {
        let answer = match self.form {
            Form::Floats => {
                let (shape, values) = value.try_extract_tensor::<f32>().map_err(refused)?;
                let values = Numbers::Floats(values.to_vec());
                Answer { columns: self.columns(shape, rows)?, values }
            }
            Form::Doubles => {
                let (shape, values) = value.try_extract_tensor::<f64>().map_err(refused)?;
                let values = Numbers::Doubles(values.to_vec());
                Answer { columns: self.columns(shape, rows)?, values }
            }
            Form::Integers(of) => {
                let (shape, values) = integers(value, of).map_err(refused)?;
                Answer { columns: self.columns(&shape, rows)?, values: Numbers::Floats(values) }
            }
            Form::MapsOfNumbers => self.read_maps(value, rows, Label::Number)?,
            Form::MapsOfTexts => self.read_maps(value, rows, Label::Text)?,
        };
        Ok(answer)
    }

    /// The columns of a tensor of the given shape, whose first dimension must be the rows.
    fn columns(&self, shape: &[i64], rows: usize) -> Result<usize, ModelError> {
        match *shape {
            [first] if first as usize == rows => Ok(1),
            [first, columns, ref rest @ ..]
                if first as usize == rows && columns > 0 && rest.iter().all(|&d| d == 1) =>
            {
                Ok(columns as usize)
            }
            _ => Err(ModelError::Refused(format!(
                "output {:?} came as {shape:?} for {rows} rows; [rows, columns] or [rows] is needed",
                self.name
            ))),
        }
    }

    fn read_maps<K: Key>(
        &self,
        value: &DynValue,
        rows: usize,
        label: impl Fn(K) -> Label,
    ) -> Result<Answer, ModelError> {
        let maps = maps::<K>(value)?;
        if maps.len() != rows {
            return Err(ModelError::Refused(format!(
                "output {:?} came as {} maps for {rows} rows",
                self.name,
                maps.len()
            )));
        }
        let columns = self.classes.len();
        let mut values = vec![0.0; rows * columns];
        for (row, map) in values.chunks_exact_mut(columns.max(1)).zip(maps) {
            if map.len() != columns {
                return Err(ModelError::Refused(format!(
                    "output {:?} has a map of {} classes; {columns} were expected",
                    self.name,
                    map.len()
                )));
            }
            for ((key, probability), &position) in map.into_iter().zip(&self.positions) {
                let class = label(key);
                if class != self.classes[position] {
                    return Err(ModelError::Refused(format!(
                        "output {:?} has a map with the class {class}, which others lack",
                        self.name
                    )));
                }
                row[position] = probability;
            }
        }
        Ok(Answer { columns, values: Numbers::Floats(values) })
    }

    /// Whether its numbers are doubles.
    pub fn has_doubles(&self) -> bool {
        self.form == Form::Doubles
    }
}

/// Whether a tensor holds whole numbers, of the types that ONNX Runtime gives.
fn is_whole(of: TensorElementType) -> bool {
    use TensorElementType::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    matches!(of, Int8 | Int16 | Int32 | Int64 | Uint8 | Uint16 | Uint32 | Uint64)
}

/// The shape and the numbers of a tensor of whole numbers; beyond 2^24 they are rounded.
fn integers(value: &DynValue, of: TensorElementType) -> ort::Result<(Vec<i64>, Vec<f32>)> {
    macro_rules! extracted {
        ($type:ty) => {{
            let (shape, values) = value.try_extract_tensor::<$type>()?;
            (shape.to_vec(), values.iter().map(|&value| value as f32).collect())
        }};
    }
    Ok(match of {
        TensorElementType::Int8 => extracted!(i8),
        TensorElementType::Int16 => extracted!(i16),
        TensorElementType::Int32 => extracted!(i32),
        TensorElementType::Uint8 => extracted!(u8),
        TensorElementType::Uint16 => extracted!(u16),
        TensorElementType::Uint32 => extracted!(u32),
        TensorElementType::Uint64 => extracted!(u64),
        _ => extracted!(i64),
    })
}

/// What the classes of a map may be.
trait Key: ort::value::IntoTensorElementType + Clone + std::hash::Hash + Eq + Ord {}

impl Key for i64 {}
impl Key for String {}

/// The maps of a sequence, each in ascending order of its keys.
fn maps<K: Key>(value: &DynValue) -> Result<Vec<Vec<(K, f32)>>, ModelError> {
    let sequence = value.view().downcast::<DynSequenceValueType>().map_err(refused)?;
    let maps = sequence.try_extract_sequence::<DynMapValueType>().map_err(refused)?;
    let entries = |map: &ort::value::DynMap| {
        let mut entries = map.try_extract_key_values::<K, f32>().map_err(refused)?;
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(entries)
    };
    maps.iter().map(entries).collect()
}

fn first_labels<K: Key>(
    value: &DynValue,
    label: impl Fn(K) -> Label,
) -> Result<Vec<Label>, ModelError> {
    let first = maps::<K>(value)?.into_iter().next().unwrap_or_default();
    Ok(first.into_iter().map(|(key, _)| label(key)).collect())
}

pub fn refused(error: ort::Error) -> ModelError {
    ModelError::Refused(one_line(&error.to_string()))
}

pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn describe(output: &Outlet) -> String {
    format!("{:?} ({})", output.name(), output.dtype())
}

/// What a prediction of so many columns is, and how many numbers it has: one probability of two
/// classes becomes two.
///
/// # Errors
/// If the job says (`model.task`) what it cannot be.
pub fn task(columns: usize, wanted: Option<Task>) -> Result<(Task, usize), String> {
    let task = wanted.unwrap_or(match columns {
        1 => Task::Regression,
        2 => Task::Binary,
        _ => Task::Multiclass,
    });
    match (task, columns) {
        (Task::Binary, 1 | 2) => Ok((task, 2)),
        (Task::Regression, 1) | (Task::Multiclass, 2..) => Ok((task, columns)),
        (Task::Binary, _) => {
            Err(format!("model.task is binary, which has 1 or 2 columns, not {columns}"))
        }
        (Task::Regression, _) => Err(format!(
            "model.task is regression, which has 1 column, not {columns}: a prediction is one number; export the model with one of its targets"
        )),
        (Task::Multiclass, _) => {
            Err(format!("model.task is multiclass, which has 2 columns or more, not {columns}"))
        }
    }
}

/// Whether an output is a label a row, as classifiers have them.
pub fn is_label(output: &Outlet) -> bool {
    use TensorElementType::{Int32, Int64, String};
    matches!(output.dtype(), ValueType::Tensor { ty: Int32 | Int64 | String, .. })
}

/// Whether the numbers of a row may be probabilities of all classes.
pub fn are_shares(row: &[f32]) -> bool {
    let total: f64 = row.iter().copied().map(f64::from).sum();
    row.iter().all(|share| (0.0..=1.0 + 1e-4).contains(share)) && (total - 1.0).abs() < 1e-3
}

/// What is said where nothing tells what columns are.
pub fn several_columns(output: &str, columns: usize) -> String {
    let task = if columns == 2 { "binary" } else { "multiclass" };
    format!(
        "output {output:?} has {columns} columns: classes or targets of a regression? There are no labels beside it, and they do not add up to 1. For classes write model.task = \"{task}\"; a regression has one column: export the model with one of its targets"
    )
}

/// Predictions of `width` numbers from answers of so many columns: of one probability two.
pub fn predictions(values: Numbers, columns: usize, width: usize) -> Numbers {
    if columns == width { values } else { values.with_opposites() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_follows_from_the_columns_unless_the_job_says() {
        assert_eq!(task(1, None), Ok((Task::Regression, 1)));
        assert_eq!(task(2, None), Ok((Task::Binary, 2)));
        assert_eq!(task(5, None), Ok((Task::Multiclass, 5)));
        assert_eq!(task(1, Some(Task::Binary)), Ok((Task::Binary, 2)));
        assert_eq!(task(2, Some(Task::Multiclass)), Ok((Task::Multiclass, 2)));
        assert!(task(3, Some(Task::Binary)).is_err());
        assert!(task(2, Some(Task::Regression)).is_err());
        assert!(task(1, Some(Task::Multiclass)).is_err());
    }

    #[test]
    fn shares_are_between_zero_and_one_and_add_up_to_one() {
        for (row, wanted) in [
            (&[0.25f32, 0.75][..], true),
            (&[0.0, 1.0], true),
            (&[0.1, 0.2, 0.7], true),
            (&[0.25, 0.25], false),
            (&[-0.5, 1.5], false),
            (&[f32::NAN, 1.0], false),
        ] {
            assert_eq!(are_shares(row), wanted, "{row:?}");
        }
    }

    #[test]
    fn the_first_dimension_is_the_rows() {
        let output = PredictionOutput {
            name: "p".to_owned(),
            form: Form::Floats,
            classes: Vec::new(),
            positions: Vec::new(),
        };
        let columns = |shape: &[i64]| output.columns(shape, 3).ok();
        assert_eq!(columns(&[3]), Some(1));
        assert_eq!(columns(&[3, 2]), Some(2));
        assert_eq!(columns(&[3, 2, 1]), Some(2));
        for shape in [&[][..], &[1], &[1, 3], &[3, 0], &[3, 2, 2]] {
            assert_eq!(columns(shape), None, "{shape:?}");
        }
    }
}
