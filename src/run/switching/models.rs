//! The models of a run, as workers take them.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, bail};
use driftline_operators::control::{ControlFeed, Since, Switched};
use driftline_operators::drift::versions::{KnownReference, Versions};
use driftline_operators::gate::Order;
use driftline_operators::ingest::Control;
use driftline_operators::model::{ModelIdentity, ModelsByTime, Task};
use driftline_operators::model_bank::{ModelShelf, ReadyEnsemble, ReadyModel};
use driftline_operators::routes::assignment::Weights;
use driftline_operators::routes::ensemble::Ensemble;
use driftline_operators::routes::table::{Breaker, Route, RouteSettings, RouteTable};
use serde_json::{Value, json};

use super::{
    ModelSwitched, NewVersion, RouteChange, RouteChanged, RouteWeights, Source, breaker_name, lock,
};
use crate::config::job::ModelFile;
use crate::run::loading::{Features, LoadedModel, model_digest};
use crate::run::prediction_references::{JobBaseline, PredictionReferences};

/// What a run begins with, and what changes of it have to fit.
pub(in crate::run) struct Switchable {
    /// By place, never empty.
    pub models: Vec<ModelPlace>,
    /// Which of the models scores a row, where there are several.
    pub routes: Option<Arc<RouteTable>>,
    pub settings: RouteSettings,
    /// By place; their versions are those of [`RunModels`].
    pub ensembles: Vec<ReadyEnsemble>,
    pub references: PredictionReferences,
    pub order: Order,
    pub workers: usize,
    /// Models that are kept beside those that score.
    pub models_kept: usize,
}

/// What versions of a model have to fit.
pub(in crate::run) struct ModelPlace {
    /// The model's name in the job, where it has several.
    pub name: Option<String>,
    pub features: Features,
    pub file: ModelFile,
    pub task: Task,
    pub width: usize,
    pub gives_doubles: bool,
    /// Whether another model gives doubles: its own are as wide then.
    pub is_widened: bool,
    /// The version that the run begins with.
    pub first: KnownVersion,
}

/// What is known of a version of a run.
#[derive(Clone)]
pub(in crate::run) struct KnownVersion {
    pub identity: ModelIdentity,
    /// XXH3-64 in hexadecimal; none of a program's own.
    pub digest: Option<String>,
    /// What is beside its file for its predictions to be compared with.
    pub reference: Option<KnownReference>,
}

/// The models of a run that come after those it begins with, and what is changed of its routes.
pub struct RunModels {
    pub(super) fits: Switchable,
    pub(super) control: Control,
    shelf: Mutex<Shelf>,
    /// Files that were loaded, the last one that was asked for in front: who comes back is there already.
    kept: Mutex<VecDeque<(usize, Arc<LoadedModel>)>>,
    /// Where models are dropped that nobody needs any more: that may take a while.
    dropped: Sender<Vec<ReadyModel>>,
}

#[derive(Default)]
struct Shelf {
    /// By state of control and place, by worker.
    ready: BTreeMap<(u64, usize), Vec<Option<ReadyModel>>>,
    /// By place, which of the versions holds from which state on.
    known: Vec<Vec<(u64, usize)>>,
    /// By place, from which state on.
    ensembles: Vec<Vec<(u64, ReadyEnsemble)>>,
    settings: Vec<(u64, Arc<RouteSettings>)>,
    /// What a state has changed of models (a version), or of routes.
    changes: BTreeMap<u64, Changed>,
    /// By number, the one that the run begins with in front.
    versions: Vec<KnownVersion>,
    last: u64,
}

enum Changed {
    Version { place: usize, version: usize },
    Route(RouteChange),
}

/// The newest of what holds from states on in one of them.
fn newest<T>(all: &[(u64, T)], control: u64) -> Option<&(u64, T)> {
    all.iter().rev().find(|(since, _)| *since <= control)
}

/// By state, since when what it has changed holds. States are told by workers, and two may be decided in either
/// order; what a state has changed is so in all behind it, and the greatest that holds counts. So it is since the
/// earliest of those.
fn since_by_state(decided: &[Switched]) -> BTreeMap<u64, Since> {
    let decided: BTreeMap<u64, Since> =
        decided.iter().map(|switched| (switched.control, switched.since)).collect();
    let mut earliest: Option<Since> = None;
    let mut since = BTreeMap::new();
    for (control, decided) in decided.into_iter().rev() {
        let first = match earliest {
            Some(earliest) if place(earliest) < place(decided) => earliest,
            _ => decided,
        };
        earliest = Some(first);
        since.insert(control, first);
    }
    since
}

