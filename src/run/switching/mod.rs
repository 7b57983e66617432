//! Models that take the place of the job's while a run goes on.
//!
//! A version is loaded, checked and probed on the thread that asks for it, and has a model for each
//! worker, before any worker hears of it: what does not fit never scores a row. Workers then take
//! it for the same rows, see [`control`](driftline_operators::control), and give back the one before
//! once no row can need it.

mod models;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use driftline_operators::control::Since;
use driftline_operators::gate::Order;
use driftline_operators::ingest::Control;
use driftline_operators::model::ModelIdentity;
use driftline_operators::routes::table::Breaker;
use serde_json::{Value, json};

pub use self::models::RunModels;
pub(super) use self::models::{KnownVersion, ModelPlace, Switchable};
use crate::config::Job;
use crate::config::duration::instant_rfc3339;
use crate::models::card::ModelCard;
use crate::models::own::ModelFactory;

/// What the model of a pipeline is switched with, before and while it runs; clones are the same.
///
/// Versions have the features, the inputs and outputs and the task of the job's `[model]`.
#[derive(Clone, Default)]
pub struct ModelControl(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    scheduled: Vec<Scheduled>,
    /// Of the run that goes on, or of the last one.
    run: Option<Arc<RunModels>>,
}

#[derive(Clone)]
struct Scheduled {
    since: i64,
    change: Scheduling,
}

#[derive(Clone)]
enum Scheduling {
    /// Of the model that is so called in the job; of its only one where none is named.
    Version(Option<String>, NewVersion),
    Weights(RouteWeights),
}

/// A version of a model of the job.
#[derive(Clone)]
struct NewVersion {
    version: String,
    source: Source,
}

#[derive(Clone)]
enum Source {
    /// With what the version says of itself.
    File(PathBuf, Arc<ModelCard>),
    Own(ModelFactory),
}

/// A version that is to score rows from an event time (ms) on; in a file if that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSince {
    pub since: i64,
    /// Which model of the job, where it has several.
    pub model: Option<String>,
    pub version: String,
    pub file: Option<PathBuf>,
}

/// How many of 10,000 ids each variant of a route has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteWeights {
    pub route: String,
    /// By variant, all of them.
    pub weights: Vec<(String, u32)>,
}

/// Weights that hold from an event time (ms) on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsSince {
    pub since: i64,
    pub weights: RouteWeights,
}

/// What has been changed of routes, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChanged {
    pub change: RouteChange,
    pub since: Since,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    Weights(RouteWeights),
    /// A model is given these rows.
    Breaker {
        model: String,
        breaker: Breaker,
    },
}

/// A version that rows are scored by, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSwitched {
    /// Which model of the job that is, where it has several.
    pub of: Option<String>,
    pub model: ModelIdentity,
    /// XXH3-64 in hexadecimal; none of a program's own.
    pub digest: Option<String>,
    pub since: Since,
}

impl ModelSwitched {
    /// As footers of files have it.
    pub(super) fn json(&self) -> Value {
        let ModelSwitched { of, model, digest, since } = self;
        let mut said = json!({
            "model_name": model.name,
            "model_version": model.version,
            "model_xxh3": digest,
            "since": since_json(*since),
        });
        if let Some(of) = of {
            said["model"] = of.as_str().into();
        }
        said
    }
}

impl RouteChanged {
    /// As footers of files have it.
    pub(super) fn json(&self) -> Value {
        let since = since_json(self.since);
        match &self.change {
            RouteChange::Weights(RouteWeights { route, weights }) => {
                let weights: serde_json::Map<String, Value> =
                    weights.iter().map(|(name, weight)| (name.clone(), (*weight).into())).collect();
                json!({"route": route, "weights": weights, "since": since})
            }
            RouteChange::Breaker { model, breaker } => {
                json!({"model": model, "breaker": breaker_name(*breaker), "since": since})
            }
        }
    }
}

