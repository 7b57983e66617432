//! From where a version was registered to its files.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::mlflow::{Entry, FILE_BYTES_MAX, Mlflow};
use super::{RegistryError, Version};

/// Where the server passes artifacts on.
const PROXY: &str = "mlflow-artifacts:";
/// How often one address may lead to another.
const STEPS_MAX: usize = 4;
/// Files of a model, at most.
const FILES_MAX: usize = 10_000;

/// Where artifacts are.
enum Place {
    /// A path that the server passes on.
    Proxy(String),
    Folder(PathBuf),
}

/// Copies all files of a version into a folder that there is.
pub(super) fn download(mlflow: &Mlflow, version: &Version, to: &Path) -> Result<(), RegistryError> {
    match place(mlflow, mlflow.download_uri(version)?)? {
        Place::Proxy(path) => {
            let mut left = FILES_MAX;
            download_folder(mlflow, version, &path, to, &mut left)
        }
        Place::Folder(folder) => copy_folder(version, &folder, to),
    }
}

/// Follows an address to where bytes are.
fn place(mlflow: &Mlflow, mut uri: String) -> Result<Place, RegistryError> {
    for _ in 0..STEPS_MAX {
        if let Some(path) = uri.strip_prefix(PROXY) {
            // mlflow-artifacts://HOST:PORT/PATH names the server, mlflow-artifacts:/PATH does not.
            let path = match path.strip_prefix("//") {
                Some(named) => named.split_once('/').map_or("", |(_, path)| path),
                None => path,
            };
            return Ok(Place::Proxy(path.trim_matches('/').to_owned()));
        }
        if let Some(rest) = uri.strip_prefix("runs:/") {
            let (run, path) = rest.split_once('/').unwrap_or((rest, ""));
            uri = format!("{}/{path}", mlflow.uri_of_run(run)?.trim_end_matches('/'));
        } else if let Some(id) = uri.strip_prefix("models:/").filter(|id| id.starts_with("m-")) {
            uri = mlflow.uri_of_logged_model(id)?;
        } else if let Some(path) = uri.strip_prefix("file://") {
            return Ok(Place::Folder(PathBuf::from(path)));
        } else if uri.starts_with('/') {
            return Ok(Place::Folder(PathBuf::from(uri)));
        } else {
            break;
        }
    }
    Err(mlflow.refuses(format!(
        "its files are at {uri}, which the server does not pass on; start it with --serve-artifacts"
    )))
}

fn unfit(version: &Version, why: String) -> RegistryError {
    RegistryError::Unfit { what: version.to_string(), why }
}

fn download_folder(
    mlflow: &Mlflow,
    version: &Version,
    folder: &str,
    to: &Path,
    left: &mut usize,
) -> Result<(), RegistryError> {
    let Some(entries) = mlflow.entries(folder)? else {
        return Err(unfit(version, format!("its files are gone: there is nothing at {folder}")));
    };
    for Entry { path, is_dir, file_size } in entries {
        let name = plain_name(&path).ok_or_else(|| {
            unfit(
                version,
                format!("a file of it is called {path:?}, which leads out of its folder"),
            )
        })?;
        let (from, to) = (format!("{folder}/{name}"), to.join(name));
        if is_dir {
            fs::create_dir(&to).map_err(|error| cache_error(&to, error))?;
            download_folder(mlflow, version, &from, &to, left)?;
            continue;
        }
        *left = left
            .checked_sub(1)
            .ok_or_else(|| unfit(version, format!("it has more than {FILES_MAX} files")))?;
        let mut body = mlflow.file(&from)?;
        let mut file = File::create(&to).map_err(|error| cache_error(&to, error))?;
        let mut body = body.with_config().limit(FILE_BYTES_MAX).reader();
        let bytes = io::copy(&mut body, &mut file)
            .and_then(|bytes| file.sync_all().map(|()| bytes))
            .map_err(|error| cache_error(&to, error))?;
        if file_size.is_some_and(|size| size != bytes) {
            let size = file_size.unwrap_or_default();
            let why = format!("{name} broke off: {bytes} of {size} bytes came");
            return Err(mlflow.refuses(format!("{version}: {why}")));
        }
    }
    Ok(())
}

/// The name of a file in its folder, if it is nothing but that.
fn plain_name(path: &str) -> Option<&str> {
    let mut parts = Path::new(path).components();
    let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    (is_plain && !path.contains(['/', '\\'])).then_some(path)
}

fn copy_folder(version: &Version, folder: &Path, to: &Path) -> Result<(), RegistryError> {
    let io = |error| cache_error(folder, error);
    if !folder.is_dir() {
        let why = format!("its files are gone: there is no folder {}", folder.display());
        return Err(unfit(version, why));
    }
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            fs::create_dir(&to).map_err(|error| cache_error(&to, error))?;
            copy_folder(version, &from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(|error| cache_error(&to, error))?;
        }
    }
    Ok(())
}

fn cache_error(path: &Path, error: io::Error) -> RegistryError {
    RegistryError::Cache { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_files_in_the_folder_are_plain() {
        assert_eq!(plain_name("model.onnx"), Some("model.onnx"));
        assert_eq!(plain_name("a b%20c"), Some("a b%20c"));
        for path in ["", ".", "..", "../model.onnx", "/etc/hosts", "a/b", "a/", "a\\b"] {
            assert_eq!(plain_name(path), None, "{path:?}");
        }
    }
}
