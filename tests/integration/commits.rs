//! What may be committed at any moment: of nothing that a run which is killed then would lose, however
//! late a worker hears of the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::UInt64Type;
use arrow::error::ArrowError;
use driftline_jobs::graph::{Behind, Outputs, outputs};
use driftline_operators::control::Turn;
use driftline_operators::core::finish::{Out, Work};
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, FlowBounds, Polled, Source, SourceError};
use driftline_operators::reports::Reports;
use driftline_operators::settled::{Beginning, Committable};
use driftline_operators::sinks::{Outlet, Outlets, Output, Sink, SinkError, Tally};
use timely::dataflow::ProbeHandle;

use crate::record::{Origin, origins};
use crate::seeds::{all_are_run, seeds};
use crate::support::{MakeChunk, Partition, Random, Row, Scripted, Setting, chunks_of, layout};
use crate::ways::{Way, config, ways, work};

const PARTITIONS: u32 = 5;
const ROWS_MAX: u64 = 12;

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::Column("value".to_owned()),
        default: None,
        allow_null: true,
    }]
}

/// How many alerts there are of a record.
fn alerts_of((partition, offset): Origin) -> u64 {
    [0, 0, 0, 1, 2][(offset + u64::from(partition)) as usize % 5]
}

/// Whether there is drift of an epoch.
fn has_drift(epoch: u64) -> bool {
    epoch.is_multiple_of(4)
}

/// What is true of a run, as those know it who make it so.
#[derive(Default)]
struct Truth {
    /// Of each record the epoch that it was read in, once it was.
    epochs: BTreeMap<Origin, u64>,
    /// Of each record how many results are not acknowledged.
    left: BTreeMap<Origin, u64>,
    /// Epochs with drift that is not durable, and of how many workers.
    undurable: BTreeMap<u64, u64>,
    /// Records that were read and of which something is left, by the worker that reads them.
    in_flight: Vec<BTreeSet<Origin>>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Truth>>);

impl Shared {
    fn new(chunks: &[MakeChunk], workers: usize) -> Self {
        let mut truth = Truth::default();
        for chunk in chunks.iter().map(|make| make()) {
            for &offset in chunk.offsets.values() {
                let origin = (chunk.partition, offset);
                truth.epochs.insert(origin, u64::MAX);
                truth.left.insert(origin, 1 + alerts_of(origin));
            }
        }
        truth.in_flight.resize(workers, BTreeSet::new());
        Shared(Arc::new(Mutex::new(truth)))
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap()
    }
}

impl Truth {
    fn acknowledged(&mut self, rows: &RecordBatch) {
        for origin in origins(rows) {
            let left = self.left.get_mut(&origin).unwrap();
            *left -= 1;
            if *left == 0 {
                let reader = origin.0 as usize % self.in_flight.len();
                self.in_flight[reader].remove(&origin);
            }
        }
    }

    /// The offset of a partition before which nothing is lost.
    fn safe(&self, partition: u32) -> u64 {
        let drift = self.undurable.first_key_value().map_or(u64::MAX, |(epoch, _)| *epoch);
        let of = self.epochs.range((partition, 0)..=(partition, u64::MAX));
        let mut unsafe_ones =
            of.filter(|(origin, epoch)| self.left[origin] > 0 || **epoch >= drift);
        unsafe_ones.next().map_or(u64::MAX, |((_, offset), _)| *offset)
    }

    fn check(&self, committable: &[Committable], name: &str) {
        for Committable { partition, offset, .. } in committable {
            let safe = self.safe(*partition);
            assert!(*offset <= safe, "{name}: {partition} committed to {offset}, past {safe}");
        }
    }
}

/// Rows as predictions, some of them with alerts, and drift of some epochs.
struct Results {
    truth: Shared,
    drifted: BTreeSet<u64>,
}

impl Work for Results {
    fn take(
        &mut self,
        Turn { epoch, .. }: Turn,
        rows: RecordBatch,
        out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let alerted = (0..).zip(origins(&rows));
        let alerted = alerted.flat_map(|(row, origin)| (0..alerts_of(origin)).map(move |_| row));
        let alerts = take_record_batch(&rows, &alerted.collect::<UInt32Array>())?;
        if has_drift(epoch) && self.drifted.insert(epoch) {
            *self.truth.truth().undurable.entry(epoch).or_default() += 1;
            let number: ArrayRef = Arc::new(UInt64Array::from(vec![epoch]));
            let rows = RecordBatch::try_from_iter([("epoch", number)])?;
            out.push(Out { epoch, output: Output::Drift, rows });
        }
        out.push(Out { epoch, output: Output::Alerts, rows: alerts });
        out.push(Out { epoch, output: Output::Predictions, rows });
        Ok(())
    }
}

