//! Models that are switched under load, on several workers: every event is scored once, and by the
//! model that the rule says, row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::control::{ControlFeed, Since, Switched};
use driftline_operators::features::declaration::FeatureDeclaration;
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, Control, Polled, Source, SourceError};
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::{Model, Task};
use driftline_operators::model_bank::{ModelShelf, ReadyModel};

use crate::input::{Input, Shape};
use crate::job::{Job, Outcome, Told, place, place_of, ready};
use crate::models::{Calls, RowByRow};
use crate::record::Origin;
use crate::seeds::{all_are_run, seeds};
use crate::support::{Random, Setting};
use crate::ways::{Way, ways};

fn declared() -> Vec<FeatureDeclaration> {
    vec![place()]
}

const ORDERS: [Order; 3] = [Order::EventTime, Order::Epoch, Order::Arrival];

/// The model of a state of control: its predictions say which one it is, and of which record.
fn model(control: u64, worker: usize) -> Box<dyn Model> {
    let score = move |row: &[Option<f64>]| Ok(vec![control as f32, row[0].unwrap() as f32, 0.0]);
    Box::new(RowByRow::new(worker, Task::Multiclass, score, Calls::default()))
}

/// Has a model for every state of control, and keeps account of them.
struct Shelf {
    setting: Setting,
    /// By state and worker.
    taken: Mutex<BTreeSet<(u64, usize)>>,
    /// Taken and not given back, by worker; and the most there were.
    out: Mutex<BTreeMap<usize, (usize, usize)>>,
    /// Below which state each worker needs none.
    freed: Mutex<BTreeMap<usize, u64>>,
}

impl Shelf {
    fn new(setting: &Setting) -> Arc<Self> {
        let (taken, out, freed) = Default::default();
        Arc::new(Shelf { setting: setting.clone(), taken, out, freed })
    }
}

impl ModelShelf for Shelf {
    fn since(&self, _model: usize, control: u64) -> u64 {
        control
    }

    fn take(&self, _model: usize, control: u64, worker: usize) -> Option<ReadyModel> {
        let is_new = self.taken.lock().unwrap().insert((control, worker));
        assert!(is_new, "worker {worker} has taken the model of {control} twice");
        let below = self.freed.lock().unwrap().get(&worker).copied().unwrap_or_default();
        assert!(control >= below, "worker {worker} needed none below {below}, and takes {control}");
        let mut out = self.out.lock().unwrap();
        let (now, most) = out.entry(worker).or_insert((1, 1));
        *now += 1;
        *most = (*most).max(*now);
        let inputs = ["place".to_owned()];
        let dependence = BatchDependence::PadSingleRow;
        Some(ready(model(control, worker), dependence, &self.setting, &inputs))
    }

    fn free(&self, worker: usize, control: u64, freed: Vec<ReadyModel>) {
        let before = self.freed.lock().unwrap().insert(worker, control);
        assert!(before < Some(control), "worker {worker} frees what is below {control} again");
        self.out.lock().unwrap().entry(worker).or_insert((1, 1)).0 -= freed.len();
    }
}

/// Has the model switched with most chunks, sometimes several times.
struct Switching {
    inner: Box<dyn Source>,
    feed: ControlFeed,
    last: Arc<AtomicU64>,
    random: Random,
}

impl Source for Switching {
    fn next_epoch(&self) -> Option<u64> {
        self.inner.next_epoch()
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        let polled = self.inner.poll(allowance);
        if let Ok(Polled::Chunk(_)) = &polled {
            for _ in 0..self.random.below(5) {
                self.feed.switch_to(self.last.fetch_add(1, Relaxed) + 1);
            }
        }
        polled
    }
}

fn job(order: Order, seed: u64) -> (Job, Arc<Shelf>) {
    let mut random = Random::new(seed);
    let bounds = BatchBounds {
        max_rows: [1, 4, 32, 1_000][random.below(4) as usize],
        timeout: Duration::from_millis(random.below(2) * 1_000),
    };
    let setting = Setting {
        order,
        partitions: Input::PARTITIONS,
        allowed_lateness_ms: 20,
        ..Setting::new(declared)
    };
    let shelf = Shelf::new(&setting);
    let job = Job {
        setting: Setting { shelf: Some(shelf.clone()), ..setting },
        filter: None,
        warm_up_from: i64::MIN,
        from: i64::MIN,
        to: i64::MAX,
        first_offsets: Vec::new(),
        inputs: vec!["place".to_owned()],
        bounds,
        dependence: BatchDependence::PadSingleRow,
        make_model: Arc::new(|worker| model(0, worker)),
        drift: None,
    };
    (job, shelf)
}

/// The state that has scored a record, and whether it was late.
fn scored_by(told: &Told, origin: Origin, name: &str) -> Option<(u64, bool)> {
    match &told.outcome {
        Outcome::Predicted { status, vector } => {
            assert_eq!(f64::from(vector[1]), place_of(origin), "{name}: {origin:?}");
            Some((vector[0] as u64, status == "degraded"))
        }
        Outcome::Dead { reason, .. } => {
            let known = ["undecodable", "invalid_time", "missing_id"];
            assert!(reason != "scoring_failed" || known.contains(&reason.as_str()), "{name}");
            None
        }
    }
}

