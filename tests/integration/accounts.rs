//! What becomes of every record, and the account of it, on several workers, against a naive
//! classification of each record by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use driftline_operators::accounting::Account;
use driftline_operators::admit::LatePolicy;
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::window::{Aggregate, WindowSpec};
use driftline_operators::gate::Order;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::Task;

use crate::input::{Event, Input, Shape, damaged};
use crate::job::{Job, Outcome, Results, Told, required};
use crate::models::{Calls, RowByRow};
use crate::record::Origin;
use crate::seeds::{all_are_run, seeds};
use crate::support::Setting;
use crate::ways::ways;

pub const LATENESS_MS: i64 = 10;
const HORIZON_MS: i64 = 60;
/// The model refuses rows with a value below it.
const LOWEST: f64 = -15.0;

/// Two features that the model needs, and a window that it does not see, so that rows go on a trip.
fn declared() -> Vec<FeatureDeclaration> {
    let spec = WindowSpec { aggregate: Aggregate::Count, length_ms: 40, history_ms: 1_000 };
    let window = Definition::Window { key: "key".to_owned(), value: None, spec, keys_max: None };
    vec![
        FeatureDeclaration { allow_null: true, ..required("seen", window) },
        required("value", Definition::Column("value".to_owned())),
        required("part", Definition::Sql("nullif(id % 7, 0)".to_owned())),
    ]
}

fn part(event: &Event) -> Option<f64> {
    event.id.map(|id| (id % 7) as f64).filter(|part| *part != 0.0)
}

fn score(features: &[Option<f64>]) -> Result<Vec<f32>, String> {
    let [Some(value), Some(part)] = features else { return Err("a feature is null".to_owned()) };
    if *value < LOWEST {
        return Err(format!("{value} is too low"));
    }
    Ok(vec![(value * 16.0 + part) as f32])
}

