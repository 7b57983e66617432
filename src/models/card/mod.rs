//! What a version of a model says of itself: its signature, how it is to be served, and how deployed.
//!
//! | file | concept |
//! | --- | --- |
//! | `signature` | what it takes and gives, as MLflow's `MLmodel` has it, and whether the model does so |
//! | `serving` | `inference_config` and `deployment_config`, from tags of the version or `driftline.json` |

mod mlmodel;
mod serving;
mod signature;

use std::fmt::{self, Display, Formatter};
use std::io::ErrorKind;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use twox_hash::XxHash3_64;

pub use self::serving::{DeploymentConfig, InferenceConfig, OutputType};
pub use self::signature::Signature;

/// The file of MLflow that says what is in a model's folder.
const MLMODEL: &str = "MLmodel";
/// The file in a model's folder that says how it is to be served.
const SERVING: &str = "driftline.json";
/// What is read of a version: a tag of that name, or a key of the file.
pub const INFERENCE: &str = "inference_config";
pub const DEPLOYMENT: &str = "deployment_config";
/// Bytes of such a file, at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What a version says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCard {
    pub signature: Signed,
    pub inference: Option<Said<InferenceConfig>>,
    pub deployment: Option<Said<DeploymentConfig>>,
}

/// Whether a version has a signature.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Signed {
    /// It is a file alone, or one that MLflow has not written.
    #[default]
    NoMlmodel,
    /// MLflow was given none.
    No,
    Yes(Signature),
}

/// Something that is said, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Said<T> {
    pub value: T,
    /// As it was written.
    pub text: Value,
    pub place: Place,
}

/// Where a version says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Tag,
    File,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tag => f.write_str("tag"),
            Place::File => f.write_str(SERVING),
        }
    }
}

/// What `driftline.json` holds.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServingFile {
    inference_config: Option<Value>,
    deployment_config: Option<Value>,
}

impl ModelCard {
    /// What is said in a model's folder, and by the tags (name and value) of its version.
    ///
    /// # Errors
    /// What is wrong with it, and where it stands.
    pub fn read(folder: &Path, tags: &[(String, String)]) -> Result<Self, String> {
        let file: ServingFile = match text(&folder.join(SERVING))? {
            Some(text) => parsed(&text, SERVING)?,
            None => ServingFile::default(),
        };
        let mlmodel = text(&folder.join(MLMODEL))?;
        Ok(ModelCard {
            signature: match mlmodel {
                Some(text) => Signature::of_mlmodel(&text)
                    .map_err(|why| format!("{MLMODEL}: {why}"))?
                    .map_or(Signed::No, Signed::Yes),
                None => Signed::NoMlmodel,
            },
            inference: said(INFERENCE, tags, file.inference_config)?,
            deployment: said(DEPLOYMENT, tags, file.deployment_config)?,
        })
    }

    pub fn inference(&self) -> Option<&InferenceConfig> {
        self.inference.as_ref().map(|said| &said.value)
    }

    pub fn deployment(&self) -> Option<&DeploymentConfig> {
        self.deployment.as_ref().map(|said| &said.value)
    }

    /// XXH3-64 of `inference_config`, in hexadecimal: predictions depend on it.
    pub fn inference_digest(&self) -> Option<String> {
        let text = self.inference.as_ref()?.text.to_string();
        Some(format!("{:016x}", XxHash3_64::oneshot(text.as_bytes())))
    }
}

/// The text of a file, if it is there.
fn text(path: &Path) -> Result<Option<String>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let wrong = |why: String| format!("{name}: {why}");
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error.to_string())),
        Ok(file) if file.len() > FILE_BYTES_MAX => {
            return Err(wrong(format!("it has more than {FILE_BYTES_MAX} bytes")));
        }
        Ok(_) => {}
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| wrong(error.to_string()))
}

/// What is said under a name in a tag, in the file, or in both alike.
fn said<T: for<'de> Deserialize<'de>>(
    name: &str,
    tags: &[(String, String)],
    in_file: Option<Value>,
) -> Result<Option<Said<T>>, String> {
    let in_tag = tags.iter().find(|(tag, _)| tag == name);
    let in_tag =
        in_tag.map(|(_, text)| parsed::<Value>(text, &format!("tag {name}"))).transpose()?;
    let (text, place) = match (in_tag, in_file) {
        (None, None) => return Ok(None),
        (Some(tag), Some(file)) if tag != file => {
            return Err(format!("its tag {name} and its file {SERVING} say different things"));
        }
        (Some(tag), _) => (tag, Place::Tag),
        (None, Some(file)) => (file, Place::File),
    };
    let at = match place {
        Place::Tag => format!("tag {name}"),
        Place::File => format!("{SERVING}: {name}"),
    };
    let value = serde_path_to_error::deserialize(text.clone());
    let value = value.map_err(|error| {
        let (key, why) = (error.path().to_string(), error.inner().to_string());
        format!("{at}: {}", crate::config::reword::deserialisation(&key, &why))
    })?;
    Ok(Some(Said { value, text, place }))
}

fn parsed<T: for<'de> Deserialize<'de>>(text: &str, at: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (key, why) = (error.path().to_string(), error.inner().to_string());
        // Where the text breaks off the path does, too.
        let key = key.trim_end_matches('?').trim_end_matches('.');
        format!("{at}: {}", crate::config::reword::deserialisation(key, &why))
    })?;
    json.end().map_err(|error| format!("{at}: {error}"))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: Option<&str>, tags: &[(&str, &str)]) -> Result<ModelCard, String> {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::write(folder.path().join(SERVING), text).unwrap();
        }
        let tags: Vec<_> = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ModelCard::read(folder.path(), &tags)
    }

    #[test]
    fn a_tag_or_a_file_says_it_and_both_say_the_same() {
        let inference = r#"{"batch_size": 64}"#;
        let file = format!(r#"{{"inference_config": {inference}}}"#);
        let tag = [(INFERENCE, inference), ("team", "risk")];
        for (card, place) in [(read(None, &tag), Place::Tag), (read(Some(&file), &[]), Place::File)]
        {
            let said = card.unwrap().inference.unwrap();
            assert_eq!((said.value.batch_size, said.place), (Some(64), place));
        }
        assert_eq!(read(Some(&file), &tag).unwrap(), read(None, &tag).unwrap());
        let other = [(INFERENCE, r#"{"batch_size": 65}"#)];
        let error = read(Some(&file), &other).unwrap_err();
        assert!(error.contains("say different things"), "{error}");
        assert_eq!(read(None, &[]).unwrap(), ModelCard::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (file, tags, wanted) in [
            (None, vec![(INFERENCE, "{")], "tag inference_config: EOF while parsing"),
            (None, vec![(INFERENCE, "{} {}")], "tag inference_config: trailing characters"),
            (
                None,
                vec![(INFERENCE, r#"{"batchsize": 1}"#)],
                "tag inference_config: unknown key \"batchsize\"; did you mean \"batch_size\"?",
            ),
            (
                Some(r#"{"deployment_config": {"min_replicas": -1}}"#),
                vec![],
                "driftline.json: deployment_config: min_replicas: ",
            ),
            (Some("[]"), vec![], "driftline.json: "),
            (Some(r#"{"inference": {}}"#), vec![], "driftline.json: unknown key \"inference\""),
        ] {
            let error = read(file, &tags).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
