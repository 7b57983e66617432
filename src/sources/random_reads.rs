//! Any files, read by any number of workers, whatever they may read at the moment: every row comes
//! once, in epochs that are the same each time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use driftline_operators::chunk::Chunk;
use driftline_operators::ingest::{Allowance, Polled, Source};
use driftline_operators::watermark::EVENTS;

use super::testing::{Folder, Row, numbers, spec, times};
use super::{Inputs, StreamSpec};

const SEEDS: u64 = 60;
const EPOCH_ROWS_MAX: usize = 7;
/// Polls in a row that may allow less than everything.
const DENIALS_MAX: usize = 3;

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Streams on disk.
struct Case {
    _folder: Folder,
    specs: Vec<StreamSpec>,
    /// Rows of each stream.
    rows: Vec<usize>,
    limit: Option<u64>,
    in_parquet: bool,
}

impl Case {
    fn new(random: &mut Random) -> Case {
        let folder = Folder::new();
        let streams = 1 + random.below(3) as usize;
        let mut in_parquet = true;
        let (mut specs, mut rows) = (Vec::new(), Vec::new());
        for stream in 0..streams {
            let is_json = random.one_in(4);
            in_parquet &= !is_json;
            let mut written = 0;
            for file in 0..1 + random.below(4) {
                let groups = random_groups(random, &mut written);
                if is_json {
                    folder.json(&format!("{stream}/{file}.jsonl"), &groups.concat());
                } else {
                    let statistics = !random.one_in(4);
                    folder.parquet(&format!("{stream}/{file}.parquet"), &groups, statistics);
                }
            }
            if written == 0 && is_json {
                folder.json(&format!("{stream}/9.jsonl"), &[(0, Some(0))]);
                written = 1;
            }
            specs.push(spec(&folder.path().join(stream.to_string())));
            rows.push(written as usize);
        }
        let limit = random.one_in(3).then(|| random.below(60));
        if let Some(limit) = limit {
            rows[0] = rows[0].min(limit as usize);
        }
        Case { _folder: folder, specs, rows, limit, in_parquet }
    }

    fn open(&self) -> Inputs {
        let tables = self.specs[1..].to_vec();
        Inputs::open(self.specs[0].clone(), tables, self.limit, EPOCH_ROWS_MAX).unwrap()
    }
}

/// Row groups of a file, numbered on from `written`.
fn random_groups(random: &mut Random, written: &mut i64) -> Vec<Vec<Row>> {
    let mut time = random.below(200) as i64;
    let pace = 1 + random.below(20) as i64;
    let groups = 0..random.below(4);
    groups
        .map(|_| {
            let without_times = random.one_in(8);
            let rows = 0..random.below(25);
            let row = |_| {
                time += random.below(2 * pace as u64) as i64;
                let late = if random.one_in(5) { random.below(50) as i64 } else { 0 };
                let known = !without_times && !random.one_in(10);
                *written += 1;
                (*written - 1, known.then_some(time - late))
            };
            rows.map(row).collect()
        })
        .collect()
}

/// What a source may read next; everything after a few denials.
fn random_allowance(random: &mut Random, partitions: u64, denials: usize) -> Allowance {
    if denials >= DENIALS_MAX {
        return Allowance::default();
    }
    let some = |random: &mut Random| {
        (0..partitions as u32).filter(|_| random.one_in(2)).collect::<Vec<_>>()
    };
    let only = random.one_in(2).then(|| some(random));
    let ahead = if random.one_in(2) { some(random) } else { Vec::new() };
    Allowance { only, ahead, ..Allowance::default() }
}

