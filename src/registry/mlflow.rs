//! An MLflow tracking server, asked over REST.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::{Reference, RegistryError, Version, Which};
use crate::models::card::{DEPLOYMENT, INFERENCE};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take, but for the bytes of a file.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the bytes of one file may take.
const FILE_TIMEOUT: Duration = Duration::from_secs(600);
/// Bytes of an answer that is no file, at most.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a file, at most.
pub(super) const FILE_BYTES_MAX: u64 = 16 << 30;
/// Characters of what a server says that are repeated.
const SAID_MAX: usize = 300;

const API: &str = "/api/2.0/mlflow";

/// A server, and who asks it.
pub struct Mlflow {
    agent: Agent,
    /// Without a slash at its end.
    server: String,
    /// The header `Authorization`; a secret.
    authorization: Option<String>,
}

#[derive(Deserialize)]
struct ModelVersion {
    name: String,
    version: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    creation_timestamp: i64,
    #[serde(default)]
    status: String,
    #[serde(default)]
    status_message: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    current_stage: String,
}

/// What leads to a version beside its number.
pub struct Marks {
    pub aliases: Vec<String>,
    pub stage: Option<String>,
}

#[derive(Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct OneVersion {
    model_version: ModelVersion,
}

#[derive(Deserialize)]
struct Versions {
    // A stage that no version is in has no key.
    #[serde(default)]
    model_versions: Vec<ModelVersion>,
}

#[derive(Deserialize)]
struct DownloadUri {
    artifact_uri: String,
}

#[derive(Deserialize)]
struct Run {
    run: RunInfo,
}

#[derive(Deserialize)]
struct RunInfo {
    info: ArtifactUri,
}

#[derive(Deserialize)]
struct LoggedModel {
    model: LoggedModelInfo,
}

#[derive(Deserialize)]
struct LoggedModelInfo {
    info: ArtifactUri,
}

#[derive(Deserialize)]
struct ArtifactUri {
    artifact_uri: String,
}

/// A file or folder below another.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    /// From the folder that was asked for.
    pub path: String,
    pub is_dir: bool,
    #[serde(default)]
    pub file_size: Option<u64>,
}

#[derive(Deserialize)]
struct Entries {
    // Of a folder that is gone there is no such key, and no error.
    files: Option<Vec<Entry>>,
}

/// What a refusal says.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    message: String,
}

impl Mlflow {
    /// A server by its address; who asks is told by `MLFLOW_TRACKING_TOKEN`, or by
    /// `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.
    ///
    /// # Errors
    /// If it is no address of a server.
    pub fn new(server: &str) -> Result<Self, RegistryError> {
        check_address(server)?;
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            // What the system trusts is trusted here, a company's own authority among it.
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
            .build();
        Ok(Mlflow {
            agent: config.into(),
            server: server.trim_end_matches('/').to_owned(),
            authorization: authorization(|name| std::env::var(name).ok()),
        })
    }

    /// The version that is meant now.
    ///
    /// # Errors
    /// If there is none, it is no model, or the server does not say.
    pub fn version(&self, reference: &Reference) -> Result<Version, RegistryError> {
        let name = ("name", reference.name.as_str());
        let none = |why: &str| RegistryError::Refused {
            server: self.server.clone(),
            why: format!("{reference}: {why}"),
        };
        let found = match &reference.which {
            Which::Alias(alias) => {
                let path = format!("{API}/registered-models/alias");
                self.get::<OneVersion>(&path, &[name, ("alias", alias)])?.model_version
            }
            Which::Number(number) => {
                let path = format!("{API}/model-versions/get");
                let number = number.to_string();
                self.get::<OneVersion>(&path, &[name, ("version", &number)])?.model_version
            }
            Which::Stage(stage) => {
                let path = format!("{API}/registered-models/get-latest-versions");
                let found = self.get::<Versions>(&path, &[name, ("stages", stage)])?;
                let found = found.model_versions.into_iter().next();
                found.ok_or_else(|| none("no version is in that stage"))?
            }
            Which::Latest => {
                let path = format!("{API}/registered-models/get-latest-versions");
                let found = self.get::<Versions>(&path, &[name])?.model_versions.into_iter();
                let newest = found.max_by_key(|found| found.version.parse::<u64>().unwrap_or(0));
                newest.ok_or_else(|| none("it has no version"))?
            }
        };
        let is_prompt = |tag: &Tag| tag.key == "mlflow.prompt.is_prompt" && tag.value == "true";
        if found.tags.iter().any(is_prompt) {
            return Err(none("it is a prompt, and no model"));
        }
        if !["", "READY"].contains(&found.status.as_str()) {
            return Err(none(&format!("it is {}: {}", found.status, found.status_message)));
        }
        Ok(Version {
            name: found.name,
            version: found.version,
            source: found.source,
            created_ms: found.creation_timestamp,
            tags: serving_tags(found.tags),
        })
    }

