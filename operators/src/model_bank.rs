//! The models of one worker: of each those that rows can still need.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::accounting::{BatchGauge, Counters};
use crate::batch_probe::{BatchDependence, doubled};
use crate::micro_batch::Part;
use crate::model::{Model, ModelError, ModelIdentity, ScoredRows, Task, score_rows};
use crate::model_input::ModelInput;
use crate::prediction::PredictionFormat;
use crate::routes::table::RouteSettings;

/// A model made ready for one worker, and what goes with it.
pub struct ReadyModel {
    pub identity: ModelIdentity,
    /// Which version of the run it is; see [`Versions`](crate::drift::versions::Versions).
    pub version: usize,
    pub inputs: Vec<ModelInput>,
    /// Those inputs as columns.
    pub features: SchemaRef,
    pub model: Box<dyn Model>,
    pub dependence: BatchDependence,
    pub format: PredictionFormat,
    /// The most rows of a micro-batch, where the version has its own bound.
    pub max_rows: Option<usize>,
}

/// What an ensemble says of its predictions while its members stay the same.
#[derive(Clone)]
pub struct ReadyEnsemble {
    pub identity: ModelIdentity,
    /// As of a model.
    pub version: usize,
    pub task: Task,
    /// Numbers of a prediction.
    pub width: usize,
    pub gives_doubles: bool,
    pub format: PredictionFormat,
}

/// All that a worker begins with, by place.
pub struct ReadyModels {
    pub models: Vec<ReadyModel>,
    pub ensembles: Vec<ReadyEnsemble>,
    pub settings: Arc<RouteSettings>,
}

impl ReadyModels {
    /// A model that scores all rows.
    pub fn one(model: ReadyModel) -> Self {
        ReadyModels { models: vec![model], ensembles: Vec::new(), settings: Arc::default() }
    }
}

/// Where workers get what later states of control say, which is made ready elsewhere. Of each model a state
/// has the newest that has come with a state up to it.
pub trait ModelShelf: Send + Sync {
    /// The state that a model has come with which holds in a state of control; 0 of that which a run
    /// begins with.
    fn since(&self, model: usize, control: u64) -> u64;

    /// A model that has come with a state for a worker, which takes it once.
    fn take(&self, model: usize, since: u64, worker: usize) -> Option<ReadyModel>;

    /// An ensemble as it is in a state of control, where that is not as a run begins with it.
    fn ensemble(&self, _ensemble: usize, _control: u64) -> Option<ReadyEnsemble> {
        None
    }

    /// What holds of routes in a state of control, where that is not what a run begins with.
    fn settings(&self, _control: u64) -> Option<Arc<RouteSettings>> {
        None
    }

    /// Whether there is something that predictions of a version are compared with, where drift is watched.
    fn has_reference(&self, _version: usize) -> bool {
        true
    }

    /// A worker needs nothing of states below `control` any more; these are what it had of them.
    fn free(&self, worker: usize, control: u64, freed: Vec<ReadyModel>);
}

/// A model, as rows are put into it.
pub struct Slot {
    since: u64,
    pub ready: ReadyModel,
    /// The model's inputs: their positions in enriched rows.
    columns: Vec<usize>,
    /// Where the model requires a value.
    pub required: Vec<ModelInput>,
    /// What counts its micro-batches.
    pub gauge: BatchGauge,
}

impl Slot {
    fn new(since: u64, ready: ReadyModel, gauge: BatchGauge) -> Self {
        Slot {
            since,
            required: ready.inputs.iter().filter(|input| !input.allow_null).cloned().collect(),
            columns: ready.inputs.iter().map(|input| input.column).collect(),
            ready,
            gauge,
        }
    }

    /// The model's inputs of the rows, as one batch.
    ///
    /// # Errors
    /// If they are not those of enriched rows.
    pub fn features<C>(&self, parts: &[Part<C>]) -> Result<RecordBatch, ArrowError> {
        let schema = &self.ready.features;
        let of_part = |part: &Part<C>| part.project(&self.columns, schema);
        match parts {
            [one] => of_part(one),
            many => {
                let projected = many.iter().map(of_part).collect::<Result<Vec<_>, _>>()?;
                concat_batches(schema, &projected)
            }
        }
    }

    /// Scores rows of the model's inputs.
    ///
    /// # Errors
    /// If the model refuses them.
    pub fn run(&mut self, features: &RecordBatch) -> Result<ScoredRows, ModelError> {
        let model = self.ready.model.as_mut();
        if features.num_rows() == 1 && self.ready.dependence == BatchDependence::PadSingleRow {
            return score_rows(model, &doubled(features)?);
        }
        score_rows(model, features)
    }
}

