//! Bounds, pauses and waiting: the graph always comes to its end, or says why it cannot.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftline_operators::chunk::Chunk;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::ingest::{Allowance, FlowBounds, Polled, Source, SourceError};

use crate::record::Recorded;
use crate::seeds::{all_are_run, seeds};
use crate::support::{
    Partition, Random, Row, Scripted, Setting, TestTable, VersionRow, chunks_of, last_columns,
};
use crate::ways::{Way, run_features, ways};

const TABLE_LATENESS_MS: i64 = 20;

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::AsOf {
            table: 0,
            key: "key".to_owned(),
            column: Some("value".to_owned()),
        },
        default: None,
        allow_null: true,
    }]
}

fn setting(event_partitions: usize, bounds: FlowBounds) -> Setting {
    let table = TestTable { allowed_lateness_ms: TABLE_LATENESS_MS, ..TestTable::new("table") };
    Setting {
        partitions: event_partitions,
        allowed_lateness_ms: 10,
        tables: vec![table],
        bounds,
        ..Setting::new(declared)
    }
}

fn tiny(gate_rows_max: u64) -> FlowBounds {
    FlowBounds {
        epochs_in_flight_max: 1,
        rows_in_flight_max: u64::MAX,
        gate_rows_max,
        gate_bytes_max: u64::MAX,
        bytes_in_flight_max: u64::MAX,
        partition_skew_max_ms: None,
        gather_for: None,
    }
}

/// Runs the graph until it is done or fails; what it delivered, and the failure.
fn run(
    way: Way,
    setting: &Setting,
    recorded: Recorded,
    name: &str,
    source: impl Fn(usize, usize) -> Box<dyn Source> + Send + Sync + 'static,
) -> (BTreeMap<i64, Option<f64>>, Option<String>) {
    run_features(way, setting, &recorded, name, source);
    (delivered(&recorded), setting.failure.message())
}

fn delivered(recorded: &Recorded) -> BTreeMap<i64, Option<f64>> {
    last_columns::<1>(recorded).into_iter().map(|(id, [value])| (id, value)).collect()
}

/// Events with gaps of event time, and a table that covers only some of it.
fn random_partitions(seed: u64) -> Vec<Partition> {
    let mut random = Random::new(seed);
    let mut partitions = Vec::new();
    let mut id = 0;
    for _ in 0..3 {
        let mut rows = Vec::new();
        let mut time = random.below(300) as i64;
        for _ in 0..random.below(200) {
            time += if random.below(40) == 0 { 200 } else { random.below(4) as i64 };
            let time = time - random.below(10) as i64;
            rows.push(Row { time, us: 0, id, key: Some(format!("k{}", id % 3)), value: None });
            id += 1;
        }
        partitions.push(Partition::Events(rows));
    }
    let mut rows = Vec::new();
    let mut time = random.below(100) as i64;
    for sequence in 0..random.below(150) as i64 {
        time += random.below(12) as i64;
        let time = time - random.below(TABLE_LATENESS_MS as u64) as i64;
        let key = format!("k{}", random.below(3));
        rows.push(VersionRow { key, time, us: 0, sequence, value: Some(sequence as f64) });
    }
    partitions.push(Partition::Versions(0, rows));
    partitions
}

/// The last version not after each event, over all versions there ever are.
fn naive(partitions: &[Partition]) -> BTreeMap<i64, Option<f64>> {
    let versions: Vec<&VersionRow> = partitions
        .iter()
        .flat_map(|partition| match partition {
            Partition::Versions(_, rows) => rows.as_slice(),
            Partition::Events(_) => &[],
        })
        .collect();
    let events = partitions.iter().flat_map(|partition| match partition {
        Partition::Events(rows) => rows.as_slice(),
        Partition::Versions(..) => &[],
    });
    events
        .map(|row| {
            let mine = versions.iter().filter(|v| Some(&v.key) == row.key.as_ref());
            let found = mine.filter(|v| v.time <= row.time).max_by_key(|v| (v.time, v.sequence));
            (row.id, found.and_then(|version| version.value))
        })
        .collect()
}

