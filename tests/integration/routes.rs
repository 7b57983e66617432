//! Routes, variants, ensembles, cascades, fallbacks and breakers on several workers, while weights, breakers and
//! versions change: what becomes of a row is what a plain evaluation of its own says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::control::{ControlFeed, Since, Switched};
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::functions::Functions;
use driftline_operators::features::sql::Expression;
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, Control, Polled, Source, SourceError};
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::{ModelIdentity, Task};
use driftline_operators::model_bank::{ModelShelf, ReadyEnsemble, ReadyModel, ReadyModels};
use driftline_operators::model_input::{ModelInput, model_inputs};
use driftline_operators::prediction::PredictionFormat;
use driftline_operators::routes::assignment::{Weights, bucket};
use driftline_operators::routes::ensemble::{Ensemble, Member, Policy};
use driftline_operators::routes::table::{
    Breaker, Cascade, Choice, Lane, Route, RouteSettings, RouteTable, Scores,
};

use crate::input::{Event, Input, Shape};
use crate::job::{Job, Outcome, Results, Told, place, place_of, required, text};
use crate::models::{Calls, RowByRow};
use crate::record::{Origin, origins};
use crate::seeds::{all_are_run, seeds};
use crate::support::{Random, Routed, Setting, layout};
use crate::ways::ways;

fn declared() -> Vec<FeatureDeclaration> {
    vec![required("seen", Definition::Column("value".to_owned())), place()]
}

const MODELS: usize = 4;
/// The model whose features a row may lack.
const NEEDS_VALUE: usize = 2;
const WEIGHTS: [u32; 3] = [5_000, 3_000, 2_000];
const VARIANTS: [&str; 3] = ["one", "two", "three"];
/// Route and first lane of the variants.
const EXPERIMENT: (usize, usize) = (1, 1);
/// A cascade goes on with rows whose place is below it: those of the first partition.
const BELOW: f64 = 100_000.0;

fn route(name: &str, when: Option<&str>, choice: Choice) -> Route {
    Route { name: name.to_owned(), when: when.map(compile), choice }
}

/// Over columns of the event.
fn compile(sql: &str) -> Expression {
    let columns = layout().schema.fields()[..layout().event_columns].to_vec();
    let columns = columns.iter();
    let columns: Vec<_> =
        columns.map(|field| (field.name().clone(), field.data_type().clone())).collect();
    Expression::compile(sql, &columns, &Functions::default()).unwrap()
}

fn lane(route: usize, variant: Option<&str>, chain: &[Scores]) -> Lane {
    let shadows = vec![Scores::Model(3), Scores::Model(NEEDS_VALUE)];
    Lane { route, variant: variant.map(str::to_owned), chain: chain.to_vec(), shadows }
}

const NAMED: &str =
    "CASE WHEN value < -10 THEN 'both' WHEN value < -5 THEN 'nobody' WHEN value < -2 THEN 'm2' END";

fn table() -> RouteTable {
    use Scores::{Cascade as C, Ensemble as E, Model as M};
    let variants =
        Choice::Variants { id: Some(compile("key")), salt: "salt".to_owned(), first: EXPERIMENT.1 };
    let named = vec![("both".to_owned(), 4), ("m2".to_owned(), 5)];
    RouteTable {
        routes: vec![
            route("keyless", Some("key IS NULL"), Choice::One(0)),
            route("experiment", Some("value > 40"), variants),
            route("named", None, Choice::ByName { name: compile(NAMED), lanes: named }),
            route("rest", Some("value IS NOT NULL"), Choice::One(6)),
        ],
        lanes: vec![
            lane(0, None, &[C(0), M(3)]),
            lane(1, Some(VARIANTS[0]), &[M(0), M(1)]),
            lane(1, Some(VARIANTS[1]), &[E(0), M(0)]),
            lane(1, Some(VARIANTS[2]), &[M(NEEDS_VALUE)]),
            lane(2, None, &[E(0), M(NEEDS_VALUE), M(3)]),
            lane(2, None, &[M(NEEDS_VALUE), C(0)]),
            lane(3, None, &[M(1), E(0)]),
        ],
        ensembles: vec![ensemble()],
        cascades: vec![Cascade {
            name: "careful".to_owned(),
            first: 0,
            then: 1,
            confidence_below: BELOW,
        }],
        models: (0..MODELS).map(|model| format!("m{model}")).collect(),
    }
}

