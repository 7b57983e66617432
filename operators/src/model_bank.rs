//! The models of one worker, one for each state of control that a row can still have.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{Fields, Schema, SchemaRef};
use arrow::error::ArrowError;

use crate::accounting::{BatchGauge, Counters};
use crate::batch_probe::{BatchDependence, doubled};
use crate::micro_batch::Part;
use crate::model::{Model, ModelError, ModelIdentity, ScoredRows, score_rows};
use crate::model_input::ModelInput;
use crate::prediction::PredictionFormat;

/// A model made ready for one worker, and what goes with it.
pub struct ReadyModel {
    pub identity: ModelIdentity,
    /// Which version of the run it is; see [`Versions`](crate::drift::versions::Versions).
    pub version: usize,
    pub inputs: Vec<ModelInput>,
    pub model: Box<dyn Model>,
    pub dependence: BatchDependence,
    pub format: PredictionFormat,
    /// The most rows of a micro-batch, where the version has its own bound.
    pub max_rows: Option<usize>,
}

/// Where workers get the models of later states of control, which are made ready elsewhere.
pub trait ModelShelf: Send + Sync {
    /// The model of a state for a worker, which takes it once.
    fn take(&self, control: u64, worker: usize) -> Option<ReadyModel>;

    /// A worker needs no model of a state below `control` any more; these are what it had of them.
    fn free(&self, worker: usize, control: u64, freed: Vec<ReadyModel>);
}

/// A model, as rows are put into it.
pub struct Slot {
    control: u64,
    pub ready: ReadyModel,
    /// The model's inputs: their positions in enriched rows, and their schema.
    columns: Vec<usize>,
    features: SchemaRef,
    /// Where the model requires a value.
    pub required: Vec<ModelInput>,
    /// What counts its micro-batches.
    pub gauge: BatchGauge,
}

impl Slot {
    fn new(control: u64, ready: ReadyModel, enriched: &Schema, gauge: BatchGauge) -> Self {
        let columns: Vec<usize> = ready.inputs.iter().map(|input| input.column).collect();
        let fields = columns.iter().map(|&at| enriched.fields()[at].clone());
        Slot {
            control,
            features: Arc::new(Schema::new(fields.collect::<Fields>())),
            required: ready.inputs.iter().filter(|input| !input.allow_null).cloned().collect(),
            columns,
            ready,
            gauge,
        }
    }

    /// The model's inputs of the rows, as one batch.
    ///
    /// # Errors
    /// If they are not those of enriched rows.
    pub fn features<C>(&self, parts: &[Part<C>]) -> Result<RecordBatch, ArrowError> {
        let of_part = |part: &Part<C>| part.project(&self.columns, &self.features);
        match parts {
            [one] => of_part(one),
            many => {
                let projected = many.iter().map(of_part).collect::<Result<Vec<_>, _>>()?;
                concat_batches(&self.features, &projected)
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
    /// Nearly always one, and two while a switch is under way.
    slots: Vec<Slot>,
    enriched: SchemaRef,
    shelf: Option<Arc<dyn ModelShelf>>,
    counters: Counters,
    worker: usize,
}

impl ModelBank {
    /// A worker's models, of which `first` is that of state 0; without a shelf it is the only one.
    pub fn new(
        first: ReadyModel,
        enriched: SchemaRef,
        shelf: Option<Arc<dyn ModelShelf>>,
        counters: Counters,
        worker: usize,
    ) -> Self {
        let mut bank = ModelBank { slots: Vec::new(), enriched, shelf, counters, worker };
        bank.add(0, first);
        bank
    }

    fn add(&mut self, control: u64, ready: ReadyModel) {
        let gauge = self.counters.batch_gauge(&ready.identity, self.worker);
        self.slots.push(Slot::new(control, ready, &self.enriched, gauge));
    }

    /// The model of a state.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(&mut self, control: u64) -> Result<&mut Slot, ArrowError> {
        let at = match self.slots.iter().position(|slot| slot.control == control) {
            Some(at) => at,
            None => {
                let ready = self.shelf.as_ref().and_then(|shelf| shelf.take(control, self.worker));
                let ready = ready.ok_or_else(|| {
                    let message = format!("there is no model for state {control} of control");
                    ArrowError::ComputeError(message)
                })?;
                self.add(control, ready);
                self.slots.len() - 1
            }
        };
        Ok(&mut self.slots[at])
    }

    /// Nothing is asked for of states below `control` any more.
    pub fn free_below(&mut self, control: u64) {
        let freed = self.slots.extract_if(.., |slot| slot.control < control);
        let freed: Vec<ReadyModel> = freed.map(|slot| slot.ready).collect();
        if let Some(shelf) = &self.shelf {
            shelf.free(self.worker, control, freed);
        }
    }
}