/// A sink that acknowledges late, now and then, one batch after the other; or makes drift durable.
struct Slow {
    truth: Shared,
    random: Random,
    waiting: VecDeque<RecordBatch>,
    acknowledged: Vec<RecordBatch>,
    /// Whether rows are of no record: taken over at once, and durable late.
    is_drift: bool,
    durable: u64,
}

impl Slow {
    fn let_go(&mut self) {
        let Some(rows) = self.waiting.pop_front() else { return };
        let mut truth = self.truth.truth();
        if !self.is_drift {
            truth.acknowledged(&rows);
            self.acknowledged.push(rows);
            return;
        }
        let epoch = rows.column(0).as_primitive::<UInt64Type>().value(0);
        let left = truth.undurable.get_mut(&epoch).unwrap();
        *left -= 1;
        if *left == 0 {
            truth.undurable.remove(&epoch);
        }
        self.durable += 1;
    }
}

impl Sink for Slow {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.waiting.push_back(batch.clone());
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        // Drift is not waited for; it is durable at the end at the latest.
        if self.random.below(if self.is_drift { 20 } else { 3 }) == 0 {
            self.let_go();
        }
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        std::mem::take(&mut self.durable)
    }

    fn acknowledged(&mut self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.acknowledged)
    }

    fn unacknowledged(&mut self) -> usize {
        if self.is_drift { 0 } else { self.waiting.len() }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        while !self.waiting.is_empty() {
            self.let_go();
        }
        Ok(())
    }
}

/// A source that looks how many of its records are in flight when it is asked for more.
struct Bounded {
    source: Box<dyn Source>,
    truth: Shared,
    worker: usize,
    rows_in_flight_max: u64,
    /// Of one that counts its epochs itself, the last one taken or seen.
    counted: Option<u64>,
    random: Random,
}

impl Source for Bounded {
    fn next_epoch(&self) -> Option<u64> {
        let next = self.source.next_epoch()?;
        Some(self.counted.map_or(next, |last| last + 1))
    }

    fn counts_epochs(&self) -> bool {
        self.counted.is_some()
    }

    fn epoch_seen(&mut self, epoch: u64) {
        self.counted = self.counted.map(|last| last.max(epoch));
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        if self.counts_epochs() && self.random.below(3) == 0 {
            return Ok(Polled::Wait(Duration::from_millis(self.random.below(4))));
        }
        let mut polled = self.source.poll(allowance)?;
        if let (Polled::Chunk(chunk), Some(last)) = (&mut polled, &mut self.counted) {
            *last += 1;
            chunk.epoch = *last;
        }
        let mut truth = self.truth.truth();
        let in_flight = truth.in_flight[self.worker].len() as u64;
        assert!(in_flight <= self.rows_in_flight_max, "{in_flight} records are in flight");
        if let Polled::Chunk(chunk) = &polled {
            for &offset in chunk.offsets.values() {
                truth.epochs.insert((chunk.partition, offset), chunk.epoch);
                truth.in_flight[self.worker].insert((chunk.partition, offset));
            }
        }
        Ok(polled)
    }
}

struct Case {
    order: Order,
    chunks: Vec<MakeChunk>,
    rows_in_flight_max: u64,
    seed: u64,
}

impl Case {
    fn random(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let partition = |partition: u32, random: &mut Random| {
            let mut time = 0;
            let row = |at| {
                time += random.below(5) as i64;
                let id = i64::from(partition) * 1_000 + at;
                Row { time, us: 0, id, key: None, value: Some(1.0) }
            };
            Partition::Events((0..90).map(row).collect())
        };
        let partitions: Vec<Partition> =
            (0..PARTITIONS).map(|number| partition(number, &mut random)).collect();
        let chunks = chunks_of(&partitions, ROWS_MAX, &mut random, |open, _| {
            open.iter().min_by_key(|(_, time)| *time).map(|(partition, _)| *partition)
        });
        let (order, rows_in_flight_max) = match seed % 3 {
            0 => (Order::Arrival, 25),
            1 => (Order::Epoch, 40),
            _ => (Order::EventTime, u64::MAX),
        };
        Case { order, chunks, rows_in_flight_max, seed }
    }

    fn setting(&self, way: Way) -> Setting {
        let firsts = (0..PARTITIONS).map(|partition| (partition, 0)).collect();
        Setting {
            order: self.order,
            partitions: PARTITIONS as usize,
            beginning: Beginning { highest: i64::MIN, firsts },
            reports: Reports::of(way.workers()),
            bounds: FlowBounds {
                epochs_in_flight_max: 12,
                rows_in_flight_max: self.rows_in_flight_max,
                ..Setting::new(declared).bounds
            },
            ..Setting::new(declared)
        }
    }

