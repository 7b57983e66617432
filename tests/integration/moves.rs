//! Jobs that are stopped on the way and gone on with by another number of workers, from the state that
//! they left: what comes of it is what comes of a run that nobody disturbs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use arrow::ipc::writer::StreamWriter;
use driftline_operators::accounting::Counters;
use driftline_operators::admit::LatePolicy;
use driftline_operators::batch_probe::BatchDependence;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::profile::Bins;
use driftline_operators::drift::runs::Runs;
use driftline_operators::drift::sample::Mode;
use driftline_operators::drift::windows::{Revisions, Schedule};
use driftline_operators::failure::Failure;
use driftline_operators::features::categories::Categories;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::features::table::StaticTable;
use driftline_operators::features::window::{Aggregate, OwnAggregate, WindowSpec};
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, Polled, Source, SourceError};
use driftline_operators::key_group::KEY_GROUPS;
use driftline_operators::micro_batch::BatchBounds;
use driftline_operators::model::Task;
use driftline_operators::run::Run;
use driftline_operators::sinks::Output;
use driftline_operators::sinks::state::import as outputs_of;
use driftline_operators::state::groups::rows_at;
use driftline_operators::state::{Piece, Saving, StateParts, StateStore};

use crate::drift::{Revised, place};
use crate::job::{Job, Results};
use crate::models::{Calls, RowByRow};
use crate::record::{Came, Origin, origins};
use crate::seeds::{all_are_run, seeds};
use crate::stored::{Memory, Stored};
use crate::support::{
    MakeChunk, Partition, Random, Row, Scripted, Setting, TestTable, VersionRow, chunks_of,
};
use crate::ways::Way;

const LATENESS_MS: i64 = 25;
const HORIZON_MS: i64 = 150;
const EVENTS: usize = 2;

fn feature(name: &str, definition: Definition, allow_null: bool) -> FeatureDeclaration {
    FeatureDeclaration { name: name.to_owned(), definition, default: None, allow_null }
}

/// The difference of the greatest and the least value, times how many there are.
fn spread(rows: &mut dyn Iterator<Item = (i64, f64)>) -> Option<f64> {
    let values: Vec<f64> = rows.map(|(_, value)| value).collect();
    let least = values.iter().copied().min_by(f64::total_cmp)?;
    let greatest = values.iter().copied().max_by(f64::total_cmp)?;
    Some((greatest - least) * values.len() as f64)
}

/// Aggregate, key, whether it has a value, and its length.
const WINDOWS: [(Aggregate, &str, bool, i64); 9] = [
    (Aggregate::Sum, "key", true, 60),
    (Aggregate::Mean, "key", true, 200),
    (Aggregate::Std, "key", true, 120),
    (Aggregate::TimeSinceLast, "key", false, 90),
    (Aggregate::Count, "id % 5", true, 40),
    (Aggregate::Count, "id % 5", false, 40),
    (Aggregate::Min, "concat('t', id % 3)", true, 70),
    (Aggregate::Max, "concat('t', id % 3)", true, 70),
    (Aggregate::Count, "concat('ever ', id % 307)", false, WindowSpec::EVER),
];

/// Windows of every kind, lookups in tables that change and in one that does not, codes.
fn declared(history_ms: i64) -> Vec<FeatureDeclaration> {
    let spec = |aggregate, length_ms| WindowSpec { aggregate, length_ms, history_ms };
    let mut declared = vec![feature("value", Definition::Column("value".to_owned()), false)];
    for (at, (aggregate, key, has_value, length_ms)) in WINDOWS.into_iter().enumerate() {
        let is_ever = length_ms == WindowSpec::EVER;
        let definition = Definition::Window {
            key: key.to_owned(),
            value: has_value.then(|| "value".to_owned()),
            spec: spec(aggregate, length_ms),
            // Two of each key group.
            keys_max: is_ever.then_some(2 * KEY_GROUPS),
        };
        declared.push(feature(&format!("window_{at}"), definition, true));
    }
    let own = Aggregate::Own(OwnAggregate::new("spread", spread));
    let (key, value) = ("key".to_owned(), Some("value * 3".to_owned()));
    let definition = Definition::Window { key, value, spec: spec(own, 80), keys_max: None };
    declared.push(feature("spread", definition, true));
    let looked_up =
        [(0, "key", Some("value")), (0, "concat('k', id % 5)", None), (1, "key", Some("value"))];
    for (at, (table, key, column)) in looked_up.into_iter().enumerate() {
        let (key, column) = (key.to_owned(), column.map(str::to_owned));
        let definition = Definition::AsOf { table, key, column };
        declared.push(feature(&format!("as_of_{at}"), definition, true));
    }
    declared.push(feature("code", encoded(), true));
    let (key, column) = ("key".to_owned(), "seats".to_owned());
    declared.push(feature("seats", Definition::Lookup { table: seats(), key, column }, true));
    declared
}

