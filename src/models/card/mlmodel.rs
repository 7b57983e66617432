//! What is read of MLflow's `MLmodel` file, which is YAML with JSON in it.

use saphyr::{LoadableYamlNode, Yaml};

/// The texts of `signature.inputs` and `signature.outputs`, each if it is there; none without a signature.
///
/// # Errors
/// If it is no YAML, or these are no texts.
pub(super) fn signature(text: &str) -> Result<Option<[Option<String>; 2]>, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| format!("it is no YAML: {error}"))?;
    let signature = documents.first().and_then(|file| file.as_mapping_get("signature"));
    let Some(signature) = signature.filter(|signature| !signature.is_null()) else {
        return Ok(None);
    };
    if !signature.is_mapping() {
        return Err("its signature is not MLflow's".to_owned());
    }
    let part = |name: &str| match signature.as_mapping_get(name) {
        None => Ok(None),
        Some(part) if part.is_null() => Ok(None),
        Some(part) => match part.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(format!("its signature.{name} is no text")),
        },
    };
    Ok(Some([part("inputs")?, part("outputs")?]))
}
