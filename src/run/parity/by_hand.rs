//! `driftline parity`: any model and any rows, without a job.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use driftline_operators::model::Task;
use driftline_operators::parity::Tolerance;

use super::rows::{OwnFeatures, ParityRows};
use super::{beside, compared};
use crate::models::card::ModelCard;
use crate::models::onnx::{self, Loaded, ModelSpec};
use crate::models::runtime;
use crate::registry::cache::model_file;
use crate::registry::reference::SCHEME;
use crate::registry::{Reference, Registered, models_cache};
use crate::run::check::sheet::Sheet;
use crate::run::loading::refusal;

/// Versions of a registry that stay on disk beside the one that is asked for.
const VERSIONS_KEPT: usize = 10;

/// What is asked for.
pub struct Asked {
    /// A file, a folder with one, or a reference to a registry.
    pub model: String,
    /// The server of the registry.
    pub registry: Option<String>,
    /// A file of rows; that beside the model where nobody says.
    pub rows: Option<PathBuf>,
    pub expected: Vec<String>,
    /// Columns of the rows that the model takes, in its order.
    pub features: Option<Vec<String>>,
    pub output: Option<String>,
    pub task: Option<Task>,
    pub compile_trees: bool,
    pub tolerance: Tolerance,
    pub rows_max: usize,
}

/// What was found.
pub struct Answer {
    pub text: String,
    /// Why the model should not be used.
    pub refusal: Option<String>,
}

/// # Errors
/// If the model or its rows cannot be read, or are not of each other.
pub fn parity(asked: &Asked) -> Result<Answer> {
    let (path, card) = located(asked)?;
    let rows = asked.rows.clone().unwrap_or_else(|| beside(&path));
    if !rows.is_file() && asked.rows.is_none() {
        bail!(
            "{}: there are no rows beside it ({}); name some with --rows",
            asked.model,
            rows.display()
        );
    }
    let rows = ParityRows::read(&rows, asked.rows_max)?;
    let expected = rows.expected(&asked.expected)?;
    let own = rows.own_features(asked.features.as_deref(), &asked.expected)?;
    let OwnFeatures { fields, inputs } = &own;
    let in_model = |why: String| anyhow!("{}: its preprocessing_steps: {why}", asked.model);
    let preprocessing =
        card.inference().map(|config| config.preprocessing.clone()).unwrap_or_default();
    let changed = preprocessing.fields(fields).map_err(in_model)?;
    let spec = ModelSpec {
        path: &path,
        features: &changed,
        inputs,
        output: asked.output.as_deref(),
        task: asked.task,
        compile_trees: asked.compile_trees,
        keep_input: false,
        may_be_null: &[],
    };
    let Loaded { model, described, inputs, traps, .. } = onnx::load(&runtime::load()?, &spec)
        .with_context(|| {
            let rows = rows.path.display();
            format!("{rows}: its columns as the features of the model (--features names others)")
        })?;
    let mut model = preprocessing.before(model, fields).map_err(in_model)?;
    let found = compared(&rows, &expected, asked.tolerance, model.as_mut(), fields, &inputs)?;
    let mut sheet = Sheet::default();
    sheet.line(&format!("model {}", asked.model));
    described.iter().for_each(|line| sheet.line(&format!("  {line}")));
    let what = if found.agrees() {
        "as the trainer scored them"
    } else {
        "NOT as the trainer scored them"
    };
    sheet.section(&format!("rows of {}: {what}", found.path.display()), &found.figures());
    let traps: Vec<String> = traps.iter().map(|trap| format!("warning: {trap}")).collect();
    if !traps.is_empty() {
        sheet.line("");
        traps.iter().for_each(|line| sheet.line(line));
    }
    let refusal = (!found.agrees()).then(|| refusal(&asked.model, &found, &[]));
    Ok(Answer { text: sheet.text(), refusal })
}

/// The model's file, and what its version says of itself; nothing of a file alone.
fn located(asked: &Asked) -> Result<(PathBuf, ModelCard)> {
    if !asked.model.starts_with(SCHEME) {
        if asked.registry.is_some() {
            bail!("--registry has no effect on a file; it goes with {SCHEME}NAME@ALIAS");
        }
        let path = PathBuf::from(&asked.model);
        let in_folder = |why| anyhow!("{}: {why}", path.display());
        return match path.is_dir() {
            true => {
                let card = ModelCard::read(&path, &[]).map_err(in_folder)?;
                Ok((model_file(&path).map_err(in_folder)?, card))
            }
            false if !path.is_file() => bail!("{}: there is no such model file", path.display()),
            false => Ok((path, ModelCard::default())),
        };
    }
    let reference = Reference::parse(&asked.model).map_err(anyhow::Error::msg)?;
    let server = asked.registry.clone();
    let registered =
        Registered { reference, server, cache: models_cache(), versions_kept: VERSIONS_KEPT };
    let (version, path) = registered.fetch()?;
    let card = version.card(&path)?;
    Ok((path, card))
}