fn encoded() -> Definition {
    let categories = ["k1", "k2"].map(str::to_owned);
    let categories = Categories::new(&categories, Some(-1.0)).unwrap();
    Definition::Encode { input: "key".to_owned(), categories }
}

fn seats() -> StaticTable {
    let keys: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["k0", "k3"]));
    let seats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![20.0, 5.5]));
    let rows = RecordBatch::try_from_iter([("key", keys), ("seats", seats)]).unwrap();
    StaticTable::new(rows, "key").unwrap()
}

fn with_history() -> Vec<FeatureDeclaration> {
    declared(HORIZON_MS)
}

fn without_history() -> Vec<FeatureDeclaration> {
    declared(0)
}

/// Every bit of every feature shows in it.
fn score(features: &[Option<f64>]) -> Result<Vec<f32>, String> {
    if features[0].is_some_and(|value| value < -17.0) {
        return Err("too low".to_owned());
    }
    let mix = |hash: u64, value: &Option<f64>| {
        let bits = value.map_or(0x5555, f64::to_bits);
        (hash ^ bits).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23)
    };
    Ok(vec![(features.iter().fold(1, mix) >> 40) as f32])
}

/// A job and its input.
struct Case {
    job: Job,
    chunks: Vec<MakeChunk>,
    name: String,
}

impl Case {
    fn of_seed(seed: u64, order: Order) -> Self {
        let late = [LatePolicy::Score, LatePolicy::Skip, LatePolicy::DeadLetter];
        let late = late[seed as usize % 3];
        let is_scored = late == LatePolicy::Score;
        let mut tables = ["table", "young"]
            .map(|name| TestTable { allowed_lateness_ms: 40, ..TestTable::new(name) });
        tables[0].partitions = 2;
        tables[1].table.max_age_ms = Some(60);
        tables.iter_mut().for_each(|table| table.table.eager = order == Order::Arrival);
        let setting = Setting {
            order,
            partitions: EVENTS,
            allowed_lateness_ms: LATENESS_MS,
            late,
            late_horizon_ms: HORIZON_MS,
            tables: tables.to_vec(),
            ..Setting::new(if is_scored { with_history } else { without_history })
        };
        let inputs: Vec<String> = (setting.declared)().into_iter().map(|f| f.name).collect();
        let job = Job {
            setting,
            filter: seed.is_multiple_of(2).then(|| "id % 13 <> 4".to_owned()),
            warm_up_from: i64::MIN,
            from: i64::MIN,
            to: i64::MAX,
            first_offsets: Vec::new(),
            drift: Some(drift_of(seed, inputs.len())),
            inputs,
            bounds: BatchBounds { max_rows: 16, timeout: Duration::from_millis(2) },
            dependence: BatchDependence::Invariant,
            make_model: Arc::new(|worker| {
                Box::new(RowByRow::new(worker, Task::Regression, score, Calls::default()))
            }),
        };
        let chunks = chunks_of(&partitions(seed), 25, &mut Random::new(seed), |open, random| {
            let any = open.get(random.below(open.len().max(1) as u64) as usize);
            let furthest = open.iter().min_by_key(|(_, time)| *time);
            let next = if random.below(4) == 0 { any } else { furthest };
            next.map(|(partition, _)| *partition)
        });
        Case { job, chunks, name: format!("seed {seed}, {order:?}, {late:?}") }
    }

    /// Runs over some of the chunks.
    fn run(&self, way: Way, chunks: &[MakeChunk], state: StateParts, failure: &Failure) -> Results {
        let setting = Setting { state, failure: failure.clone(), ..self.job.setting.clone() };
        let job = Job { setting, ..self.job.clone() };
        let chunks = chunks.to_vec();
        let source = move |worker, workers| Scripted::share(&chunks, worker, workers);
        job.run_until(way, source, &format!("{}, {way:?}", self.name))
    }

