//! Models that take the place of the job's while a run goes on.
//!
//! A version is loaded, checked and probed on the thread that asks for it, and has a model for each
//! worker, before any worker hears of it: what does not fit never scores a row. Workers then take
//! it for the same rows, see [`control`](driftline_operators::control), and give back the one before
//! once no row can need it.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use driftline_operators::control::{ControlFeed, Since, Switched};
use driftline_operators::drift::versions::{KnownReference, Versions};
use driftline_operators::gate::Order;
use driftline_operators::ingest::Control;
use driftline_operators::model::{ModelIdentity, ModelsByTime, Task};
use driftline_operators::model_bank::{ModelShelf, ReadyModel};
use serde_json::{Value, json};

use super::loading::{Features, LoadedModel, model_digest};
use super::prediction_references::{JobBaseline, PredictionReferences};
use crate::config::Job;
use crate::config::duration::instant_rfc3339;
use crate::config::job::ModelFile;
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
    version: NewVersion,
}

/// A version of the job's model.
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
    pub version: String,
    pub file: Option<PathBuf>,
}

/// A version that rows are scored by, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSwitched {
    pub model: ModelIdentity,
    /// XXH3-64 in hexadecimal; none of a program's own.
    pub digest: Option<String>,
    pub since: Since,
}

impl ModelSwitched {
    /// As footers of files have it.
    pub(super) fn json(&self) -> Value {
        let ModelSwitched { model, digest, since } = self;
        let since = match since {
            // Before any event.
            Since::EventTime(i64::MIN) => Value::Null,
            Since::EventTime(time) => instant_rfc3339(*time).into(),
            Since::Epoch(epoch) => json!({ "epoch": epoch }),
        };
        json!({"model_version": model.version, "model_xxh3": digest, "since": since})
    }
}

/// What versions of a run have to fit.
pub(super) struct Switchable {
    pub features: Features,
    pub file: ModelFile,
    pub task: Task,
    pub gives_doubles: bool,
    /// The model that the run begins with.
    pub first: KnownVersion,
    pub references: PredictionReferences,
    pub order: Order,
    pub workers: usize,
    /// Models that are kept beside the one that scores.
    pub models_kept: usize,
}

/// What is known of a version of a run.
#[derive(Clone)]
pub(super) struct KnownVersion {
    pub identity: ModelIdentity,
    /// XXH3-64 in hexadecimal; none of a program's own.
    pub digest: Option<String>,
    /// What is beside its file for its predictions to be compared with.
    pub reference: Option<KnownReference>,
}

/// The models of a run that come after the first.
pub struct RunModels {
    fits: Switchable,
    control: Control,
    shelf: Mutex<Shelf>,
    /// Files that were loaded, the last one that was asked for in front: who comes back is there already.
    kept: Mutex<VecDeque<Arc<LoadedModel>>>,
    /// Where models are dropped that nobody needs any more: that may take a while.
    dropped: Sender<Vec<ReadyModel>>,
}

