//! A whole job from memory: what came out of it, when and on which worker.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, TimestampMillisecondType, UInt64Type};
use arrow::error::ArrowError;
use driftline::FunctionSink;
use driftline_jobs::graph::{Behind, Drift, Events, Outputs, outputs};
use driftline_operators::accounting::Counters;
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::control::Turn;
use driftline_operators::core::finish::{Out, Work};
use driftline_operators::dead_letter;
use driftline_operators::drift::sample::Mode;
use driftline_operators::drift::windows::Schedule;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::functions::Functions;
use driftline_operators::features::sql::Expression;
use driftline_operators::ingest::Source;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::{Model, ModelIdentity};
use driftline_operators::model_bank::{ReadyModel, ReadyModels};
use driftline_operators::model_input::model_inputs;
use driftline_operators::prediction::PredictionFormat;
use driftline_operators::score::{Scorer, Scoring};
use driftline_operators::sinks::{Outlet, Outlets, Output, Sink, Tally};
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::{Seen, Watched};
use timely::dataflow::{ProbeHandle, Scope};

use crate::drift::{Keep, Revised};
use crate::input::Input;
use crate::record::{Origin, Recorded, origins, record};
use crate::support::{Acknowledging, MakeChunk, Setting, layout};
use crate::ways::{Way, config, work};

/// A job of the tests: its rules, and the model of each worker.
#[derive(Clone)]
pub struct Job {
    pub setting: Setting,
    pub filter: Option<String>,
    /// Rows in [from, to) are scored; those from `warm_up_from` on feed windows.
    pub warm_up_from: i64,
    pub from: i64,
    pub to: i64,
    /// By partition, where what is scored begins; what is before it feeds windows.
    pub first_offsets: Vec<u64>,
    /// What drift makes of all inputs and the score.
    pub drift: Option<(Schedule, Mode)>,
    pub inputs: Vec<String>,
    pub bounds: BatchBounds,
    pub dependence: BatchDependence,
    pub make_model: Arc<dyn Fn(usize) -> Box<dyn Model> + Send + Sync>,
}

/// A feature without default that may not be null.
pub fn required(name: &str, definition: Definition) -> FeatureDeclaration {
    FeatureDeclaration { name: name.to_owned(), definition, default: None, allow_null: false }
}

/// A number that tells each record from all others, by where it is from.
pub fn place_of((partition, offset): Origin) -> f64 {
    f64::from(partition) * 100_000.0 + offset as f64
}

/// [`place_of`] as a feature.
pub fn place() -> FeatureDeclaration {
    required("place", Definition::Column("origin".to_owned()))
}

/// What came out of a job.
#[derive(Clone, Default)]
pub struct Results {
    pub predictions: Recorded,
    pub watched: Recorded,
    pub letters: Recorded,
    /// Windows of drift.
    pub issued: Arc<Mutex<Vec<Revised>>>,
    pub counters: Counters,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Predicted { status: String, vector: Vec<f32> },
    Dead { reason: String, detail: String },
}

/// What is told of a record beside its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub epoch: u64,
    pub event_id: Option<String>,
    pub event_time: Option<i64>,
    pub outcome: Outcome,
}

impl Job {
    fn events(&self, source: Box<dyn Source>, way: Way, worker: usize) -> Events {
        let mut events = self.setting.events(source, way, worker);
        let admission = &mut events.intake.events;
        let columns = layout().schema.fields()[..layout().event_columns].to_vec();
        let columns = columns.iter().map(|field| (field.name().clone(), field.data_type().clone()));
        let columns: Vec<_> = columns.collect();
        let compile = |sql| Expression::compile(sql, &columns, &Functions::default()).unwrap();
        admission.filter = self.filter.as_deref().map(compile);
        (admission.warm_up_from, admission.warm_up, admission.to) =
            (self.warm_up_from, self.warm_up(), self.to);
        events
    }

    fn warm_up(&self) -> WarmUp {
        WarmUp { first_offsets: self.first_offsets.clone().into(), ..WarmUp::before(self.from) }
    }

    fn ready(&self, worker: usize) -> ReadyModel {
        ready((self.make_model)(worker), self.dependence, &self.setting, &self.inputs)
    }