pub struct ModelBank {
    /// By model; of each nearly always one, and two while a switch is under way.
    models: Vec<Vec<Slot>>,
    ensembles: Vec<ReadyEnsemble>,
    settings: Arc<RouteSettings>,
    /// The state that was asked for last, and what is of it.
    last: State,
    shelf: Option<Arc<dyn ModelShelf>>,
    /// By version, as the shelf has said.
    have_references: BTreeMap<usize, bool>,
    counters: Counters,
    worker: usize,
}

/// What holds in a state of control.
struct State {
    /// None if what is of it must be looked up again.
    control: Option<u64>,
    /// By model, the place of its slot.
    slots: Vec<usize>,
    ensembles: Vec<ReadyEnsemble>,
    settings: Arc<RouteSettings>,
}

impl ModelBank {
    /// A worker's models, of which `first` are those of state 0; without a shelf there are no others.
    pub fn new(
        first: ReadyModels,
        shelf: Option<Arc<dyn ModelShelf>>,
        counters: Counters,
        worker: usize,
    ) -> Self {
        let ReadyModels { models, ensembles, settings } = first;
        let slots = vec![0; models.len()];
        let slot = |ready: ReadyModel| {
            let gauge = counters.batch_gauge(&ready.identity, worker);
            vec![Slot::new(0, ready, gauge)]
        };
        let models = models.into_iter().map(slot).collect();
        let last = State {
            control: Some(0),
            slots,
            ensembles: ensembles.clone(),
            settings: settings.clone(),
        };
        let have_references = BTreeMap::new();
        ModelBank { models, ensembles, settings, last, shelf, have_references, counters, worker }
    }

    /// Has a state hold for what is asked for next.
    ///
    /// # Errors
    /// If there is none of its models.
    pub fn stand_at(&mut self, control: u64) -> Result<(), ArrowError> {
        if self.last.control == Some(control) {
            return Ok(());
        }
        let slots = (0..self.models.len()).map(|model| self.slot_of(model, control));
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        let shelf = self.shelf.as_ref();
        let ensemble = |(at, first): (usize, &ReadyEnsemble)| {
            let later = shelf.and_then(|shelf| shelf.ensemble(at, control));
            later.unwrap_or_else(|| first.clone())
        };
        let settings = shelf.and_then(|shelf| shelf.settings(control));
        self.last = State {
            control: Some(control),
            slots,
            ensembles: self.ensembles.iter().enumerate().map(ensemble).collect(),
            settings: settings.unwrap_or_else(|| self.settings.clone()),
        };
        Ok(())
    }

    fn slot_of(&mut self, model: usize, control: u64) -> Result<usize, ArrowError> {
        let since = self.shelf.as_ref().map_or(0, |shelf| shelf.since(model, control));
        if let Some(at) = self.models[model].iter().position(|slot| slot.since == since) {
            return Ok(at);
        }
        let shelf = self.shelf.as_ref();
        let ready = shelf.and_then(|shelf| shelf.take(model, since, self.worker));
        let ready = ready.ok_or_else(|| {
            let message = format!("there is no model for state {control} of control");
            ArrowError::ComputeError(message)
        })?;
        let gauge = self.counters.batch_gauge(&ready.identity, self.worker);
        self.models[model].push(Slot::new(since, ready, gauge));
        Ok(self.models[model].len() - 1)
    }

    /// The model of the state that it [stands at](Self::stand_at).
    pub fn model(&mut self, model: usize) -> &mut Slot {
        &mut self.models[model][self.last.slots[model]]
    }

    /// An ensemble of that state.
    pub fn ensemble(&mut self, ensemble: usize) -> &mut ReadyEnsemble {
        &mut self.last.ensembles[ensemble]
    }

    /// What holds of routes in that state.
    pub fn settings(&self) -> &Arc<RouteSettings> {
        &self.last.settings
    }

    /// Whether there is something that predictions of a version are compared with.
    pub fn has_reference(&mut self, version: usize) -> bool {
        let shelf = &self.shelf;
        let asked = || shelf.as_ref().is_none_or(|shelf| shelf.has_reference(version));
        *self.have_references.entry(version).or_insert_with(asked)
    }

    /// Nothing is asked for of states below `control` any more.
    pub fn free_below(&mut self, control: u64) {
        let Some(shelf) = &self.shelf else { return };
        let mut freed = Vec::new();
        for (model, slots) in self.models.iter_mut().enumerate() {
            let since = shelf.since(model, control);
            freed.extend(slots.extract_if(.., |slot| slot.since < since).map(|slot| slot.ready));
        }
        shelf.free(self.worker, control, freed);
        // Places have moved.
        self.last.control = None;
    }
}
