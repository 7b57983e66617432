//! A model in an ONNX file, run by ONNX Runtime on one thread, or compiled if it is made of trees.

mod before;
mod ensemble;
mod ensemble_5;
mod file;
mod inputs;
mod nodes;
mod outputs;
mod proto;
mod tensors;
mod time_limit;
pub mod traps;
mod tree_model;
mod trial;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use arrow::array::{BooleanArray, Float32Array, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::Field;
use driftline_operators::model::{Model, ModelError, Scores, Task};
use driftline_operators::numbers::Numbers;
use indexmap::IndexMap;
use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::Outlet;

use self::file::FileFacts;
pub use self::inputs::Element;
use self::inputs::{BoundInput, Declared, bind, offer};
use self::outputs::{
    Answer, PredictionOutput, are_shares, is_label, one_line, predictions, refused,
    several_columns, task,
};
use self::tensors::{TensorInput, as_floats};
use self::time_limit::Runs;
use self::traps::Trap;
pub use self::tree_model::TreeModel;
use self::tree_model::compare;
use self::trial::{made_up, with_zeros};
use crate::models::trees::{CompiledTrees, Ensemble};

/// Why a model file cannot serve the job.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct LoadError {
    pub path: PathBuf,
    pub message: String,
}

/// A model file, and what the job says of it.
pub struct ModelSpec<'a> {
    pub path: &'a Path,
    /// What the job offers: Float64, Int64 or Utf8, in the order of `model.features`.
    pub features: &'a [Field],
    /// By input the features it takes, where the job says so.
    pub inputs: &'a IndexMap<String, Vec<String>>,
    /// The output to read, where the choice is not plain.
    pub output: Option<&'a str>,
    pub task: Option<Task>,
    /// Whether a model that is made of trees is compiled, if it then scores as ONNX Runtime does.
    pub compile_trees: bool,
    /// Whether scores come with what the model was given.
    pub keep_input: bool,
    /// The features that may be missing in a row.
    pub may_be_null: &'a [&'a str],
}

/// An input of a model, and the features that go into it, in the order of its columns.
#[derive(Clone, Debug)]
pub struct TakenInput {
    pub name: String,
    pub element: Element,
    pub features: Vec<String>,
}

/// A model that was loaded and tried.
pub struct Loaded {
    pub model: Box<dyn Model>,
    pub inputs: Vec<TakenInput>,
    /// Columns of the output that is read.
    pub columns: usize,
    /// The model, where it is compiled, for other workers.
    pub compiled: Option<TreeModel>,
    /// Rows to try it with; columns of which it takes any number are null.
    pub sample: RecordBatch,
    /// Its inputs and the features that they take, its output, and what runs it, a line each.
    pub described: Vec<String>,
    /// What runs trees that are not compiled, and why.
    pub why_not_compiled: Option<String>,
    /// What its structure shows that its user should know.
    pub traps: Vec<Trap>,
}

/// Loads a model and tries it.
///
/// # Errors
/// If the file is no model, or takes or gives other things than the job does.
pub fn load(environment: &Environment, spec: &ModelSpec) -> Result<Loaded, LoadError> {
    try_load(environment, spec).map_err(|message| LoadError { path: spec.path.to_owned(), message })
}

fn try_load(environment: &Environment, spec: &ModelSpec) -> Result<Loaded, String> {
    let (facts, file) = read_file(spec.path)?;
    let mut model = OnnxModel::open(environment, spec, &facts)?;
    let (sample, mut described) = (model.sample.clone(), model.describe());
    let (inputs, columns) = (model.taken(), model.columns);
    let compiled = if spec.compile_trees { model.compiled(&file) } else { None };
    let (mut why_not_compiled, by_choice) = (None, !spec.compile_trees);
    let mut ready = None;
    let (model, engine): (Box<dyn Model>, String) = match compiled {
        Some(Ok(trees)) => {
            let (count, nodes) = trees.trees.size();
            let engine = format!("compiled: {count} trees, {nodes} nodes");
            ready = Some(trees.clone());
            (Box::new(trees), engine)
        }
        Some(Err(reason)) => {
            let engine = format!("ONNX Runtime; its trees are not compiled: {reason}");
            why_not_compiled = Some(engine.clone());
            (Box::new(model), engine)
        }
        None if by_choice => (Box::new(model), "ONNX Runtime (model.engine)".to_owned()),
        None => (Box::new(model), "ONNX Runtime".to_owned()),
    };
    described.push(format!("run by {engine}"));
    let traps = traps::find(&file, spec.may_be_null);
    Ok(Loaded {
        model,
        inputs,
        columns,
        compiled: ready,
        sample,
        described,
        why_not_compiled,
        traps,
    })
}

/// A session of ONNX Runtime.
pub struct OnnxModel {
    session: Session,
    runs: Runs,
    inputs: Vec<TensorInput>,
    output: PredictionOutput,
    /// Columns of the output, and of a prediction.
    columns: usize,
    width: usize,
    task: Task,
    keep_input: bool,
    /// Rows that it takes; the columns of which it takes any number are null.
    sample: RecordBatch,
}