    /// With inputs and run columns.
    fn scoring(&self, worker: usize) -> (Scoring, Watched) {
        let plan = self.setting.plan();
        let enriched = plan.enriched_schema(&layout());
        let inputs = model_inputs(&plan, &layout(), &self.inputs).unwrap();
        let watched = Watched::new(&enriched, &inputs);
        let scoring = Scoring {
            layout: layout(),
            models: match &self.setting.routed {
                Some(routed) => (routed.models)(worker),
                None => ReadyModels::one(self.ready(worker)),
            },
            routes: self.setting.routed.as_ref().map(|routed| routed.table.clone()),
            timeout: None,
            on_request: false,
            shed: None,
            shelf: self.setting.shelf.clone(),
            bounds: self.bounds,
            warm_up: self.warm_up(),
            partition_names: self.setting.partition_names().to_vec().into(),
            rules: Default::default(),
            alerts: None,
            run: self.setting.run(),
        };
        (scoring, watched)
    }

    /// The job's graph, with what comes over its last edges recorded.
    fn build(
        &self,
        scope: Scope<'_, u64>,
        way: Way,
        source: Box<dyn Source>,
        results: &Results,
        probe: &ProbeHandle<u64>,
    ) {
        let run = self.setting.run();
        let worker = scope.index();
        let (scoring, columns) = self.scoring(worker);
        let predicted = scoring.schema();
        let drift = self.drift.clone().map(|(schedule, mode)| {
            let keep = Keep(results.issued.clone());
            Drift::new(schedule, mode, &columns, keep, Output::Drift, None)
        });
        let scorer = Scorer::new(scoring, columns, worker);
        let work = Box::new(Watching { scorer, worker, watched: results.watched.clone() });
        let behind = Behind { work, drift, gathered: None };
        let events = self.events(source, way, worker);
        let Outputs { rows, end } = outputs(scope, events, behind, probe.clone()).unwrap();
        let recorded = rows.into_iter().map(|rows| {
            let letters = dead_letter::SCHEMA.clone();
            let wanted = vec![
                (Output::Predictions, predicted.clone(), results.predictions.clone()),
                (Output::DeadLetters, letters, results.letters.clone()),
            ];
            record(rows, wanted)
        });
        let recorded = recorded.collect();
        let predictions = Outlet {
            output: Output::Predictions,
            schema: predicted.clone(),
            sink: nowhere(),
            tally: Tally::Rows(run.counters.clone()),
        };
        let outlets = vec![predictions, Outlet::dead_letters(nowhere(), &run)];
        let outlets = Outlets::new(outlets, &run);
        end.write(recorded, outlets, probe);
    }

    /// Runs the job over chunks of [`Input`].
    pub fn run(&self, way: Way, chunks: &[MakeChunk], name: &str) -> Results {
        let chunks = chunks.to_vec();
        let source = move |worker, workers| Input::source(&chunks, worker, workers);
        self.run_on(way, source, name)
    }

    /// Runs the job; `make_source` gives each worker its share.
    pub fn run_on(
        &self,
        way: Way,
        make_source: impl Fn(usize, usize) -> Box<dyn Source> + Send + Sync + 'static,
        name: &str,
    ) -> Results {
        let results = self.run_until(way, make_source, name);
        assert_eq!(self.setting.failure.message(), None, "{name}");
        results
    }

    /// The same, until it has failed if it fails.
    pub fn run_until(
        &self,
        way: Way,
        make_source: impl Fn(usize, usize) -> Box<dyn Source> + Send + Sync + 'static,
        name: &str,
    ) -> Results {
        let counters = Counters::default();
        let setting = Setting { counters: counters.clone(), ..self.setting.clone() };
        let job = Job { setting, ..self.clone() };
        let results = Results { counters, ..Results::default() };
        let (shared, named) = (results.clone(), name.to_owned());
        let guards = timely::execute(config(way), move |worker| {
            let probe = ProbeHandle::new();
            let source = make_source(worker.index(), worker.peers());
            worker.dataflow::<u64, _, _>(|scope| job.build(scope, way, source, &shared, &probe));
            work(worker, &probe, &job.setting.failure, &named);
        })
        .unwrap();
        guards.join().into_iter().for_each(|end| end.unwrap());
        results
    }
}

