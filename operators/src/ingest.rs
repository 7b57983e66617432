//! The source end: what a worker reads, and how much of it may be under way.

use std::time::Duration;

use crate::admit::Admission;
use crate::as_of::table::TableAdmission;
use crate::chunk::Chunk;
use crate::control::{ControlFeed, Controls};
use crate::gate::Order;
use crate::known::Known;
use crate::watermark::Progress;

/// One worker's share of all inputs of a job. Kafka, Parquet and JSON lines are each one of these.
///
/// Epochs start at 1 and each chunk's is higher than the one before on the same worker; two workers may
/// have the same.
pub trait Source {
    /// The epoch of the next chunk, as far as it is known; `None` at the end of the input.
    fn next_epoch(&self) -> Option<u64>;

    /// The next chunk that `allowance` admits, if there is one by now.
    ///
    /// # Errors
    /// Whatever keeps the input from being read on; it ends the run.
    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError>;

    /// Whether epochs are counted by the source, as they come, and not fixed beforehand: it then goes on
    /// behind those that it is told others have read under.
    fn counts_epochs(&self) -> bool {
        false
    }

    /// Another worker has read under `epoch`: from now on the next one is later.
    fn epoch_seen(&mut self, _epoch: u64) {}

    /// `wake` has the source polled at once, from any thread, in place of after its wait.
    fn wake_with(&mut self, _wake: Wake) {}
}

pub use crate::wake::Wake;

/// Which partitions a source may read at the moment.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// If set, only these: rows that wait fill the gate, and these hold the watermark back.
    pub only: Option<Vec<u32>>,
    /// Not these: they are too far ahead of the others of their stream.
    ///
    /// This is for sources that can read any of their partitions next. One that holds some back says
    /// [`Polled::Wait`] if it has nothing else, and moves its next epoch on meanwhile: the epochs of
    /// other workers, which may read what is behind, do not complete before it has passed them. A
    /// source whose schedule is fixed has nothing else to read, keeps partitions in step by itself,
    /// and must not look at this.
    pub ahead: Vec<u32>,
    /// How far event time (ms) has come in the events, on all workers; [`i64::MIN`] at first.
    pub event_time: i64,
    /// All epochs before it are through the graph.
    pub complete_before: u64,
}

impl Default for Allowance {
    /// Everything.
    fn default() -> Self {
        Allowance { only: None, ahead: Vec::new(), event_time: i64::MIN, complete_before: 0 }
    }
}

impl Allowance {
    pub fn allows(&self, partition: u32) -> bool {
        self.holds_back(partition) && !self.ahead.contains(&partition)
    }

    /// Whether reading the partition is of use while the gate is full.
    pub fn holds_back(&self, partition: u32) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&partition))
    }
}

pub enum Polled {
    Chunk(Box<Chunk>),
    /// Nothing yet; ask again after this long.
    Wait(Duration),
    /// The next rows are of this partition, which is none of [`Allowance::only`], and what is read
    /// next is fixed.
    Held(u32),
    End,
}

/// Why an input could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{input}: {message}")]
pub struct SourceError {
    /// The file or topic.
    pub input: String,
    pub message: String,
}

/// How much may be under way at once.
#[derive(Clone, Copy, Debug)]
pub struct FlowBounds {
    pub epochs_in_flight_max: u64,
    /// Rows of the events that were read by the worker and are neither settled nor in an order gate; it
    /// counts where epochs are small.
    pub rows_in_flight_max: u64,
    /// Rows that wait in the order gates of all workers. A source hears of them an epoch or so late, and
    /// right to within an eighth ([`GateTally`](crate::gate::GateTally)): there may be more by an eighth and by the rows in flight
    /// to the gates, of up to `epochs_in_flight_max` epochs of each worker.
    pub gate_rows_max: u64,
    /// Bytes of memory that these hold on to.
    pub gate_bytes_max: u64,
    /// Bytes of rows that were read, of epochs that are under way, on all workers: each has an equal
    /// share of it.
    pub bytes_in_flight_max: u64,
    /// How far (ms of event time) a partition may be ahead of the others of its stream.
    pub partition_skew_max_ms: Option<i64>,
    /// If set, what there is goes through the graph together, under the epoch of the last chunk, and
    /// the source is not asked again within so long, or within up to 5 ms where more comes at a time,
    /// but at once where there is more than goes together. Not where epochs mean something: how much
    /// there is at a moment is chance.
    pub gather_for: Option<Duration>,
}

impl FlowBounds {
    /// The same for one of `readers` workers that read events: each has its share of the rows that may
    /// be in flight, and knows its own alone.
    #[must_use]
    pub fn of_one(self, readers: usize) -> Self {
        let readers = readers.max(1) as u64;
        FlowBounds { rows_in_flight_max: self.rows_in_flight_max.div_ceil(readers), ..self }
    }
}

/// One worker's source, and what its chunks go through.
pub struct Intake {
    pub source: Box<dyn Source>,
    pub events: Admission,
    /// By stream: table `t` is stream `t + 1`.
    pub tables: Vec<TableAdmission>,
    pub bounds: FlowBounds,
    /// How far the order gate of this worker is.
    pub gate: Progress,
    pub known: Known,
    pub control: Control,
}

/// What a worker knows of states of control before it begins, and where it hears of more.
#[derive(Clone, Default)]
pub struct Control {
    pub feed: ControlFeed,
    /// States that hold from event times (ms) on, in order of event time.
    pub schedule: Vec<(i64, u64)>,
}

impl Intake {
    /// The states of control as a worker begins.
    pub fn controls(&self, order: Order) -> Controls {
        let controls = Controls::new(order, self.bounds.epochs_in_flight_max);
        controls.with_schedule(&self.control.schedule)
    }
}