    /// What comes of the job if nobody disturbs it.
    fn undisturbed(&self) -> Outcomes {
        let mut outcomes = Outcomes::default();
        outcomes.add(&self.run(
            Way::Fused,
            &self.chunks,
            StateParts::default(),
            &Failure::default(),
        ));
        outcomes
    }

    /// What comes of it if it is stopped between ways, each time in the middle of what is left.
    fn moved(&self, ways: &[Way], random: &mut Random) -> Outcomes {
        let mut cuts: Vec<usize> =
            ways[1..].iter().map(|_| random.below(self.chunks.len() as u64) as usize).collect();
        cuts.sort_unstable();
        let (mut outcomes, mut from, mut before) = (Outcomes::default(), 0, None);
        for (at, &way) in ways.iter().enumerate() {
            let to = cuts.get(at).copied().unwrap_or(self.chunks.len());
            let name = format!("{}, {ways:?} at {cuts:?}, run {at}", self.name);
            let (store, failure) = (Arc::new(Memory::default()), Failure::default());
            let save = Arc::new(Saving::to(store.clone()));
            let state = StateParts { restore: before.take(), save: Some(save.clone()) };
            let results = self.run(way, &self.chunks[from..to], state, &failure);
            assert_eq!(failure.message(), None, "{name}");
            let account = results.counters.account();
            assert_eq!(account.missing(), 0, "{name}: {account:?}");
            outcomes.add(&results);
            let (counters, run) = (results.counters.clone(), self.job.setting.run());
            let is_saved = save.finish(&Run { counters, failure, ..run }).unwrap();
            assert_eq!(is_saved, at < cuts.len(), "{name}");
            assert_eq!(store.state().is_empty(), !is_saved, "{name}");
            outcomes.waited += u64::try_from(account.pending).unwrap();
            (from, before) = (to, Some(store as Arc<dyn StateStore>));
        }
        outcomes
    }
}

/// Some drift, kept as it is or counted.
fn drift_of(seed: u64, columns: usize) -> (Schedule, Mode) {
    let lengths = vec![
        WindowLength::Millis(100),
        WindowLength::Sliding { length_ms: 60, slide_ms: 20 },
        WindowLength::Millis(40),
    ];
    let revisions = [(0, 0), (120, 25), (90, 0)][seed as usize % 3];
    let revisions = Revisions { horizon_ms: revisions.0, interval_ms: revisions.1 };
    let reference = Runs::from_values((0..90).map(|at| f64::from(at % 41) - 20.0).collect());
    let bins = Arc::new(Bins::new(&reference, 8));
    let mode = match seed % 2 {
        0 => Mode::Exact,
        // The inputs, and the score.
        _ => Mode::Profile(vec![bins; columns + 1]),
    };
    (Schedule { lengths, revisions }, mode)
}

/// Events and versions in disorder: ties, nulls, late ones, deletions.
fn partitions(seed: u64) -> Vec<Partition> {
    let mut random = Random::new(seed + 77);
    let rows = 700;
    let mut events = vec![Vec::new(); EVENTS];
    for id in 0..rows {
        let behind = if random.below(9) == 0 { random.below(120) } else { random.below(20) };
        let key = (random.below(15) != 0).then(|| format!("k{}", random.below(9)));
        let value = (random.below(12) != 0).then(|| random.below(400) as f64 / 7.0 - 20.0);
        let (time, us) = (id / 2 - behind as i64, random.below(4) as i64 * 250);
        events[random.below(EVENTS as u64) as usize].push(Row { time, us, id, key, value });
    }
    let mut tables = vec![vec![Vec::new(); 2], vec![Vec::new(); 1]];
    for (table, partitions) in tables.iter_mut().enumerate() {
        for sequence in 0..rows / 3 {
            let row = VersionRow {
                key: format!("k{}", random.below(8)),
                time: sequence * 3 / 2 - random.below(60) as i64,
                us: random.below(4) as i64 * 250,
                sequence,
                value: (random.below(6) != 0).then(|| (table as i64 * 1_000 + sequence) as f64),
            };
            let partition = random.below(partitions.len() as u64) as usize;
            partitions[partition].push(row);
        }
    }
    let versions = tables.into_iter().enumerate().flat_map(|(table, partitions)| {
        partitions.into_iter().map(move |rows| Partition::Versions(table, rows))
    });
    events.into_iter().map(Partition::Events).chain(versions).collect()
}

