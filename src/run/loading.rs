//! A model: loaded, checked against the features and probed once, and made ready for each worker.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
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
use super::parity::{self, Compared};
use super::prepare::Prepared;
use crate::config::job::{ModelEngine, ModelFile};
use crate::models::card::{ModelCard, OutputType, Signed};
use crate::models::onnx::traps::Trap;
use crate::models::onnx::{self, Loaded, ModelSpec, TakenInput, TreeModel, files_of};
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
    /// Whether versions may say how large batches are.
    takes_batch_size: bool,
    /// Whether predictions say which route they are of.
    has_routes: bool,
    /// Models whose scores are inputs, too, behind the columns of enriched rows.
    members: Vec<String>,
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
    takes: Vec<TakenInput>,
    /// Of its output, where it is in a file.
    columns: Option<usize>,
    traps: Vec<Trap>,
    digest: Option<String>,
}

/// A model that fits the features, of which each worker gets one of its own.
pub struct LoadedModel {
    engine: Engine,
    pub(super) file: ModelFile,
    /// The features, and what they are when the version's preprocessing is done.
    fields: Vec<Field>,
    changed: Vec<Field>,
    may_be_null: Vec<String>,
    keep_inputs: bool,
    /// The model that was tried, until a worker takes it.
    tried: Mutex<Option<Box<dyn Model>>>,
    /// Of which other workers have copies.
    compiled: Option<TreeModel>,
    pub task: Task,
    /// How many numbers a prediction has.
    pub width: usize,
    /// Whether its predictions are doubles.
    pub gives_doubles: bool,
    pub identity: ModelIdentity,
    /// XXH3-64 of the model file and of the files of its weights, in hexadecimal; a program's own
    /// model has none.
    pub digest: Option<String>,
    /// What the model's inputs and its output are, a line each.
    pub described: Vec<String>,
    /// What runs trees that are not compiled, and why.
    pub why_not_compiled: Option<String>,
    /// That it scores as its trainer did, where there are rows to tell by.
    pub parity: Option<String>,
    /// What its user should know.
    pub traps: Vec<Trap>,
    pub inputs: Vec<ModelInput>,
    pub dependence: BatchDependence,
    pub format: PredictionFormat,
    /// Rows that it takes, and how many of them each worker's model scores first.
    sample: RecordBatch,
    warm_up_samples: usize,
    /// The most rows of a micro-batch, where the version says so and the job does not.
    max_rows: Option<usize>,
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
            takes_batch_size: !prepared.job.realtime.has_batch_size,
            has_routes: prepared.routes.is_some(),
            members: Vec::new(),
        }
    }

    /// The same of a model that is given scores of others, too.
    #[must_use]
    pub fn with_members(&self, members: Vec<String>) -> Self {
        Features { members, ..self.clone() }
    }

    /// What a model of these features reads, and the columns that it is given.
    fn inputs(&self, names: &[String]) -> Result<(Vec<ModelInput>, Vec<Field>), String> {
        let mut found = Vec::with_capacity(names.len());
        let mut fields = Vec::with_capacity(names.len());
        for name in names {
            if let Some(member) = self.members.iter().position(|member| member == name) {
                let column = self.enriched.fields().len() + member;
                fields.push(Field::new(name, DataType::Float64, true));
                found.push(ModelInput { column, name: name.clone(), allow_null: true });
                continue;
            }
            let inputs = model_inputs(&self.plan, &self.layout, std::slice::from_ref(name))?;
            fields.extend(inputs.iter().map(|input| self.enriched.field(input.column).clone()));
            found.extend(inputs);
        }
        Ok((found, fields))
    }
}

