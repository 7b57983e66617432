//! What `models` says: which version would serve now and why, and which ones would later.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Error, Result, anyhow};
use serde_json::{Value, json};

use super::check::sheet::Sheet;
use super::loading::{Features, LoadedModel};
use super::options::{RunOptions, TopicUse};
use super::plan::words;
use super::prepare::Prepared;
use super::served;
use super::switching::{ModelSince, of_model};
use crate::config::Job;
use crate::config::duration::{instant_rfc3339, instant_text};
use crate::config::job::{ModelFile, Realtime};
use crate::models::card::{ModelCard, Signed};
use crate::registry::cache::model_file;
use crate::registry::{Looked, Marks, Registered, Version, Which};

/// How models are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// To be read.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// What was found.
pub struct Listed {
    pub text: String,
    /// The first thing that keeps one of them from serving.
    pub problem: Option<Error>,
}

/// A version that serves, or would.
struct Entry {
    /// From which event time (ms) on; the first one has none.
    since: Option<i64>,
    name: String,
    version: String,
    /// As the job has it, or the command line.
    reference: String,
    came_by: String,
    registered: Option<FromRegistry>,
    /// Its file, where that is there.
    file: Option<PathBuf>,
    card: Arc<ModelCard>,
    loaded: Result<LoadedModel>,
}

/// What its registry says of it.
struct FromRegistry {
    version: Version,
    /// Unknown where the server was away.
    marks: Option<Marks>,
    was_kept: bool,
}

/// Lists the model of the job and those that are `scheduled` to take its place.
///
/// # Errors
/// If the job has no model, or its features cannot be compiled.
pub fn list(job: &Arc<Job>, scheduled: Vec<ModelSince>, form: Form) -> Result<Listed> {
    job.model.as_ref().context("the job has no section [model]")?;
    let options = RunOptions { topics: TopicUse::Described, ..RunOptions::default() };
    let features = Features::new(&Prepared::new(job, &options)?, &options);
    let places = places(job, &features);
    let mut entries: Vec<Entry> =
        places.iter().map(|(_, model, features)| first(model, features)).collect();
    let mut scheduled = scheduled;
    scheduled.sort_by_key(|scheduled| scheduled.since);
    for since in scheduled {
        let (name, version) = of_model(job, since.model.clone(), since.version.clone())?;
        let of = places.iter().find(|(known, ..)| *known == name).unwrap_or(&places[0]);
        entries.push(later(of.1, ModelSince { version, ..since }, &of.2));
    }
    let text = match form {
        Form::Text => text(&entries, &job.realtime),
        Form::Json => {
            let all: Vec<Value> = entries.iter().map(|entry| value(entry, &job.realtime)).collect();
            format!("{:#}\n", json!({ "models": all }))
        }
    };
    let problem = entries.into_iter().find_map(|entry| entry.loaded.err());
    Ok(Listed { text, problem })
}

