//! The operators that timely is given are those that plans tell of: both follow from the shape of a job.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use driftline_jobs::graph::{Behind, Drift, Gathered, graph};
use driftline_operators::core::parts::{Form, Shape, TableShape, TripShape};
use driftline_operators::dead_letter;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::sample::{Mode, Sample};
use driftline_operators::drift::windows::{Issued, Revisions, Schedule, WindowOutput};
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::window::{Aggregate, WindowSpec};
use driftline_operators::gate::Order;
use driftline_operators::model_input::model_inputs;
use driftline_operators::sinks::{Outlet, Output, Tally};
use driftline_operators::watched::Watched;
use driftline_operators::watermark::Span;
use timely::dataflow::ProbeHandle;
use timely::logging::{TimelyEvent, TimelyEventBuilder};
use timely::worker::Worker;

use crate::support::{Memory, Random, Row, Scripted, Setting, TestTable, chunks, layout};
use crate::ways::{PassOn, Way, config, ways, work};

fn declaration(name: &str, definition: Definition) -> FeatureDeclaration {
    FeatureDeclaration { name: name.to_owned(), definition, default: None, allow_null: true }
}

fn column() -> FeatureDeclaration {
    declaration("value", Definition::Column("value".to_owned()))
}

fn columns() -> Vec<FeatureDeclaration> {
    vec![column()]
}

fn windows() -> Vec<FeatureDeclaration> {
    let spec = WindowSpec { aggregate: Aggregate::Count, length_ms: 40, history_ms: 1_000 };
    let window = Definition::Window { key: "key".to_owned(), value: None, spec, keys_max: None };
    vec![column(), declaration("seen", window)]
}

fn lookups() -> Vec<FeatureDeclaration> {
    let (key, column_of) = ("key".to_owned(), Some("value".to_owned()));
    vec![column(), declaration("found", Definition::AsOf { table: 0, key, column: column_of })]
}

/// Windows of drift that nobody looks at.
struct Unread;

impl WindowOutput for Unread {
    type Figures = ();

    fn figures(&self, _column: usize, _sample: &Sample, _null_count: u64) {}

    fn batch(&self, _windows: &[Issued<()>], _seen: Span) -> Result<RecordBatch, ArrowError> {
        Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }
}

/// A job, and what it should be made of.
#[derive(Clone)]
struct Case {
    name: &'static str,
    setting: Setting,
    outputs: Vec<Output>,
    is_gathered: bool,
    shape: Shape,
    /// Of each worker, where there are several.
    split: &'static [&'static str],
}

