//! Models of an MLflow registry: which version a reference means now, and its files, kept on disk.

mod artifacts;
pub mod cache;
pub mod mlflow;
pub mod reference;

use std::path::{Path, PathBuf};

pub use self::cache::Cache;
pub use self::mlflow::{Marks, Mlflow};
pub use self::reference::{Reference, Which};
use crate::models::card::ModelCard;

/// Why a registry gives no model.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be asked now; later it may be.
    #[error("{server}: {why}")]
    Away { server: String, why: String },
    /// It was asked, and says no.
    #[error("{server}: {why}")]
    Refused { server: String, why: String },
    /// What it says is no model that can be loaded.
    #[error("{what}: {why}")]
    Unfit { what: String, why: String },
    #[error("{}: {error}", .path.display())]
    Cache { path: PathBuf, error: std::io::Error },
}

/// A version of a registered model, as the registry tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Of the registered model.
    pub name: String,
    pub version: String,
    /// Where it was registered from. Tells a version from one of the same number of a model that was
    /// deleted and made again.
    pub source: String,
    /// When it was registered (ms since 1970).
    pub created_ms: i64,
    /// Tags that say how it is served: they may change while the version stays.
    pub tags: Vec<(String, String)>,
}

impl Version {
    /// What it says of itself, of which `model` is the model file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn card(&self, model: &Path) -> Result<ModelCard, RegistryError> {
        ModelCard::read(model.parent().unwrap_or(model), &self.tags)
            .map_err(|why| RegistryError::Unfit { what: self.to_string(), why })
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "version {} of {}", self.version, self.name)
    }
}

/// A version, and what its registry says of it.
pub struct Looked {
    pub version: Version,
    /// Unknown while the server is away.
    pub marks: Option<Marks>,
    /// Whether it was on disk before.
    pub was_kept: bool,
    /// Its model file.
    pub path: Result<PathBuf, RegistryError>,
}

/// What a job's model is loaded from: a reference to a registry.
#[derive(Clone, Debug)]
pub struct Registered {
    pub reference: Reference,
    /// The server, such as `http://127.0.0.1:5000`; `None` where only the environment can say.
    pub server: Option<String>,
    /// The folder that files are kept in.
    pub cache: PathBuf,
    /// Versions kept on disk beside the one that is asked for.
    pub versions_kept: usize,
}

impl Registered {
    /// # Errors
    /// If nobody says which server it is.
    pub fn open(&self) -> Result<(Mlflow, Cache), RegistryError> {
        let server = self.server.clone().or_else(|| std::env::var("MLFLOW_TRACKING_URI").ok());
        let Some(server) = server else {
            let what = self.reference.to_string();
            let why = "no registry is named; set model.registry or MLFLOW_TRACKING_URI".to_owned();
            return Err(RegistryError::Unfit { what, why });
        };
        let cache = Cache::new(&self.cache, &server, self.versions_kept);
        Ok((Mlflow::new(&server)?, cache))
    }

    /// A version by its number, whichever is meant otherwise.
    ///
    /// # Errors
    /// If it is no number.
    pub fn numbered(&self, version: &str) -> Result<Self, RegistryError> {
        let name = self.reference.name.clone();
        let number = version.parse().map_err(|_| RegistryError::Unfit {
            what: format!("version {version:?} of {name}"),
            why: "versions of a registry are numbers".to_owned(),
        })?;
        let reference = Reference { name, which: Which::Number(number) };
        Ok(Registered { reference, ..self.clone() })
    }

    /// The version that is meant now, and its model file on disk.
    ///
    /// # Errors
    /// If there is none that can be fetched.
    pub fn fetch(&self) -> Result<(Version, PathBuf), RegistryError> {
        let (mlflow, cache) = self.open()?;
        let version = self.version(&mlflow, &cache)?;
        let path = cache.model(&mlflow, &version)?;
        Ok((version, path))
    }

    /// The version that is meant now, and what is known of it before it is fetched.
    ///
    /// # Errors
    /// If there is none.
    pub fn look(&self) -> Result<Looked, RegistryError> {
        let (mlflow, cache) = self.open()?;
        let version = self.version(&mlflow, &cache)?;
        let (was_kept, marks) = (cache.has(&version), mlflow.marks(&version).ok());
        let path = cache.model(&mlflow, &version);
        Ok(Looked { version, marks, was_kept, path })
    }

    fn version(&self, mlflow: &Mlflow, cache: &Cache) -> Result<Version, RegistryError> {
        match mlflow.version(&self.reference) {
            // What a number means does not change while the server is away.
            Err(away @ RegistryError::Away { .. }) => cache.newest(&self.reference).ok_or(away),
            found => found,
        }
    }
}

/// Where files of a registry are kept if nobody says where.
pub fn models_cache() -> PathBuf {
    user_cache().join("driftline").join("models")
}

/// The folder of what the user's programs can fetch again (XDG Base Directory Specification).
fn user_cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    variable("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        variable("HOME").map_or_else(std::env::temp_dir, |home| PathBuf::from(home).join(".cache"))
    })
}