impl LoadedModel {
    /// Loads a model of a job, or that of a program in its place, checks it against the features, probes
    /// it, and compares it with what its trainer predicts.
    ///
    /// # Errors
    /// If there is none, it does not fit, or does not score as its trainer did.
    pub fn load(features: &Features, file: &ModelFile, own: Option<&ModelFactory>) -> Result<Self> {
        let Features { plan, layout, keep_inputs, run_columns, .. } = features;
        let engine = match own {
            Some(own) => Engine::Own(own.clone()),
            None => Engine::Onnx(runtime::load()?),
        };
        let (inputs, fields) = features
            .inputs(&file.features)
            .map_err(|name| anyhow!("model.features: {name:?} is no feature"))?;
        let card = &file.card;
        let in_file = |why: String| anyhow!("{}: {why}", file.path.display());
        check_names(card, &file.features).map_err(in_file)?;
        let preprocessing =
            card.inference().map(|config| config.preprocessing.clone()).unwrap_or_default();
        let changed = preprocessing
            .fields(&fields)
            .map_err(|why| in_file(format!("its preprocessing_steps: {why}")))?;
        let is_null = |input: &&ModelInput| input.allow_null;
        let may_be_null: Vec<String> =
            inputs.iter().filter(is_null).map(|input| input.name.clone()).collect();
        let tried = engine.try_model(file, &changed, &may_be_null, *keep_inputs)?;
        let Tried { mut model, compiled, sample, described, why_not_compiled, .. } = tried;
        let Tried { takes, columns, traps, digest, .. } = tried;
        check_card(card, columns.map(|columns| (takes.as_slice(), columns)), model.task())
            .map_err(in_file)?;
        let dependence = probe(model.as_mut(), &sample)
            .with_context(|| format!("{}: trying batches of several sizes", file.path.display()))?;
        // A program's own model knows best itself.
        if matches!(engine, Engine::Onnx(_)) {
            warm_up(model.as_mut(), &sample, features.warm_up_samples);
        }
        let task = model.task();
        let model = preprocessing.before(model, &fields);
        let mut model = model.map_err(|why| in_file(format!("its preprocessing_steps: {why}")))?;
        let (parity, traps) = compare(file, model.as_mut(), &fields, &takes, traps)?;
        let identity = ModelIdentity { name: file.name.clone(), version: file.version.clone() };
        let metadata = json!({"model_xxh3": digest, "batch": describe(dependence)});
        let mut metadata = metadata.as_object().cloned().unwrap_or_default();
        // With another one the same file may give other predictions.
        let config = card.inference_digest();
        metadata.extend(config.map(|digest| ("inference_config_xxh3".to_owned(), digest.into())));
        let format = PredictionFormat::new(
            layout.clone(),
            identity.clone(),
            metadata,
            *keep_inputs,
            *run_columns,
        )
        .with_rules(&plan.rules);
        let (width, gives_doubles) = (model.width(), model.gives_doubles());
        let format = if gives_doubles { format.with_doubles() } else { format };
        let format = if features.has_routes { format.with_routes() } else { format };
        let tried = matches!(engine, Engine::Onnx(_)).then_some(model);
        Ok(LoadedModel {
            engine,
            file: file.clone(),
            fields,
            changed,
            may_be_null,
            keep_inputs: *keep_inputs,
            tried: Mutex::new(tried),
            compiled,
            task,
            width,
            gives_doubles,
            identity,
            digest,
            described,
            why_not_compiled,
            parity,
            traps,
            inputs,
            dependence,
            format,
            sample,
            warm_up_samples: features.warm_up_samples,
            max_rows: card
                .inference()
                .and_then(|config| config.batch_size)
                .filter(|_| features.takes_batch_size),
        })
    }

    /// Says on standard error what its user should know.
    pub fn warn(&self) {
        let ModelIdentity { name, version } = &self.identity;
        for trap in &self.traps {
            say!("warning: version {version} of model {name}: {trap}");
        }
    }

    /// A model like the one that was tried, which has scored made-up rows, too.
    fn another(&self) -> Result<Box<dyn Model>> {
        let mut model: Box<dyn Model> = match &self.compiled {
            Some(compiled) => Box::new(compiled.clone()),
            None => self.engine.model(self)?,
        };
        if matches!(self.engine, Engine::Onnx(_)) {
            warm_up(model.as_mut(), &self.sample, self.warm_up_samples);
        }
        let Some(config) = self.file.card.inference() else { return Ok(model) };
        let model = config.preprocessing.before(model, &self.fields);
        model.map_err(|why| anyhow!("preprocessing_steps: {why}"))
    }

    /// One worker's model, which has scored made-up rows: what a first row would wait for has happened.
    ///
    /// # Errors
    /// If it cannot be loaded again.
    pub fn ready(&self) -> Result<ReadyModel> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut model = match tried {
            Some(tried) => tried,
            None => self.another()?,
        };
        // Not before: what is only tried may take its time.
        if let Some(limit) = self.file.run_timeout {
            model.limit_runs(limit)?;
        }
        Ok(ReadyModel {
            identity: self.identity.clone(),
            version: 0,
            inputs: self.inputs.clone(),
            features: Arc::new(Schema::new(self.fields.clone())),
            model,
            dependence: self.dependence,
            format: self.format.clone(),
            max_rows: self.max_rows,
        })
    }
}

/// What becomes of runs that take long, where the job says anything of them.
fn said_of_limit(file: &ModelFile, is_compiled: bool) -> Option<String> {
    let ms = file.run_timeout?.as_millis();
    Some(match is_compiled {
        true => "model.run_timeout_ms has no effect: compiled trees are not ended".to_owned(),
        false => format!("runs are ended after {ms} ms (model.run_timeout_ms)"),
    })
}