    /// What leads to a version, by its number: its aliases, and its stage if it has one.
    ///
    /// # Errors
    /// If the server does not say.
    pub fn marks(&self, version: &Version) -> Result<Marks, RegistryError> {
        let query = [("name", version.name.as_str()), ("version", version.version.as_str())];
        let path = format!("{API}/model-versions/get");
        let found = self.get::<OneVersion>(&path, &query)?.model_version;
        // Of a version without a stage MLflow says "None".
        let stage = Some(found.current_stage).filter(|stage| !["", "None"].contains(&&**stage));
        Ok(Marks { aliases: found.aliases, stage })
    }

    /// Where the files of a version are.
    pub(super) fn download_uri(&self, version: &Version) -> Result<String, RegistryError> {
        let path = format!("{API}/model-versions/get-download-uri");
        let query = [("name", version.name.as_str()), ("version", version.version.as_str())];
        Ok(self.get::<DownloadUri>(&path, &query)?.artifact_uri)
    }

    /// Where the artifacts of a run are.
    pub(super) fn uri_of_run(&self, run: &str) -> Result<String, RegistryError> {
        let path = format!("{API}/runs/get");
        Ok(self.get::<Run>(&path, &[("run_id", run)])?.run.info.artifact_uri)
    }

    /// Where the artifacts of a logged model are.
    pub(super) fn uri_of_logged_model(&self, id: &str) -> Result<String, RegistryError> {
        let path = format!("{API}/logged-models/{}", encoded(id));
        Ok(self.get::<LoggedModel>(&path, &[])?.model.info.artifact_uri)
    }

    /// What is in a folder of the artifacts that the server passes on; `None` if it does not say.
    pub(super) fn entries(&self, folder: &str) -> Result<Option<Vec<Entry>>, RegistryError> {
        let path = "/api/2.0/mlflow-artifacts/artifacts";
        Ok(self.get::<Entries>(path, &[("path", folder)])?.files)
    }

    /// A file of the artifacts that the server passes on.
    pub(super) fn file(&self, path: &str) -> Result<Body, RegistryError> {
        let parts: Vec<String> = path.split('/').map(encoded).collect();
        let url = format!("{}/api/2.0/mlflow-artifacts/artifacts/{}", self.server, parts.join("/"));
        let request = self.authorized(self.agent.get(url));
        let request = request.config().timeout_global(Some(FILE_TIMEOUT)).build();
        let response = self.answered(request.call().map_err(|error| self.away(&error))?)?;
        Ok(response.into_body())
    }

    fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, RegistryError> {
        let request = self.authorized(self.agent.get(format!("{}{path}", self.server)));
        let request = request.query_pairs(query.iter().copied());
        let response = self.answered(request.call().map_err(|error| self.away(&error))?)?;
        let mut body = response.into_body();
        let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.away(&error))?;
        serde_json::from_str(&text).map_err(|error| RegistryError::Refused {
            server: self.server.clone(),
            why: format!("{path}: what it answers is not MLflow's: {error}"),
        })
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// The answer, if it is one.
    fn answered(&self, response: Response<Body>) -> Result<Response<Body>, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let mut body = response.into_body();
        let text = body.with_config().limit(ANSWER_BYTES_MAX).read_to_string().unwrap_or_default();
        let why = why_refused(status, &text);
        let server = self.server.clone();
        Err(match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => RegistryError::Away { server, why },
            false => RegistryError::Refused { server, why },
        })
    }

    fn away(&self, error: &ureq::Error) -> RegistryError {
        RegistryError::Away { server: self.server.clone(), why: error.to_string() }
    }

    pub(super) fn refuses(&self, why: impl Into<String>) -> RegistryError {
        RegistryError::Refused { server: self.server.clone(), why: why.into() }
    }
}