/// What came of a job, over all its runs.
#[derive(Default)]
struct Outcomes {
    /// By output and record: the epoch, and the row, without what is of a run.
    rows: BTreeMap<(u8, Origin), (u64, RecordBatch)>,
    issued: Vec<Revised>,
    counters: Counters,
    /// Rows that waited at stops.
    waited: u64,
}

impl Outcomes {
    fn add(&mut self, results: &Results) {
        for came in results.predictions.all() {
            self.add_rows(Output::Predictions, &came);
        }
        for came in results.letters.all() {
            self.add_rows(Output::DeadLetters, &came);
        }
        self.issued.extend(results.issued.lock().unwrap().iter().cloned());
        self.issued.sort_by_key(place);
        self.counters = results.counters.clone();
    }

    fn add_rows(&mut self, output: Output, Came { epoch, rows, .. }: &Came) {
        let schema = rows.schema();
        let of_job = |at: &usize| {
            let name = schema.field(*at).name();
            !name.starts_with("run_") && name != "__read_at"
        };
        let kept: Vec<usize> = (0..rows.num_columns()).filter(of_job).collect();
        let of_job = rows.project(&kept).unwrap();
        for (row, origin) in origins(rows).into_iter().enumerate() {
            // Not a slice: bytes of its own.
            let row = rows_at(&of_job, vec![row as u32]).unwrap();
            let twice = self.rows.insert((output.into(), origin), (*epoch, row));
            assert!(twice.is_none(), "{output:?} of {origin:?} came twice");
        }
    }

    #[track_caller]
    fn assert_equal(&self, wanted: &Outcomes, name: &str) {
        for (record, wanted) in &wanted.rows {
            let found = self.rows.get(record);
            let epochs = (found.map(|found| found.0), Some(wanted.0));
            assert_eq!(epochs.0, epochs.1, "{name}: the epoch of {record:?}");
            let is_same = found.is_some_and(|found| bytes_of(&found.1) == bytes_of(&wanted.1));
            assert!(is_same, "{name}: {record:?} is {found:?}, not {wanted:?}");
        }
        assert_eq!(self.rows.len(), wanted.rows.len(), "{name}: rows of nobody");
        let places = |all: &Outcomes| all.issued.iter().map(place).collect::<Vec<_>>();
        assert_eq!(places(self), places(wanted), "{name}: windows of drift");
        for (found, wanted) in self.issued.iter().zip(&wanted.issued) {
            assert_eq!(found, wanted, "{name}");
        }
        assert_eq!(forgotten(&self.counters), forgotten(&wanted.counters), "{name}");
        self.assert_counted(wanted, name);
    }

    #[track_caller]
    fn assert_counted(&self, wanted: &Outcomes, name: &str) {
        let (found, wanted) = (&self.counters, &wanted.counters);
        assert_eq!(found.account(), wanted.account(), "{name}");
        assert_eq!(found.dead_letters(), wanted.dead_letters(), "{name}");
        assert_eq!(found.late(), wanted.late(), "{name}");
        assert_eq!(found.highest_event_time(), wanted.highest_event_time(), "{name}");
        for ((table, found), (_, wanted)) in found.table_states().iter().zip(wanted.table_states())
        {
            let read = (found.rows_read, found.rows_late, found.behind_ms_most);
            let expected = (wanted.rows_read, wanted.rows_late, wanted.behind_ms_most);
            assert_eq!(read, expected, "{name}: {table}");
        }
    }
}

/// Keys of windows that were forgotten because there were too many, by all workers.
fn forgotten(counters: &Counters) -> u64 {
    counters.window_states().into_iter().map(|(.., state)| state.forgotten).sum()
}

fn bytes_of(rows: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, rows.schema_ref()).unwrap();
    writer.write(rows).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// One, two, three workers and one again; the parts apart, and rows as bytes between workers.
const MOVES: [[Way; 4]; 3] = [
    [Way::Fused, Way::Threads(2), Way::Threads(3), Way::Fused],
    [Way::Threads(3), Way::Fused, Way::Bytes(2), Way::Threads(1)],
    [Way::Threads(1), Way::Bytes(2), Way::Bytes(3), Way::Bytes(1)],
];