#[test]
fn a_fixed_schedule_ends_or_names_what_holds_it_back() {
    let (mut ended, mut stopped) = (0, 0);
    for seed in seeds(1..=40) {
        let partitions = random_partitions(seed);
        let expected = naive(&partitions);
        let gate_rows_max = [10, 100, 400][seed as usize % 3];
        let chunks = chunks_of(&partitions, 30, &mut Random::new(seed), |open, random| {
            let any = random.below(open.len().max(1) as u64) as usize;
            let lowest = open.iter().min_by_key(|(_, time)| *time);
            let chosen = if random.below(3) == 0 { open.get(any) } else { lowest };
            chosen.map(|(partition, _)| *partition)
        });
        // A partition without rows is finished with the first chunk of all.
        let unopened: Vec<u32> = (0..4).filter(|&p| partitions[p as usize].len() == 0).collect();
        let unopened = Arc::new(unopened);
        for way in ways() {
            let name = format!("seed {seed}, {way:?}");
            let (chunks, unopened) = (chunks.clone(), unopened.clone());
            let source = move |worker, workers| -> Box<dyn Source> {
                Scripted::share_without(&chunks, worker, workers, &unopened)
            };
            let setting = setting(3, tiny(gate_rows_max));
            let (found, failure) = run(way, &setting, Recorded::default(), &name, source);
            match failure {
                None => {
                    assert_eq!(found, expected, "{name}");
                    ended += 1;
                }
                Some(message) => {
                    assert!(message.contains("job.gate_rows_max"), "{name}: {message}");
                    let named = ["events-0", "events-1", "events-2", "table-0"];
                    assert!(named.iter().any(|p| message.contains(p)), "{name}: {message}");
                    stopped += 1;
                }
            }
        }
    }
    let both = ended > 50 && stopped > 20;
    assert!(both || !all_are_run(), "{ended} runs ended, {stopped} stopped");
}

/// Live input of one reader: partitions pause at random, go idle and come back, and end.
struct Pausing {
    partitions: Vec<Partition>,
    at: Vec<usize>,
    /// Polls for which a partition has nothing.
    pause: Vec<u64>,
    idle: Vec<bool>,
    finished: Vec<bool>,
    goes_idle: bool,
    random: Random,
    epoch: u64,
    /// Polls at which a partition was held back for being too far ahead.
    held_back: Arc<AtomicU64>,
}

impl Pausing {
    fn new(partitions: &[Partition], goes_idle: bool, seed: u64) -> Self {
        let count = partitions.len();
        Pausing {
            partitions: partitions.to_vec(),
            at: vec![0; count],
            pause: vec![0; count],
            idle: vec![false; count],
            finished: vec![false; count],
            goes_idle,
            random: Random::new(seed),
            epoch: 1,
            held_back: Arc::default(),
        }
    }

    fn chunk(&mut self, partition: usize, rows: usize) -> Chunk {
        let start = self.at[partition];
        let end = (start + rows).min(self.partitions[partition].len());
        let mut chunk = self.partitions[partition].chunk(partition, self.epoch, start, end);
        chunk.finished = Vec::new();
        self.epoch += 1;
        self.at[partition] = end;
        chunk
    }
}