#[derive(Default)]
struct Shelf {
    /// By state of control and by worker.
    ready: BTreeMap<u64, Vec<Option<ReadyModel>>>,
    /// By state of control, which of the versions.
    known: BTreeMap<u64, usize>,
    /// By number, the one that the run begins with in front.
    versions: Vec<KnownVersion>,
    last: u64,
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
        self.switch_to(version, Source::File(file.as_ref().to_owned(), Arc::default()))
    }

    /// The same with a version that says of itself what is on its `card`.
    ///
    /// # Errors
    /// As [`switch`](Self::switch), and if that contradicts the model or the job.
    pub(super) fn switch_to_registered(
        &self,
        version: &str,
        file: PathBuf,
        card: Arc<ModelCard>,
    ) -> Result<()> {
        self.switch_to(version, Source::File(file, card))
    }

    /// The same with a model of the program. `make` is called on this thread, once for each worker.
    ///
    /// # Errors
    /// As [`switch`](Self::switch).
    pub fn switch_to_own(&self, version: &str, make: ModelFactory) -> Result<()> {
        self.switch_to(version, Source::Own(make))
    }

    fn switch_to(&self, version: &str, source: Source) -> Result<()> {
        let run = lock(&self.0).run.clone();
        let run = run.context("there is no run whose model could be switched")?;
        let version = NewVersion { version: version.to_owned(), source };
        let control = run.load(&version)?;
        run.control.feed.switch_to(control);
        Ok(())
    }

    /// The versions that have taken the place of the job's model, since when, in that order.
    pub fn switched(&self) -> Vec<ModelSwitched> {
        let run = lock(&self.0).run.clone();
        run.map_or_else(Vec::new, |run| run.switched())
    }

    /// One that has versions score the rows from event times on.
    ///
    /// # Errors
    /// If nobody says where the file of one is, or its registry does not give it.
    pub(crate) fn scheduled(job: &Job, versions: Vec<ModelSince>) -> Result<Self> {
        let control = ModelControl::default();
        for ModelSince { since, version, file } in versions {
            let registered = job.model.as_ref().and_then(|model| model.registered.as_ref());
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
            control.schedule(since, &version, Source::File(file, Arc::new(card)));
        }
        Ok(control)
    }

    /// Has a version in a file score the rows with event times from `since` (ms) on.
    pub(crate) fn schedule_file(&self, since: i64, version: &str, file: &Path) {
        self.schedule(since, version, Source::File(file.to_owned(), Arc::default()));
    }

    fn schedule(&self, since: i64, version: &str, source: Source) {
        let version = NewVersion { version: version.to_owned(), source };
        lock(&self.0).scheduled.push(Scheduled { since, version });
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
        for Scheduled { since, version } in scheduled {
            let control = run.load(&version)?;
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

impl RunModels {
    fn new(fits: Switchable) -> Result<Self> {
        let (dropped, drops) = channel();
        // It ends with the last sender, and has nothing to say of its end.
        std::thread::Builder::new().name("models".to_owned()).spawn(move || {
            drops.into_iter().for_each(drop::<Vec<ReadyModel>>);
        })?;
        let control = Control { feed: ControlFeed::default(), schedule: Vec::new() };
        let known = [(0, 0)].into();
        let shelf = Shelf { known, versions: vec![fits.first.clone()], ..Shelf::default() };
        let (shelf, kept) = (Mutex::new(shelf), Mutex::default());
        Ok(RunModels { fits, control, shelf, kept, dropped })
    }

    /// Makes a version ready for every worker; the number of its state of control.
    fn load(&self, version: &NewVersion) -> Result<u64> {
        let Switchable { features, file, task, gives_doubles, workers, .. } = &self.fits;
        let NewVersion { version, source } = version;
        let mut file = ModelFile { version: version.clone(), ..file.clone() };
        let own = match source {
            Source::File(path, card) => {
                (file.path, file.card) = (path.clone(), card.clone());
                None
            }
            Source::Own(make) => {
                file.card = Arc::default();
                Some(make)
            }
        };
        let in_version = || format!("version {version} of model {}", file.name);
        let loaded = match own {
            Some(_) => LoadedModel::load(features, &file, own).map(Arc::new),
            None => self.load_file(&file),
        };
        let loaded = loaded.with_context(in_version)?;
        if loaded.task != *task {
            let message = anyhow!("its task is {:?}; that of the job's is {task:?}", loaded.task);
            return Err(message.context(in_version()));
        }
        if loaded.gives_doubles != *gives_doubles {
            let of = |doubles| if doubles { "double" } else { "float" };
            let message = anyhow!(
                "its output is {}; that of the version that the run began with is {}, and so are the columns of predictions: begin a run with it",
                of(loaded.gives_doubles),
                of(*gives_doubles)
            );
            return Err(message.context(in_version()));
        }
        let ready = (0..*workers).map(|_| loaded.ready()).collect::<Result<Vec<_>>>();
        let ready = ready.with_context(in_version)?;
        let reference = match own {
            Some(_) => None,
            None => self.fits.references.of_file(&loaded.file.path).with_context(in_version)?,
        };
        loaded.warn();
        let mut shelf = lock(&self.shelf);
        let (version, is_new) = shelf.number(KnownVersion {
            identity: loaded.identity.clone(),
            digest: loaded.digest.clone(),
            reference,
        });
        let ready = ready.into_iter().map(|ready| Some(ReadyModel { version, ..ready })).collect();
        shelf.last += 1;
        let control = shelf.last;
        shelf.ready.insert(control, ready);
        shelf.known.insert(control, version);
        drop(shelf);
        if is_new && self.fits.references.is_ready() {
            self.warn_of_no_reference(version);
        }
        Ok(control)
    }

    /// A file that is loaded, or is still.
    fn load_file(&self, file: &ModelFile) -> Result<Arc<LoadedModel>> {
        let digest = model_digest(&file.path)?;
        let is_it = |loaded: &Arc<LoadedModel>| {
            loaded.digest.as_ref() == Some(&digest)
                && loaded.identity.version == file.version
                && loaded.file.card == file.card
        };
        let mut kept = lock(&self.kept);
        let known = kept.iter().position(is_it).and_then(|at| kept.remove(at));
        let loaded = match known {
            Some(loaded) => loaded,
            None => Arc::new(LoadedModel::load(&self.fits.features, file, None)?),
        };
        kept.push_front(loaded.clone());
        kept.truncate(self.fits.models_kept);
        Ok(loaded)
    }

    /// The model that was switched to last, and its digest; of a program's own there is none.
    pub fn current(&self) -> (ModelIdentity, Option<String>) {
        self.known_at(i64::MAX)
    }

    fn known_at(&self, time: i64) -> (ModelIdentity, Option<String>) {
        let control = self.control.feed.at(time);
        let shelf = lock(&self.shelf);
        let known = shelf.known.get(&control).and_then(|&version| shelf.versions.get(version));
        let KnownVersion { identity, digest, .. } = known.unwrap_or(&self.fits.first);
        (identity.clone(), digest.clone())
    }

    /// The job's baseline is known: what it holds for is compared with it. `first`: the file of the model
    /// that the run begins with, if it has one.
    ///
    /// # Errors
    /// If what is beside that file is no baseline.
    pub(super) fn set_job_baseline(
        &self,
        baseline: JobBaseline,
        first: Option<&Path>,
    ) -> Result<()> {
        let of_first = first.map_or(Ok(None), |file| self.fits.references.of_file(file))?;
        self.fits.references.set_job_baseline(baseline);
        let mut shelf = lock(&self.shelf);
        shelf.versions[0].reference = of_first;
        let versions = shelf.versions.len();
        drop(shelf);
        (0..versions).for_each(|version| self.warn_of_no_reference(version));
        Ok(())
    }

    fn known_reference(&self, version: usize) -> Option<KnownReference> {
        let known = lock(&self.shelf).versions.get(version)?.clone();
        self.fits.references.of(known.reference.as_ref(), known.digest.as_ref(), version == 0)
    }

    fn warn_of_no_reference(&self, version: usize) {
        if self.known_reference(version).is_none() {
            let ModelIdentity { name, version } = self.identity(version);
            say!(
                "warning: version {version} of model {name}: drift of its predictions is off: there is no baseline of them (`driftline baseline` makes one; NAME.baseline.parquet beside NAME.onnx)"
            );
        }
    }

    pub(super) fn switched(&self) -> Vec<ModelSwitched> {
        let decided = self.control.feed.decided();
        let shelf = lock(&self.shelf);
        let of = |switched: &Switched| {
            let known = shelf.versions.get(*shelf.known.get(&switched.control)?)?.clone();
            let KnownVersion { identity: model, digest, .. } = known;
            Some(ModelSwitched { model, digest, since: switched.since })
        };
        decided.iter().filter_map(of).collect()
    }
}

impl Shelf {
    /// The number of a version, that which it had if it comes back; and whether it is new.
    fn number(&mut self, version: KnownVersion) -> (usize, bool) {
        let is_it = |known: &KnownVersion| {
            known.identity == version.identity && known.digest == version.digest
        };
        match self.versions.iter().position(is_it) {
            Some(number) => {
                self.versions[number].reference = version.reference;
                (number, false)
            }
            None => {
                self.versions.push(version);
                (self.versions.len() - 1, true)
            }
        }
    }
}

impl Versions for RunModels {
    fn identity(&self, version: usize) -> ModelIdentity {
        let shelf = lock(&self.shelf);
        shelf.versions.get(version).unwrap_or(&self.fits.first).identity.clone()
    }

    fn reference(&self, version: usize) -> KnownReference {
        self.known_reference(version).unwrap_or_else(|| self.fits.references.none())
    }
}

impl ModelsByTime for RunModels {
    fn at(&self, time: i64) -> ModelIdentity {
        self.known_at(time).0
    }
}

impl ModelShelf for RunModels {
    fn take(&self, control: u64, worker: usize) -> Option<ReadyModel> {
        lock(&self.shelf).ready.get_mut(&control)?.get_mut(worker)?.take()
    }

    fn free(&self, worker: usize, control: u64, mut freed: Vec<ReadyModel>) {
        let mut shelf = lock(&self.shelf);
        // What this worker never took, as another state has taken its place at once.
        for (_, ready) in shelf.ready.range_mut(..control) {
            freed.extend(ready.get_mut(worker).and_then(Option::take));
        }
        shelf.ready.retain(|_, ready| ready.iter().any(Option::is_some));
        drop(shelf);
        // Where the thread has gone the run is over, and they are dropped here.
        let _ = self.dropped.send(freed);
    }
}