fn place(since: Since) -> (i64, u64) {
    match since {
        Since::EventTime(time) => (time, 0),
        Since::Epoch(epoch) => (i64::MIN, epoch),
    }
}

impl Switchable {
    /// The place of the model that is so called in the job; of its only one where none is named.
    pub(super) fn place(&self, name: Option<&str>) -> Result<usize> {
        match (name, self.models.as_slice()) {
            (None, [_]) => Ok(0),
            (None, _) => bail!("the job has several models: say which one"),
            (Some(name), models) => models
                .iter()
                .position(|place| place.name.as_deref() == Some(name))
                .with_context(|| format!("the job has no section [models.{name}]")),
        }
    }
}

impl RunModels {
    pub(super) fn new(mut fits: Switchable) -> Result<Self> {
        let (dropped, drops) = channel();
        // It ends with the last sender, and has nothing to say of its end.
        std::thread::Builder::new().name("models".to_owned()).spawn(move || {
            drops.into_iter().for_each(drop::<Vec<ReadyModel>>);
        })?;
        let control = Control { feed: ControlFeed::default(), schedule: Vec::new() };
        let mut shelf = Shelf::default();
        for place in &fits.models {
            let (version, _) = shelf.number(place.first.clone());
            shelf.known.push(vec![(0, version)]);
        }
        for ensemble in &mut fits.ensembles {
            let identity = ensemble.identity.clone();
            (ensemble.version, _) =
                shelf.number(KnownVersion { identity, digest: None, reference: None });
            shelf.ensembles.push(vec![(0, ensemble.clone())]);
        }
        shelf.settings.push((0, Arc::new(fits.settings.clone())));
        let (shelf, kept) = (Mutex::new(shelf), Mutex::default());
        Ok(RunModels { fits, control, shelf, kept, dropped })
    }

    /// What a run begins with besides models: ensembles, and what holds of routes.
    pub(in crate::run) fn first(&self) -> (Vec<ReadyEnsemble>, Arc<RouteSettings>) {
        (self.fits.ensembles.clone(), Arc::new(self.fits.settings.clone()))
    }

    /// The number of the version that a run begins with.
    pub(in crate::run) fn first_version(&self, place: usize) -> usize {
        lock(&self.shelf).known[place][0].1
    }

    /// A model that a run begins with, its predictions as wide as those of the others.
    pub(in crate::run) fn widened(&self, place: usize, ready: ReadyModel) -> ReadyModel {
        self.fits.models[place].widened(ready)
    }