/// A filter, and what it says of an event: true, false or null.
type Filter = (Option<&'static str>, fn(&Event) -> Option<bool>);

const FILTERS: [Filter; 5] = [
    (None, |_| Some(true)),
    (Some("value > 10"), |event| event.value.map(|value| value > 10.0)),
    (Some("key <> 'k0' OR value > 40"), |event| {
        let (key, value) = (event.key.as_ref(), event.value);
        match (key.map(|key| key != "k0"), value.map(|value| value > 40.0)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }),
    (Some("id % 5 <> 0 AND key IS NOT NULL"), |event| {
        let by_id = event.id.map(|id| id % 5 != 0);
        if event.key.is_none() { Some(false) } else { by_id }
    }),
    (Some("key = 'nobody'"), |event| event.key.as_ref().map(|_| false)),
];

/// What a case differs in from others.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    filter: usize,
    late: LatePolicy,
    pub order: Order,
    /// From where on rows feed windows, and the first and last but one instant that is scored.
    range: Option<[i64; 3]>,
}

impl Rules {
    pub fn of_seed(seed: u64) -> Self {
        let at = seed as usize;
        let late = [LatePolicy::Score, LatePolicy::DeadLetter, LatePolicy::Skip];
        let order = [Order::EventTime, Order::EventTime, Order::Epoch, Order::Arrival];
        Rules {
            filter: at % FILTERS.len(),
            late: late[at % late.len()],
            order: order[at % order.len()],
            range: (at % 6 == 5).then_some([40, 70, 130]),
        }
    }

    /// The same, of the whole input.
    pub fn without_range(self) -> Self {
        Rules { range: None, ..self }
    }

    pub fn job(&self, max_rows: usize) -> Job {
        let [warm_up_from, from, to] = self.range.unwrap_or([i64::MIN, i64::MIN, i64::MAX]);
        let setting = Setting {
            order: self.order,
            partitions: Input::PARTITIONS,
            allowed_lateness_ms: LATENESS_MS,
            late: self.late,
            late_horizon_ms: HORIZON_MS,
            ..Setting::new(declared)
        };
        Job {
            setting,
            filter: FILTERS[self.filter].0.map(str::to_owned),
            warm_up_from,
            from,
            to,
            first_offsets: Vec::new(),
            drift: None,
            inputs: ["value", "part"].map(str::to_owned).to_vec(),
            bounds: BatchBounds { max_rows, timeout: Duration::from_millis(5) },
            dependence: BatchDependence::Invariant,
            make_model: Arc::new(|worker| {
                Box::new(RowByRow::new(worker, Task::Regression, score, Calls::default()))
            }),
        }
    }
}

/// What becomes of a record, as the README says it.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// Outside of the range: as if never read.
    NotRead,
    Skipped,
    Dead(&'static str, String),
    Predicted {
        late: bool,
        score: f32,
    },
}

/// The fate of an event; `highest` is the highest event time before it in its partition.
fn fate(event: &Event, highest: Option<i64>, rules: &Rules) -> Fate {
    let Some(time) = event.time else {
        let detail = "the record has no event time, or it is not a time";
        return if rules.range.is_some() {
            Fate::NotRead
        } else {
            Fate::Dead("no_event_time", detail.to_owned())
        };
    };
    if rules.range.is_some_and(|[_, from, to]| time < from || time >= to) {
        return Fate::NotRead;
    }
    if FILTERS[rules.filter].1(event) != Some(true) {
        return Fate::Skipped;
    }
    let late = highest.is_some_and(|highest| time < highest - LATENESS_MS);
    let behind = |millis: i64| format!("behind the partition by more than {millis} ms");
    if highest.is_some_and(|highest| time < highest - HORIZON_MS) {
        return Fate::Dead("too_late", behind(HORIZON_MS));
    }
    match rules.late {
        LatePolicy::Skip if late => return Fate::Skipped,
        LatePolicy::DeadLetter if late => return Fate::Dead("late", behind(LATENESS_MS)),
        _ => {}
    }
    let lacks = |name| format!("feature {name:?} is null and has no default");
    match (event.value, part(event)) {
        (None, _) => Fate::Dead("missing_feature", lacks("value")),
        (_, None) => Fate::Dead("missing_feature", lacks("part")),
        (Some(value), _) if value < LOWEST => {
            Fate::Dead("scoring_failed", format!("{value} is too low"))
        }
        (Some(value), Some(part)) => {
            Fate::Predicted { late, score: value as f32 * 16.0 + part as f32 }
        }
    }
}

/// The fate of every record.
pub fn fates(input: &Input, rules: &Rules) -> BTreeMap<Origin, Fate> {
    let mut fates = BTreeMap::new();
    for (partition, records) in (0..).zip(&input.partitions) {
        let mut highest = None;
        for (offset, record) in (0..).zip(records) {
            let fate = match record {
                Some(event) => fate(event, highest, rules),
                None if rules.range.is_some() => Fate::NotRead,
                None => Fate::Dead("decode_failed", "not an event".to_owned()),
            };
            fates.insert((partition, offset), fate);
            highest = highest.max(record.as_ref().and_then(|event| event.time));
        }
    }
    fates
}

/// How a fate shows, if the record comes out.
pub fn outcome(fate: &Fate) -> Option<Outcome> {
    match fate {
        Fate::NotRead | Fate::Skipped => None,
        Fate::Dead(reason, detail) => {
            Some(Outcome::Dead { reason: (*reason).to_owned(), detail: detail.clone() })
        }
        Fate::Predicted { late, score } => {
            let status = if *late { "degraded" } else { "ok" }.to_owned();
            Some(Outcome::Predicted { status, vector: vec![*score] })
        }
    }
}

/// What is to be told of each record that comes out, and in which epoch: in that of its chunk what
/// is refused at once, in that of its release what has passed the gate.
fn expected(input: &Input, rules: &Rules, job: &Job) -> BTreeMap<Origin, Told> {
    let at_once = input.epochs();
    let released = match rules.order {
        Order::EventTime => job.setting.released(&input.chunks, &Input::UNOPENED),
        Order::Epoch | Order::Arrival => at_once.clone(),
    };
    let records: BTreeMap<Origin, _> = input.records().collect();
    let told = |(origin, fate): (Origin, Fate)| {
        let event = records[&origin].as_ref();
        let before_gate = ["decode_failed", "no_event_time", "late", "too_late"];
        let epochs = match &fate {
            Fate::Dead(reason, _) if before_gate.contains(reason) => &at_once,
            _ => &released,
        };
        let outcome = outcome(&fate)?;
        let epoch = epochs[&origin];
        let id = |event: &Event| match event.id {
            Some(id) => id.to_string(),
            None => format!("{}-{}", origin.0, origin.1),
        };
        let event_time = event.and_then(|event| event.time);
        Some((origin, Told { epoch, event_id: event.map(id), event_time, outcome }))
    };
    fates(input, rules).into_iter().filter_map(told).collect()
}

/// The counters of the run are those of the naive classification.
fn assert_accounted(results: &Results, input: &Input, rules: &Rules, name: &str) {
    let fates = fates(input, rules);
    let count = |is: fn(&Fate) -> bool| fates.values().filter(|fate| is(fate)).count() as u64;
    let account = Account {
        read: count(|fate| *fate != Fate::NotRead),
        predictions: count(|fate| matches!(fate, Fate::Predicted { .. })),
        skipped: count(|fate| *fate == Fate::Skipped),
        dead_letters: count(|fate| matches!(fate, Fate::Dead(..))),
        pending: 0,
    };
    assert_eq!(results.counters.account(), account, "{name}");
    assert_eq!(account.missing(), 0, "{name}");
    assert_eq!(results.counters.scored_rows(), account.predictions, "{name}");
}

/// The payload of a dead letter is its record.
fn assert_payloads(results: &Results, input: &Input, name: &str) {
    let records: BTreeMap<Origin, _> = input.records().collect();
    for came in results.letters.all() {
        let column = |name| came.rows.column_by_name(name).unwrap();
        let (partitions, payloads) = (column("partition"), column("payload").as_binary::<i32>());
        let offsets = column("offset").as_primitive::<arrow::datatypes::UInt64Type>();
        for row in 0..came.rows.num_rows() {
            let partition = partitions.as_string::<i32>().value(row);
            let partition = partition.strip_prefix("events-").unwrap().parse().unwrap();
            let origin = (partition, offsets.value(row));
            let payload = payloads.value(row);
            let Some(event) = records[&origin] else {
                assert_eq!(payload, damaged(origin), "{name}: {origin:?}");
                continue;
            };
            let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
            let found = (json["id"].as_i64(), json["key"].as_str(), json["value"].as_f64());
            assert_eq!(found, (event.id, event.key.as_deref(), event.value), "{name}: {origin:?}");
            assert_eq!(json["t"].is_null(), event.time.is_none(), "{name}: {origin:?}");
        }
    }
}

#[test]
fn every_record_comes_out_once_as_what_it_is_in_its_epoch() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for seed in seeds(1..=24) {
        let rules = Rules::of_seed(seed);
        let keys = [1, 7, 1_000_000][seed as usize % 3];
        let input = Input::random(seed, Shape { keys, ..Shape::default() });
        let job = rules.job([1, 3, 64][(seed / 3) as usize % 3]);
        let names = job.setting.partition_names();
        let expected = expected(&input, &rules, &job);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}, {rules:?}");
            let results = job.run(way, &input.chunks, &name);
            let told = results.told(&names, &name);
            for (origin, expected) in &expected {
                assert_eq!(told.get(origin), Some(expected), "{name}: {origin:?}");
            }
            assert_eq!(told.len(), expected.len(), "{name}");
            assert_accounted(&results, &input, &rules, &name);
            assert_payloads(&results, &input, &name);
        }
        for fate in fates(&input, &rules).values() {
            let kind = match fate {
                Fate::Dead(reason, _) => (*reason).to_owned(),
                Fate::Predicted { late, .. } => format!("predicted, late {late}"),
                other => format!("{other:?}"),
            };
            *seen.entry(kind).or_default() += 1;
        }
    }
    assert!(!all_are_run() || seen.len() == 10 && seen.values().all(|&n| n > 20), "{seen:?}");
}

/// Many rows, each with a key of its own: the end is compared.
#[test]
fn very_many_keys_are_all_accounted_for() {
    for seed in seeds(31..=31) {
        let rules = Rules { filter: 1, ..Rules::of_seed(0) };
        let shape = Shape { rows: 30_000, keys: 1 << 40, chunk_rows: 4_000, disorder: 120 };
        let input = Input::random(seed, shape);
        let fates = fates(&input, &rules);
        let job = rules.job(256);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let results = job.run(way, &input.chunks, &name);
            let told = results.told(&job.setting.partition_names(), &name);
            let account = results.counters.account();
            assert_eq!((account.missing(), account.pending), (0, 0), "{name}");
            assert_eq!(account.read, 30_000, "{name}");
            for (origin, fate) in &fates {
                let found = told.get(origin).map(|told| told.outcome.clone());
                assert_eq!(found, outcome(fate), "{name}: {origin:?}");
            }
        }
    }
}
