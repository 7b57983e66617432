//! Jobs that are stopped at any moment and go on where all is settled: each stop balances, whatever
//! waits then, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftline_operators::accounting::Account;
use driftline_operators::chunk::Chunk;
use driftline_operators::gate::Order;
use driftline_operators::reports::Reports;
use driftline_operators::settled::Beginning;

use crate::accounts::{Fate, LATENESS_MS, Rules, fates, outcome};
use crate::input::{Input, Record, Shape};
use crate::job::{Job, Outcome};
use crate::record::Origin;
use crate::seeds::{all_are_run, seeds};
use crate::support::{MakeChunk, Random, Scripted, Setting};
use crate::ways::Way;

/// How often a job is stopped before it reads to the end.
const STOPS: usize = 3;
const WAYS: [(usize, Way); 6] = [
    (1, Way::Fused),
    (1, Way::Threads(1)),
    (2, Way::Threads(2)),
    (3, Way::Threads(3)),
    (4, Way::Threads(4)),
    (2, Way::Bytes(2)),
];

/// What each worker reads before it hears of the stop: some of the chunks of its partitions.
fn shares(input: &Input, workers: usize, random: Option<&mut Random>) -> Vec<Vec<MakeChunk>> {
    let mut shares: Vec<Vec<MakeChunk>> = vec![Vec::new(); workers];
    for make in input.chunks.iter().cloned() {
        let mut first = make();
        let share = &mut shares[first.partition as usize % workers];
        if first.epoch > 1 {
            share.push(make);
            continue;
        }
        // Whoever reads it knows that a partition is empty.
        first.finished.extend(Input::UNOPENED);
        let finished = first.finished;
        share.push(Arc::new(move || Chunk { finished: finished.clone(), ..make() }));
    }
    if let Some(random) = random {
        for share in &mut shares {
            share.truncate(random.below(share.len() as u64 + 1) as usize);
        }
    }
    shares
}

/// What has been read of a job when it stops, by the definitions.
struct Stopped {
    /// The records of chunks.
    came: BTreeSet<Origin>,
    watermark: i64,
}

impl Stopped {
    fn new(input: &Input, shares: &[Vec<MakeChunk>]) -> Self {
        let mut came = BTreeSet::new();
        // Of unfinished partitions the highest event time.
        let mut open: BTreeMap<u32, i64> = (0..4).map(|partition| (partition, i64::MIN)).collect();
        for chunk in shares.iter().flatten().map(|make| make()) {
            let undecoded = chunk.undecoded.iter().map(|record| record.offset);
            for offset in chunk.offsets.values().iter().copied().chain(undecoded) {
                came.insert((chunk.partition, offset));
                let record = &input.partitions[chunk.partition as usize][offset as usize];
                let time = record.as_ref().and_then(|event| event.time);
                if let Some((highest, time)) = open.get_mut(&chunk.partition).zip(time) {
                    *highest = time.max(*highest);
                }
            }
            open.retain(|partition, _| !chunk.finished.contains(partition));
        }
        let reached = open.values().map(|highest| highest.saturating_sub(LATENESS_MS));
        Stopped { came, watermark: reached.min().unwrap_or(i64::MAX) }
    }

    /// Whether a record waits in the gate.
    fn waits(&self, record: &Record, fate: &Fate, order: Order) -> bool {
        let before_gate = ["decode_failed", "no_event_time", "late", "too_late"];
        let has_entered = match fate {
            Fate::NotRead | Fate::Skipped => false,
            Fate::Dead(reason, _) => !before_gate.contains(reason),
            Fate::Predicted { .. } => true,
        };
        let time = record.as_ref().and_then(|event| event.time);
        has_entered && order == Order::EventTime && time.is_some_and(|time| time >= self.watermark)
    }
}

/// A job that is stopped again and again, and what has come of each record by now.
struct Campaign<'a> {
    input: &'a Input,
    rules: Rules,
    fates: BTreeMap<Origin, Fate>,
    found: BTreeMap<Origin, Outcome>,
    /// Where each run begins, by partition.
    first: Vec<u64>,
    /// Of rows read back, how many waited at a stop.
    waited_uncounted: u64,
    waited: u64,
}

