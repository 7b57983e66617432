//! A model in an ONNX file, run by ONNX Runtime on one thread.

use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float64Type};
use driftline_operators::model::{Model, ModelError, Scores, Task};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef, ValueType};

/// Why a model file cannot serve the job.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct LoadError {
    pub path: PathBuf,
    pub message: String,
}

/// A session of ONNX Runtime with one float tensor `[rows, features]` as its input.
pub struct OnnxModel {
    session: Session,
    input: String,
    output: String,
    width: usize,
    task: Task,
    keep_input: bool,
    /// The tensor, row after row; kept for its memory.
    tensor: Vec<f32>,
}

impl OnnxModel {
    /// Loads `path` for inputs of the given fields (Float64, in tensor order); `output` names the
    /// output to read where the choice is not plain.
    ///
    /// # Errors
    /// If the file is no model, or wants other inputs than the job offers.
    pub fn load(
        environment: &Environment,
        path: &Path,
        features: &[Field],
        output: Option<&str>,
        keep_input: bool,
    ) -> Result<Self, LoadError> {
        let error = |message: String| LoadError { path: path.to_owned(), message };
        if !path.is_file() {
            return Err(error("there is no such model file (model.path)".to_owned()));
        }
        let session = open_session(environment, path)
            .map_err(|e| error(format!("not a usable ONNX model: {e}")))?;
        let input = check_input(&session, features).map_err(error)?;
        let (output, classes) = choose_output(&session, output).map_err(error)?;
        let labelled = session.outputs().len() > 1;
        let mut model = OnnxModel {
            session,
            input,
            output,
            width: classes.unwrap_or(0),
            task: Task::Regression,
            keep_input,
            tensor: Vec::new(),
        };
        if classes.is_none() {
            model.width = model.measure_width(features.len()).map_err(|e| error(e.0))?;
        }
        model.task = match (labelled, model.width) {
            (true, 2) => Task::Binary,
            (true, 3..) => Task::Multiclass,
            (_, 1) => Task::Regression,
            (false, 2) => Task::Binary,
            (_, _) => Task::Multiclass,
        };
        Ok(model)
    }

    /// The width of the output where the model does not declare it: that of one row of zeros.
    fn measure_width(&mut self, features: usize) -> Result<usize, ModelError> {
        self.tensor = vec![0.0; features];
        let (rows, values) = self.run(1, features)?;
        if rows == 1 && !values.is_empty() {
            Ok(values.len())
        } else {
            Err(ModelError("the output has no columns".to_owned()))
        }
    }

    /// Runs the model on the tensor; rows and values of the output.
    fn run(&mut self, rows: usize, features: usize) -> Result<(usize, Vec<f32>), ModelError> {
        let refuse = |error: ort::Error| ModelError(error.to_string().replace('\n', " "));
        let input = TensorRef::from_array_view(([rows, features], self.tensor.as_slice()))
            .map_err(refuse)?;
        let outputs =
            self.session.run(ort::inputs![self.input.as_str() => input]).map_err(refuse)?;
        let (shape, values) =
            outputs[self.output.as_str()].try_extract_tensor::<f32>().map_err(refuse)?;
        let rows = shape.first().copied().unwrap_or(0) as usize;
        Ok((rows, values.to_vec()))
    }
}

fn open_session(environment: &Environment, path: &Path) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?;
    builder.commit_from_file(path)
}

/// The name of the model's one input, if it takes the job's features.
fn check_input(session: &Session, features: &[Field]) -> Result<String, String> {
    let [input] = session.inputs() else {
        let names: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        return Err(format!(
            "it has {} inputs ({}); one float tensor [rows, features] is needed",
            names.len(),
            names.join(", ")
        ));
    };
    let name = input.name();
    let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
        return Err(format!("its input {name:?} is no tensor"));
    };
    if *ty != TensorElementType::Float32 {
        return Err(format!("its input {name:?} is a tensor of {ty}; float is needed"));
    }
    let wanted = shape.get(1).copied().unwrap_or(-1);
    if shape.len() != 2 || (wanted >= 0 && wanted != features.len() as i64) {
        return Err(format!(
            "its input {name:?} has shape {shape:?}, but model.features lists {} features",
            features.len()
        ));
    }
    if let Some(text) = features.iter().find(|field| *field.data_type() != DataType::Float64) {
        return Err(format!(
            "its input {name:?} is a tensor of numbers, but feature {:?} is text",
            text.name()
        ));
    }
    Ok(name.to_owned())
}

/// The output to read, and its number of columns where the model declares it.
fn choose_output(
    session: &Session,
    wanted: Option<&str>,
) -> Result<(String, Option<usize>), String> {
    let is_float = |dtype: &ValueType| {
        matches!(dtype, ValueType::Tensor { ty: TensorElementType::Float32, .. })
    };
    let names =
        || session.outputs().iter().map(|output| output.name()).collect::<Vec<_>>().join(", ");
    let found = match wanted {
        Some(name) => session.outputs().iter().find(|output| output.name() == name),
        None => session.outputs().iter().rev().find(|output| is_float(output.dtype())),
    };
    let Some(output) = found else {
        return Err(match wanted {
            Some(name) => format!("it has no output {name:?} (model.output); it has {}", names()),
            None => format!(
                "none of its outputs ({}) is a tensor of floats; convert it without ZipMap",
                names()
            ),
        });
    };
    match output.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32, shape, .. } => {
            let columns = shape.get(1).copied().filter(|&columns| columns > 0);
            Ok((output.name().to_owned(), columns.map(|columns| columns as usize)))
        }
        _ => Err(format!("its output {:?} is no tensor of floats", output.name())),
    }
}

/// Columns into rows: the tensor `[rows, features]` of a batch, rounded to float32; null is NaN.
fn gather(features: &RecordBatch, tensor: &mut Vec<f32>) {
    let (rows, width) = (features.num_rows(), features.num_columns());
    tensor.clear();
    tensor.resize(rows * width, 0.0);
    for (at, column) in features.columns().iter().enumerate() {
        let column = column.as_primitive::<Float64Type>();
        for (cell, value) in tensor[at..].iter_mut().step_by(width).zip(column.values()) {
            *cell = *value as f32;
        }
        if column.null_count() > 0 {
            for row in (0..rows).filter(|&row| column.is_null(row)) {
                tensor[row * width + at] = f32::NAN;
            }
        }
    }
}

impl Model for OnnxModel {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        gather(features, &mut self.tensor);
        let (rows, predictions) = self.run(features.num_rows(), features.num_columns())?;
        if rows != features.num_rows() || predictions.len() != rows * self.width {
            return Err(ModelError(format!(
                "the model answered {} values for {} rows of {}",
                predictions.len(),
                features.num_rows(),
                self.width
            )));
        }
        let input = self.keep_input.then(|| Float32Array::from(self.tensor.clone()));
        Ok(Scores { predictions, input })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn task(&self) -> Task {
        self.task
    }
}