/// The greatest of the states that `holds`.
fn greatest(decided: &[Switched], holds: impl Fn(&Switched) -> bool) -> u64 {
    decided
        .iter()
        .filter(|switched| holds(switched))
        .map(|switched| switched.control)
        .max()
        .unwrap_or(0)
}

/// What each event was scored by, checked against the rule.
fn check(
    order: Order,
    told: &BTreeMap<Origin, Told>,
    decided: &[Switched],
    epochs: &BTreeMap<Origin, u64>,
    name: &str,
) -> BTreeMap<Origin, (u64, bool)> {
    let mut scored = BTreeMap::new();
    for (&origin, told) in told {
        let Some((control, is_late)) = scored_by(told, origin, name) else { continue };
        scored.insert(origin, (control, is_late));
        let named = format!("{name}: {origin:?} of epoch {}", told.epoch);
        if order != Order::EventTime {
            let epoch = epochs[&origin];
            let from = |s: &Switched| matches!(s.since, Since::Epoch(from) if from <= epoch);
            assert_eq!(control, greatest(decided, from), "{named}");
            continue;
        }
        // Whatever leaves behind the epoch of a switch takes it.
        assert_eq!(control, greatest(decided, |s| s.epoch < told.epoch), "{named}");
        if !is_late {
            let time = told.event_time.unwrap();
            let from = |s: &Switched| matches!(s.since, Since::EventTime(from) if from <= time);
            assert_eq!(control, greatest(decided, from), "{named}, at {time}");
        }
    }
    scored
}

#[test]
fn each_row_is_scored_once_by_the_model_that_the_rule_says() {
    let (mut rows, mut switches, mut late) = (0, 0, 0);
    for seed in seeds(0..=5) {
        let shape = Shape { rows: 1_500, chunk_rows: 7, ..Shape::default() };
        let input = Input::random(seed, shape);
        let (epochs, order) = (input.epochs(), ORDERS[seed as usize % 3]);
        for way in ways() {
            let name = format!("seed {seed}, {order:?}, {way:?}");
            let (mut job, shelf) = job(order, seed);
            let (feed, last) = (ControlFeed::default(), Arc::new(AtomicU64::new(0)));
            job.setting.control = Control { feed: feed.clone(), schedule: Vec::new() };
            let source = {
                let (chunks, feed, last) = (input.chunks.clone(), feed.clone(), last.clone());
                move |worker: usize, workers: usize| -> Box<dyn Source> {
                    let inner = Input::source(&chunks, worker, workers);
                    let random = Random::new(seed + worker as u64);
                    Box::new(Switching { inner, feed: feed.clone(), last: last.clone(), random })
                }
            };
            let results = job.run_on(way, source, &name);
            let told = results.told(&job.setting.partition_names(), &name);
            let asked: BTreeSet<Origin> = input.records().map(|(origin, _)| origin).collect();
            assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), asked, "{name}");
            let account = results.counters.account();
            assert_eq!((account.missing(), account.pending), (0, 0), "{name}");
            let decided = feed.decided();
            assert_eq!(decided.len() as u64, last.load(Relaxed), "{name}");
            let scored = check(order, &told, &decided, &epochs, &name);
            rows += scored.len();
            late += scored.values().filter(|(_, is_late)| *is_late).count();
            switches += decided.len();
            assert!(
                scored.values().map(|(control, _)| control).collect::<BTreeSet<_>>().len() > 50
            );
            // All are given back but the last, and few are held at a time.
            for (worker, (now, most)) in shelf.out.lock().unwrap().iter() {
                assert!(*now <= 1 && *most <= 12, "{name}: worker {worker} holds {now}, {most}");
            }
            if order == Order::EventTime {
                replayed(&input, seed, &decided, &scored);
            }
        }
    }
    if all_are_run() {
        assert!(rows > 50_000 && switches > 15_000 && late > 100, "{rows}, {switches}, {late}");
    }
}

/// A run with the switches as they were recorded scores what is not late alike.
fn replayed(
    input: &Input,
    seed: u64,
    decided: &[Switched],
    scored: &BTreeMap<Origin, (u64, bool)>,
) {
    let schedule = decided.iter().map(|switched| match switched.since {
        Since::EventTime(time) => (time, switched.control),
        Since::Epoch(epoch) => panic!("seed {seed}: from epoch {epoch} on"),
    });
    let schedule: Vec<(i64, u64)> = schedule.collect();
    for way in [Way::Fused, Way::Threads(3)] {
        let name = format!("seed {seed}, {way:?}, again");
        let (mut job, _) = job(Order::EventTime, seed + 1);
        job.setting.control = Control { feed: ControlFeed::default(), schedule: schedule.clone() };
        let chunks = input.chunks.clone();
        let source = move |worker, workers| Input::source(&chunks, worker, workers);
        let results = job.run_on(way, source, &name);
        let told = results.told(&job.setting.partition_names(), &name);
        for (origin, told) in &told {
            let Some((control, false)) = scored_by(told, *origin, &name) else { continue };
            assert_eq!(Some(&(control, false)), scored.get(origin), "{name}: {origin:?}");
        }
    }
}
