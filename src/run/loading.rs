//! A model: loaded, checked against the features and probed once, and made ready for each worker.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use driftline_operators::batch_probe::{BatchDependence, probe};
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::layout::EventLayout;
use driftline_operators::model::{Model, ModelIdentity, Task, score_rows};
use driftline_operators::model_bank::ReadyModel;
use driftline_operators::model_input::{ModelInput, model_inputs};
use driftline_operators::prediction::PredictionFormat;
use ort::environment::Environment;
use serde_json::json;
use twox_hash::XxHash3_64;

use super::options::RunOptions;
use super::prepare::Prepared;
use crate::config::job::{ModelEngine, ModelFile};
use crate::models::onnx::{self, Loaded, ModelSpec, TreeModel, files_of};
use crate::models::own::{self, ModelFactory};
use crate::models::runtime;

/// What models of a run are loaded for.
#[derive(Clone)]
pub struct Features {
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    pub enriched: SchemaRef,
    keep_inputs: bool,
    run_columns: bool,
    /// Made-up rows that a model scores before it is given any.
    warm_up_samples: usize,
}

/// What runs a model.
enum Engine {
    Onnx(Environment),
    Own(ModelFactory),
}

/// A model that was loaded and looked at.
struct Tried {
    model: Box<dyn Model>,
    /// For other workers, where it need not be loaded again.
    compiled: Option<TreeModel>,
    /// Rows that it takes.
    sample: RecordBatch,
    described: Vec<String>,
    why_not_compiled: Option<String>,
    digest: Option<String>,
}

/// A model that fits the features, of which each worker gets one of its own.
pub struct LoadedModel {
    engine: Engine,
    file: ModelFile,
    fields: Vec<Field>,
    keep_inputs: bool,
    /// The model that was tried, until a worker takes it.
    tried: Mutex<Option<Box<dyn Model>>>,
    /// Of which other workers have copies.
    compiled: Option<TreeModel>,
    pub task: Task,
    /// Whether its predictions are of doubles.
    pub gives_doubles: bool,
    pub identity: ModelIdentity,
    /// XXH3-64 of the model file and of the files of its weights, in hexadecimal; a program's own
    /// model has none.
    pub digest: Option<String>,
    /// What the model's inputs and its output are, a line each.
    pub described: Vec<String>,
    /// What runs trees that are not compiled, and why.
    pub why_not_compiled: Option<String>,
    pub inputs: Vec<ModelInput>,
    pub dependence: BatchDependence,
    format: PredictionFormat,
    /// Rows that it takes, and how many of them each worker's model scores first.
    sample: RecordBatch,
    warm_up_samples: usize,
}

impl Features {
    pub fn new(prepared: &Prepared, options: &RunOptions) -> Self {
        Features {
            plan: prepared.plan.clone(),
            layout: prepared.layout.clone(),
            enriched: prepared.plan.enriched_schema(&prepared.layout),
            keep_inputs: options.with_inputs,
            run_columns: options.run_columns,
            warm_up_samples: prepared.job.realtime.model_warm_up_samples,
        }
    }
}

impl LoadedModel {
    /// Loads a model of a job, or that of a program in its place, checks it against the features and
    /// probes it.
    ///
    /// # Errors
    /// If there is none, or it does not fit.
    pub fn load(features: &Features, file: &ModelFile, own: Option<&ModelFactory>) -> Result<Self> {
        let Features { plan, layout, enriched, keep_inputs, run_columns, .. } = features;
        let engine = match own {
            Some(own) => Engine::Own(own.clone()),
            None => Engine::Onnx(runtime::load()?),
        };
        let inputs = model_inputs(plan, layout, &file.features)
            .map_err(|name| anyhow!("model.features: {name:?} is no feature"))?;
        let fields: Vec<Field> =
            inputs.iter().map(|input| enriched.field(input.column).clone()).collect();
        let tried = engine.try_model(file, &fields, *keep_inputs)?;
        let Tried { mut model, compiled, sample, described, why_not_compiled, digest } = tried;
        let dependence = probe(model.as_mut(), &sample)
            .with_context(|| format!("{}: trying batches of several sizes", file.path.display()))?;
        let identity = ModelIdentity { name: file.name.clone(), version: file.version.clone() };
        let metadata = json!({"model_xxh3": digest, "batch": describe(dependence)});
        let metadata = metadata.as_object().cloned().unwrap_or_default();
        let format = PredictionFormat::new(
            layout.clone(),
            identity.clone(),
            metadata,
            *keep_inputs,
            *run_columns,
        )
        .with_rules(&plan.rules);
        let (task, gives_doubles) = (model.task(), model.gives_doubles());
        let format = if gives_doubles { format.with_doubles() } else { format };
        let tried = matches!(engine, Engine::Onnx(_)).then_some(model);
        Ok(LoadedModel {
            engine,
            file: file.clone(),
            fields,
            keep_inputs: *keep_inputs,
            tried: Mutex::new(tried),
            compiled,
            task,
            gives_doubles,
            identity,
            digest,
            described,
            why_not_compiled,
            inputs,
            dependence,
            format,
            sample,
            warm_up_samples: features.warm_up_samples,
        })
    }

