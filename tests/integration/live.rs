//! A source that ticks like a live one: rows are scored soon after they come.

use std::sync::Arc;
use std::time::Duration;

use driftline_jobs::scoring::{Outputs, scoring};
use driftline_operators::alert::AlertRules;
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::gate::Order;
use driftline_operators::latency::Latencies;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::ModelIdentity;
use driftline_operators::model_bank::{ReadyModel, ReadyModels};
use driftline_operators::model_input::model_inputs;
use driftline_operators::prediction::PredictionFormat;
use driftline_operators::reports::Reports;
use driftline_operators::score::Scoring;
use driftline_operators::settled::Beginning;
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;
use timely::dataflow::ProbeHandle;

use crate::support::{Acknowledging, FirstFeature, Memory, Setting, Ticking, layout};
use crate::ways::{Way, config};

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::Column("value".to_owned()),
        default: None,
        allow_null: false,
    }]
}

/// What came of rows with the score 1, 10 ms apart.
struct Ran {
    setting: Setting,
    predictions: Memory,
    alerts: Memory,
    latencies: Latencies,
}

fn run(rows: u64, timeout: Duration, score_over: Option<f64>, alerts_are_told: bool) -> Ran {
    let beginning = Beginning { highest: i64::MIN, firsts: vec![(0, 0)] };
    let setting = Setting { beginning, reports: Reports::of(1), ..Setting::new(declared) };
    let ran = Ran {
        setting: Setting { order: Order::Arrival, ..setting },
        predictions: Memory::default(),
        alerts: Memory::default(),
        latencies: Latencies::new(timeout),
    };
    let setting = ran.setting.clone();
    let (predictions, alerts) = (ran.predictions.clone(), ran.alerts.clone());
    let latencies = ran.latencies.clone();
    let guards = timely::execute(config(Way::Fused), move |worker| {
        let probe = ProbeHandle::new();
        worker.dataflow::<u64, _, _>(|scope| {
            let plan = setting.plan();
            let enriched = plan.enriched_schema(&layout());
            let inputs = model_inputs(&plan, &layout(), &["value".to_owned()]).unwrap();
            let columns: Vec<usize> = inputs.iter().map(|input| input.column).collect();
            let features = enriched.project(&columns).unwrap().into();
            let model = ModelIdentity { name: "m".to_owned(), version: "1".to_owned() };
            let format =
                PredictionFormat::new(layout(), model.clone(), Default::default(), false, false);
            let columns = Vec::new();
            let rules =
                AlertRules { score_over, z_over: 3.0, ks_p_under: 0.05, columns, versions: None };
            let watched = Watched::new(&enriched, &inputs);
            let scoring_part = Scoring {
                layout: layout(),
                models: ReadyModels::one(ReadyModel {
                    identity: model.clone(),
                    version: 0,
                    features,
                    inputs,
                    model: Box::new(FirstFeature),
                    dependence: BatchDependence::Invariant,
                    format,
                    max_rows: None,
                }),
                shelf: None,
                routes: None,
                timeout: None,
                on_request: false,
                shed: None,
                bounds: BatchBounds { max_rows: 1_024, timeout },
                warm_up: WarmUp::none(),
                rules: Default::default(),
                alerts: Some(Arc::new(rules)),
                partition_names: ["p".to_owned()].into(),
                run: setting.run(),
            };
            let source = Box::new(Ticking::new(Duration::from_millis(10), rows));
            let events = setting.events(source, Way::Fused, 0);
            let outputs = Outputs {
                scoring: scoring_part,
                watched,
                drift: None,
                predictions: Box::new(Acknowledging::new(Box::new(predictions.clone()))),
                dead_letters: Box::new(Memory::default()),
                alerts: Some(match alerts_are_told {
                    true => Box::new(Acknowledging::new(Box::new(alerts.clone()))),
                    false => Box::new(alerts.clone()),
                }),
                latencies: latencies.clone(),
            };
            scoring(scope, events, outputs, &probe);
        });
        while !probe.done() {
            worker.step_or_park(Some(Duration::from_millis(1)));
        }
    })
    .unwrap();
    guards.join().into_iter().for_each(|end| end.unwrap());
    assert_eq!(ran.setting.failure.message(), None);
    let predicted: usize = ran.predictions.batches().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(predicted as u64, rows);
    ran
}

#[test]
fn no_row_waits_longer_than_the_timeout() {
    let (rows, timeout) = (150, Duration::from_millis(20));
    let Ran { setting, latencies, .. } = run(rows, timeout, None, false);
    let longest = setting.counters.longest_wait();
    assert!(longest <= timeout + Duration::from_millis(5), "a row waited {longest:?}");
    let figures = latencies.figures();
    assert_eq!(figures.rows, rows);
    assert!(figures.max + Duration::from_millis(1) >= longest, "{figures:?}, {longest:?}");
}

#[test]
fn a_record_is_settled_with_its_prediction_and_its_alerts() {
    let rows = 10;
    for (score_over, alerts_are_told, left) in [(1.0, false, 0), (0.5, false, rows), (0.5, true, 0)]
    {
        let ran = run(rows, Duration::from_millis(20), Some(score_over), alerts_are_told);
        let reports = &ran.setting.reports;
        assert_eq!(reports.unsettled(), left);
        assert_eq!(reports.settled(), [(0, rows - left)]);
    }
}
