//! Versions on disk: fetched once, whole or not at all.
//!
//! Below the folder each server has one, in it each model, in it each version; what is there under its
//! name is complete. Other runs may use and fill the same folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::artifacts::download;
use super::{Mlflow, Reference, RegistryError, Version, Which};

/// What names of folders begin with that are not complete.
const PART: &str = ".part-";

pub struct Cache {
    /// Of the server.
    folder: PathBuf,
    versions_kept: usize,
}

impl Cache {
    pub fn new(folder: &Path, server: &str, versions_kept: usize) -> Self {
        let server = format!("{:016x}", XxHash3_64::oneshot(server.as_bytes()));
        Cache { folder: folder.join(server), versions_kept }
    }

    /// The model file of a version, fetched unless it is there.
    ///
    /// # Errors
    /// If its files do not come, or have no ONNX file.
    pub fn model(&self, mlflow: &Mlflow, version: &Version) -> Result<PathBuf, RegistryError> {
        let folder = self.folder_of(version);
        match self.whole(version) {
            // Tags may have changed; who asks while the server is away has the last ones.
            Some(about) if about.tags != version.tags => {
                let about = About { tags: version.tags.clone(), ..about };
                about.write(&folder).map_err(|error| cache_error(&folder, error))?;
            }
            Some(_) => {}
            None => {
                let _ = fs::remove_dir_all(&folder);
                self.fetch(mlflow, version, &folder)?;
            }
        }
        // Who was asked for last goes last.
        let _ = fs::File::open(&folder).and_then(|file| file.set_modified(SystemTime::now()));
        model_file(&folder).map_err(|why| RegistryError::Unfit { what: version.to_string(), why })
    }

    /// Whether all files of a version are there, as they came.
    pub fn has(&self, version: &Version) -> bool {
        self.whole(version).is_some()
    }

    /// What is known of a version whose files are all there, as they came.
    fn whole(&self, version: &Version) -> Option<About> {
        let folder = self.folder_of(version);
        let about = About::read(&folder)?;
        (digest(&folder).ok()? == about.digest).then_some(about)
    }

    /// The version of a number, if it is there.
    pub fn newest(&self, reference: &Reference) -> Option<Version> {
        let Which::Number(number) = reference.which else { return None };
        let folder = self.folder.join(name_of(&reference.name));
        let begins = format!("{number}-");
        let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
        let found =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begins));
        let newest =
            found.max_by_key(|entry| entry.metadata().and_then(|it| it.modified()).ok())?;
        let About { created_ms, source, tags, .. } = About::read(&newest.path())?;
        let (name, version) = (reference.name.clone(), number.to_string());
        Some(Version { name, version, source, created_ms, tags })
    }

    fn folder_of(&self, version: &Version) -> PathBuf {
        let Version { name, version, source, created_ms, .. } = version;
        let origin = XxHash3_64::oneshot(format!("{created_ms} {source}").as_bytes());
        self.folder.join(name_of(name)).join(format!("{}-{origin:016x}", name_of(version)))
    }

    fn fetch(
        &self,
        mlflow: &Mlflow,
        version: &Version,
        folder: &Path,
    ) -> Result<(), RegistryError> {
        let of_model = folder.parent().unwrap_or(folder);
        let io = |error| RegistryError::Cache { path: of_model.to_owned(), error };
        fs::create_dir_all(of_model).map_err(io)?;
        let number = fastrand::u64(..);
        let part = of_model.join(format!("{PART}{}-{number:016x}", std::process::id()));
        fs::create_dir(&part).map_err(io)?;
        let fetched = download(mlflow, version, &part)
            .and_then(|()| {
                let Version { source, created_ms, tags, .. } = version.clone();
                let digest = digest(&part).map_err(io)?;
                About { source, created_ms, tags, digest }.write(&part).map_err(io)
            })
            .and_then(|()| match fs::rename(&part, folder) {
                // Another run was quicker.
                Err(_) if folder.is_dir() => Ok(()),
                renamed => renamed.map_err(io),
            });
        let _ = fs::remove_dir_all(&part);
        fetched?;
        self.forget(of_model, folder);
        Ok(())
    }

    /// Removes versions that have not been asked for for the longest, but for those that are kept.
    fn forget(&self, of_model: &Path, but: &Path) {
        let Ok(entries) = fs::read_dir(of_model) else { return };
        let age = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
        let is_other = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            path != but && !name.starts_with(PART)
        };
        let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
        let mut others: Vec<PathBuf> = paths.filter(is_other).collect();
        others.sort_by_key(|path| std::cmp::Reverse(age(path)));
        for path in others.iter().skip(self.versions_kept) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn cache_error(path: &Path, error: io::Error) -> RegistryError {
    RegistryError::Cache { path: path.to_owned(), error }
}

