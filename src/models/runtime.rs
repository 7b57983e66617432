//! Finding and loading ONNX Runtime's library.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;

/// The version that `scripts/setup-onnxruntime.sh` fetches.
const LIBRARY: &str = "libonnxruntime.so.1.32.0";

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("ONNX Runtime was not found (looked at {}); run scripts/setup-onnxruntime.sh, or set ORT_DYLIB_PATH", .0.join(", "))]
    NotFound(Vec<String>),
    #[error("{}: {message}", path.display())]
    Unusable { path: PathBuf, message: String },
}

/// Places where the library may be, in order: `ORT_DYLIB_PATH` alone if it is set; else the cache of
/// this project (`DRIFTLINE_CACHE`, `XDG_CACHE_HOME/driftline`, `~/.cache/driftline`), else
/// wherever the system's loader looks.
fn places() -> Vec<PathBuf> {
    let variable =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("ORT_DYLIB_PATH") {
        return vec![path];
    }
    let caches = [
        variable("DRIFTLINE_CACHE"),
        variable("XDG_CACHE_HOME").map(|cache| cache.join("driftline")),
        variable("HOME").map(|home| home.join(".cache/driftline")),
    ];
    let mut places: Vec<PathBuf> =
        caches.into_iter().flatten().map(|cache| cache.join("onnxruntime").join(LIBRARY)).collect();
    places.push(PathBuf::from("libonnxruntime.so"));
    places
}

/// ONNX Runtime has one environment a process, for good.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The process's environment; the first time the library is loaded from the first place that has it.
///
/// # Errors
/// If no place has it, or what is there is not ONNX Runtime.
pub fn load() -> Result<Environment, RuntimeError> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    match &*environment {
        Some(environment) => Ok(environment.clone()),
        None => Ok(environment.insert(make()?).clone()),
    }
}

fn make() -> Result<Environment, RuntimeError> {
    let places = places();
    for path in &places {
        let by_loader = path.components().count() == 1;
        if !by_loader && !path.is_file() {
            continue;
        }
        match ort::init_from(path) {
            Ok(builder) => {
                return builder.with_name("driftline").with_telemetry(false).build().map_err(
                    |error| RuntimeError::Unusable {
                        path: path.clone(),
                        message: error.to_string(),
                    },
                );
            }
            Err(_) if by_loader => {}
            Err(error) => {
                return Err(RuntimeError::Unusable {
                    path: path.clone(),
                    message: error.to_string(),
                });
            }
        }
    }
    Err(RuntimeError::NotFound(places.iter().map(|place| place.display().to_string()).collect()))
}
