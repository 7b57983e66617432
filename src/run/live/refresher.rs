//! Keeps the model of a live run at the version that its registry means.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};

use super::hints::Hints;
use crate::registry::{Cache, Mlflow, Reference, Registered, RegistryError, Version};
use crate::run::served;
use crate::run::switching::ModelControl;

/// By this part of the interval each question comes earlier or later: many jobs do not ask at once.
const JITTER: f64 = 0.1;

/// What became of asking, for metrics and those who ask whether the run is ready.
#[derive(Clone, Default)]
pub struct Refreshes(Arc<Mutex<Refreshed>>);

#[derive(Clone, Debug, Default)]
pub struct Refreshed {
    /// How often the registry meant the version that scores.
    pub unchanged: u64,
    /// How often another one took its place.
    pub switched: u64,
    /// How often it could not be asked, or meant a version that cannot be used.
    pub failed: u64,
    /// Why the last time was one of those, by model.
    troubles: BTreeMap<Option<String>, String>,
}

impl Refreshed {
    /// Why a model is not refreshed, of several the first.
    pub fn trouble(&self) -> Option<&str> {
        self.troubles.values().next().map(String::as_str)
    }
}

impl Refreshes {
    pub fn now(&self) -> Refreshed {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Refreshed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread asks until it is dropped.
pub struct Refresher {
    /// Have it ask at once.
    pub hints: Hints,
}

pub struct Refreshing {
    mlflow: Mlflow,
    cache: Cache,
    reference: Reference,
    /// Asked for every so often.
    interval: Duration,
    control: ModelControl,
    /// Of the run.
    workers: usize,
    refreshes: Refreshes,
    /// What the model is called in a job that has several.
    model: Option<String>,
    /// Scores, or has been told to.
    current: Version,
    /// Cannot be used: it is not tried again.
    refused: Option<(Version, String)>,
}

impl Refreshing {
    /// Of a run that has begun with `current`.
    ///
    /// # Errors
    /// If nobody says which server is to be asked.
    pub fn new(
        registered: &Registered,
        current: Version,
        interval: Duration,
        control: ModelControl,
        workers: usize,
        refreshes: Refreshes,
    ) -> Result<Self, RegistryError> {
        let (mlflow, cache) = registered.open()?;
        let reference = registered.reference.clone();
        Ok(Refreshing {
            mlflow,
            cache,
            reference,
            interval,
            control,
            workers,
            refreshes,
            model: None,
            current,
            refused: None,
        })
    }

    /// The same of one of several models.
    #[must_use]
    pub fn of_model(self, model: Option<String>) -> Self {
        Refreshing { model, ..self }
    }

    /// # Errors
    /// If there can be no thread.
    pub fn start(mut self) -> Result<Refresher> {
        let refresher = Refresher { hints: Hints::default() };
        let hints = refresher.hints.clone();
        let thread = std::thread::Builder::new().name("registry".to_owned());
        thread.spawn(move || {
            // When the run began it was asked.
            let mut asked = Instant::now();
            while hints.wait(asked, self.wait()) {
                asked = Instant::now();
                self.refresh();
            }
        })?;
        Ok(refresher)
    }

    fn wait(&self) -> Duration {
        self.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * fastrand::f64())
    }

    fn refresh(&mut self) {
        let version = match self.mlflow.version(&self.reference) {
            Ok(version) => version,
            Err(error) => return self.failed(&error),
        };
        if version == self.current {
            self.refused = None;
            let mut refreshed = self.refreshes.lock();
            refreshed.unchanged += 1;
            refreshed.troubles.remove(&self.model);
            return;
        }
        if let Some((_, why)) = self.refused.as_ref().filter(|(refused, _)| *refused == version) {
            return self.failed(&why.clone());
        }
        let path = match self.cache.model(&self.mlflow, &version) {
            Ok(path) => path,
            Err(error) => {
                if matches!(error, RegistryError::Unfit { .. }) {
                    self.refused = Some((version, error.to_string()));
                }
                return self.failed(&error);
            }
        };
        self.switch(version, path);
    }

    /// What is wrong is said once, not each time.
    fn failed(&self, why: &dyn Display) {
        let mut refreshed = self.refreshes.lock();
        let why = why.to_string();
        if refreshed.troubles.get(&self.model) != Some(&why) {
            say!("model{}: {why}; {} goes on scoring", self.of(), self.current);
        }
        refreshed.troubles.insert(self.model.clone(), why);
        refreshed.failed += 1;
    }

    /// Which of several models is spoken of.
    fn of(&self) -> String {
        self.model.as_ref().map(|model| format!(" {model}")).unwrap_or_default()
    }

    fn switch(&mut self, version: Version, path: PathBuf) {
        let switched = version.card(&path).map_err(Error::from).and_then(|card| {
            let card = Arc::new(card);
            let model = self.model.as_deref();
            self.control.switch_to_registered(model, &version.version, path, card.clone())?;
            Ok(card)
        });
        let card = match switched {
            Ok(card) => card,
            Err(error) => {
                let why = format!("{error:#}");
                self.failed(&why);
                self.refused = Some((version, why));
                return;
            }
        };
        let of = self.of();
        say!("model{of}: {version} takes the place of version {}", self.current.version);
        if let Some(doubt) = served::doubt(&card, &version.to_string(), self.workers) {
            say!("warning: {doubt}");
        }
        self.current = version;
        self.refused = None;
        let mut refreshed = self.refreshes.lock();
        refreshed.switched += 1;
        refreshed.troubles.remove(&self.model);
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        // A question under way is not waited for: the process ends, or it comes to nothing.
        self.hints.stop();
    }
}