impl Case {
    fn new(
        name: &'static str,
        declared: fn() -> Vec<FeatureDeclaration>,
        trips: &[TripShape],
        split: &'static [&'static str],
    ) -> Self {
        let outputs = vec![Output::Features, Output::DeadLetters];
        let shape = Shape {
            order: Order::EventTime,
            tables: Vec::new(),
            static_tables: 0,
            trips: trips.to_vec(),
            outputs: outputs.clone(),
            has_rules: false,
            gathered: None,
        };
        let setting = Setting::new(declared);
        Case { name, setting, outputs, is_gathered: false, shape, split }
    }

    fn with_table(mut self) -> Self {
        self.setting.tables.push(TestTable::new("table"));
        self.shape.tables.push(TableShape { eager: false });
        self
    }

    fn with_drift(mut self) -> Self {
        self.outputs.push(Output::Drift);
        self.shape.outputs.push(Output::Drift);
        self
    }

    fn gathered(mut self) -> Self {
        self.is_gathered = true;
        self.shape.gathered = Some(Output::Features);
        self
    }

    /// Runs the job; the operators of each worker, in the order in which they were made.
    fn operators(&self, way: Way) -> Vec<Vec<String>> {
        let rows = vec![Row { time: 1, us: 0, id: 1, key: Some("k".to_owned()), value: Some(1.0) }];
        let chunks = chunks(&[rows], &mut Random::new(1));
        let case = self.clone();
        let guards = timely::execute(config(way), move |worker| {
            let made = log_operators(worker);
            let probe = ProbeHandle::new();
            let source = Scripted::share_without(
                &chunks,
                worker.index(),
                worker.peers(),
                &(1..=case.setting.tables.len() as u32).collect::<Vec<_>>(),
            );
            worker.dataflow::<u64, _, _>(|scope| {
                let events = case.setting.events(source, way, scope.index());
                let run = events.run.clone();
                let schema = case.setting.plan().enriched_schema(&layout());
                let gathered = case.is_gathered.then(|| Gathered {
                    output: Output::Features,
                    schema: schema.clone(),
                    by: layout().order_columns(),
                });
                let inputs = model_inputs(&case.setting.plan(), &layout(), &["value".to_owned()]);
                let watched = Watched::new(&schema, &inputs.unwrap());
                let schedule =
                    Schedule { lengths: vec![WindowLength::All], revisions: Revisions::NONE };
                let drift = case.outputs.contains(&Output::Drift).then(|| {
                    let output = Output::Drift;
                    Drift::new(schedule, Mode::Exact, &watched, Unread, output, None)
                });
                let outlet = |&output: &Output| Outlet {
                    output,
                    schema: match output {
                        Output::DeadLetters => dead_letter::SCHEMA.clone(),
                        _ => schema.clone(),
                    },
                    sink: Box::new(Memory::default()),
                    tally: Tally::Rows(run.counters.clone()),
                };
                let outlets = case.outputs.iter().map(outlet).collect();
                let behind = Behind { work: Box::new(PassOn), drift, gathered };
                graph(scope, events, behind, outlets, &probe);
            });
            work(worker, &probe, &case.setting.failure, case.name);
            worker.log_register().unwrap().flush();
            made.lock().unwrap().clone()
        });
        guards.unwrap().join().into_iter().map(|made| made.unwrap()).collect()
    }
}

/// The operators that a worker makes from now on, but for those of timely's own that count progress.
fn log_operators(worker: &Worker) -> Arc<Mutex<Vec<String>>> {
    let made = Arc::new(Mutex::new(Vec::new()));
    let told = made.clone();
    let mut registry = worker.log_register().unwrap();
    registry.insert::<TimelyEventBuilder, _>("timely", move |_time, events| {
        for (_, event) in events.iter().flatten() {
            // The first in the address is the dataflow.
            if let TimelyEvent::Operates(operator) = event
                && operator.addr.len() > 1
                && operator.name != "Probe"
            {
                told.lock().unwrap().push(operator.name.clone());
            }
        }
    });
    made
}

fn cases() -> Vec<Case> {
    let lookup = [TripShape::Lookups { table: 0 }];
    let (alone, owned) =
        (&["Ingest", "Home", "Finish", "Sinks"], &["Ingest", "Home", "Owner", "Finish", "Sinks"]);
    let with_drift = &["Ingest", "Home", "Owner", "Finish", "DriftOwner", "Sinks"];
    vec![
        Case::new("columns", columns, &[], alone),
        Case::new("windows", windows, &[TripShape::Windows], owned),
        Case::new("lookups", lookups, &lookup, owned).with_table(),
        Case::new("a table that nobody reads", columns, &[], owned).with_table(),
        Case::new("drift", windows, &[TripShape::Windows], with_drift).with_drift(),
        Case::new("gathered", columns, &[], alone).gathered(),
    ]
}

#[test]
fn the_operators_of_a_job_are_those_of_its_shape() {
    for case in cases() {
        for way in ways() {
            let (workers, is_split) = match way {
                Way::Fused => (1, false),
                Way::Threads(workers) | Way::Bytes(workers) => (workers, true),
            };
            let mut expected: Vec<&str> = match way {
                Way::Fused => vec!["Fused", "Sinks"],
                Way::Threads(_) | Way::Bytes(_) => case.split.to_vec(),
            };
            if case.is_gathered && workers > 1 {
                expected.insert(expected.len() - 1, "Gather");
            }
            if is_split {
                expected.push("Post");
            }
            let operators = case.shape.operators(Form::of(workers, is_split));
            let told: Vec<&str> = operators.iter().map(|operator| operator.name()).collect();
            assert_eq!(told, expected, "{}, {way:?}", case.name);
            let made = case.operators(way);
            assert_eq!(made, vec![expected; workers], "{}, {way:?}", case.name);
        }
    }
}
