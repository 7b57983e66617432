//! The model of a run: loaded, checked and probed once, and made ready for each worker.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use driftline_operators::batch_probe::{BatchDependence, probe};
use driftline_operators::latency::Latencies;
use driftline_operators::model::{Model, ModelIdentity};
use driftline_operators::model_input::{ModelInput, model_inputs};
use driftline_operators::prediction::PredictionFormat;
use driftline_operators::run::Run;
use driftline_operators::score::Scoring;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;
use ort::environment::Environment;
use serde_json::json;
use twox_hash::XxHash3_64;

use super::options::RunOptions;
use super::prepare::Prepared;
use crate::config::job::{ModelEngine, ModelFile};
use crate::models::onnx::{self, Loaded, ModelSpec, TreeModel, files_of};
use crate::models::own::{self, ModelFactory};
use crate::models::runtime;

/// What runs the model.
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

/// What all workers need to score.
pub struct ScoringParts {
    engine: Engine,
    /// The model that was tried, until a worker takes it.
    tried: Mutex<Option<Box<dyn Model>>>,
    /// Of which other workers have copies.
    compiled: Option<TreeModel>,
    pub identity: ModelIdentity,
    /// XXH3-64 of the model file and of the files of its weights, in hexadecimal; a program's own
    /// model has none.
    pub digest: Option<String>,
    /// What the model's inputs and its output are, a line each.
    pub described: Vec<String>,
    /// What runs trees that are not compiled, and why.
    pub why_not_compiled: Option<String>,
    pub inputs: Vec<ModelInput>,
    pub watched: Watched,
    pub dependence: BatchDependence,
    /// Of all workers.
    pub latencies: Latencies,
    format: PredictionFormat,
    keep_inputs: bool,
    warm_up: WarmUp,
}

impl ScoringParts {
    /// Loads the job's model once, to check it against the features and to probe it.
    ///
    /// # Errors
    /// If there is none, or it does not fit.
    pub fn load(prepared: &Prepared, options: &RunOptions) -> Result<Self> {
        let job = &prepared.job;
        let Some(file) = &job.model else {
            bail!(
                "{}: there is no section [model]; `driftline export` needs none",
                job.path.display()
            );
        };
        let engine = match &options.model {
            Some(own) => Engine::Own(own.clone()),
            None => Engine::Onnx(runtime::load()?),
        };
        let inputs = model_inputs(&prepared.plan, &prepared.layout, &file.features)
            .map_err(|name| anyhow!("model.features: {name:?} is no feature"))?;
        let enriched = prepared.plan.enriched_schema(&prepared.layout);
        let fields = input_fields(&enriched, &inputs);
        let tried = engine.try_model(file, &fields, options.with_inputs)?;
        let Tried { mut model, compiled, sample, described, why_not_compiled, digest } = tried;
        let dependence = probe(model.as_mut(), &sample)
            .with_context(|| format!("{}: trying batches of several sizes", file.path.display()))?;
        let identity = ModelIdentity { name: file.name.clone(), version: file.version.clone() };
        let metadata = json!({"model_xxh3": digest, "batch": describe(dependence)});
        let metadata = metadata.as_object().cloned().unwrap_or_default();
        let format = PredictionFormat::new(
            prepared.layout.clone(),
            identity.clone(),
            metadata,
            options.with_inputs,
            options.run_columns,
        );
        let tried = matches!(engine, Engine::Onnx(_)).then_some(model);
        Ok(ScoringParts {
            engine,
            tried: Mutex::new(tried),
            compiled,
            identity,
            digest,
            described,
            why_not_compiled,
            watched: Watched::new(&enriched, &inputs),
            inputs,
            dependence,
            latencies: Latencies::new(
                job.realtime.max_latency_ms.map_or(Duration::MAX, Duration::from_millis),
            ),
            format,
            keep_inputs: options.with_inputs,
            warm_up: prepared.warm_up(options),
        })
    }

    /// One worker's scoring, with a model of its own.
    ///
    /// # Errors
    /// If the model cannot be loaded again.
    pub fn worker(&self, prepared: &Prepared, run: &Run) -> Result<Scoring> {
        let Some(file) = &prepared.job.model else { bail!("the job has no model") };
        let enriched = prepared.plan.enriched_schema(&prepared.layout);
        let fields = input_fields(&enriched, &self.inputs);
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).take();
        let model = match (tried, &self.compiled) {
            (Some(tried), _) => tried,
            (None, Some(compiled)) => Box::new(compiled.clone()),
            (None, None) => self.engine.model(file, &fields, self.keep_inputs)?,
        };
        Ok(Scoring {
            layout: prepared.layout.clone(),
            enriched,
            inputs: self.inputs.clone(),
            model,
            dependence: self.dependence,
            format: self.format.clone(),
            bounds: prepared.job.realtime.bounds,
            warm_up: self.warm_up.clone(),
            partition_names: prepared.partition_names.clone(),
            alerts: None,
            run: run.clone(),
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

fn input_fields(enriched: &Schema, inputs: &[ModelInput]) -> Vec<Field> {
    inputs.iter().map(|input| enriched.field(input.column).clone()).collect()
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
fn model_digest(path: &Path) -> Result<String> {
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
