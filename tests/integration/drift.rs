//! Drift windows and their revisions on several workers, against a naive evaluation.
//!
//! The naive one replays the chunks: it knows by which epoch the gate lets each row out, and what the
//! watermark is after each epoch. From that it decides, window by window and over all rows, what is
//! issued when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use driftline_jobs::graph::{Behind, Drift, Outputs, outputs};
use driftline_operators::accounting::LateForDrift;
use driftline_operators::chunk::Chunk;
use driftline_operators::control::Turn;
use driftline_operators::core::finish::{Out, Work};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::profile::{Bins, Profile};
use driftline_operators::drift::runs::Runs;
use driftline_operators::drift::sample::{Mode, Sample};
use driftline_operators::drift::windows::{Issued, Revisions, Schedule, WindowOutput};
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::model_input::model_inputs;
use driftline_operators::sinks::Output;
use driftline_operators::watched::{self, Watched};
use driftline_operators::watermark::Span;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;

use crate::seeds::{all_are_run, seeds};
use crate::support::{Random, Row, Scripted, Setting, chunks, layout};
use crate::ways::{Way, config, ways};

const LATENESS_MS: i64 = 30;
const COLUMNS: usize = 2;

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::Column("value".to_owned()),
        default: None,
        allow_null: true,
    }]
}

/// A revision of a window of one column: what it holds and how many nulls beside it.
pub type Revised = Issued<(Sample, u64)>;

/// Keeps what is issued.
pub struct Keep(pub Arc<Mutex<Vec<Revised>>>);

impl WindowOutput for Keep {
    type Figures = (Sample, u64);

    fn figures(&self, _column: usize, sample: &Sample, null_count: u64) -> (Sample, u64) {
        (sample.clone(), null_count)
    }

    fn batch(&self, windows: &[Revised], _seen: Span) -> Result<RecordBatch, ArrowError> {
        self.0.lock().unwrap().extend_from_slice(windows);
        Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }
}

/// Rows, how they are cut, and what is made of them.
struct Case {
    schedule: Schedule,
    mode: Mode,
    partitions: usize,
    chunks: Vec<Arc<dyn Fn() -> Chunk + Send + Sync>>,
}

impl Case {
    fn new(schedule: Schedule, mode: Mode, partitions: &[Vec<Row>], seed: u64) -> Self {
        let chunks = chunks(partitions, &mut Random::new(seed));
        Case { schedule, mode, partitions: partitions.len(), chunks }
    }

    /// What the graph issues, in order, and what came too late for it.
    fn run(&self, way: Way) -> (Vec<Revised>, LateForDrift) {
        let setting = Setting {
            partitions: self.partitions,
            allowed_lateness_ms: LATENESS_MS,
            ..Setting::new(declared)
        };
        let found = Arc::new(Mutex::new(Vec::new()));
        let (shared, kept, chunks) = (setting.clone(), found.clone(), self.chunks.clone());
        let (schedule, mode) = (self.schedule.clone(), self.mode.clone());
        let guards = timely::execute(config(way), move |worker| {
            let probe = ProbeHandle::new();
            let source = Scripted::share(&chunks, worker.index(), worker.peers());
            worker.dataflow::<u64, _, _>(|scope| {
                let plan = shared.plan();
                let schema = plan.enriched_schema(&layout());
                let inputs = model_inputs(&plan, &layout(), &["value".to_owned()]).unwrap();
                let watched = Watched::new(&schema, &inputs);
                let drift = Drift::new(
                    schedule.clone(),
                    mode.clone(),
                    &watched,
                    Keep(kept.clone()),
                    Output::Drift,
                    None,
                );
                let work = Box::new(Watch { watched, seen: Vec::new() });
                let behind = Behind { work, drift: Some(drift), gathered: None };
                let events = shared.events(source, way, scope.index());
                let Outputs { rows, end } = outputs(scope, events, behind, probe.clone()).unwrap();
                for rows in rows {
                    rows.probe_with(&probe);
                }
                end.without_sinks(&probe);
            });
            while !probe.done() {
                worker.step_or_park(Some(std::time::Duration::from_millis(1)));
            }
        })
        .unwrap();
        guards.join().into_iter().for_each(|end| end.unwrap());
        assert_eq!(setting.failure.message(), None);
        let mut found = std::mem::take(&mut *found.lock().unwrap());
        found.sort_by_key(place);
        (found, setting.counters.late_for_drift())
    }
}