impl Source for Pausing {
    fn next_epoch(&self) -> Option<u64> {
        self.finished.contains(&false).then_some(self.epoch)
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        let open: Vec<usize> = (0..self.at.len()).filter(|&p| !self.finished[p]).collect();
        let partition = open[self.random.below(open.len() as u64) as usize];
        if self.pause[partition] > 0 {
            self.pause[partition] -= 1;
            if self.goes_idle && !self.idle[partition] && self.random.below(3) == 0 {
                self.idle[partition] = true;
                let mut chunk = self.chunk(partition, 0);
                chunk.idle = vec![partition as u32];
                return Ok(Polled::Chunk(Box::new(chunk)));
            }
            return Ok(Polled::Wait(Duration::from_micros(20)));
        }
        if allowance.ahead.contains(&(partition as u32)) {
            self.held_back.fetch_add(1, Ordering::Relaxed);
        }
        if !allowance.allows(partition as u32) {
            return Ok(Polled::Wait(Duration::from_micros(20)));
        }
        if self.random.below(4) == 0 {
            self.pause[partition] = self.random.below(30);
        }
        let rows = self.random.below(30) as usize;
        let was_idle = std::mem::take(&mut self.idle[partition]);
        let mut chunk = self.chunk(partition, rows);
        chunk.was_idle = was_idle;
        if self.at[partition] == self.partitions[partition].len() {
            self.finished[partition] = true;
            chunk.finished = vec![partition as u32];
        }
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}

/// For how long (µs) live input is gathered, if it is.
const GATHERED: [Option<u64>; 3] = [None, Some(0), Some(200)];

#[test]
fn live_input_with_pauses_always_ends() {
    let held_back = Arc::new(AtomicU64::new(0));
    for seed in seeds(1..=25) {
        let partitions = random_partitions(seed);
        let expected = naive(&partitions);
        for goes_idle in [false, true] {
            for (at, way) in ways().into_iter().enumerate() {
                let name = format!("seed {seed}, {way:?}, goes idle {goes_idle}");
                let (partitions, held_back) = (partitions.clone(), held_back.clone());
                let source = move |worker, _workers| -> Box<dyn Source> {
                    let partitions = if worker == 0 { partitions.as_slice() } else { &[] };
                    let held_back = held_back.clone();
                    Box::new(Pausing { held_back, ..Pausing::new(partitions, goes_idle, seed) })
                };
                let partition_skew_max_ms = (at % 2 == 0).then_some(50);
                let gather_for = GATHERED[seed as usize % 3].map(Duration::from_micros);
                let bounds = FlowBounds { partition_skew_max_ms, gather_for, ..tiny(100) };
                let setting = setting(3, bounds);
                let (found, failure) = run(way, &setting, Recorded::default(), &name, source);
                assert_eq!(failure, None, "{name}");
                if goes_idle {
                    let ids: Vec<_> = found.keys().collect();
                    assert_eq!(ids, expected.keys().collect::<Vec<_>>(), "{name}");
                } else {
                    assert_eq!(found, expected, "{name}");
                    // A chunk of up to 30 rows may come on top of a gate that is just not full.
                    let most = setting.counters.gate_rows_most();
                    assert!(most <= 100 + 3 * 30, "{name}: {most} rows waited");
                }
            }
        }
    }
    let held_back = held_back.load(Ordering::Relaxed);
    assert!(held_back > 100 || !all_are_run(), "nothing was ever held back");
}

/// Events first, then nothing for many polls, then the version they would like to have.
struct Ticking {
    polls: u64,
    epoch: u64,
    delivered: Recorded,
    /// Rows that had been delivered when the version came.
    seen: Arc<Mutex<Option<usize>>>,
}

const POLLS_BEFORE_THE_VERSION: u64 = 300;

impl Source for Ticking {
    fn next_epoch(&self) -> Option<u64> {
        (self.epoch <= 3).then_some(self.epoch)
    }

    fn poll(&mut self, _allowance: &Allowance) -> Result<Polled, SourceError> {
        let key = || "k".to_owned();
        let version =
            |time: i64| VersionRow { key: key(), time, us: 0, sequence: 0, value: Some(7.0) };
        let events =
            (0..10).map(|id| Row { time: 100 + id, us: 0, id, key: Some(key()), value: None });
        let partitions = [
            Partition::Events(events.collect()),
            Partition::Versions(0, vec![version(50), version(500)]),
        ];
        self.polls += 1;
        let (partition, rows) = match self.epoch {
            // The events are all there are: by themselves they would not wait.
            1 => (0, 10),
            2 if self.polls < POLLS_BEFORE_THE_VERSION => {
                return Ok(Polled::Wait(Duration::from_micros(50)));
            }
            2 => {
                *self.seen.lock().unwrap() = Some(delivered(&self.delivered).len());
                (1, 2)
            }
            _ => return Ok(Polled::End),
        };
        let chunk = partitions[partition].chunk(partition, self.epoch, 0, rows);
        self.epoch += 1;
        if self.epoch == 3 {
            self.epoch = 4;
        }
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}

#[test]
fn events_wait_for_a_table_that_ticks_unless_it_is_eager() {
    for (eager, before, value) in [(false, 0, Some(7.0)), (true, 10, None)] {
        for way in ways() {
            let name = format!("eager {eager}, {way:?}");
            let (recorded, seen) = (Recorded::default(), Arc::new(Mutex::new(None)));
            let (observed, written) = (seen.clone(), recorded.clone());
            let source = move |worker, _workers| -> Box<dyn Source> {
                Box::new(Ticking {
                    polls: 0,
                    epoch: if worker == 0 { 1 } else { 4 },
                    delivered: written.clone(),
                    seen: observed.clone(),
                })
            };
            let mut setting = setting(1, tiny(1_000));
            setting.tables[0].table.eager = eager;
            let (found, failure) = run(way, &setting, recorded, &name, source);
            assert_eq!(failure, None, "{name}");
            assert_eq!(*seen.lock().unwrap(), Some(before), "{name}: delivered before the version");
            assert_eq!(found.len(), 10, "{name}");
            assert!(found.values().all(|found| *found == value), "{name}: {found:?}");
        }
    }
}
