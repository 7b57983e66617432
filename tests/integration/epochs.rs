//! Workers that number their epochs themselves: one that has nothing holds nobody up, and does nothing
//! else meanwhile.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use driftline_jobs::graph::{Behind, Outputs, outputs};
use driftline_operators::chunk::Chunk;
use driftline_operators::control::Turn;
use driftline_operators::core::finish::{Out, Work};
use driftline_operators::features::declaration::{Definition, FeatureDeclaration};
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, FlowBounds, Polled, Source, SourceError};
use driftline_operators::wake::Wake;
use driftline_operators::watermark::EVENTS;
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::Probe;

use crate::support::{Row, Setting, events};
use crate::ways::{Way, config, work};

const ROWS: usize = 120;
/// Between two rows of a worker that reads.
const INTERVAL: Duration = Duration::from_millis(3);
/// After which a worker that has nothing looks again by itself: longer than any of this takes.
const LONG: Duration = Duration::from_secs(3_600);

fn declared() -> Vec<FeatureDeclaration> {
    vec![FeatureDeclaration {
        name: "value".to_owned(),
        definition: Definition::Column("value".to_owned()),
        default: None,
        allow_null: true,
    }]
}

/// What the workers of a run have in common, for the test alone.
#[derive(Clone, Default)]
struct Shared {
    /// By id, when a row was read; and how long it took to be released.
    read_at: Arc<Mutex<Vec<(i64, Instant)>>>,
    took: Arc<Mutex<Vec<Duration>>>,
    /// Epochs that chunks were read under.
    epochs: Arc<Mutex<Vec<u64>>>,
    /// How often sources without rows were asked.
    idle_polls: Arc<AtomicU64>,
    wakes: Arc<Mutex<Vec<Wake>>>,
    /// Workers that are to read something yet.
    busy: Arc<AtomicUsize>,
}

/// A live source of one partition.
struct Counting {
    shared: Shared,
    partition: u32,
    last: u64,
    left: VecDeque<i64>,
    due: Instant,
    is_busy: bool,
    is_over: bool,
}

impl Source for Counting {
    fn next_epoch(&self) -> Option<u64> {
        (!self.is_over).then_some(self.last + 1)
    }

    fn counts_epochs(&self) -> bool {
        true
    }

    fn epoch_seen(&mut self, epoch: u64) {
        self.last = self.last.max(epoch);
    }

    fn wake_with(&mut self, wake: Wake) {
        self.shared.wakes.lock().unwrap().push(wake);
    }