/// Reads all workers' shares to their ends, a poll of one of them at a time; what each gave.
fn read(inputs: &Inputs, workers: usize, denied: bool, random: &mut Random) -> Vec<Vec<Chunk>> {
    let partitions = inputs.partitions().len() as u64;
    let mut sources: VecDeque<(usize, Box<dyn Source>, usize)> =
        (0..workers).map(|w| (w, inputs.open_worker(w, workers).unwrap(), 0)).collect();
    let mut read: Vec<Vec<Chunk>> = (0..workers).map(|_| Vec::new()).collect();
    while let Some((worker, mut source, denials)) = sources.pop_front() {
        let Some(next_epoch) = source.next_epoch() else { continue };
        let allowance = match denied {
            true => random_allowance(random, partitions, denials),
            false => Allowance::default(),
        };
        match source.poll(&allowance).unwrap() {
            Polled::Chunk(chunk) => {
                assert_eq!(chunk.epoch, next_epoch);
                let only = allowance.only.as_ref();
                let allowed = only.is_none_or(|only| only.contains(&chunk.partition));
                // A fixed schedule brings tables when events need them.
                assert!(allowed || chunk.stream != EVENTS || chunk.rows.num_rows() == 0);
                read[worker].push(*chunk);
                sources.push_back((worker, source, 0));
            }
            Polled::Held(partition) => {
                assert!(!allowance.holds_back(partition));
                sources.push_front((worker, source, denials + 1));
            }
            Polled::Wait(delay) => {
                std::thread::sleep(delay);
                sources.push_back((worker, source, denials));
            }
            Polled::End => {}
        }
    }
    read
}

/// (epoch, partition, offsets) of every chunk.
fn origins(read: &[Vec<Chunk>]) -> BTreeSet<(u64, u32, Vec<u64>)> {
    let chunks = read.iter().flatten();
    chunks.map(|c| (c.epoch, c.partition, c.offsets.values().to_vec())).collect()
}

fn check(case: &Case, inputs: &Inputs, read: &[Vec<Chunk>]) {
    for chunks in read {
        assert!(chunks.is_sorted_by(|a, b| a.epoch < b.epoch));
    }
    let mut chunks: Vec<&Chunk> = read.iter().flatten().collect();
    chunks.sort_by_key(|chunk| chunk.epoch);
    let epochs: Vec<u64> = chunks.iter().map(|chunk| chunk.epoch).collect();
    assert_eq!(epochs, (1..=chunks.len() as u64).collect::<Vec<_>>());

    // Every row once: of the events those up to the limit.
    for (stream, &rows) in case.rows.iter().enumerate() {
        let of_stream = || chunks.iter().filter(|chunk| chunk.stream == stream);
        let found: Vec<i64> = of_stream().flat_map(|chunk| numbers(chunk)).collect();
        let distinct: BTreeSet<i64> = found.iter().copied().collect();
        assert_eq!((found.len(), distinct.len()), (rows, rows), "stream {stream}");
        if stream == 0 {
            assert!(inputs.total_rows().is_none_or(|total| total == rows as u64));
        }
    }

    // Within a partition events are in the order of the file and rows of tables in order of time, and
    // the highest time before each chunk is known.
    let mut highest: BTreeMap<u32, (u64, i64)> = BTreeMap::new();
    let mut places = BTreeSet::new();
    for chunk in &chunks {
        assert_eq!(chunk.offsets.len(), chunk.rows.num_rows());
        let (next, before) = highest.entry(chunk.partition).or_insert((0, i64::MIN));
        assert_eq!(chunk.highest_before, *before, "partition {}", chunk.partition);
        for (&offset, time) in chunk.offsets.values().iter().zip(times(chunk)) {
            match chunk.stream {
                EVENTS => assert_eq!(offset, *next),
                _ => assert!(time.is_none_or(|time| time >= *before)),
            }
            assert!(places.insert((chunk.partition, offset)));
            *next += 1;
            *before = time.map_or(*before, |time| time.max(*before));
        }
    }

    // Every partition is finished once, and nothing of it comes after.
    let partitions = inputs.partitions();
    let mut finished = BTreeSet::new();
    for chunk in &chunks {
        assert!(!finished.contains(&chunk.partition));
        assert_eq!(partitions[chunk.partition as usize].stream, chunk.stream);
        for &partition in &chunk.finished {
            assert!(finished.insert(partition), "{partition} is finished twice");
        }
    }
    if !chunks.is_empty() {
        assert_eq!(finished, (0..partitions.len() as u32).collect());
    }
}

#[test]
fn every_row_comes_once_in_epochs_that_do_not_depend_on_workers() {
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let case = Case::new(&mut random);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut expected = None;
            for workers in [1, 2, 4] {
                let inputs = case.open();
                let free = read(&inputs, workers, false, &mut random);
                check(&case, &inputs, &free);
                let origins_free = origins(&free);
                assert_eq!(*expected.get_or_insert_with(|| origins_free.clone()), origins_free);
                let inputs = case.open();
                let denied = read(&inputs, workers, true, &mut random);
                check(&case, &inputs, &denied);
                // A merge reads what is allowed first; a schedule waits.
                if case.in_parquet {
                    assert_eq!(origins(&denied), origins_free);
                }
            }
        }));
        assert!(result.is_ok(), "seed {seed}");
    }
}

