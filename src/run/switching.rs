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
use driftline_operators::gate::Order;
use driftline_operators::ingest::Control;
use driftline_operators::model::{ModelIdentity, Task};
use driftline_operators::model_bank::{ModelShelf, ReadyModel};

use super::loading::{Features, LoadedModel, model_digest};
use crate::config::Job;
use crate::config::job::ModelFile;
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
    File(PathBuf),
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

/// What versions of a run have to fit.
pub(super) struct Switchable {
    pub features: Features,
    pub file: ModelFile,
    pub task: Task,
    pub gives_doubles: bool,
    pub order: Order,
    pub workers: usize,
    /// Models that are kept beside the one that scores.
    pub models_kept: usize,
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
    /// By state of control.
    known: BTreeMap<u64, (ModelIdentity, Option<String>)>,
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
        self.switch_to(version, Source::File(file.as_ref().to_owned()))
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
            let file = match (file, registered) {
                (Some(file), _) => file,
                (None, Some(registered)) => registered.numbered(&version)?.fetch()?.1,
                (None, None) => bail!(
                    "--model-since {version}: the job's model is a file; name that of the version: TIME={version}=FILE"
                ),
            };
            control.schedule(since, &version, &file);
        }
        Ok(control)
    }

    /// Has a version score the rows with event times from `since` (ms) on.
    pub(crate) fn schedule(&self, since: i64, version: &str, file: &Path) {
        let source = Source::File(file.to_owned());
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
        Ok(RunModels { fits, control, shelf: Mutex::default(), kept: Mutex::default(), dropped })
    }

    /// Makes a version ready for every worker; the number of its state of control.
    fn load(&self, version: &NewVersion) -> Result<u64> {
        let Switchable { features, file, task, gives_doubles, workers, .. } = &self.fits;
        let NewVersion { version, source } = version;
        let mut file = ModelFile { version: version.clone(), ..file.clone() };
        let own = match source {
            Source::File(path) => {
                file.path = path.clone();
                None
            }
            Source::Own(make) => Some(make),
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
                "its output is of {}; that of the job's is of {}, and so are the columns of predictions",
                of(loaded.gives_doubles),
                of(*gives_doubles)
            );
            return Err(message.context(in_version()));
        }
        let ready = (0..*workers).map(|_| loaded.ready().map(Some)).collect::<Result<Vec<_>>>();
        let ready = ready.with_context(in_version)?;
        let mut shelf = lock(&self.shelf);
        shelf.last += 1;
        let control = shelf.last;
        shelf.ready.insert(control, ready);
        shelf.known.insert(control, (loaded.identity.clone(), loaded.digest.clone()));
        Ok(control)
    }

    /// A file that is loaded, or is still.
    fn load_file(&self, file: &ModelFile) -> Result<Arc<LoadedModel>> {
        let digest = model_digest(&file.path)?;
        let is_it = |loaded: &Arc<LoadedModel>| {
            loaded.digest.as_ref() == Some(&digest) && loaded.identity.version == file.version
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

    pub(super) fn switched(&self) -> Vec<ModelSwitched> {
        let decided = self.control.feed.decided();
        let shelf = lock(&self.shelf);
        let of = |switched: &Switched| {
            let (model, digest) = shelf.known.get(&switched.control)?.clone();
            Some(ModelSwitched { model, digest, since: switched.since })
        };
        decided.iter().filter_map(of).collect()
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
