//! Drift windows on several workers, against a naive evaluation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Schema};
use driftline_jobs::enriched::{Enriched, enriched};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::collect::{ClosedWindow, DriftWindows, collect_windows};
use driftline_operators::drift::runs::Runs;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::rows::Rows;
use driftline_operators::run::Run;
use driftline_operators::score::{Watched, model_inputs};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::ProbeHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::{Operator, Probe};

use crate::support::{Random, Row, Scripted, Setting, chunks, config, layout, ways};

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::Column("value".to_owned()),
        default: None,
        allow_null: true,
    }]
}

const LENGTHS: [WindowLength; 2] = [WindowLength::Millis(40), WindowLength::Millis(100)];

/// Values and nulls of the column `value`, by length and start.
type Found = BTreeMap<(WindowLength, i64), (Runs, u64)>;

fn run(way: timely::CommunicationConfig, partitions: &[Vec<Row>], seed: u64) -> Found {
    let setting =
        Setting { partitions: partitions.len(), allowed_lateness_ms: 30, ..Setting::new(declared) };
    let chunks = chunks(partitions, &mut Random::new(seed));
    let found = Arc::new(Mutex::new(Found::new()));
    let (shared, sink) = (setting.clone(), found.clone());
    let guards = timely::execute(config(way), move |worker| {
        let probe = ProbeHandle::new();
        let source = Scripted::share(&chunks, worker.index(), worker.peers());
        worker.dataflow::<u64, _, _>(|scope| {
            let plan = shared.plan();
            let schema = plan.enriched_schema(&layout());
            let inputs = model_inputs(&plan, &layout(), &["value".to_owned()]).unwrap();
            let watched = Watched::new(&schema, &inputs);
            let events = shared.events(source);
            let watermarks = events.watermarks.clone();
            let Enriched { rows, marks, .. } = enriched(scope, events, probe.clone());
            let rows = watch(rows, schema, watched.clone());
            let windows = DriftWindows { lengths: LENGTHS.to_vec(), watched, watermarks };
            let sink = sink.clone();
            let close = move |closed: Vec<ClosedWindow>| {
                let mut found = sink.lock().unwrap();
                for window in closed.into_iter().filter(|window| window.column == 0) {
                    let place = (window.length, window.start);
                    let twice = found.insert(place, (window.runs, window.null_count));
                    assert!(twice.is_none(), "window {place:?} closed twice");
                }
                Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
            };
            let run = Run {
                counters: shared.counters.clone(),
                failure: shared.failure.clone(),
                ..Run::default()
            };
            collect_windows(rows, marks, windows, close, &run).probe_with(&probe);
        });
        while !probe.done() {
            worker.step_or_park(Some(std::time::Duration::from_millis(1)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|end| end.unwrap());
    assert_eq!(setting.failure.message(), None);
    std::mem::take(&mut *found.lock().unwrap())
}

/// Enriched rows as drift watches them, with a score of zero.
fn watch<'scope>(
    rows: timely::dataflow::Stream<'scope, u64, Rows>,
    schema: arrow::datatypes::SchemaRef,
    watched: Watched,
) -> timely::dataflow::Stream<'scope, u64, Rows> {
    rows.unary::<CapacityContainerBuilder<Rows>, _, _, _>(Pipeline, "Watch", move |_cap, _info| {
        move |input, output| {
            input.for_each(|capability, container| {
                let batch = container.take(&schema).unwrap();
                let layout = layout();
                let columns: Vec<ArrayRef> = vec![
                    batch.column(layout.time).clone(),
                    Arc::new(BooleanArray::from(vec![false; batch.num_rows()])),
                    batch.column(batch.num_columns() - 1).clone(),
                    Arc::new(Float64Array::from(vec![0.0; batch.num_rows()])),
                ];
                assert_eq!(
                    columns[2].as_primitive::<Float64Type>().values().len(),
                    batch.num_rows()
                );
                let rows = RecordBatch::try_new(watched.schema.clone(), columns).unwrap();
                output.session(&capability).give_container(&mut Rows::new(rows));
            });
        }
    })
}

fn naive(partitions: &[Vec<Row>]) -> Found {
    let mut found = Found::new();
    for length in LENGTHS {
        let mut windows: BTreeMap<i64, (Vec<f64>, u64)> = BTreeMap::new();
        for row in partitions.iter().flatten() {
            let (values, nulls) = windows.entry(length.around(row.time).0).or_default();
            match row.value {
                Some(value) if !value.is_nan() => values.push(value),
                _ => *nulls += 1,
            }
        }
        for (start, (values, nulls)) in windows {
            found.insert((length, start), (Runs::from_values(values), nulls));
        }
    }
    found
}

#[test]
fn windows_equal_a_naive_evaluation_for_any_number_of_workers() {
    for seed in 1..=6 {
        let mut random = Random::new(seed);
        let mut partitions = vec![Vec::new(); 2];
        for id in 0..600 {
            let value = match random.below(12) {
                0 => None,
                1 => Some(f64::NAN),
                2 => Some(-0.0),
                _ => Some(random.below(30) as f64 - 15.0),
            };
            let time = id - random.below(30) as i64;
            let partition = random.below(2) as usize;
            partitions[partition].push(Row { time, id, key: None, value });
        }
        let expected = naive(&partitions);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            assert_eq!(run(way, &partitions, seed), expected, "{name}");
        }
    }
}