fn ensemble() -> Ensemble {
    let member = |model, weight| Member { model, weight };
    Ensemble {
        name: "both".to_owned(),
        policy: Policy::WeightedAverage,
        members: vec![member(0, 3.0), member(1, 1.0)],
        neutral: None,
    }
}

/// What a change of control changes: its number says it.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Version(usize),
    Weights([u32; 3]),
    Breaker(usize, Breaker),
}

fn change(seed: u64, control: u64) -> Change {
    let mut random = Random::new(seed * 1_000_003 + control);
    random.below(7);
    match random.below(3) {
        0 => Change::Version(random.below(MODELS as u64) as usize),
        1 => {
            let first = random.below(10_001) as u32;
            let second = random.below(u64::from(10_001 - first)) as u32;
            Change::Weights([first, second, 10_000 - first - second])
        }
        _ => {
            let breaker = match random.below(6) {
                0 => Breaker::Open,
                1 => Breaker::HalfOpen(4_000),
                _ => Breaker::Closed,
            };
            Change::Breaker(random.below(MODELS as u64) as usize, breaker)
        }
    }
}

/// What holds in a state of control: all changes up to it.
struct State {
    versions: [u64; MODELS],
    weights: [u32; 3],
    breakers: [Breaker; MODELS],
}

fn state(seed: u64, control: u64) -> State {
    let mut state =
        State { versions: [0; MODELS], weights: WEIGHTS, breakers: [Breaker::Closed; MODELS] };
    for control in 1..=control {
        match change(seed, control) {
            Change::Version(model) => state.versions[model] = control,
            Change::Weights(weights) => state.weights = weights,
            Change::Breaker(model, breaker) => state.breakers[model] = breaker,
        }
    }
    state
}

fn settings(of: &State) -> RouteSettings {
    let weights = Weights::new(of.weights.to_vec()).unwrap();
    RouteSettings { weights: vec![None, Some(weights), None, None], breakers: of.breakers.to_vec() }
}

/// Whether a model refuses a record.
fn refuses(seed: u64, model: usize, place: f64) -> bool {
    let mut random = Random::new(seed + 31 * place as u64 + 7 * model as u64 + 1);
    random.below(3);
    random.below(6) == 0
}

/// What a version of a model says of a record.
fn says(model: usize, version: u64, place: f64) -> Vec<f32> {
    vec![place as f32, model as f32, version as f32]
}

/// What each model is given: made once, as it takes its time.
#[derive(Clone)]
struct Given(Vec<(Vec<ModelInput>, SchemaRef)>);

impl Given {
    fn new(setting: &Setting) -> Self {
        let plan = setting.plan();
        let enriched = plan.enriched_schema(&layout());
        let of_model = |model: usize| {
            let names: &[&str] = if model == NEEDS_VALUE { &["seen", "place"] } else { &["place"] };
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let inputs = model_inputs(&plan, &layout(), &names).unwrap();
            let columns: Vec<usize> = inputs.iter().map(|input| input.column).collect();
            (inputs, enriched.project(&columns).unwrap().into())
        };
        Given((0..MODELS).map(of_model).collect())
    }
}

fn made(seed: u64, model: usize, version: u64, worker: usize, given: &Given) -> ReadyModel {
    let score = move |row: &[Option<f64>]| {
        let place = row[row.len() - 1].unwrap();
        assert!(model != NEEDS_VALUE || row[0].is_some(), "a row without what the model needs");
        match refuses(seed, model, place) {
            true => Err(format!("m{model} refuses it")),
            false => Ok(says(model, version, place)),
        }
    };
    let identity = ModelIdentity { name: format!("m{model}"), version: version.to_string() };
    let (inputs, features) = given.0[model].clone();
    ReadyModel {
        format: format_of(&identity),
        identity,
        version: 0,
        inputs,
        features,
        model: Box::new(RowByRow::new(worker, Task::Multiclass, score, Calls::default())),
        dependence: BatchDependence::PadSingleRow,
        max_rows: None,
    }
}

fn format_of(identity: &ModelIdentity) -> PredictionFormat {
    PredictionFormat::new(layout(), identity.clone(), Default::default(), false, true).with_routes()
}