impl Campaign<'_> {
    fn run(&mut self, job: &Job, way: Way, shares: Vec<Vec<MakeChunk>>, name: &str) {
        let stopped = Stopped::new(self.input, &shares);
        let firsts = (0..).zip(self.first.iter().copied()).collect();
        let beginning = Beginning { highest: i64::MIN, firsts };
        let reports = Reports::of(way.workers());
        let setting = Setting { beginning, reports: reports.clone(), ..job.setting.clone() };
        let job = Job { setting, first_offsets: self.first.clone(), ..job.clone() };
        let results = job.run_on(way, move |worker, _| Scripted::of(&shares[worker]), name);

        let records: BTreeMap<Origin, &Record> = self.input.records().collect();
        let (mut account, mut left) = (Account::default(), Vec::new());
        let mut due = BTreeSet::new();
        for origin in &stopped.came {
            let fate = &self.fates[origin];
            let waits = stopped.waits(records[origin], fate, self.rules.order);
            if origin.1 < self.first[origin.0 as usize] {
                self.waited_uncounted += u64::from(waits);
                continue;
            }
            account.read += 1;
            match fate {
                _ if waits => {
                    account.pending += 1;
                    left.push(*origin);
                    continue;
                }
                Fate::NotRead => unreachable!("there is no range"),
                Fate::Skipped => account.skipped += 1,
                Fate::Dead(..) => account.dead_letters += 1,
                Fate::Predicted { .. } => account.predictions += 1,
            }
            due.extend(outcome(fate).map(|_| *origin));
        }
        self.waited += left.len() as u64;
        assert_eq!(account.missing(), 0, "{name}");
        assert_eq!(results.counters.account(), account, "{name}");

        let told = results.told(&job.setting.partition_names(), name);
        assert_eq!(told.keys().copied().collect::<BTreeSet<_>>(), due, "{name}");
        for (origin, told) in told {
            let before = self.found.insert(origin, told.outcome.clone());
            assert!(before.is_none_or(|before| before == told.outcome), "{name}: {origin:?}");
        }
        assert_eq!(reports.unsettled(), left.len() as u64, "{name}");
        for (partition, offset) in reports.settled() {
            let of = |origins: &mut dyn Iterator<Item = &Origin>| {
                origins.filter(|(from, _)| *from == partition).map(|(_, offset)| *offset).min()
            };
            let behind_last = stopped.came.iter().rev().find(|(from, _)| *from == partition);
            let first = &mut self.first[partition as usize];
            let end = behind_last.map_or(0, |(_, offset)| offset + 1).max(*first);
            assert_eq!(offset, of(&mut left.iter()).unwrap_or(end), "{name}: {partition}");
            *first = offset;
        }
    }
}

#[test]
fn every_stop_balances_and_what_goes_on_loses_nothing() {
    let (mut waited, mut waited_uncounted) = (0, 0);
    for seed in seeds(1..=12) {
        let rules = Rules::of_seed(seed).without_range();
        let input = Input::random(seed, Shape { rows: 300, ..Shape::default() });
        let job = rules.job([1, 3, 64][(seed / 3) as usize % 3]);
        for (workers, way) in WAYS {
            let mut random = Random::new(seed * 100 + workers as u64);
            let mut campaign = Campaign {
                input: &input,
                rules,
                fates: fates(&input, &rules),
                found: BTreeMap::new(),
                first: vec![0; Input::PARTITIONS],
                waited_uncounted: 0,
                waited: 0,
            };
            for run in 0..=STOPS {
                let name = format!("seed {seed}, {workers} workers, run {run}, {rules:?}");
                let stop = (run < STOPS).then_some(&mut random);
                let shares = shares(&input, workers, stop);
                campaign.run(&job, way, shares, &name);
            }
            for (origin, fate) in &campaign.fates {
                let found = campaign.found.get(origin).cloned();
                assert_eq!(found, outcome(fate), "seed {seed}, {workers} workers: {origin:?}");
            }
            waited += campaign.waited;
            waited_uncounted += campaign.waited_uncounted;
        }
    }
    // It is no test of stops if nothing waited.
    assert!(
        !all_are_run() || (waited > 500 && waited_uncounted > 500),
        "{waited}, {waited_uncounted}"
    );
}