impl OnnxModel {
    fn open(
        environment: &Environment,
        spec: &ModelSpec,
        facts: &FileFacts,
    ) -> Result<Self, String> {
        let session = open_session(environment, spec.path).map_err(|error| {
            format!("not a usable ONNX model: {}", one_line(&error.to_string()))
        })?;
        let declared = session.inputs().iter().map(Declared::new).collect::<Result<_, _>>()?;
        let bound = bind(declared, spec.features, spec.inputs)?;
        let output = PredictionOutput::choose(session.outputs(), spec.output)?;
        let selected = OutputSelector::no_default().with(output.name.as_str());
        let run_options = RunOptions::new().map_err(|error| error.to_string())?;
        let sample = made_up(spec.features, &bound, facts);
        let mut model = OnnxModel {
            session,
            runs: Runs::new(run_options.with_outputs(selected)),
            inputs: bound.into_iter().map(TensorInput::new).collect(),
            output,
            columns: 0,
            width: 0,
            task: Task::Regression,
            keep_input: spec.keep_input,
            sample,
        };
        model.sample = model.accepted(&model.sample.clone()).map_err(|error| {
            let inputs = model.inputs.iter().map(|input| input.bound.declared.to_string());
            format!(
                "it refuses the rows that were made up to try it: {error}; its inputs are {}; the job offers {}",
                inputs.collect::<Vec<_>>().join(", "),
                offer(spec.features)
            )
        })?;
        model.columns = model.measure(facts).map_err(|error| error.to_string())?;
        let has_classes = |model: &mut OnnxModel| facts.has_classifier || model.has_classes();
        if spec.task.is_none() && model.columns > 1 && !has_classes(&mut model) {
            return Err(several_columns(&model.output.name, model.columns));
        }
        (model.task, model.width) = task(model.columns, spec.task)?;
        Ok(model)
    }

    /// Those of the rows that the model takes; its complaint if there are none.
    fn accepted(&mut self, rows: &RecordBatch) -> Result<RecordBatch, ModelError> {
        let whole = with_zeros(rows);
        let Err(first) = self.run(&whole, |_, _| Ok(())) else { return Ok(rows.clone()) };
        let mut takes = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            takes.push(self.run(&whole.slice(row, 1), |_, _| Ok(())).is_ok());
        }
        let taken = filter_record_batch(rows, &BooleanArray::from(takes));
        taken.ok().filter(|taken| taken.num_rows() > 0).ok_or(first)
    }

    /// The columns of the output, and their order, from a run of three rows.
    fn measure(&mut self, facts: &FileFacts) -> Result<usize, ModelError> {
        let three = take_record_batch(&with_zeros(&self.sample), &UInt32Array::from(vec![0; 3]))
            .map_err(|error| ModelError::Refused(error.to_string()))?;
        let mut output = self.output.clone();
        let in_file = facts.classes.get(&output.name);
        self.run(&three, |_, value| output.order_classes(in_file, value))?;
        self.output = output;
        Ok(self.run(&three, |output, value| output.read(value, 3))?.columns)
    }

    /// Whether something says that columns are probabilities of classes: they come as maps, with labels
    /// beside them, or add up to one.
    fn has_classes(&mut self) -> bool {
        let is_other_label =
            |output: &Outlet| output.name() != self.output.name && is_label(output);
        if !self.output.classes.is_empty() || self.session.outputs().iter().any(is_other_label) {
            return true;
        }
        let (rows, columns) = (self.sample.num_rows(), self.columns);
        let whole = with_zeros(&self.sample);
        let answer = self.run(&whole, |output, value| output.read(value, rows));
        answer.is_ok_and(|answer| answer.values.into_floats().chunks(columns).all(are_shares))
    }

    /// Runs the model, and lets `read` see its output.
    fn run<T>(
        &mut self,
        features: &RecordBatch,
        read: impl FnOnce(&PredictionOutput, &ort::value::DynValue) -> Result<T, ModelError>,
    ) -> Result<T, ModelError> {
        self.inputs.iter_mut().try_for_each(|input| input.fill(features))?;
        let rows = features.num_rows();
        let tensors = self.inputs.iter().map(|input| input.tensor(rows));
        let tensors: Vec<SessionInputValue> = tensors.collect::<Result<_, _>>().map_err(refused)?;
        let session = &mut self.session;
        let outputs =
            self.runs.run(|options| session.run_with_options(tensors.as_slice(), options))?;
        read(&self.output, &outputs[self.output.name.as_str()])
    }

    /// The predictions of rows.
    fn predictions(&mut self, features: &RecordBatch) -> Result<Numbers, ModelError> {
        let rows = features.num_rows();
        let Answer { columns, values } =
            self.run(features, |output, value| output.read(value, rows))?;
        match columns == self.columns {
            true => Ok(predictions(values, columns, self.width)),
            false => Err(ModelError::Refused(format!(
                "the model answered {columns} columns instead of {}",
                self.columns
            ))),
        }
    }

    /// What it was given last, if that is kept: of these rows.
    fn input(&self, features: &RecordBatch) -> Option<Float32Array> {
        let input = self.keep_input.then(|| match self.inputs.as_slice() {
            [one] if one.floats().is_some() => one.floats().unwrap_or_default().to_vec(),
            _ => as_floats(features),
        });
        input.map(Float32Array::from)
    }

    /// The model without ONNX Runtime, if it is made of trees and nothing else.
    fn compiled(&mut self, file: &[u8]) -> Option<Result<TreeModel, String>> {
        let first = self.inputs.first()?;
        let bound = first.bound.clone();
        let input = match self.inputs.len() {
            1 if first.floats().is_some() => Ok(bound.declared.name.as_str()),
            1 => Err(format!("its input {} is not of floats", bound.declared)),
            several => Err(format!("it has {several} inputs, not one of floats")),
        };
        let ensemble = ensemble::read(file, input, &self.output.name, bound.features.len())?;
        Some(ensemble.and_then(|ensemble| self.compile(bound, &ensemble)))
    }

    fn compile(&mut self, bound: BoundInput, ensemble: &Ensemble) -> Result<TreeModel, String> {
        if self.output.has_doubles() {
            return Err(format!("its output {:?} is of doubles", self.output.name));
        }
        let trees = CompiledTrees::new(ensemble)?;
        if trees.width() != self.columns {
            return Err(format!("ONNX Runtime gives {} columns", self.columns));
        }
        let mut compiled = TreeModel {
            input: TensorInput::new(bound),
            trees,
            width: self.width,
            task: self.task,
            keep_input: self.keep_input,
        };
        compare(&mut compiled, self, ensemble)?;
        Ok(compiled)
    }

    fn taken(&self) -> Vec<TakenInput> {
        let features = self.sample.schema();
        let taken = |input: &TensorInput| {
            let BoundInput { declared, features: taken } = &input.bound;
            TakenInput {
                name: declared.name.clone(),
                element: declared.element,
                features: taken.iter().map(|&at| features.field(at).name().clone()).collect(),
            }
        };
        self.inputs.iter().map(taken).collect()
    }

    /// Its inputs and the features that they take, and its output, a line each.
    fn describe(&self) -> Vec<String> {
        let names = self.sample.schema();
        let mut lines = Vec::new();
        match self.inputs.as_slice() {
            [one] => {
                lines.push(format!("input {}", one.bound.declared));
                let positions = one.bound.features.iter().enumerate();
                lines.extend(positions.map(|(column, &feature)| {
                    format!("input column {column} is {}", names.field(feature).name())
                }));
            }
            several => lines.extend(several.iter().map(|input| {
                let BoundInput { declared, features } = &input.bound;
                let features = features.iter().map(|&at| names.field(at).name().as_str());
                format!("input {declared} is {}", features.collect::<Vec<_>>().join(", "))
            })),
        }
        let classes: Vec<String> = self.output.classes.iter().map(ToString::to_string).collect();
        let classes = match classes.as_slice() {
            [] => String::new(),
            classes => format!(", classes {}", classes.join(", ")),
        };
        let task = format!("{:?}", self.task).to_lowercase();
        let doubles = if self.output.has_doubles() { " of doubles" } else { "" };
        lines.push(format!(
            "output {:?}: {task}, {} column(s){doubles}{classes}",
            self.output.name, self.columns
        ));
        lines
    }
}