fn routed(seed: u64, given: Given) -> Routed {
    let models = move |worker: usize| {
        let models = (0..MODELS).map(|model| made(seed, model, 0, worker, &given));
        let identity = ModelIdentity { name: "both".to_owned(), version: "0".to_owned() };
        let both = ReadyEnsemble {
            format: format_of(&identity),
            identity,
            version: 0,
            task: Task::Multiclass,
            width: 3,
            gives_doubles: false,
        };
        ReadyModels {
            models: models.collect(),
            ensembles: vec![both],
            settings: Arc::new(settings(&state(seed, 0))),
        }
    };
    Routed { table: Arc::new(table()), models: Arc::new(models) }
}

struct Shelf {
    seed: u64,
    given: Given,
    taken: Mutex<BTreeSet<(usize, u64, usize)>>,
}

impl ModelShelf for Shelf {
    fn since(&self, model: usize, control: u64) -> u64 {
        state(self.seed, control).versions[model]
    }

    fn take(&self, model: usize, since: u64, worker: usize) -> Option<ReadyModel> {
        let is_new = self.taken.lock().unwrap().insert((model, since, worker));
        assert!(is_new, "worker {worker} has taken version {since} of {model} twice");
        Some(made(self.seed, model, since, worker, &self.given))
    }

    fn settings(&self, control: u64) -> Option<Arc<RouteSettings>> {
        Some(Arc::new(settings(&state(self.seed, control))))
    }

    fn free(&self, _worker: usize, _control: u64, _freed: Vec<ReadyModel>) {}
}

/// Changes something with some chunks.
struct Changing {
    inner: Box<dyn Source>,
    feed: ControlFeed,
    last: Arc<AtomicU64>,
    random: Random,
}

impl Source for Changing {
    fn next_epoch(&self) -> Option<u64> {
        self.inner.next_epoch()
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        let polled = self.inner.poll(allowance);
        if matches!(&polled, Ok(Polled::Chunk(_))) && self.random.below(3) == 0 {
            self.feed.switch_to(self.last.fetch_add(1, Relaxed) + 1);
        }
        polled
    }
}

// THE EVALUATION

/// What becomes of a row that reaches its route.
#[derive(Debug, PartialEq)]
enum Expected {
    NoRoute,
    Dead(&'static str),
    Predicted {
        route: &'static str,
        variant: Option<&'static str>,
        by: String,
        vector: Vec<f32>,
        degraded: bool,
    },
}

struct Evaluation {
    seed: u64,
    state: State,
    place: f64,
    /// The request id.
    id: String,
    has_value: bool,
}

impl Evaluation {
    fn model(&self, model: usize) -> Option<Vec<f32>> {
        let share = match self.state.breakers[model] {
            Breaker::Closed => 10_000,
            Breaker::HalfOpen(share) => share,
            Breaker::Open => 0,
        };
        let is_given = bucket(&format!("trial of m{model}"), &self.id) < share;
        let lacks = model == NEEDS_VALUE && !self.has_value;
        let is_scored = is_given && !lacks && !refuses(self.seed, model, self.place);
        is_scored.then(|| says(model, self.state.versions[model], self.place))
    }

    /// By whom, what, and whether a part of it has failed.
    fn of(&self, scores: Scores) -> Option<(String, Vec<f32>, bool)> {
        match scores {
            Scores::Model(model) => Some((format!("m{model}"), self.model(model)?, false)),
            Scores::Cascade(_) => {
                let first = self.model(0)?;
                let confidence = first.iter().copied().fold(f32::MIN, f32::max);
                if f64::from(confidence) >= BELOW {
                    return Some(("m0".to_owned(), first, false));
                }
                match self.model(1) {
                    Some(then) => Some(("m1".to_owned(), then, false)),
                    None => Some(("m0".to_owned(), first, true)),
                }
            }
            Scores::Ensemble(_) => {
                let said = [self.model(0), self.model(1)];
                if said.iter().all(Option::is_none) {
                    return None;
                }
                let neutral = vec![1.0 / 3.0; 3];
                let of = |said: &Option<Vec<f32>>| match said {
                    Some(said) => said.iter().map(|&number| f64::from(number)).collect(),
                    None => neutral.clone(),
                };
                let [one, other]: [Vec<f64>; 2] = [of(&said[0]), of(&said[1])];
                let mean = |at: usize| ((3.0 * one[at] + other[at]) / 4.0) as f32;
                let has_failed = said.iter().any(Option::is_none);
                Some(("both".to_owned(), (0..3).map(mean).collect(), has_failed))
            }
        }
    }