    fn poll(&mut self, _allowance: &Allowance) -> Result<Polled, SourceError> {
        if !self.is_busy {
            self.shared.idle_polls.fetch_add(1, Ordering::Relaxed);
        }
        if self.left.is_empty() {
            if std::mem::take(&mut self.is_busy)
                && self.shared.busy.fetch_sub(1, Ordering::AcqRel) == 1
            {
                self.shared.wakes.lock().unwrap().iter().for_each(|wake| wake());
            }
            self.is_over = self.shared.busy.load(Ordering::Acquire) == 0;
            return Ok(if self.is_over { Polled::End } else { Polled::Wait(LONG) });
        }
        let now = Instant::now();
        if now < self.due {
            return Ok(Polled::Wait(self.due - now));
        }
        self.due = now + INTERVAL;
        let id = self.left.pop_front().unwrap();
        self.last += 1;
        self.shared.epochs.lock().unwrap().push(self.last);
        self.shared.read_at.lock().unwrap().push((id, now));
        let row = Row { time: id, us: 0, id, key: None, value: Some(1.0) };
        let offsets = UInt64Array::from(vec![id as u64]);
        let chunk = Chunk::new(self.last, EVENTS, self.partition, events(&[row]), offsets);
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}

/// Notes how long each row took.
struct Note(Shared);

impl Work for Note {
    fn take(
        &mut self,
        _turn: Turn,
        rows: RecordBatch,
        _out: &mut Vec<Out>,
    ) -> Result<(), ArrowError> {
        let ids = rows.column_by_name("id").unwrap().as_primitive::<Int64Type>();
        let read_at = self.0.read_at.lock().unwrap();
        for id in ids.values() {
            let (_, at) = read_at.iter().find(|(of, _)| of == id).unwrap();
            self.0.took.lock().unwrap().push(at.elapsed());
        }
        Ok(())
    }
}

/// Runs a job whose first `busy` workers read rows, in epoch order: none is released before all workers
/// are behind its epoch.
fn run(way: Way, busy: usize, gather_for: Option<Duration>) -> Shared {
    let shared = Shared { busy: Arc::new(AtomicUsize::new(busy)), ..Shared::default() };
    let name = format!("{way:?}, {busy} workers read");
    let setting = Setting {
        order: Order::Epoch,
        partitions: way.workers(),
        bounds: FlowBounds {
            epochs_in_flight_max: 256,
            gather_for,
            ..Setting::new(declared).bounds
        },
        ..Setting::new(declared)
    };
    let (told, given, failure) = (name.clone(), shared.clone(), setting.failure.clone());
    let guards = timely::execute(config(way), move |worker| {
        let (index, is_busy) = (worker.index(), worker.index() < busy);
        let ids = (0..ROWS as i64).filter(|_| is_busy).map(|at| at * 10 + index as i64);
        let source = Box::new(Counting {
            shared: given.clone(),
            partition: index as u32,
            last: 0,
            left: ids.collect(),
            due: Instant::now(),
            is_busy,
            is_over: false,
        });
        let probe = ProbeHandle::new();
        worker.dataflow::<u64, _, _>(|scope| {
            let work = Box::new(Note(given.clone()));
            let behind = Behind { work, drift: None, gathered: None };
            let events = setting.events(source, way, index);
            let Outputs { rows, end } = outputs(scope, events, behind, probe.clone()).unwrap();
            end.without_sinks(&probe);
            rows.into_iter().for_each(|rows| {
                rows.probe_with(&probe);
            });
        });
        work(worker, &probe, &setting.failure, &told);
    })
    .unwrap();
    guards.join().into_iter().for_each(|end| end.unwrap());
    assert_eq!(failure.message(), None, "{name}");
    let mut took = shared.took.lock().unwrap().clone();
    assert_eq!(took.len(), ROWS * busy, "{name}");
    took.sort();
    let median = took[took.len() / 2];
    assert!(median < Duration::from_millis(20), "{name}: half of the rows took over {median:?}");
    shared
}

#[test]
fn a_worker_without_rows_holds_nobody_up_and_does_nothing_else() {
    for way in [Way::Threads(2), Way::Threads(4), Way::Bytes(2), Way::Bytes(4)] {
        for gather_for in [None, Some(Duration::from_millis(1))] {
            let shared = run(way, 1, gather_for);
            // Asked once at the beginning, once for each epoch of another, and at the end.
            let polls = shared.idle_polls.load(Ordering::Relaxed);
            let most = (way.workers() as u64 - 1) * (ROWS as u64 + 10);
            assert!(polls <= most, "{way:?}: {polls} times");
        }
    }
}

#[test]
fn workers_that_read_at_once_share_epochs() {
    let mut doubles = 0;
    for way in [Way::Threads(2), Way::Threads(3), Way::Bytes(4)] {
        let shared = run(way, way.workers(), None);
        let epochs = shared.epochs.lock().unwrap();
        let distinct: BTreeSet<u64> = epochs.iter().copied().collect();
        doubles += epochs.len() - distinct.len();
        // None is left out.
        assert_eq!(distinct.first().zip(distinct.last()), Some((&1, &(distinct.len() as u64))));
    }
    assert!(doubles > 0, "no two workers read under the same epoch");
}