    /// One worker's model, which has scored made-up rows: what a first row would wait for has happened.
    ///
    /// # Errors
    /// If it cannot be loaded again.
    pub fn ready(&self) -> Result<ReadyModel> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut model = match (tried, &self.compiled) {
            (Some(tried), _) => tried,
            (None, Some(compiled)) => Box::new(compiled.clone()),
            (None, None) => self.engine.model(&self.file, &self.fields, self.keep_inputs)?,
        };
        // A program's own model knows best itself.
        if matches!(self.engine, Engine::Onnx(_)) {
            warm_up(model.as_mut(), &self.sample, self.warm_up_samples);
        }
        Ok(ReadyModel {
            identity: self.identity.clone(),
            inputs: self.inputs.clone(),
            model,
            dependence: self.dependence,
            format: self.format.clone(),
        })
    }
}

impl Engine {
    fn try_model(&self, file: &ModelFile, fields: &[Field], keep_inputs: bool) -> Result<Tried> {
        match self {
            Engine::Onnx(environment) => {
                let loaded = load_onnx(environment, file, fields, keep_inputs)?;
                let Loaded { model, compiled, sample, described, why_not_compiled } = loaded;
                let digest = Some(model_digest(&file.path)?);
                Ok(Tried { model, compiled, sample, described, why_not_compiled, digest })
            }
            Engine::Own(make) => Ok(Tried {
                model: own::make(make, fields)?,
                compiled: None,
                sample: own::sample(fields)?,
                described: vec!["the program's own".to_owned()],
                why_not_compiled: None,
                digest: None,
            }),
        }
    }

    /// A model for one worker.
    fn model(
        &self,
        file: &ModelFile,
        fields: &[Field],
        keep_inputs: bool,
    ) -> Result<Box<dyn Model>> {
        Ok(match self {
            Engine::Onnx(environment) => load_onnx(environment, file, fields, keep_inputs)?.model,
            Engine::Own(make) => own::make(make, fields)?,
        })
    }
}

/// Has a model score so many rows. Whether it can has been tried before.
fn warm_up(model: &mut dyn Model, sample: &RecordBatch, mut rows: usize) {
    while rows > 0 && sample.num_rows() > 0 {
        let now = rows.min(sample.num_rows());
        let _ = score_rows(model, &sample.slice(0, now));
        rows -= now;
    }
}

/// The finding of the batch probe in words.
pub fn describe(dependence: BatchDependence) -> String {
    match dependence {
        BatchDependence::Invariant => "invariant".to_owned(),
        BatchDependence::PadSingleRow => "invariant, single rows padded to two".to_owned(),
        BatchDependence::Dependent { largest_difference } => {
            format!("scores depend on the batch, by up to {largest_difference:e}")
        }
    }
}

fn load_onnx(
    environment: &Environment,
    file: &ModelFile,
    fields: &[Field],
    keep_inputs: bool,
) -> Result<Loaded> {
    let spec = ModelSpec {
        path: &file.path,
        features: fields,
        inputs: &file.inputs,
        output: file.output.as_deref(),
        task: file.task,
        compile_trees: file.engine == ModelEngine::Auto,
        keep_input: keep_inputs,
    };
    Ok(onnx::load(environment, &spec)?)
}

/// The digest of the model's file; where it has its weights in others, that of all their digests.
///
/// # Errors
/// If one cannot be read.
pub fn model_digest(path: &Path) -> Result<String> {
    let files = files_of(path).with_context(|| path.display().to_string())?;
    let digests = files.iter().map(|file| digest(file)).collect::<Result<Vec<_>>>()?;
    Ok(match digests.as_slice() {
        [one] => one.clone(),
        several => format!("{:016x}", XxHash3_64::oneshot(several.concat().as_bytes())),
    })
}

/// XXH3-64 of a file, in hexadecimal.
///
/// # Errors
/// If it cannot be read.
pub fn digest(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(format!("{:016x}", XxHash3_64::oneshot(&bytes)))
}
