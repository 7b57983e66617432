//! A source that ticks like a live one: rows are scored soon after they come.

use std::time::Duration;

use driftline_jobs::scoring::{Outputs, scoring};
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::gate::Order;
use driftline_operators::latency::Latencies;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::ModelIdentity;
use driftline_operators::model_input::model_inputs;
use driftline_operators::prediction::PredictionFormat;
use driftline_operators::score::Scoring;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;
use timely::dataflow::ProbeHandle;

use crate::support::{FirstFeature, Memory, Setting, Ticking, config, layout};

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::Column("value".to_owned()),
        default: None,
        allow_null: false,
    }]
}

#[test]
fn no_row_waits_longer_than_the_timeout() {
    let timeout = Duration::from_millis(20);
    let rows = 150;
    let setting = Setting { order: Order::Arrival, ..Setting::new(declared) };
    let memory = Memory::default();
    let latencies = Latencies::new(timeout);
    let (shared, sink, measured) = (setting.clone(), memory.clone(), latencies.clone());
    let guards = timely::execute(config(timely::CommunicationConfig::Process(1)), move |worker| {
        let probe = ProbeHandle::new();
        worker.dataflow::<u64, _, _>(|scope| {
            let plan = shared.plan();
            let enriched = plan.enriched_schema(&layout());
            let inputs = model_inputs(&plan, &layout(), &["value".to_owned()]).unwrap();
            let identity = ModelIdentity { name: "m".to_owned(), version: "1".to_owned() };
            let watched = Watched::new(&enriched, &inputs);
            let scoring_part = Scoring {
                layout: layout(),
                enriched,
                inputs,
                model: Box::new(FirstFeature),
                dependence: BatchDependence::Invariant,
                format: PredictionFormat::new(layout(), identity, Default::default(), false, false),
                bounds: BatchBounds { max_rows: 1_024, timeout },
                warm_up: WarmUp::none(),
                alerts: None,
                keep_inputs: false,
                partition_names: ["p".to_owned()].into(),
                run: shared.run(),
            };
            let events = shared.events(Box::new(Ticking::new(Duration::from_millis(10), rows)));
            let outputs = Outputs {
                scoring: scoring_part,
                watched,
                drift: None,
                predictions: Box::new(sink.clone()),
                dead_letters: Box::new(Memory::default()),
                alerts: None,
                latencies: measured.clone(),
            };
            scoring(scope, events, outputs, &probe);
        });
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|end| end.unwrap());
    assert_eq!(setting.failure.message(), None);
    let predicted: usize = memory.batches().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(predicted as u64, rows);
    let longest = setting.counters.longest_wait();
    assert!(longest <= timeout + Duration::from_millis(5), "a row waited {longest:?}");
    let figures = latencies.figures();
    assert_eq!(figures.rows, rows);
    assert!(figures.max + Duration::from_millis(1) >= longest, "{figures:?}, {longest:?}");
}