/// The tags that say how a version is served, in order of their names.
fn serving_tags(tags: Vec<Tag>) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = tags
        .into_iter()
        .filter(|tag| [INFERENCE, DEPLOYMENT].contains(&tag.key.as_str()))
        .map(|Tag { key, value }| (key, value))
        .collect();
    kept.sort();
    kept
}

/// A secret in an address would be in errors and logs: it is refused, and not repeated.
fn check_address(server: &str) -> Result<(), RegistryError> {
    let unfit = |what: String, why: &str| Err(RegistryError::Unfit { what, why: why.to_owned() });
    let behind = server.split_once("://").map_or(server, |(_, behind)| behind);
    if behind.split('/').next().is_some_and(|host| host.contains('@')) {
        return unfit(
            "the address of the registry".to_owned(),
            "has a user in it; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
        );
    }
    match server.starts_with("http://") || server.starts_with("https://") {
        true => Ok(()),
        false => unfit(
            format!("{server:?}"),
            "is no address of an MLflow server, such as http://127.0.0.1:5000",
        ),
    }
}

/// What a refusal says, and what can be done about it.
fn why_refused(status: StatusCode, text: &str) -> String {
    let said = serde_json::from_str::<Said>(text).map(|said| said.message);
    let said: String =
        said.unwrap_or_else(|_| text.trim().to_owned()).chars().take(SAID_MAX).collect();
    let advice = match status {
        StatusCode::UNAUTHORIZED => {
            "; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        }
        StatusCode::FORBIDDEN if said.contains("Invalid Host header") => {
            "; the server does not know itself by this name: start it with --allowed-hosts"
        }
        _ => "",
    };
    format!("{said} ({status}){advice}")
}

/// A part of a path, with signs that mean something there written as numbers.
fn encoded(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The header that says who asks.
fn authorization(variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(token) = variable("MLFLOW_TRACKING_TOKEN") {
        return Some(format!("Bearer {token}"));
    }
    let (user, password) =
        (variable("MLFLOW_TRACKING_USERNAME")?, variable("MLFLOW_TRACKING_PASSWORD"));
    let pair = format!("{user}:{}", password.unwrap_or_default());
    Some(format!("Basic {}", BASE64.encode(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_are_one_part() {
        assert_eq!(encoded("model.onnx"), "model.onnx");
        assert_eq!(encoded("a b/c?d#e%é"), "a%20b%2Fc%3Fd%23e%25%C3%A9");
    }

    #[test]
    fn a_token_goes_before_a_name() {
        let set = |names: &'static [(&str, &str)]| {
            authorization(|name| {
                names.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(set(&[]), None);
        let all = &[("MLFLOW_TRACKING_TOKEN", "t"), ("MLFLOW_TRACKING_USERNAME", "u")];
        assert_eq!(set(all).as_deref(), Some("Bearer t"));
        let named = &[("MLFLOW_TRACKING_USERNAME", "u"), ("MLFLOW_TRACKING_PASSWORD", "p:w")];
        // RFC 7617; a password may have a colon in it.
        assert_eq!(set(named).as_deref(), Some("Basic dTpwOnc="));
        assert_eq!(set(&[("MLFLOW_TRACKING_PASSWORD", "p")]), None);
    }

    #[test]
    fn refusals_say_what_to_do() {
        let json = r#"{"error_code": "X", "message": "no such thing"}"#;
        assert_eq!(why_refused(StatusCode::NOT_FOUND, json), "no such thing (404 Not Found)");
        let host = "Invalid Host header - possible DNS rebinding attack detected";
        assert!(
            why_refused(StatusCode::FORBIDDEN, host).ends_with("start it with --allowed-hosts")
        );
        let long = why_refused(StatusCode::BAD_GATEWAY, &"<html>".repeat(1_000));
        assert!(long.len() < 400, "{long}");
        assert!(why_refused(StatusCode::UNAUTHORIZED, "").contains("MLFLOW_TRACKING_TOKEN"));
    }

    #[test]
    fn an_address_with_a_secret_is_not_repeated() {
        for address in ["http://me:hunter2@host:5000", "me:hunter2@host", "https://hunter2@h/x"] {
            let error = check_address(address).unwrap_err().to_string();
            assert!(error.contains("has a user in it") && !error.contains("hunter2"), "{error}");
        }
        assert!(check_address("http://host:5000/a@b").is_ok());
        assert!(check_address("ftp://host").is_err());
    }
}