#[test]
fn a_job_that_moves_three_times_comes_to_the_same() {
    let (mut waited, mut revised, mut letters, mut late_for_drift) = (0, 0, 0, 0);
    for order in [Order::EventTime, Order::Epoch] {
        for seed in seeds(1..=6) {
            let case = Case::of_seed(seed, order);
            let wanted = case.undisturbed();
            for (at, ways) in MOVES.iter().enumerate() {
                let mut random = Random::new(seed * 10 + at as u64);
                let found = case.moved(ways, &mut random);
                found.assert_equal(&wanted, &format!("{}, {ways:?}", case.name));
                let for_drift = (found.counters.late_for_drift(), wanted.counters.late_for_drift());
                assert_eq!(for_drift.0, for_drift.1, "{}, {ways:?}", case.name);
                waited += found.waited;
                late_for_drift += for_drift.0.rows;
            }
            revised += wanted.issued.iter().filter(|window| window.revision > 0).count();
            letters += wanted.counters.account().dead_letters;
            assert!(forgotten(&wanted.counters) > 10, "{}", case.name);
        }
    }
    let enough = waited > 500 && revised > 1_000 && letters > 500 && late_for_drift > 50;
    let told = format!("{waited} {revised} {letters} {late_for_drift}");
    assert!(enough || !all_are_run(), "it is no test of moves: {told}");
}

/// In order of arrival what a window holds is chance, but every record comes out once.
#[test]
fn in_arrival_order_every_record_comes_out_once_and_the_account_balances() {
    for seed in seeds(1..=4) {
        let case = Case::of_seed(seed, Order::Arrival);
        let wanted = case.undisturbed();
        for (at, ways) in MOVES.iter().enumerate() {
            let name = format!("{}, {ways:?}", case.name);
            let found = case.moved(ways, &mut Random::new(seed * 10 + at as u64));
            let records = |all: &Outcomes| all.rows.keys().copied().collect::<Vec<_>>();
            assert_eq!(records(&found), records(&wanted), "{name}");
            found.assert_counted(&wanted, &name);
            assert_eq!(found.counters.account().pending, 0, "{name}");
        }
    }
}

/// Chunks, and then an error.
struct Breaking(Box<dyn Source>);

impl Source for Breaking {
    fn next_epoch(&self) -> Option<u64> {
        self.0.next_epoch().or(Some(1_000))
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        match self.0.poll(allowance)? {
            Polled::End => {
                let (input, message) = ("events".to_owned(), "it is gone".to_owned());
                Err(SourceError { input, message })
            }
            polled => Ok(polled),
        }
    }
}

#[test]
fn a_run_that_failed_leaves_the_state_before_it() {
    let case = Case::of_seed(2, Order::EventTime);
    for way in [Way::Fused, Way::Threads(2)] {
        let (store, failure) = (Arc::new(Memory::default()), Failure::default());
        let save = Arc::new(Saving::to(store.clone()));
        let state = StateParts { restore: None, save: Some(save.clone()) };
        let setting = Setting { state, failure: failure.clone(), ..case.job.setting.clone() };
        let job = Job { setting, ..case.job.clone() };
        let chunks = case.chunks[..20].to_vec();
        let source = move |worker, workers| -> Box<dyn Source> {
            Box::new(Breaking(Scripted::share(&chunks, worker, workers)))
        };
        let results = job.run_until(way, source, "a source that breaks");
        assert_eq!(failure.message().as_deref(), Some("events: it is gone"));
        let (counters, run) = (results.counters.clone(), case.job.setting.run());
        assert!(!save.finish(&Run { counters, failure, ..run }).unwrap(), "{way:?}");
        assert!(store.state().is_empty(), "{way:?}");
    }
}

/// The state of a case stopped after some chunks.
fn stopped(case: &Case, way: Way, chunks: usize) -> Arc<Memory> {
    let (store, failure) = (Arc::new(Memory::default()), Failure::default());
    let save = Arc::new(Saving::to(store.clone()));
    let state = StateParts { restore: None, save: Some(save.clone()) };
    let results = case.run(way, &case.chunks[..chunks], state, &failure);
    let (counters, run) = (results.counters.clone(), case.job.setting.run());
    assert!(save.finish(&Run { counters, failure, ..run }).unwrap());
    store
}