/// A model made ready for rows of a setting.
pub fn ready(
    model: Box<dyn Model>,
    dependence: BatchDependence,
    setting: &Setting,
    inputs: &[String],
) -> ReadyModel {
    let identity = ModelIdentity { name: "m".to_owned(), version: "1".to_owned() };
    let inputs = model_inputs(&setting.plan(), &layout(), inputs).unwrap();
    let enriched = setting.plan().enriched_schema(&layout());
    let columns: Vec<usize> = inputs.iter().map(|input| input.column).collect();
    ReadyModel {
        version: 0,
        inputs,
        features: enriched.project(&columns).unwrap().into(),
        model,
        dependence,
        format: PredictionFormat::new(layout(), identity.clone(), Default::default(), true, true),
        identity,
        max_rows: None,
    }
}

/// Scores rows, and records what drift watches of them.
struct Watching {
    scorer: Scorer,
    worker: usize,
    watched: Recorded,
}

impl Work for Watching {
    fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        self.scorer.take(turn, rows, out)
    }

    fn step(
        &mut self,
        idle: bool,
        out: &mut Vec<Out>,
        watched: &mut Vec<Seen>,
    ) -> Result<(), ArrowError> {
        let before = watched.len();
        self.scorer.step(idle, out, watched)?;
        for Seen { epoch, rows, .. } in &watched[before..] {
            self.watched.add(self.worker, *epoch, rows.clone());
        }
        Ok(())
    }

    fn waits_for(&self) -> Option<u64> {
        self.scorer.waits_for()
    }

    fn worked_off_below(&mut self, control: u64) {
        self.scorer.worked_off_below(control);
    }
}

fn nowhere() -> Box<dyn Sink> {
    Box::new(Acknowledging::new(Box::new(FunctionSink::new("nowhere", |_| Ok(())))))
}

impl Results {
    /// What is told of each record, which must have come out once.
    pub fn told(&self, names: &[String], name: &str) -> BTreeMap<Origin, Told> {
        let mut told = BTreeMap::new();
        let mut tell = |origin: Origin, what: Told| {
            let before = told.insert(origin, what);
            assert_eq!(before, None, "{name}: record {origin:?} came out twice");
        };
        for came in self.predictions.all() {
            predicted(&came.rows, came.epoch).for_each(|(origin, what)| tell(origin, what));
        }
        for came in self.letters.all() {
            dead(&came.rows, came.epoch, names).for_each(|(origin, what)| tell(origin, what));
        }
        told
    }
}

pub fn text(rows: &RecordBatch, name: &str, row: usize) -> Option<String> {
    let column = rows.column_by_name(name).unwrap().as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn event_time(rows: &RecordBatch, row: usize) -> Option<i64> {
    let times = rows.column_by_name("event_time").unwrap();
    let times = times.as_primitive::<TimestampMillisecondType>();
    times.is_valid(row).then(|| times.value(row))
}

/// The lists of floats of a column.
pub fn vectors(rows: &RecordBatch, name: &str) -> Vec<Vec<f32>> {
    let lists = rows.column_by_name(name).unwrap().as_list::<i32>();
    let list = |list: Option<Arc<dyn Array>>| {
        list.unwrap().as_primitive::<Float32Type>().values().to_vec()
    };
    lists.iter().map(list).collect()
}

fn predicted(rows: &RecordBatch, epoch: u64) -> impl Iterator<Item = (Origin, Told)> {
    let vectors = vectors(rows, "prediction").into_iter();
    origins(rows).into_iter().zip(vectors).enumerate().map(move |(row, (origin, vector))| {
        let status = text(rows, "status", row).unwrap();
        let outcome = Outcome::Predicted { status, vector };
        let (event_id, event_time) = (text(rows, "event_id", row), event_time(rows, row));
        (origin, Told { epoch, event_id, event_time, outcome })
    })
}

fn dead<'a>(
    rows: &'a RecordBatch,
    epoch: u64,
    names: &'a [String],
) -> impl Iterator<Item = (Origin, Told)> {
    let offsets = rows.column_by_name("offset").unwrap().as_primitive::<UInt64Type>();
    (0..rows.num_rows()).map(move |row| {
        let partition = text(rows, "partition", row).unwrap();
        let partition = names.iter().position(|name| *name == partition).unwrap();
        let [reason, detail] = ["reason", "detail"].map(|name| text(rows, name, row).unwrap());
        let outcome = Outcome::Dead { reason, detail };
        let (event_id, event_time) = (text(rows, "event_id", row), event_time(rows, row));
        let origin = (partition as u32, offsets.value(row));
        (origin, Told { epoch, event_id, event_time, outcome })
    })
}
