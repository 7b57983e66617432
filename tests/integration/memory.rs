//! Memory is bounded in bytes, however wide rows are: behind a sink that stands still, and in a gate
//! whose watermark does not rise.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, UInt64Array};
use driftline_jobs::graph::{Behind, Outputs, outputs};
use driftline_operators::accounting::Counters;
use driftline_operators::chunk::Chunk;
use driftline_operators::features::declaration::FeatureDeclaration;
use driftline_operators::gate::Order;
use driftline_operators::ingest::{Allowance, FlowBounds, Polled, Source, SourceError};
use driftline_operators::sinks::{Outlet, Outlets, Output, Sink, SinkError, Tally};
use driftline_operators::watermark::EVENTS;
use timely::dataflow::ProbeHandle;

use crate::job::place;
use crate::support::{Row, Setting, events, layout};
use crate::ways::{PassOn, Way, config, work};

fn declared() -> Vec<FeatureDeclaration> {
    vec![place()]
}

const BYTES_MAX: u64 = 4 << 20;
/// Of a chunk.
const ROWS: u64 = 10;
const CHUNKS: u64 = 300;
const WIDTH: usize = 20_000;

/// Rows from `first` on whose keys are wide, a ms apart.
fn wide(first: u64) -> RecordBatch {
    let row = |at: u64| Row {
        time: at as i64,
        us: 0,
        id: at as i64,
        key: Some("k".repeat(WIDTH)),
        value: None,
    };
    events(&(first..first + ROWS).map(row).collect::<Vec<_>>())
}

fn chunk(epoch: u64, partition: u32, first: u64, is_last: bool) -> Chunk {
    let offsets = UInt64Array::from_iter_values(first..first + ROWS);
    Chunk {
        highest_before: first as i64 - 1,
        finished: if is_last { vec![partition] } else { vec![] },
        ..Chunk::new(epoch, EVENTS, partition, wide(first), offsets)
    }
}

/// A partition a worker, and what was read of all.
struct Wide {
    partition: u32,
    workers: u64,
    chunks: u64,
    read: Arc<AtomicU64>,
}

impl Source for Wide {
    fn next_epoch(&self) -> Option<u64> {
        let epoch = self.chunks * self.workers + u64::from(self.partition) + 1;
        (self.chunks < CHUNKS).then_some(epoch)
    }

    fn poll(&mut self, _allowance: &Allowance) -> Result<Polled, SourceError> {
        let Some(epoch) = self.next_epoch() else { return Ok(Polled::End) };
        self.chunks += 1;
        let first = (self.chunks - 1) * ROWS;
        let chunk = chunk(epoch, self.partition, first, self.chunks == CHUNKS);
        self.read.fetch_add(chunk.rows.get_array_memory_size() as u64, Relaxed);
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}

/// Acknowledges nothing before it may.
struct Standing {
    written: usize,
    may_go_on: Arc<AtomicBool>,
    rows: Arc<AtomicU64>,
}

impl Sink for Standing {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.written += 1;
        self.rows.fetch_add(batch.num_rows() as u64, Relaxed);
        Ok(())
    }

    fn durable_rows(&mut self) -> u64 {
        0
    }