    /// Makes a version ready for every worker; the number of its state of control.
    pub(super) fn load(&self, place: usize, version: &NewVersion) -> Result<u64> {
        let of = &self.fits.models[place];
        let NewVersion { version, source } = version;
        let mut file = ModelFile { version: version.clone(), ..of.file.clone() };
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
            Some(_) => LoadedModel::load(&of.features, &file, own).map(Arc::new),
            None => self.load_file(place, &file),
        };
        let loaded = loaded.with_context(in_version)?;
        self.check_fit(place, &loaded).with_context(in_version)?;
        let ready = || loaded.ready().map(|ready| of.widened(ready));
        let ready = (0..self.fits.workers).map(|_| ready()).collect::<Result<Vec<_>>>();
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
        shelf.ready.insert((control, place), ready);
        shelf.known[place].push((control, version));
        shelf.changes.insert(control, Changed::Version { place, version });
        self.renew_ensembles(&mut shelf, place, control);
        drop(shelf);
        if is_new && self.fits.references.is_ready() {
            self.warn_of_no_reference(version);
        }
        Ok(control)
    }

    /// Whether a version can take a place.
    fn check_fit(&self, place: usize, loaded: &LoadedModel) -> Result<()> {
        let ModelPlace { task, width, gives_doubles, .. } = &self.fits.models[place];
        if loaded.task != *task {
            return Err(anyhow!("its task is {:?}; that of the job's is {task:?}", loaded.task));
        }
        if loaded.gives_doubles != *gives_doubles {
            let of = |doubles| if doubles { "double" } else { "float" };
            return Err(anyhow!(
                "its output is {}; that of the version that the run began with is {}, and so are the columns of predictions: begin a run with it",
                of(loaded.gives_doubles),
                of(*gives_doubles)
            ));
        }
        let ensembles = self.fits.routes.iter().flat_map(|routes| &routes.ensembles);
        let is_member = |ensemble: &Ensemble| ensemble.models().contains(&place);
        match ensembles.into_iter().find(|ensemble| is_member(ensemble)) {
            Some(ensemble) if loaded.width != *width => Err(anyhow!(
                "its predictions have {} numbers, and ensembles.{} needs {width}",
                loaded.width,
                ensemble.name
            )),
            _ => Ok(()),
        }
    }

    /// The versions of ensembles that a model is a member of are others from a state on.
    fn renew_ensembles(&self, shelf: &mut Shelf, place: usize, control: u64) {
        let Some(routes) = &self.fits.routes else { return };
        for (at, ensemble) in routes.ensembles.iter().enumerate() {
            if !ensemble.models().contains(&place) {
                continue;
            }
            let versions = ensemble.members.iter().map(|member| {
                let (_, version) = *newest(&shelf.known[member.model], control)?;
                Some(shelf.versions[version].identity.version.clone())
            });
            let versions: Vec<String> = versions.flatten().collect();
            let first = &self.fits.ensembles[at];
            let identity = ModelIdentity { version: versions.join("+"), ..first.identity.clone() };
            let known = KnownVersion { identity: identity.clone(), digest: None, reference: None };
            let (version, _) = shelf.number(known);
            let format = first.format.clone().of_model(&identity);
            let ready = ReadyEnsemble { identity, version, format, ..first.clone() };
            shelf.ensembles[at].push((control, ready));
        }
    }

    /// Has weights hold; the number of their state of control.
    pub(super) fn weights(&self, weights: &RouteWeights) -> Result<u64> {
        let RouteWeights { route: name, weights } = weights;
        let routes = self.fits.routes.as_ref().context("the job has no [routes]")?;
        let route = routes.routes.iter().position(|route| route.name == *name);
        let route = route.with_context(|| format!("the job has no section [routes.{name}]"))?;
        let lanes = routes.lanes.iter().filter(|lane| lane.route == route);
        let variants: Vec<&str> = lanes.filter_map(|lane| lane.variant.as_deref()).collect();
        if variants.is_empty() {
            bail!("routes.{name} has no variants");
        }
        if let Some((unknown, _)) =
            weights.iter().find(|(variant, _)| !variants.contains(&variant.as_str()))
        {
            let known = variants.join(", ");
            bail!("routes.{name} has no variant {unknown:?}; it has {known}");
        }
        let of = |variant: &&str| {
            weights.iter().find(|(name, _)| name == variant).map_or(0, |(_, weight)| *weight)
        };
        let all: Vec<u32> = variants.iter().map(of).collect();
        let said = variants.iter().map(|name| (*name).to_owned()).zip(all.iter().copied());
        let change =
            RouteChange::Weights(RouteWeights { route: name.clone(), weights: said.collect() });
        let all = Weights::new(all).map_err(|why| anyhow!("routes.{name}: {why}"))?;
        Ok(self.change(change, |settings| settings.weights[route] = Some(all)))
    }

    /// Has a model be given other rows; the number of the state of control.
    pub(in crate::run) fn set_breaker(&self, place: usize, breaker: Breaker) {
        let model = self.fits.models[place].name.clone().unwrap_or_default();
        let change = RouteChange::Breaker { model, breaker };
        let control = self.change(change, |settings| settings.breakers[place] = breaker);
        self.control.feed.switch_to(control);
    }

    fn change(&self, change: RouteChange, make: impl FnOnce(&mut RouteSettings)) -> u64 {
        let mut shelf = lock(&self.shelf);
        let mut settings =
            shelf.settings.last().map(|(_, last)| (**last).clone()).unwrap_or_default();
        make(&mut settings);
        shelf.last += 1;
        let control = shelf.last;
        shelf.settings.push((control, Arc::new(settings)));
        shelf.changes.insert(control, Changed::Route(change));
        control
    }

    /// A file that is loaded, or is still.
    fn load_file(&self, place: usize, file: &ModelFile) -> Result<Arc<LoadedModel>> {
        let digest = model_digest(&file.path)?;
        let is_it = |(of, loaded): &(usize, Arc<LoadedModel>)| {
            *of == place
                && loaded.digest.as_ref() == Some(&digest)
                && loaded.identity.version == file.version
                && loaded.file.card == file.card
        };
        let mut kept = lock(&self.kept);
        let known = kept.iter().position(is_it).and_then(|at| kept.remove(at));
        let loaded = match known {
            Some((_, loaded)) => loaded,
            None => {
                let features = &self.fits.models[place].features;
                Arc::new(LoadedModel::load(features, file, None)?)
            }
        };
        kept.push_front((place, loaded.clone()));
        kept.truncate(self.fits.models_kept);
        Ok(loaded)
    }

    /// The first model as it was switched to last, and its digest; of a program's own there is none.
    pub fn current(&self) -> (ModelIdentity, Option<String>) {
        self.known_at(i64::MAX)
    }

    fn known_at(&self, time: i64) -> (ModelIdentity, Option<String>) {
        let control = self.control.feed.at(time);
        let shelf = lock(&self.shelf);
        let known = newest(&shelf.known[0], control);
        let known = known.and_then(|(_, version)| shelf.versions.get(*version));
        let KnownVersion { identity, digest, .. } = known.unwrap_or(&self.fits.models[0].first);
        (identity.clone(), digest.clone())
    }

    /// The versions that score now, by place.
    pub fn all_current(&self) -> Vec<ModelIdentity> {
        let shelf = lock(&self.shelf);
        let newest = |known: &Vec<(u64, usize)>| {
            let (_, version) = known.last()?;
            Some(shelf.versions.get(*version)?.identity.clone())
        };
        shelf.known.iter().filter_map(newest).collect()
    }

    /// The job's baseline is known: what it holds for is compared with it. `first`: by place, the files of the
    /// models that the run begins with, as far as they have one.
    ///
    /// # Errors
    /// If what is beside such a file is no baseline.
    pub(in crate::run) fn set_job_baseline(
        &self,
        baseline: JobBaseline,
        first: &[Option<PathBuf>],
    ) -> Result<()> {
        let of_file = |file: &Option<PathBuf>| {
            file.as_ref().map_or(Ok(None), |file| self.fits.references.of_file(file))
        };
        let of_first = first.iter().map(of_file).collect::<Result<Vec<_>>>()?;
        self.fits.references.set_job_baseline(baseline);
        let mut shelf = lock(&self.shelf);
        for (place, reference) in of_first.into_iter().enumerate() {
            let version = shelf.known[place][0].1;
            shelf.versions[version].reference = reference;
        }
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

    pub(in crate::run) fn switched(&self) -> Vec<ModelSwitched> {
        let of = |shelf: &Shelf, changed: &Changed, since| {
            let Changed::Version { place, version } = changed else { return None };
            let known = shelf.versions.get(*version)?.clone();
            let KnownVersion { identity: model, digest, .. } = known;
            let of = self.fits.models[*place].name.clone();
            Some(ModelSwitched { of, model, digest, since })
        };
        self.changed(of)
    }

    pub(in crate::run) fn routes_changed(&self) -> Vec<RouteChanged> {
        let of = |_: &Shelf, changed: &Changed, since| {
            let Changed::Route(change) = changed else { return None };
            Some(RouteChanged { change: change.clone(), since })
        };
        self.changed(of)
    }

    /// What has been changed, in that order, as far as it is decided since when it holds.
    fn changed<T>(&self, of: impl Fn(&Shelf, &Changed, Since) -> Option<T>) -> Vec<T> {
        let since = since_by_state(&self.control.feed.decided());
        let shelf = lock(&self.shelf);
        let change = |(control, changed): (&u64, &Changed)| {
            // The state behind it has it, too, and may be decided earlier.
            let (_, since) = since.range(control..).next()?;
            of(&shelf, changed, *since)
        };
        shelf.changes.iter().filter_map(change).collect()
    }

    /// Which of several models scores a row.
    pub fn route_table(&self) -> Option<&RouteTable> {
        self.fits.routes.as_deref()
    }

    /// What holds of routes for rows to come, where there are several.
    pub(super) fn routes_json(&self) -> Option<Value> {
        let routes = self.fits.routes.as_ref()?;
        let settings = self.settings();
        let route = |(at, route): (usize, &Route)| {
            let weights = settings.weights[at].as_ref().map(|weights| {
                let lanes = routes.lanes.iter().filter(|lane| lane.route == at);
                let variants = lanes.filter_map(|lane| lane.variant.clone());
                let of = variants.zip(weights.weights().iter().map(|&weight| weight.into()));
                of.collect::<serde_json::Map<String, Value>>()
            });
            json!({"route": route.name, "weights": weights})
        };
        let models = self.fits.models.iter().zip(self.all_current()).zip(&settings.breakers);
        let model = |((place, now), breaker): ((&ModelPlace, ModelIdentity), &Breaker)| {
            json!({
                "model": place.name,
                "version": now.version,
                "breaker": breaker_name(*breaker),
            })
        };
        Some(json!({
            "routes": routes.routes.iter().enumerate().map(route).collect::<Vec<_>>(),
            "models": models.map(model).collect::<Vec<_>>(),
        }))
    }

    /// What holds of routes for rows to come.
    pub fn settings(&self) -> Arc<RouteSettings> {
        let shelf = lock(&self.shelf);
        shelf.settings.last().map(|(_, settings)| settings.clone()).unwrap_or_default()
    }
}