/// What the state of a breaker is called.
pub fn breaker_name(breaker: Breaker) -> &'static str {
    match breaker {
        Breaker::Closed => "closed",
        Breaker::Open => "open",
        Breaker::HalfOpen(_) => "half_open",
    }
}

fn since_json(since: Since) -> Value {
    match since {
        // Before any event.
        Since::EventTime(i64::MIN) => Value::Null,
        Since::EventTime(time) => instant_rfc3339(time).into(),
        Since::Epoch(epoch) => json!({ "epoch": epoch }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModelControl {
    /// Has the model in `file` score the rows to come of the run that goes on, as `version`: in order
    /// of event time those at or after the watermark of now, in the other orders those of epochs a
    /// little ahead. When that is, [`switched`](Self::switched) says.
    ///
    /// # Errors
    /// If no run goes on, or the model does not fit; the one before goes on scoring then.
    pub fn switch(&self, version: &str, file: impl AsRef<Path>) -> Result<()> {
        self.switch_to(None, version, Source::File(file.as_ref().to_owned(), Arc::default()))
    }

    /// The same of a model that is called `model` in a job that has several.
    ///
    /// # Errors
    /// As [`switch`](Self::switch), and if there is none.
    pub fn switch_model(&self, model: &str, version: &str, file: impl AsRef<Path>) -> Result<()> {
        let source = Source::File(file.as_ref().to_owned(), Arc::default());
        self.switch_to(Some(model), version, source)
    }

    /// Has the variants of a route have these of 10,000 ids each, for the rows that a [`switch`](Self::switch)
    /// would have. A variant that is not named has none.
    ///
    /// # Errors
    /// If no run goes on, there is no such variant, or the weights do not add up to 10,000.
    pub fn set_weights(&self, route: &str, weights: &[(&str, u32)]) -> Result<()> {
        let weights = weights.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect();
        let run = self.run()?;
        let control = run.weights(&RouteWeights { route: route.to_owned(), weights })?;
        run.control.feed.switch_to(control);
        Ok(())
    }

    /// The same as [`switch`](Self::switch) with a version that says of itself what is on its `card`.
    ///
    /// # Errors
    /// As it, and if that contradicts the model or the job.
    pub(super) fn switch_to_registered(
        &self,
        model: Option<&str>,
        version: &str,
        file: PathBuf,
        card: Arc<ModelCard>,
    ) -> Result<()> {
        self.switch_to(model, version, Source::File(file, card))
    }

    /// The same with a model of the program. `make` is called on this thread, once for each worker.
    ///
    /// # Errors
    /// As [`switch`](Self::switch).
    pub fn switch_to_own(&self, version: &str, make: ModelFactory) -> Result<()> {
        self.switch_to(None, version, Source::Own(make))
    }

    fn run(&self) -> Result<Arc<RunModels>> {
        lock(&self.0).run.clone().context("there is no run whose model could be switched")
    }

    fn switch_to(&self, model: Option<&str>, version: &str, source: Source) -> Result<()> {
        let run = self.run()?;
        let version = NewVersion { version: version.to_owned(), source };
        let control = run.load(run.fits.place(model)?, &version)?;
        run.control.feed.switch_to(control);
        Ok(())
    }

    /// The versions that have taken the place of the job's models, since when, in that order.
    pub fn switched(&self) -> Vec<ModelSwitched> {
        let run = lock(&self.0).run.clone();
        run.map_or_else(Vec::new, |run| run.switched())
    }

    /// What has been changed of routes, since when, in that order.
    pub fn routes_changed(&self) -> Vec<RouteChanged> {
        let run = lock(&self.0).run.clone();
        run.map_or_else(Vec::new, |run| run.routes_changed())
    }

    /// What holds of the routes of the run that goes on, for rows to come; `None` if it has none.
    pub(crate) fn routes(&self) -> Option<Value> {
        lock(&self.0).run.clone()?.routes_json()
    }

    /// One that has versions score the rows from event times on, and weights hold for them.
    ///
    /// # Errors
    /// If nobody says where the file of one is, or its registry does not give it.
    pub(crate) fn scheduled(
        job: &Job,
        versions: Vec<ModelSince>,
        weights: Vec<WeightsSince>,
    ) -> Result<Self> {
        let control = ModelControl::default();
        for ModelSince { since, model, version, file } in versions {
            let (model, version) = of_model(job, model, version)?;
            let own = match (&model, &job.routing) {
                (Some(name), Some(routing)) => {
                    routing.models.iter().find(|(known, _)| known == name).map(|(_, file)| file)
                }
                _ => job.model.as_ref(),
            };
            let registered = own.and_then(|model| model.registered.as_ref());
            let (file, card) = match (file, registered) {
                (Some(file), _) => (file, ModelCard::default()),
                (None, Some(registered)) => {
                    let (version, file) = registered.numbered(&version)?.fetch()?;
                    let card = version.card(&file)?;
                    (file, card)
                }
                (None, None) => bail!(
                    "--model-since {version}: the job's model is a file; name that of the version: TIME={version}=FILE"
                ),
            };
            control.schedule(since, model, &version, Source::File(file, Arc::new(card)));
        }
        for WeightsSince { since, weights } in weights {
            let change = Scheduling::Weights(weights);
            lock(&control.0).scheduled.push(Scheduled { since, change });
        }
        Ok(control)
    }

    /// Has a version in a file score the rows with event times from `since` (ms) on.
    pub(crate) fn schedule_file(&self, since: i64, version: &str, file: &Path) {
        self.schedule(since, None, version, Source::File(file.to_owned(), Arc::default()));
    }

    fn schedule(&self, since: i64, model: Option<String>, version: &str, source: Source) {
        let version = NewVersion { version: version.to_owned(), source };
        let change = Scheduling::Version(model, version);
        lock(&self.0).scheduled.push(Scheduled { since, change });
    }

    /// A run begins.
    ///
    /// # Errors
    /// If a version that is scheduled does not fit.
    pub(super) fn begin(&self, fits: Switchable) -> Result<Arc<RunModels>> {
        let mut scheduled = lock(&self.0).scheduled.clone();
        if !scheduled.is_empty() && fits.order != Order::EventTime {
            bail!(
                "a model since an event time takes job.order = \"event_time\", and it is {:?}",
                fits.order.name()
            );
        }
        scheduled.sort_by_key(|scheduled| scheduled.since);
        let mut run = RunModels::new(fits)?;
        for Scheduled { since, change } in scheduled {
            let control = match change {
                Scheduling::Version(model, version) => {
                    run.load(run.fits.place(model.as_deref())?, &version)?
                }
                Scheduling::Weights(weights) => run.weights(&weights)?,
            };
            run.control.schedule.push((since, control));
        }
        let run = Arc::new(run);
        lock(&self.0).run = Some(run.clone());
        Ok(run)
    }

    /// What the workers of the run know of states of control.
    pub(super) fn control(&self) -> Control {
        lock(&self.0).run.as_ref().map(|run| run.control.clone()).unwrap_or_default()
    }
}

/// Which model of a job a version is of, and the version: where a job has several, `MODEL:VERSION` is said.
///
/// # Errors
/// If no model of several is named.
pub(super) fn of_model(
    job: &Job,
    model: Option<String>,
    version: String,
) -> Result<(Option<String>, String)> {
    let Some(routing) = &job.routing else { return Ok((None, version)) };
    if model.is_some() {
        return Ok((model, version));
    }
    let is_model = |name: &str| routing.models.iter().any(|(known, _)| known == name);
    match version.split_once(':').filter(|(name, _)| is_model(name)) {
        Some((name, version)) => Ok((Some(name.to_owned()), version.to_owned())),
        None => {
            let known = routing.models.iter().map(|(name, _)| name.as_str());
            let known = known.collect::<Vec<_>>().join(", ");
            bail!(
                "--model-since {version}: the job has several models ({known}); say which one: TIME=MODEL:VERSION"
            )
        }
    }
}