/// The file at `path` and what it says, if the files of its weights are there.
fn read_file(path: &Path) -> Result<(FileFacts, Vec<u8>), String> {
    if !path.is_file() {
        return Err("there is no such model file (model.path)".to_owned());
    }
    let file = std::fs::read(path).map_err(|error| error.to_string())?;
    let facts = FileFacts::read(&file);
    match facts.external_paths(path).into_iter().find(|weights| !weights.is_file()) {
        Some(weights) => Err(format!(
            "its weights are in {}, and there is no such file; put it beside the model",
            weights.display()
        )),
        None => Ok((facts, file)),
    }
}

/// The model's file and those of its weights.
///
/// # Errors
/// If the model cannot be read.
pub fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let facts = FileFacts::read(&std::fs::read(path)?);
    Ok(std::iter::once(path.to_owned()).chain(facts.external_paths(path)).collect())
}

fn open_session(environment: &Environment, path: &Path) -> ort::Result<Session> {
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        // What it complains of comes back as an error; a wrong shape in a model's declarations,
        // which is a warning for each run, does no harm.
        .with_log_level(LogLevel::Fatal)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?;
    builder.commit_from_file(path)
}

impl Model for OnnxModel {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let predictions = self.predictions(features)?.into_floats();
        Ok(Scores { predictions, input: self.input(features) })
    }

    fn width(&self) -> usize {
        self.width
    }

    fn task(&self) -> Task {
        self.task
    }

    fn gives_doubles(&self) -> bool {
        self.output.has_doubles()
    }

    fn limit_runs(&mut self, limit: Duration) -> Result<(), ModelError> {
        self.runs.limit_to(limit)
    }

    fn score_doubles(&mut self, features: &RecordBatch) -> Result<Scores<f64>, ModelError> {
        let predictions = self.predictions(features)?.into_doubles();
        Ok(Scores { predictions, input: self.input(features) })
    }
}