/// (stream, row numbers) of every chunk that has rows.
fn sequence(inputs: &Inputs) -> Vec<(usize, Vec<i64>)> {
    let read = read(inputs, 1, false, &mut Random::new(0));
    let with_rows = read[0].iter().filter(|chunk| chunk.rows.num_rows() > 0);
    with_rows.map(|chunk| (chunk.stream, numbers(chunk))).collect()
}

/// Rows `numbers`, at ten times their numbers.
fn at_tens(numbers: std::ops::Range<i64>) -> Vec<Row> {
    numbers.map(|n| (n, Some(n * 10))).collect()
}

#[test]
fn json_events_and_a_table_in_parquet_are_read_in_step() {
    let folder = Folder::new();
    let events = folder.json("events.jsonl", &at_tens(0..28));
    let table: Vec<Row> = (0..14).map(|n| (n, Some(n * 20))).collect();
    let table = folder.parquet("table.parquet", &[table], true);
    let inputs = Inputs::open(spec(&events), vec![spec(&table)], None, 7).unwrap();
    let expected = [(1, 0..7), (0, 0..7), (0, 7..14), (1, 7..14), (0, 14..21), (0, 21..28)];
    let expected = expected.map(|(stream, rows)| (stream, rows.collect::<Vec<i64>>()));
    assert_eq!(sequence(&inputs), expected);
}

#[test]
fn a_partition_without_wanted_rows_is_finished_first() {
    let folder = Folder::new();
    let events = folder.parquet("events.parquet", &[at_tens(0..20)], true);
    folder.parquet("table/0.parquet", &[at_tens(0..5)], true);
    folder.parquet("table/1.parquet", &[at_tens(50..60)], true);
    let table = StreamSpec { to: 500, ..spec(&folder.path().join("table")) };
    let inputs = Inputs::open(spec(&events), vec![table], None, 20).unwrap();
    let chunks = read(&inputs, 1, false, &mut Random::new(0)).remove(0);
    let found: Vec<_> = chunks.iter().map(|c| (c.stream, c.partition, &c.finished[..])).collect();
    assert_eq!(found, [(1, 1, &[1, 2][..]), (0, 0, &[0])]);
}

#[test]
fn with_no_row_wanted_every_worker_is_at_its_end() {
    let folder = Folder::new();
    let events = folder.parquet("events.parquet", &[at_tens(0..20)], true);
    let events = StreamSpec { from: 10_000, ..spec(&events) };
    let inputs = Inputs::open(events, Vec::new(), None, 20).unwrap();
    assert_eq!(inputs.total_rows(), Some(0));
    for worker in 0..2 {
        assert!(inputs.open_worker(worker, 2).unwrap().next_epoch().is_none());
    }
}

fn refusal(events: StreamSpec, tables: Vec<StreamSpec>) -> String {
    Inputs::open(events, tables, None, 7).err().expect("a refusal").to_string()
}

#[test]
fn what_is_wrong_with_an_input_is_said() {
    let folder = Folder::new();
    let events = spec(&folder.parquet("events.parquet", &[at_tens(0..3)], true));
    let json = spec(&folder.json("table.jsonl", &at_tens(0..3)));
    let live = spec(std::path::Path::new("-"));
    let problem = refusal(live.clone(), vec![live]);
    assert!(problem.contains("only one input can be standard input"), "{problem}");
    for input in [events.clone(), json] {
        let (time, time_key) = ("valid_from".to_owned(), "tables.weather.time".to_owned());
        let columns = indexmap::IndexMap::new();
        let table = StreamSpec { time, time_key, columns, ..input };
        let problem = refusal(events.clone(), vec![table]);
        assert!(problem.contains("no column \"valid_from\" (tables.weather.time)"), "{problem}");
    }
    std::fs::write(folder.path().join("x.txt"), "").unwrap();
    let problem = refusal(spec(&folder.path().join("x.txt")), Vec::new());
    assert!(problem.contains("does not tell whether"), "{problem}");
}
