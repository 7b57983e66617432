//! The section `[model]`.

use std::path::Path;

use driftline_operators::model::Task;
use indexmap::IndexMap;

use super::one_of;
use crate::config::job::{Feature, ModelFile};
use crate::config::raw::{ModelSection, OneOrMore};

/// # Errors
/// The first thing that is wrong.
pub(super) fn check_model(
    raw: ModelSection,
    features: &[(String, Feature)],
    folder: &Path,
) -> Result<ModelFile, String> {
    if raw.features.is_empty() {
        return Err("model.features is empty; it lists the model's inputs in order".to_owned());
    }
    for name in &raw.features {
        if !features.iter().any(|(known, _)| known == name) {
            return Err(format!("model.features: there is no section [features.{name}]"));
        }
    }
    let path = folder.join(&raw.path);
    let stem =
        path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let task = raw.task.as_deref().map(|task| match task {
        "binary" => Ok(Task::Binary),
        "multiclass" => Ok(Task::Multiclass),
        "regression" => Ok(Task::Regression),
        other => Err(one_of("model.task", other, &["binary", "multiclass", "regression"])),
    });
    Ok(ModelFile {
        name: raw.name.unwrap_or(stem),
        path,
        version: raw.version,
        inputs: check_inputs(raw.inputs, &raw.features)?,
        features: raw.features,
        output: raw.output,
        task: task.transpose()?,
    })
}

/// The features of each input that the job names; whether the model has such inputs is seen later.
fn check_inputs(
    raw: IndexMap<String, OneOrMore>,
    features: &[String],
) -> Result<IndexMap<String, Vec<String>>, String> {
    let check = |(input, names): (String, OneOrMore)| {
        let names = match names {
            OneOrMore::One(name) => vec![name],
            OneOrMore::More(names) => names,
        };
        if names.is_empty() {
            return Err(format!("model.inputs.{input} is empty; it names features"));
        }
        match names.iter().find(|&name| !features.contains(name)) {
            Some(name) => Err(format!(
                "model.inputs.{input}: {name:?} is not among model.features ({})",
                features.join(", ")
            )),
            None => Ok((input, names)),
        }
    };
    raw.into_iter().map(check).collect()
}