/// Whether the features are those that a version was trained with.
fn check_names(card: &ModelCard, features: &[String]) -> Result<(), String> {
    let Some(names) = card.inference().and_then(|config| config.feature_names.as_ref()) else {
        return Ok(());
    };
    if names == features {
        return Ok(());
    }
    let (names, features) = (names.join(", "), features.join(", "));
    Err(format!("its feature_names are {names}, and model.features are {features}"))
}

/// Whether a model is what its version says: one of a `shape`, its inputs and the columns of its
/// output, and a task.
fn check_card(
    card: &ModelCard,
    shape: Option<(&[TakenInput], usize)>,
    task: Task,
) -> Result<(), String> {
    if let (Signed::Yes(signature), Some((inputs, columns))) = (&card.signature, shape) {
        signature.check(inputs, columns)?;
    }
    let output_type = card.inference().and_then(|config| config.output_type);
    match output_type.filter(|output_type| !output_type.fits(task)) {
        Some(output_type) => {
            let task = format!("{task:?}").to_lowercase();
            let advice = match output_type {
                OutputType::Probability => {
                    "; one column is a probability with model.task = \"binary\""
                }
                OutputType::Regression => "",
            };
            let output_type = output_type.name();
            Err(format!("its output_type is {output_type}, and what it gives is {task}{advice}"))
        }
        None => Ok(()),
    }
}

impl Engine {
    fn try_model(
        &self,
        file: &ModelFile,
        fields: &[Field],
        may_be_null: &[String],
        keep_inputs: bool,
    ) -> Result<Tried> {
        match self {
            Engine::Onnx(environment) => {
                let loaded = load_onnx(environment, file, fields, may_be_null, keep_inputs)?;
                let digest = Some(model_digest(&file.path)?);
                let mut described = loaded.described;
                described.extend(said_of_limit(file, loaded.compiled.is_some()));
                Ok(Tried {
                    model: loaded.model,
                    compiled: loaded.compiled,
                    sample: loaded.sample,
                    described,
                    why_not_compiled: loaded.why_not_compiled,
                    takes: loaded.inputs,
                    columns: Some(loaded.columns),
                    traps: loaded.traps,
                    digest,
                })
            }
            Engine::Own(make) => Ok(Tried {
                model: own::make(make, fields)?,
                compiled: None,
                sample: own::sample(fields)?,
                described: vec!["the program's own".to_owned()],
                why_not_compiled: None,
                takes: Vec::new(),
                columns: None,
                traps: Vec::new(),
                digest: None,
            }),
        }
    }

    /// A model for one worker.
    fn model(&self, loaded: &LoadedModel) -> Result<Box<dyn Model>> {
        let LoadedModel { file, changed: fields, may_be_null, keep_inputs, .. } = loaded;
        Ok(match self {
            Engine::Onnx(environment) => {
                load_onnx(environment, file, fields, may_be_null, *keep_inputs)?.model
            }
            Engine::Own(make) => own::make(make, fields)?,
        })
    }
}

/// What is said of a model that scores as its trainer did, and the traps that this does not rule out.
///
/// # Errors
/// If it does not score so.
fn compare(
    file: &ModelFile,
    model: &mut dyn Model,
    fields: &[Field],
    takes: &[TakenInput],
    traps: Vec<Trap>,
) -> Result<(Option<String>, Vec<Trap>)> {
    let path = || file.path.display().to_string();
    let compared = parity::check(&file.parity, &file.path, model, fields, takes);
    let Some(compared) = compared.with_context(path)? else { return Ok((None, traps)) };
    if !compared.agrees() {
        bail!("{}", refusal(&path(), &compared, &traps));
    }
    let traps = traps.into_iter().filter(|trap| !trap.is_of_scores);
    Ok((Some(compared.agreement()), traps.collect()))
}

/// Why a model is not used, and what may be behind it.
pub fn refusal(path: &str, compared: &Compared, traps: &[Trap]) -> String {
    let why = traps.iter().filter(|trap| trap.is_of_scores);
    let why: String = why.map(|trap| format!("; it may be {trap}")).collect();
    format!("{path}: {}{why}", compared.refusal())
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
    may_be_null: &[String],
    keep_inputs: bool,
) -> Result<Loaded> {
    let may_be_null: Vec<&str> = may_be_null.iter().map(String::as_str).collect();
    let spec = ModelSpec {
        path: &file.path,
        features: fields,
        inputs: &file.inputs,
        output: file.output.as_deref(),
        task: file.task,
        compile_trees: file.engine == ModelEngine::Auto,
        keep_input: keep_inputs,
        may_be_null: &may_be_null,
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