/// The file beside those of a version that says where they come from.
const ABOUT: &str = ".driftline.json";

/// What it says.
#[derive(Serialize, Deserialize)]
struct About {
    source: String,
    created_ms: i64,
    /// As they were when the version was last asked for.
    #[serde(default)]
    tags: Vec<(String, String)>,
    /// Of the other files as they came.
    digest: String,
}

impl About {
    /// `None` if a version is not there, or not whole.
    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(ABOUT)).ok()?).ok()
    }

    /// Under another name first: others may read it.
    fn write(&self, folder: &Path) -> io::Result<()> {
        let part = folder.join(format!("{ABOUT}{PART}{:016x}", fastrand::u64(..)));
        fs::write(&part, serde_json::to_vec(self)?)?;
        fs::rename(part, folder.join(ABOUT))
    }
}

/// XXH3-64 of the names and bytes of all files below a folder, in hexadecimal.
fn digest(folder: &Path) -> io::Result<String> {
    let mut paths = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { paths.push(path) }
        }
    }
    paths.sort();
    let mut all = Vec::new();
    let is_own = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ABOUT))
    };
    for path in paths.iter().filter(|path| !is_own(path)) {
        let name = path.strip_prefix(folder).unwrap_or(path);
        all.extend(XxHash3_64::oneshot(name.as_os_str().as_encoded_bytes()).to_le_bytes());
        all.extend(XxHash3_64::oneshot(&fs::read(path)?).to_le_bytes());
    }
    Ok(format!("{:016x}", XxHash3_64::oneshot(&all)))
}

/// A name that a folder can have, another for each.
fn name_of(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    match name.chars().all(is_plain) && !name.is_empty() && name.len() < 100 {
        true => name.to_owned(),
        false => format!("={:016x}", XxHash3_64::oneshot(name.as_bytes())),
    }
}

/// The ONNX file of a model's folder.
///
/// # Errors
/// If there is none, or more than one.
pub fn model_file(folder: &Path) -> Result<PathBuf, String> {
    let mut names = Vec::new();
    let listed = |names: &mut Vec<String>| -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(())
    };
    listed(&mut names).map_err(|error| error.to_string())?;
    names.retain(|name| !name.starts_with(ABOUT));
    names.sort();
    let models: Vec<&String> = names.iter().filter(|name| name.ends_with(".onnx")).collect();
    match models.as_slice() {
        [one] => Ok(folder.join(one)),
        _ if names.iter().any(|name| name == "model.onnx") => Ok(folder.join("model.onnx")),
        [] => Err(format!(
            "it has no ONNX file, only {}; mlflow.onnx.log_model makes one",
            names.join(", ")
        )),
        several => Err(format!("it has {} ONNX files, and none is model.onnx", several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_model() {
        let folder = tempfile::tempdir().unwrap();
        let find = || model_file(folder.path()).map(|path| path.file_name().unwrap().to_owned());
        fs::write(folder.path().join("MLmodel"), "").unwrap();
        assert!(find().unwrap_err().contains("only MLmodel;"));
        fs::write(folder.path().join("risk.onnx"), "").unwrap();
        assert_eq!(find().unwrap(), "risk.onnx");
        fs::write(folder.path().join("other.onnx"), "").unwrap();
        assert!(find().unwrap_err().contains("2 ONNX files"));
        fs::write(folder.path().join("model.onnx"), "").unwrap();
        assert_eq!(find().unwrap(), "model.onnx");
    }

    #[test]
    fn names_are_folders_of_their_own() {
        assert_eq!(name_of("risk-2"), "risk-2");
        for name in ["", "..", "a/b", "a b", "é", "=0", &"x".repeat(200)] {
            let folder = name_of(name);
            assert!(folder.starts_with('=') && folder.len() == 17, "{name:?}: {folder}");
        }
        assert_ne!(name_of("a b"), name_of("a/b"));
    }

    #[test]
    fn versions_that_were_asked_for_last_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), "http://127.0.0.1:5000", 2);
        let folders: Vec<PathBuf> = (0..5).map(|n| root.path().join(format!("{n}-0"))).collect();
        for (age, folder) in folders.iter().enumerate() {
            fs::create_dir(folder).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(age as u64);
            fs::File::open(folder).unwrap().set_modified(at).unwrap();
        }
        cache.forget(root.path(), &folders[1]);
        let left: Vec<bool> = folders.iter().map(|folder| folder.is_dir()).collect();
        assert_eq!(left, [false, true, false, true, true]);
    }
}