    fn on_lane(
        &self,
        route: &'static str,
        variant: Option<&'static str>,
        chain: &[Scores],
    ) -> Expected {
        let asks = chain[0] == Scores::Model(NEEDS_VALUE);
        if asks && !self.has_value {
            return Expected::Dead("missing_feature");
        }
        for (at, scores) in chain.iter().enumerate() {
            if let Some((by, vector, has_failed)) = self.of(*scores) {
                let degraded = has_failed || at > 0;
                return Expected::Predicted { route, variant, by, vector, degraded };
            }
        }
        Expected::Dead("scoring_failed")
    }

    fn expected(&self, event: &Event) -> Expected {
        use Scores::{Cascade as C, Ensemble as E, Model as M};
        let value = event.value.unwrap_or(f64::NAN);
        let Some(key) = &event.key else {
            return self.on_lane("keyless", None, &[C(0), M(3)]);
        };
        if value > 40.0 {
            let at = bucket("salt", key);
            let [first, second, _] = self.state.weights;
            let chains: [&[Scores]; 3] = [&[M(0), M(1)], &[E(0), M(0)], &[M(2)]];
            let variant = usize::from(at >= first) + usize::from(at >= first + second);
            return self.on_lane("experiment", Some(VARIANTS[variant]), chains[variant]);
        }
        if value < -10.0 {
            return self.on_lane("named", None, &[E(0), M(2), M(3)]);
        }
        if value < -5.0 {
            return Expected::Dead("unknown_model");
        }
        if value < -2.0 {
            return self.on_lane("named", None, &[M(2), C(0)]);
        }
        match event.value {
            Some(_) => self.on_lane("rest", None, &[M(1), E(0)]),
            None => Expected::NoRoute,
        }
    }
}

/// An event without an id goes by its place.
fn request_id((partition, offset): Origin, event: &Event) -> String {
    event.id.map_or_else(|| format!("{partition}-{offset}"), |id| id.to_string())
}

// THE TEST

/// (route, variant, model) of each record that has a prediction.
fn labels(results: &Results) -> BTreeMap<Origin, [Option<String>; 3]> {
    let of_rows = |rows: &arrow::array::RecordBatch| {
        let of_row =
            |row: usize| ["route", "variant", "model_name"].map(|name| text(rows, name, row));
        origins(rows)
            .into_iter()
            .enumerate()
            .map(|(row, origin)| (origin, of_row(row)))
            .collect::<Vec<_>>()
    };
    results.predictions.all().iter().flat_map(|came| of_rows(&came.rows)).collect()
}

fn holds(order: Order, decided: &[Switched], told: &Told, epoch: u64) -> u64 {
    let holds = |switched: &&Switched| match switched.since {
        Since::EventTime(_) => switched.epoch < told.epoch,
        Since::Epoch(from) => from <= epoch,
    };
    assert!(matches!(order, Order::EventTime | Order::Epoch | Order::Arrival));
    decided.iter().filter(holds).map(|switched| switched.control).max().unwrap_or(0)
}

fn job(order: Order, seed: u64) -> Job {
    let mut random = Random::new(seed);
    let bounds = BatchBounds {
        max_rows: [1, 5, 32, 1_000][random.below(4) as usize],
        timeout: Duration::from_millis(random.below(2) * 1_000),
    };
    let setting = Setting {
        order,
        partitions: Input::PARTITIONS,
        allowed_lateness_ms: 20,
        ..Setting::new(declared)
    };
    let given = Given::new(&setting);
    let shelf = Shelf { seed, given: given.clone(), taken: Mutex::default() };
    let routed = routed(seed, given);
    let setting = Setting { shelf: Some(Arc::new(shelf)), routed: Some(routed), ..setting };
    Job {
        setting,
        filter: None,
        warm_up_from: i64::MIN,
        from: i64::MIN,
        to: i64::MAX,
        first_offsets: Vec::new(),
        inputs: vec!["place".to_owned()],
        bounds,
        dependence: BatchDependence::PadSingleRow,
        make_model: Arc::new(|_| unreachable!("it has several")),
        drift: None,
    }
}

/// Why a record is no row of a route.
const BEFORE_ROUTES: [&str; 2] = ["no_event_time", "too_late"];

#[test]
fn each_row_is_scored_as_an_evaluation_of_its_own_says_whatever_changes() {
    let orders = [Order::EventTime, Order::Epoch, Order::Arrival];
    let (mut seen, mut changes) = (BTreeMap::<String, usize>::new(), 0);
    for seed in seeds(0..=2) {
        let input = Input::random(seed, Shape { rows: 800, chunk_rows: 7, ..Shape::default() });
        let (epochs, order) = (input.epochs(), orders[seed as usize % 3]);
        for way in ways() {
            let name = format!("seed {seed}, {order:?}, {way:?}");
            let mut job = job(order, seed);
            let (feed, last) = (ControlFeed::default(), Arc::new(AtomicU64::new(0)));
            job.setting.control = Control { feed: feed.clone(), schedule: Vec::new() };
            let source = {
                let (chunks, feed, last) = (input.chunks.clone(), feed.clone(), last.clone());
                move |worker: usize, workers: usize| -> Box<dyn Source> {
                    let inner = Input::source(&chunks, worker, workers);
                    let random = Random::new(seed + worker as u64);
                    Box::new(Changing { inner, feed: feed.clone(), last: last.clone(), random })
                }
            };
            let results = job.run_on(way, source, &name);
            let told = results.told(&job.setting.partition_names(), &name);
            let (labels, decided) = (labels(&results), feed.decided());
            changes += decided.len();
            let mut without_route = 0;
            for (origin, event) in input.events() {
                let Some(told) = told.get(&origin) else {
                    // Nothing is told of a row that no route takes, whatever holds.
                    let has_route = event.key.is_none() || event.value.is_some();
                    assert!(!has_route, "{name}: nothing is told of {origin:?}: {event:?}");
                    without_route += 1;
                    continue;
                };
                if let Outcome::Dead { reason, .. } = &told.outcome
                    && BEFORE_ROUTES.contains(&reason.as_str())
                {
                    continue;
                }
                let evaluation = Evaluation {
                    seed,
                    state: state(seed, holds(order, &decided, told, epochs[&origin])),
                    place: place_of(origin),
                    id: request_id(origin, event),
                    has_value: event.value.is_some(),
                };
                let expected = evaluation.expected(event);
                *seen.entry(kind(&expected)).or_default() += 1;
                let named = format!("{name}: {origin:?}: {event:?}, {told:?}");
                check(&expected, told, labels.get(&origin), &named);
            }
            assert_eq!(results.counters.without_route(), without_route, "{name}");
            let account = results.counters.account();
            assert_eq!((account.missing(), account.pending), (0, 0), "{name}");
        }
    }
    if all_are_run() {
        assert!(changes > 500, "{changes}");
        assert!(seen.len() >= 20 && seen.values().all(|&rows| rows > 4), "{seen:?}");
    }
}

/// What came up.
fn kind(expected: &Expected) -> String {
    match expected {
        Expected::Predicted { route, variant, by, degraded, .. } => {
            format!("{route} {variant:?} {by} {degraded}")
        }
        other => format!("{other:?}"),
    }
}

fn check(expected: &Expected, told: &Told, labels: Option<&[Option<String>; 3]>, named: &str) {
    match (expected, &told.outcome) {
        (Expected::Dead(reason), Outcome::Dead { reason: found, .. }) => {
            assert_eq!(found, reason, "{named}");
        }
        (
            Expected::Predicted { route, variant, by, vector, degraded },
            Outcome::Predicted { status, vector: found },
        ) => {
            assert_eq!(found, vector, "{named}");
            let of = [Some(*route), *variant, Some(by.as_str())];
            let [of_route, of_variant, model] = labels.expect(named);
            let labels = [of_route.as_deref(), of_variant.as_deref(), model.as_deref()];
            assert_eq!(labels, of, "{named}");
            // A late row is degraded anyhow.
            assert!(!degraded || status == "degraded", "{named}");
        }
        _ => panic!("{named}: expected is {expected:?}"),
    }
}