impl ModelPlace {
    /// A model whose predictions are as wide as those of the others.
    fn widened(&self, ready: ReadyModel) -> ReadyModel {
        match self.is_widened {
            true => ReadyModel { format: ready.format.clone().with_doubles(), ..ready },
            false => ready,
        }
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
        shelf.versions.get(version).unwrap_or(&self.fits.models[0].first).identity.clone()
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
    fn since(&self, model: usize, control: u64) -> u64 {
        newest(&lock(&self.shelf).known[model], control).map_or(0, |(since, _)| *since)
    }

    fn take(&self, model: usize, since: u64, worker: usize) -> Option<ReadyModel> {
        lock(&self.shelf).ready.get_mut(&(since, model))?.get_mut(worker)?.take()
    }

    fn ensemble(&self, ensemble: usize, control: u64) -> Option<ReadyEnsemble> {
        let shelf = lock(&self.shelf);
        newest(shelf.ensembles.get(ensemble)?, control).map(|(_, ready)| ready.clone())
    }

    fn has_reference(&self, version: usize) -> bool {
        self.known_reference(version).is_some()
    }

    fn settings(&self, control: u64) -> Option<Arc<RouteSettings>> {
        newest(&lock(&self.shelf).settings, control).map(|(_, settings)| settings.clone())
    }

    fn free(&self, worker: usize, control: u64, mut freed: Vec<ReadyModel>) {
        let mut shelf = lock(&self.shelf);
        let Shelf { ready, known, .. } = &mut *shelf;
        // What this worker never took, as another state has taken its place at once.
        for ((since, model), ready) in ready.iter_mut() {
            let needed = newest(&known[*model], control).map_or(0, |(since, _)| *since);
            if *since < needed {
                freed.extend(ready.get_mut(worker).and_then(Option::take));
            }
        }
        ready.retain(|_, ready| ready.iter().any(Option::is_some));
        drop(shelf);
        // Where the thread has gone the run is over, and they are dropped here.
        let _ = self.dropped.send(freed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_state_has_changed_holds_since_the_earliest_of_it_and_those_behind() {
        let decided = |all: &[(u64, i64)]| {
            let switched = all.iter().map(|&(control, time)| Switched {
                control,
                since: Since::EventTime(time),
                epoch: 1,
            });
            let since = since_by_state(&switched.collect::<Vec<_>>());
            since.into_iter().map(|(control, since)| (control, place(since).0)).collect::<Vec<_>>()
        };
        assert_eq!(decided(&[(1, 10), (2, 20)]), [(1, 10), (2, 20)]);
        // The second one was told first.
        assert_eq!(decided(&[(2, 10), (1, 20), (3, 30)]), [(1, 10), (2, 10), (3, 30)]);
        assert_eq!(decided(&[(4, 5), (1, 7), (3, 6), (2, 8)]), [(1, 5), (2, 5), (3, 5), (4, 5)]);
        assert_eq!(decided(&[]), []);
    }
}