pub fn place(issued: &Revised) -> (WindowLength, i64, usize, i32) {
    (issued.length, issued.start, issued.column, issued.revision)
}

/// What the second watched column, in place of a score, holds.
fn score_of(time: i64) -> f64 {
    (time.rem_euclid(7) - 3) as f64
}

/// Gives out nothing; drift watches all rows.
struct Watch {
    watched: Watched,
    seen: Vec<watched::Seen>,
}

impl Work for Watch {
    fn take(
        &mut self,
        turn: Turn,
        rows: RecordBatch,
        _out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let layout = layout();
        let times = rows.column(layout.time).as_primitive::<Int64Type>();
        let scores = times.values().iter().map(|&time| Some(score_of(time)));
        let columns: Vec<ArrayRef> = vec![
            rows.column(layout.time).clone(),
            rows.column(layout.late).clone(),
            rows.column(rows.num_columns() - 1).clone(),
            Arc::new(scores.collect::<Float64Array>()),
        ];
        let rows = RecordBatch::try_new(self.watched.schema.clone(), columns)?;
        self.seen.push(watched::Seen { epoch: turn.epoch, version: 0, rows, with_features: true });
        Ok(())
    }

    fn step(
        &mut self,
        _idle: bool,
        _out: &mut Vec<Out>,
        watched: &mut Vec<watched::Seen>,
    ) -> Result<(), ArrowError> {
        watched.append(&mut self.seen);
        Ok(())
    }

    fn waits_for(&self) -> Option<u64> {
        self.seen.first().map(|seen| seen.epoch)
    }
}

/// A row as the naive evaluation sees it.
struct Seen {
    time: i64,
    /// The epoch by which the gate has let it out.
    epoch: usize,
    values: [Option<f64>; COLUMNS],
}

/// All rows, and the watermark after each epoch, the first one being that before any.
fn history(case: &Case) -> (Vec<Seen>, Vec<i64>) {
    let mut highest = vec![Some(i64::MIN); case.partitions];
    let mut watermarks = vec![i64::MIN];
    let (mut waiting, mut seen): (Vec<Seen>, Vec<Seen>) = (Vec::new(), Vec::new());
    for (epoch, make) in (1..).zip(&case.chunks) {
        let chunk = make();
        let times = chunk.rows.column(0).as_primitive::<TimestampMicrosecondType>();
        let values = chunk.rows.column(3).as_primitive::<Float64Type>();
        for row in 0..chunk.rows.num_rows() {
            let time = times.value(row).div_euclid(1_000);
            let value = values.is_valid(row).then(|| values.value(row));
            let values = [value.filter(|value| !value.is_nan()), Some(score_of(time))];
            waiting.push(Seen { time, epoch, values });
            let highest = &mut highest[chunk.partition as usize];
            *highest = highest.map(|highest| highest.max(time));
        }
        for &partition in &chunk.finished {
            highest[partition as usize] = None;
        }
        let lowest = highest.iter().flatten().min();
        let watermark = lowest.map_or(i64::MAX, |lowest| lowest.saturating_sub(LATENESS_MS));
        watermarks.push(watermark.max(watermarks[epoch - 1]));
        let (out, left): (Vec<Seen>, Vec<Seen>) =
            waiting.into_iter().partition(|row| row.time < watermarks[epoch]);
        seen.extend(out.into_iter().map(|row| Seen { epoch, ..row }));
        waiting = left;
    }
    assert!(waiting.is_empty());
    (seen, watermarks)
}

fn sample(mode: &Mode, column: usize, rows: &[&Seen]) -> (Sample, u64) {
    let values = rows.iter().filter_map(|row| row.values[column]);
    let nulls = rows.iter().filter(|row| row.values[column].is_none()).count() as u64;
    let sample = match mode {
        Mode::Exact => Sample::Exact(Runs::from_values(values.collect())),
        Mode::Profile(bins) => {
            let mut profile = Profile::default();
            values.for_each(|value| profile.add(&bins[column], value));
            Sample::Profile(profile)
        }
    };
    (sample, nulls)
}