    fn unacknowledged(&mut self) -> usize {
        if self.may_go_on.load(Relaxed) { 0 } else { self.written }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn bounds() -> FlowBounds {
    FlowBounds {
        epochs_in_flight_max: 1_000_000,
        rows_in_flight_max: u64::MAX,
        gate_rows_max: u64::MAX,
        gate_bytes_max: u64::MAX,
        bytes_in_flight_max: u64::MAX,
        partition_skew_max_ms: None,
        gather_for: None,
    }
}

/// Waits until a count has not risen for a while.
fn settled(count: &AtomicU64) -> u64 {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(400) {
        let now = count.load(Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    last
}

#[test]
fn what_is_read_behind_a_sink_that_stands_still_is_bounded_in_bytes() {
    for way in [Way::Fused, Way::Threads(1), Way::Threads(3), Way::Bytes(2)] {
        let name = format!("{way:?}");
        let workers = match way {
            Way::Fused => 1,
            Way::Threads(workers) | Way::Bytes(workers) => workers as u64,
        };
        let setting = Setting {
            // What waits in the gate is not under way.
            order: Order::Epoch,
            partitions: workers as usize,
            bounds: FlowBounds { bytes_in_flight_max: BYTES_MAX, ..bounds() },
            ..Setting::new(declared)
        };
        let (read, rows, may_go_on) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::default());
        let guards = timely::execute(config(way), {
            let (setting, read, rows) = (setting.clone(), read.clone(), rows.clone());
            let (may_go_on, name) = (Arc::clone(&may_go_on), name.clone());
            move |worker| {
                let probe = ProbeHandle::new();
                let (partition, read) = (worker.index() as u32, read.clone());
                let source = Box::new(Wide { partition, workers, chunks: 0, read });
                let sink =
                    Standing { written: 0, may_go_on: Arc::clone(&may_go_on), rows: rows.clone() };
                worker.dataflow::<u64, _, _>(|scope| {
                    let behind = Behind { work: Box::new(PassOn), drift: None, gathered: None };
                    let events = setting.events(source, way, scope.index());
                    let Outputs { rows, end } =
                        outputs(scope, events, behind, probe.clone()).unwrap();
                    let outlet = Outlet {
                        output: Output::Features,
                        schema: setting.plan().enriched_schema(&layout()),
                        sink: Box::new(sink),
                        tally: Tally::Nothing,
                    };
                    end.write(rows, Outlets::new(vec![outlet], &setting.run()), &probe);
                });
                work(worker, &probe, &setting.failure, &name);
            }
        })
        .unwrap();
        let held = settled(&read);
        let one = chunk(1, 0, 0, false).rows.get_array_memory_size() as u64;
        assert!(held <= BYTES_MAX + workers * one, "{name}: {held} bytes, {one} a chunk");
        assert!(held >= BYTES_MAX / 2, "{name}: {held} bytes, {one} a chunk");
        may_go_on.store(true, Relaxed);
        guards.join().into_iter().for_each(|end| end.unwrap());
        assert_eq!(setting.failure.message(), None, "{name}");
        assert_eq!(rows.load(Relaxed), workers * CHUNKS * ROWS, "{name}");
    }
}

/// Two partitions of one reader: the first has nothing until the second may not be read.
struct Holding {
    read: [u64; 2],
    counters: Counters,
    most: Arc<AtomicU64>,
}

impl Source for Holding {
    fn next_epoch(&self) -> Option<u64> {
        (self.read != [CHUNKS; 2]).then_some(self.read[0] + self.read[1] + 1)
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        self.most.fetch_max(self.counters.gate_bytes(), Relaxed);
        let Some(epoch) = self.next_epoch() else { return Ok(Polled::End) };
        let partition = match allowance.allows(1) && self.read[1] < CHUNKS {
            true => 1,
            false if self.read[0] < CHUNKS => 0,
            false => return Ok(Polled::Wait(Duration::from_millis(1))),
        };
        let read = &mut self.read[partition];
        *read += 1;
        let chunk = chunk(epoch, partition as u32, (*read - 1) * ROWS, *read == CHUNKS);
        Ok(Polled::Chunk(Box::new(chunk)))
    }
}

#[test]
fn a_gate_is_bounded_in_bytes() {
    for way in [Way::Fused, Way::Threads(1)] {
        let name = format!("{way:?}");
        let counters = Counters::default();
        let setting = Setting {
            partitions: 2,
            counters: counters.clone(),
            bounds: FlowBounds { gate_bytes_max: BYTES_MAX, epochs_in_flight_max: 1, ..bounds() },
            ..Setting::new(declared)
        };
        let (most, recorded) = (Arc::new(AtomicU64::new(0)), crate::record::Recorded::default());
        let source = {
            let most = most.clone();
            move |_worker: usize, _workers: usize| -> Box<dyn Source> {
                Box::new(Holding { read: [0; 2], counters: counters.clone(), most: most.clone() })
            }
        };
        crate::ways::run_features(way, &setting, &recorded, &name, source);
        assert_eq!(setting.failure.message(), None, "{name}");
        let rows: usize = recorded.all().iter().map(|came| came.rows.num_rows()).sum();
        assert_eq!(rows as u64, 2 * CHUNKS * ROWS, "{name}");
        // What is read before it is known that it is full, and room that a copy may leave.
        let one = chunk(1, 0, 0, false).rows.get_array_memory_size() as u64;
        let most = most.load(Relaxed);
        assert!(most <= BYTES_MAX + 4 * one, "{name}: {most} bytes, {one} a chunk");
        assert!(most >= BYTES_MAX / 2, "{name}: {most} bytes, {one} a chunk");
    }
}