/// Why a case cannot go on from a state.
fn refused(case: &Case, way: Way, store: Arc<Memory>) -> String {
    let (state, failure) = (StateParts { restore: Some(store), save: None }, Failure::default());
    case.run(way, &case.chunks[30..31], state, &failure);
    failure.message().expect("it is refused")
}

#[test]
fn state_of_another_job_and_damaged_state_are_refused() {
    let case = Case::of_seed(2, Order::EventTime);
    for (left_by, way) in [(Way::Threads(2), Way::Fused), (Way::Fused, Way::Threads(2))] {
        let store = stopped(&case, left_by, 30);
        // Late rows are scored, so that windows have a history.
        let other = Case::of_seed(3, Order::EventTime);
        let message = refused(&other, way, store.clone());
        assert!(message.contains("is of another job"), "{way:?}: {message}");
        for part in store.parts().unwrap() {
            if part == "outputs" {
                continue;
            }
            let damage = |stored: Stored| {
                let Stored { mut bytes, .. } = stored;
                let middle = bytes.len() / 2;
                bytes[middle] ^= u8::from(stored.part == part) << 2;
                Stored { bytes, ..stored }
            };
            let damaged = Memory::of(store.state().into_iter().map(damage));
            let message = refused(&case, way, Arc::new(damaged));
            assert!(message.contains("is damaged"), "{way:?}, {part}: {message}");
        }
        let timeless = store.state().into_iter().filter(|stored| stored.part != "watermark");
        let message = refused(&case, way, Arc::new(Memory::of(timeless)));
        assert!(message.contains("there is no clock"), "{way:?}: {message}");
        let mut more = store.state();
        more[0].part = "windows_99".to_owned();
        let message = refused(&case, way, Arc::new(Memory::of(more)));
        assert!(message.contains("there is state of windows_99"), "{way:?}: {message}");
    }
}

/// The same state, whoever has left it: but for panes, which are a worker's, and what is of workers.
#[test]
fn state_does_not_depend_on_who_leaves_it() {
    let case = Case::of_seed(2, Order::EventTime);
    let state = |way| {
        let mut state: Vec<(String, u64, Vec<u8>)> = Vec::new();
        for Stored { part, group, bytes } in stopped(&case, way, 45).state() {
            let piece = Piece::decode(&bytes).unwrap();
            assert_eq!((&piece.part, piece.group), (&part, group));
            match part.as_str() {
                "outputs" => {
                    let durable = outputs_of(&piece).unwrap();
                    assert!(durable.iter().all(|durable| durable.up_to_epoch == 45), "{way:?}");
                }
                "drift_panes" | "account" => {}
                // When dead keys were looked for is of a worker.
                windows if windows.starts_with("windows_") => state.push((part, group, Vec::new())),
                _ => state.push((part, group, bytes_of(&piece.rows))),
            }
        }
        state.sort();
        state
    };
    let wanted = state(Way::Fused);
    assert!(wanted.iter().any(|(part, ..)| part == "gate"));
    assert!(wanted.iter().any(|(part, ..)| part == "drift_issued"));
    for way in [Way::Threads(2), Way::Threads(3), Way::Bytes(2)] {
        let found = state(way);
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(found == wanted, "{way:?}: {} of group {}", wanted.0, wanted.1);
        }
        assert_eq!(found.len(), wanted.len(), "{way:?}");
    }
}

#[test]
fn types_of_state_are_those_that_it_says() {
    let case = Case::of_seed(2, Order::EventTime);
    let store = stopped(&case, Way::Fused, 45);
    let parts = store.parts().unwrap();
    for part in [
        "account",
        "drift_issued",
        "drift_windows",
        "gate",
        "outputs",
        "passed",
        "versions_0",
        "versions_1",
        "watermark",
        "windows_0",
    ] {
        assert!(parts.iter().any(|found| found == part), "{part} is not among {parts:?}");
    }
    for stored in store.state().iter().filter(|stored| stored.part == "windows_0") {
        let rows = Piece::decode(&stored.bytes).unwrap().rows;
        assert!(rows.num_rows() > 0, "empty pieces are not written");
        let key = rows.column_by_name("key").unwrap();
        assert_eq!((key.data_type(), key.null_count()), (&DataType::Utf8, 0));
    }
}