/// The models of a job, by name where it has several, and what each is given.
fn places<'a>(job: &'a Job, features: &Features) -> Vec<(Option<String>, &'a ModelFile, Features)> {
    let place = |(at, (name, file)): (usize, (Option<&str>, &'a ModelFile))| {
        let members = job.routing.as_ref().map(|routing| routing.members_of(at));
        (name.map(str::to_owned), file, features.with_members(members.unwrap_or_default()))
    };
    job.models().into_iter().enumerate().map(place).collect()
}

/// The job's own.
fn first(model: &ModelFile, features: &Features) -> Entry {
    let came_by = match &model.registered {
        Some(registered) => came_by(&registered.reference.which),
        None if model.path.is_dir() => "its folder".to_owned(),
        None => "its file".to_owned(),
    };
    let entry = Entry {
        since: None,
        name: model.name.clone(),
        version: model.version.clone(),
        reference: words::path(&model.path),
        came_by,
        registered: None,
        file: None,
        card: Arc::default(),
        loaded: Err(anyhow!("it was not looked for")),
    };
    match &model.registered {
        Some(registered) => entry.of_registry(registered, model, features),
        None if model.path.is_dir() => {
            let in_folder = |why| anyhow!("{}: {why} (model.path)", model.path.display());
            let found = model_file(&model.path)
                .and_then(|path| Ok((path, ModelCard::read(&model.path, &[])?)))
                .map_err(in_folder);
            entry.with(found, model, features)
        }
        None => entry.with(Ok((model.path.clone(), ModelCard::default())), model, features),
    }
}

/// One that is to take its place.
fn later(model: &ModelFile, scheduled: ModelSince, features: &Features) -> Entry {
    let ModelSince { since, version, file, .. } = scheduled;
    let reference = match (&file, &model.registered) {
        (Some(file), _) => words::path(file),
        (None, Some(registered)) => registered
            .numbered(&version)
            .map_or_else(|_| version.clone(), |registered| registered.reference.to_string()),
        (None, None) => version.clone(),
    };
    let entry = Entry {
        since: Some(since),
        name: model.name.clone(),
        version: version.clone(),
        reference,
        came_by: "--model-since".to_owned(),
        registered: None,
        file: None,
        card: Arc::default(),
        loaded: Err(anyhow!(
            "--model-since {version}: the job's model is a file; name that of the version"
        )),
    };
    match (file, &model.registered) {
        (Some(file), _) => entry.with(Ok((file, ModelCard::default())), model, features),
        (None, Some(registered)) => match registered.numbered(&version) {
            Ok(registered) => entry.of_registry(&registered, model, features),
            Err(error) => Entry { loaded: Err(error.into()), ..entry },
        },
        (None, None) => entry,
    }
}

fn came_by(which: &Which) -> String {
    match which {
        Which::Alias(alias) => format!("the alias {alias}"),
        Which::Stage(stage) => format!("the newest version in the stage {stage}"),
        Which::Number(number) => format!("its number {number}"),
        Which::Latest => "the newest version".to_owned(),
    }
}

impl Entry {
    fn of_registry(
        mut self,
        registered: &Registered,
        model: &ModelFile,
        features: &Features,
    ) -> Self {
        let found = registered.look().and_then(|Looked { version, marks, was_kept, path }| {
            self.version.clone_from(&version.version);
            let card = path.and_then(|path| version.card(&path).map(|card| (path, card)));
            self.registered = Some(FromRegistry { version, marks, was_kept });
            card
        });
        let found = found.map_err(Error::from);
        self.with(found, model, features)
    }

    /// With what its file is, and what is said of it.
    fn with(
        mut self,
        found: Result<(PathBuf, ModelCard)>,
        model: &ModelFile,
        features: &Features,
    ) -> Self {
        self.loaded = found.and_then(|(path, card)| {
            self.card = Arc::new(card);
            self.file = Some(path.clone());
            let (version, card) = (self.version.clone(), self.card.clone());
            LoadedModel::load(features, &ModelFile { path, version, card, ..model.clone() }, None)
        });
        self
    }
}

fn text(entries: &[Entry], realtime: &Realtime) -> String {
    let mut sheet = Sheet::default();
    for entry in entries {
        let Entry { since, name, version, reference, .. } = entry;
        let title = match since {
            None => format!("model {name} version {version}: {reference}"),
            Some(since) => {
                format!("from {} on version {version}: {reference}", instant_text(*since))
            }
        };
        let rows = rows(entry, realtime).into_iter();
        sheet.section(
            &title,
            &rows.map(|(name, text)| vec![name.to_owned(), text]).collect::<Vec<_>>(),
        );
    }
    sheet.text().trim_start().to_owned()
}

fn rows(entry: &Entry, realtime: &Realtime) -> Vec<(&'static str, String)> {
    let mut rows = vec![("came by", entry.came_by.clone())];
    if let Some(FromRegistry { version, marks, was_kept }) = &entry.registered {
        let at = instant_text(version.created_ms);
        rows.push(("registered", format!("from {}, at {at}", version.source)));
        if let Some(Marks { aliases, stage }) = marks {
            let of = |kind: &str, names: &[String]| match names {
                [] => format!("no {kind}"),
                names => format!("{kind} {}", names.join(", ")),
            };
            let stage: Vec<String> = stage.iter().cloned().collect();
            rows.push(("has", format!("{}; {}", of("alias", aliases), of("stage", &stage))));
        }
        rows.push(("on disk", if *was_kept { "it was" } else { "it was fetched now" }.to_owned()));
    }
    match &entry.loaded {
        Ok(model) => {
            let digest = model.digest.as_ref().map(|digest| format!(" (XXH3 {digest})"));
            let file = entry.file.as_ref().map(|file| words::path(file)).unwrap_or_default();
            rows.push(("file", format!("{file}{}", digest.unwrap_or_default())));
            rows.push(("task", format!("{:?}", model.task).to_lowercase()));
            rows.extend(served::lines(realtime, model));
        }
        Err(_) => rows.push(("cannot serve", "see the error below".to_owned())),
    }
    rows
}

fn value(entry: &Entry, realtime: &Realtime) -> Value {
    let loaded = entry.loaded.as_ref().ok();
    let signature = match &entry.card.signature {
        Signed::Yes(signature) => Some(signature.to_string()),
        Signed::No | Signed::NoMlmodel => None,
    };
    let batch = served::batch_size(realtime, &entry.card);
    let latency = served::max_latency_ms(realtime, &entry.card);
    let of_registry = entry.registered.as_ref().map(|FromRegistry { version, marks, was_kept }| {
        json!({
            "source": version.source,
            "created": instant_rfc3339(version.created_ms),
            "aliases": marks.as_ref().map(|marks| &marks.aliases),
            "stage": marks.as_ref().and_then(|marks| marks.stage.as_ref()),
            "was_on_disk": was_kept,
        })
    });
    json!({
        "model": entry.name,
        "version": entry.version,
        "since": entry.since.map(instant_rfc3339),
        "reference": entry.reference,
        "came_by": entry.came_by,
        "registered": of_registry,
        "file": entry.file,
        "model_xxh3": loaded.and_then(|model| model.digest.as_ref()),
        "task": loaded.map(|model| format!("{:?}", model.task).to_lowercase()),
        "signature": signature,
        "inference_config": entry.card.inference.as_ref().map(|said| &said.text),
        "deployment_config": entry.card.deployment.as_ref().map(|said| &said.text),
        "max_batch_size": {"value": batch.value, "by": batch.by.name()},
        "max_latency_ms":
            latency.map(|figure| json!({"value": figure.value, "by": figure.by.name()})),
        "error": entry.loaded.as_ref().err().map(|error| format!("{error:#}")),
    })
}