/// Every window of `length` from far before the rows to far behind them.
fn all_windows(length: WindowLength) -> Vec<(i64, i64)> {
    let windows = (-2_000..4_000).flat_map(|time| length.around(time).collect::<Vec<_>>());
    let mut windows: Vec<(i64, i64)> = windows.collect();
    windows.sort_unstable();
    windows.dedup();
    windows
}

/// The revisions of a window that takes the rows `inside`.
fn issue(
    case: &Case,
    (length, start, end): (WindowLength, i64, i64),
    inside: &[&Seen],
    watermarks: &[i64],
    issued: &mut Vec<Revised>,
) {
    let Revisions { horizon_ms, interval_ms } = case.schedule.revisions;
    // Number, watermark and rows of the last revision.
    let mut last: Option<(i32, i64, usize)> = None;
    for (epoch, &watermark) in watermarks.iter().enumerate() {
        let rows: Vec<&Seen> = inside.iter().filter(|row| row.epoch <= epoch).copied().collect();
        if end > watermark || rows.is_empty() {
            continue;
        }
        let is_final = end.saturating_add(horizon_ms) <= watermark;
        let revision = match last {
            None => 0,
            Some((number, before, held))
                if is_final || rows.len() > held && watermark - before >= interval_ms =>
            {
                number + 1
            }
            Some(_) => continue,
        };
        for column in 0..COLUMNS {
            let figures = sample(&case.mode, column, &rows);
            issued.push(Issued { length, start, end, column, revision, is_final, figures });
        }
        if is_final {
            return;
        }
        last = Some((revision, watermark, rows.len()));
    }
}

/// What is to be issued, and what is too late, by the definitions.
fn naive(case: &Case) -> (Vec<Revised>, LateForDrift) {
    let (seen, watermarks) = history(case);
    let horizon_ms = case.schedule.revisions.horizon_ms;
    let mut issued = Vec::new();
    let mut late =
        LateForDrift { by_length: vec![0; case.schedule.lengths.len()], ..LateForDrift::default() };
    let mut missed_by_some = vec![false; seen.len()];
    for (at, &length) in case.schedule.lengths.iter().enumerate() {
        for (start, end) in all_windows(length) {
            let mut inside: Vec<&Seen> = Vec::new();
            for (row, missed) in seen.iter().zip(&mut missed_by_some) {
                if !(start..end).contains(&row.time) {
                    continue;
                }
                if end.saturating_add(horizon_ms) > watermarks[row.epoch - 1] {
                    inside.push(row);
                } else {
                    *missed = true;
                    late.by_length[at] += 1;
                }
            }
            issue(case, (length, start, end), &inside, &watermarks, &mut issued);
        }
    }
    late.rows = missed_by_some.into_iter().filter(|missed| *missed).count() as u64;
    issued.sort_by_key(place);
    (issued, late)
}

/// Two partitions of rows, most of them in order within the lateness, some far behind.
fn random_partitions(seed: u64) -> Vec<Vec<Row>> {
    let mut random = Random::new(seed);
    let mut partitions = vec![Vec::new(); 2];
    for id in 0..700 {
        let value = match random.below(12) {
            0 => None,
            1 => Some(f64::NAN),
            2 => {
                Some([-0.0, f64::INFINITY, f64::NEG_INFINITY, 1e300, 0.1][random.below(5) as usize])
            }
            _ => Some(random.below(30) as f64 - 15.0),
        };
        let behind = if random.below(9) == 0 { random.below(300) } else { random.below(30) };
        let partition = random.below(2) as usize;
        partitions[partition].push(Row { time: id - behind as i64, us: 0, id, key: None, value });
    }
    partitions
}

fn lengths() -> Vec<WindowLength> {
    vec![
        WindowLength::Millis(100),
        WindowLength::Sliding { length_ms: 60, slide_ms: 20 },
        WindowLength::Millis(40),
    ]
}

#[track_caller]
fn assert_equals_naive(case: &Case, what: &str) -> (Vec<Revised>, LateForDrift) {
    let (wanted, wanted_late) = naive(case);
    for way in ways() {
        let name = format!("{what}, {way:?}");
        let (found, late) = case.run(way);
        let places = |issued: &[Revised]| issued.iter().map(place).collect::<Vec<_>>();
        assert_eq!(places(&found), places(&wanted), "{name}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found, wanted, "{name}");
        }
        // No row came too late: nothing was counted.
        let late =
            if late.rows == 0 { LateForDrift { by_length: vec![0; 3], ..late } } else { late };
        assert_eq!(late, wanted_late, "{name}");
    }
    (wanted, wanted_late)
}