    fn outlets(truth: &Shared, seed: u64) -> Vec<Outlet> {
        let schema = Setting::new(declared).plan().enriched_schema(&layout());
        let field =
            arrow::datatypes::Field::new("epoch", arrow::datatypes::DataType::UInt64, false);
        let of_drift = Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let outlet = |(at, output): (u64, Output)| Outlet {
            output,
            schema: if output == Output::Drift { of_drift.clone() } else { schema.clone() },
            sink: Box::new(Slow {
                truth: truth.clone(),
                random: Random::new(seed * 10 + at),
                waiting: VecDeque::new(),
                acknowledged: Vec::new(),
                is_drift: output == Output::Drift,
                durable: 0,
            }),
            tally: Tally::Nothing,
        };
        (0..).zip([Output::Predictions, Output::Alerts, Output::Drift]).map(outlet).collect()
    }

    /// Runs it, and looks all the while at what may be committed. How often it has risen.
    fn run(&self, way: Way) -> usize {
        let name = format!("seed {}, {way:?}", self.seed);
        let (setting, workers) = (self.setting(way), way.workers());
        let truth = Shared::new(&self.chunks, workers);
        let is_over = Arc::new(AtomicBool::new(false));
        let watch = {
            let (reports, truth) = (setting.reports.clone(), truth.clone());
            let (is_over, name) = (is_over.clone(), name.clone());
            move || {
                let mut seen = BTreeSet::new();
                while !is_over.load(Ordering::Acquire) {
                    let committable = reports.committable();
                    truth.truth().check(&committable, &name);
                    seen.extend(committable.iter().map(|of| (of.partition, of.offset)));
                    std::thread::sleep(Duration::from_millis(1));
                }
                seen.len()
            }
        };
        let risen = std::thread::scope(|scope| {
            let watching = scope.spawn(watch);
            self.work(way, &setting, &truth, &name);
            is_over.store(true, Ordering::Release);
            watching.join().unwrap()
        });
        assert_eq!(setting.failure.message(), None, "{name}");
        // All that was delivered has been told by the end.
        let committable = setting.reports.committable();
        truth.truth().check(&committable, &name);
        let ends = committable.iter().map(|of| (of.partition, of.offset));
        let ends: BTreeMap<u32, u64> = ends.collect();
        assert_eq!(ends, (0..PARTITIONS).map(|partition| (partition, 90)).collect(), "{name}");
        assert_eq!(setting.reports.unsettled(), 0, "{name}");
        risen
    }

    fn work(&self, way: Way, setting: &Setting, truth: &Shared, name: &str) {
        let (setting, truth, name) = (setting.clone(), truth.clone(), name.to_owned());
        let (chunks, seed) = (self.chunks.clone(), self.seed);
        let counted = seed.is_multiple_of(2).then_some(0);
        // Of a chunk that was read on top of what is just allowed.
        let rows_in_flight_max = self.rows_in_flight_max;
        let guards = timely::execute(config(way), move |worker| {
            let (index, workers) = (worker.index(), worker.peers());
            let mine = chunks.iter().filter(|make| make().partition as usize % workers == index);
            let source = Box::new(Bounded {
                source: Scripted::of(&mine.cloned().collect::<Vec<_>>()),
                truth: truth.clone(),
                worker: index,
                rows_in_flight_max,
                counted,
                random: Random::new(seed * 10 + index as u64),
            });
            let probe = ProbeHandle::new();
            worker.dataflow::<u64, _, _>(|scope| {
                let results = Results { truth: truth.clone(), drifted: BTreeSet::new() };
                let behind = Behind { work: Box::new(results), drift: None, gathered: None };
                let events = setting.events(source, way, index);
                let run = events.run.clone();
                let Outputs { rows, end } = outputs(scope, events, behind, probe.clone()).unwrap();
                let outlets = Self::outlets(&truth, seed * 10 + index as u64);
                end.write(rows, Outlets::new(outlets, &run), &probe);
            });
            work(worker, &probe, &setting.failure, &name);
        })
        .unwrap();
        guards.join().into_iter().for_each(|end| end.unwrap());
    }
}

#[test]
fn whenever_a_run_is_killed_nothing_is_committed_that_is_not_durable() {
    let mut risen = 0;
    for seed in seeds(1..=6) {
        let case = Case::random(seed);
        for way in ways() {
            risen += case.run(way);
        }
    }
    // What is committed at the end alone is a check of nothing.
    assert!(risen > 500 || !all_are_run(), "{risen}");
}