/// How often windows are issued: at most so often, and how many are more than once and twice.
fn revisions(issued: &[Revised]) -> (i32, usize, usize) {
    let mut by_window: BTreeMap<_, i32> = BTreeMap::new();
    for window in issued {
        let times = by_window.entry((window.length, window.start, window.column)).or_default();
        *times = (*times).max(window.revision + 1);
    }
    let more_than = |n: i32| by_window.values().filter(|times| **times > n).count();
    (by_window.values().copied().max().unwrap_or(0), more_than(1), more_than(2))
}

#[test]
fn windows_without_revisions_are_final_at_once() {
    for seed in seeds(1..=4) {
        let schedule = Schedule { lengths: lengths(), revisions: Revisions::NONE };
        let case = Case::new(schedule, Mode::Exact, &random_partitions(seed), seed);
        let (issued, late) = assert_equals_naive(&case, &format!("seed {seed}"));
        assert!(issued.iter().all(|window| window.is_final && window.revision == 0));
        let enough = late.rows > 10 && late.by_length[2] > late.by_length[0];
        assert!(enough || !all_are_run(), "seed {seed}: {late:?}");
    }
}

#[test]
fn late_rows_revise_windows_within_interval_and_horizon() {
    for seed in seeds(1..=4) {
        let of_seed = [(90, 45), (150, 25), (150, 0), (40, 1_000)];
        let (horizon_ms, interval_ms) = of_seed[seed as usize % of_seed.len()];
        let revisions_of_job = Revisions { horizon_ms, interval_ms };
        let schedule = Schedule { lengths: lengths(), revisions: revisions_of_job };
        let case = Case::new(schedule, Mode::Exact, &random_partitions(seed), seed);
        let what = format!("seed {seed}, {revisions_of_job:?}");
        let (issued, late) = assert_equals_naive(&case, &what);
        let (most, revised, twice) = revisions(&issued);
        let enough = revised > 10 && late.rows > 0;
        assert!(enough || !all_are_run(), "{what}: {revised} revised, {late:?}");
        if interval_ms > 0 {
            // One at the end of the window, one as it becomes final, and between them one an interval.
            assert!(i64::from(most) <= 2 + horizon_ms / interval_ms, "{what}: {most} revisions");
            let as_often = (twice > 0) == (interval_ms <= horizon_ms);
            assert!(as_often || !all_are_run(), "{what}: {twice} more than twice");
        }
    }
}

#[test]
fn beyond_all_lateness_the_final_revisions_hold_all_rows() {
    let seed = seeds(7..=7)[0];
    let partitions = random_partitions(seed);
    let revisions = Revisions { horizon_ms: 10_000, interval_ms: 50 };
    let schedule = Schedule { lengths: lengths(), revisions };
    let case = Case::new(schedule, Mode::Exact, &partitions, seed);
    let (issued, late) = assert_equals_naive(&case, "a horizon beyond all rows");
    assert_eq!(late.rows, 0);
    let mut held: BTreeMap<(WindowLength, usize), u64> = BTreeMap::new();
    for window in issued.iter().filter(|window| window.is_final) {
        let (Sample::Exact(runs), nulls) = &window.figures else { panic!("exact samples") };
        *held.entry((window.length, window.column)).or_default() += runs.total() + nulls;
    }
    for length in lengths() {
        for column in 0..COLUMNS {
            assert_eq!(held[&(length, column)], 700 * length.overlap(), "{length:?} {column}");
        }
    }
}

#[test]
fn profiles_merge_to_those_of_all_rows() {
    for seed in seeds(1..=3) {
        let partitions = random_partitions(seed);
        let reference =
            Runs::from_values((0..500).map(|i| f64::from(i % 23) * 0.75 - 9.0).collect());
        let bins = Arc::new(Bins::new(&reference, 8));
        let mode = Mode::Profile(vec![bins.clone(), bins]);
        let revisions = Revisions { horizon_ms: 120, interval_ms: 30 };
        let schedule = Schedule { lengths: lengths(), revisions };
        let case = Case::new(schedule, mode, &partitions, seed);
        assert_equals_naive(&case, &format!("seed {seed}"));
    }
}
