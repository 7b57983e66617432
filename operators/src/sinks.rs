//! All outputs of a worker: what is written to them, and what of it is durable.
//!
//! Two things follow from what is not done yet. *Flow*: a batch that a sink has not acknowledged keeps
//! its epoch from being over ([`Outlets::unacknowledged`]), which bounds what is read. *Commits*: what
//! is of no single record keeps offsets from being committed until it is durable
//! ([`Outlets::holds_commits`]); it may take long and must not keep anything from being read. Results of
//! records are followed record by record: whoever has read them hears which are acknowledged
//! ([`Outlets::acknowledged`]).

pub mod state;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::accounting::Counters;
use crate::clock::Clock;
use crate::latency::Latencies;
use crate::layout::READ_AT;
use crate::reasons::{Reasons, Undurable};
use crate::run::Run;
use crate::settled::Acknowledged;
use crate::wake::Wake;

/// One worker's end of an output. Parquet, JSON lines and Kafka are each one of these.
pub trait Sink {
    /// Takes a batch over. What is published of it are the columns of [`Published`](crate::layout::Published).
    ///
    /// # Errors
    /// Whatever keeps it from being written; it ends the run.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError>;

    /// Rows that have become durable since the last call; they become so in the order in which they
    /// were written.
    fn durable_rows(&mut self) -> u64;

    /// What has become durable since the last call as dead letters, as it could not be written as what
    /// it is.
    fn refused(&mut self) -> Reasons {
        Reasons::default()
    }

    /// How many of the last batches may still be refused, or have to be waited for before the next
    /// ones can be taken. The epochs of those before them are over.
    fn unacknowledged(&mut self) -> usize {
        0
    }

    /// Rows that have been acknowledged since the last call, by their columns
    /// [`PARTITION`](crate::layout::PARTITION) and [`OFFSET`](crate::layout::OFFSET), if they are of records
    /// whose offsets somebody commits.
    fn acknowledged(&mut self) -> Vec<RecordBatch> {
        Vec::new()
    }

    /// Whatever is due, whenever the worker comes by.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// `wake` has the sink asked again at once, from any thread.
    fn wake_with(&mut self, _wake: Wake) {}

    /// The end of the input, when every batch is acknowledged: makes everything durable.
    ///
    /// # Errors
    /// Whatever keeps it from being so.
    fn finish(&mut self) -> Result<(), SinkError>;
}

/// Why an output could not be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{output}: {message}")]
pub struct SinkError {
    /// The file or topic.
    pub output: String,
    pub message: String,
}

/// What a row of output is. The number travels with batches from operators to the sinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    Predictions,
    DeadLetters,
    Alerts,
    Drift,
    Features,
    Baseline,
    /// Rows that are skipped behind the source.
    Skipped,
}

impl Output {
    const ALL: [Output; 7] = [
        Output::Predictions,
        Output::DeadLetters,
        Output::Alerts,
        Output::Drift,
        Output::Features,
        Output::Baseline,
        Output::Skipped,
    ];

    /// When offsets may be committed of the epoch that a batch of this is of.
    fn holds_commits(self) -> Option<Until> {
        match self {
            // An alert may be of a window.
            Output::Alerts => Some(Until::Acknowledged),
            Output::Drift => Some(Until::Durable),
            // Settled record by record, or written by runs that commit nothing.
            Output::Predictions
            | Output::DeadLetters
            | Output::Features
            | Output::Baseline
            | Output::Skipped => None,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    Acknowledged,
    Durable,
}

impl From<Output> for u8 {
    fn from(output: Output) -> u8 {
        output as u8
    }
}

impl TryFrom<u8> for Output {
    type Error = u8;

    /// # Errors
    /// The number, if it is that of no output.
    fn try_from(number: u8) -> Result<Self, u8> {
        Output::ALL.get(usize::from(number)).copied().ok_or(number)
    }
}

/// What is counted of an output.
pub enum Tally {
    Nothing,
    DeadLetters(Counters, Undurable),
    /// Rows that take the place of predictions in the account.
    Rows(Counters),
    Predictions {
        counters: Counters,
        latencies: Latencies,
        clock: Arc<dyn Clock>,
    },
}

impl Tally {
    fn written(&mut self, batch: &RecordBatch) {
        match self {
            Tally::Predictions { latencies, clock, .. } => {
                if let Some(read_at) = batch.column_by_name(READ_AT) {
                    let read_at = read_at.as_primitive::<Int64Type>().values();
                    latencies.handed_over(read_at, clock.now());
                }
            }
            Tally::DeadLetters(_, written) => written.write(Reasons::of(batch)),
            Tally::Nothing | Tally::Rows(_) => {}
        }
    }

    fn refused(&self, refused: &Reasons) {
        match self {
            Tally::Nothing => {}
            Tally::DeadLetters(counters, _)
            | Tally::Rows(counters)
            | Tally::Predictions { counters, .. } => counters.dead_letters_durable(refused),
        }
    }

    fn durable(&mut self, rows: u64) {
        match self {
            Tally::Nothing => {}
            Tally::DeadLetters(counters, written) => {
                counters.dead_letters_durable(&written.durable(rows));
            }
            Tally::Rows(counters) | Tally::Predictions { counters, .. } => {
                counters.predictions_durable(rows);
            }
        }
    }
}

/// An output of a job on one worker.
pub struct Outlet {
    pub output: Output,
    /// Of the batches that come.
    pub schema: SchemaRef,
    pub sink: Box<dyn Sink>,
    pub tally: Tally,
}

impl Outlet {
    /// The dead letters of a job.
    pub fn dead_letters(sink: Box<dyn Sink>, run: &Run) -> Self {
        Outlet {
            output: Output::DeadLetters,
            schema: crate::dead_letter::SCHEMA.clone(),
            sink,
            tally: Tally::DeadLetters(run.counters.clone(), Undurable::default()),
        }
    }
}

/// An outlet, and what was written to it.
struct Open {
    outlet: Outlet,
    /// The epochs of batches that are not acknowledged, in the order of writing.
    unacknowledged: VecDeque<u64>,
    /// Of batches that are not durable their epochs, and how many rows of them are not; kept where
    /// commits wait for it.
    undurable: VecDeque<(u64, u64)>,
    durable_rows: u64,
}

impl Open {
    fn write(&mut self, epoch: u64, batch: &RecordBatch) -> Result<(), SinkError> {
        let Outlet { output, sink, tally, .. } = &mut self.outlet;
        sink.write(batch)?;
        tally.written(batch);
        self.unacknowledged.push_back(epoch);
        if output.holds_commits() == Some(Until::Durable) && batch.num_rows() > 0 {
            self.undurable.push_back((epoch, batch.num_rows() as u64));
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        let ticked = self.outlet.sink.tick();
        self.count_durable();
        let Outlet { sink, tally, .. } = &mut self.outlet;
        tally.refused(&sink.refused());
        let acknowledged = self.unacknowledged.len().saturating_sub(sink.unacknowledged());
        self.unacknowledged.drain(..acknowledged);
        ticked
    }

    fn count_durable(&mut self) {
        let Outlet { sink, tally, .. } = &mut self.outlet;
        let mut durable = sink.durable_rows();
        self.durable_rows += durable;
        tally.durable(durable);
        while let Some((_, rows)) = self.undurable.front_mut() {
            if *rows > durable {
                *rows -= durable;
                return;
            }
            durable -= *rows;
            self.undurable.pop_front();
        }
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        let finished = self.outlet.sink.finish();
        if finished.is_ok() {
            self.count_durable();
        }
        finished
    }

    fn lowest_unacknowledged(&self) -> Option<u64> {
        self.unacknowledged.iter().min().copied()
    }

    /// The lowest epoch whose offsets cannot be committed for what was written here.
    fn holds(&self) -> Option<u64> {
        match self.outlet.output.holds_commits()? {
            Until::Acknowledged => self.lowest_unacknowledged(),
            Until::Durable => self.undurable.iter().map(|(epoch, _)| *epoch).min(),
        }
    }
}

/// All outputs of a worker.
pub struct Outlets {
    open: Vec<Open>,
    /// Everything of the epochs before it has been written here.
    complete_before: u64,
    /// Of a run whose offsets somebody commits.
    acknowledged: Option<Acknowledged>,
}

impl Outlets {
    pub fn new(outlets: Vec<Outlet>, run: &Run) -> Self {
        let open = |outlet| Open {
            outlet,
            unacknowledged: VecDeque::new(),
            undurable: VecDeque::new(),
            durable_rows: 0,
        };
        let open = outlets.into_iter().map(open).collect();
        let acknowledged = run.reports.are_kept().then(Acknowledged::default);
        Outlets { open, complete_before: 0, acknowledged }
    }

    /// Of the batches of an output; none if nobody wants it.
    pub fn schema(&self, output: Output) -> Option<&SchemaRef> {
        let mut outlets = self.open.iter().map(|open| &open.outlet);
        outlets.find(|outlet| outlet.output == output).map(|outlet| &outlet.schema)
    }

    /// Takes over a batch of `epoch`; epochs may come out of order. An output that nobody wants is left
    /// out.
    ///
    /// # Errors
    /// Whatever keeps it from being written; it ends the run.
    pub fn write(
        &mut self,
        epoch: u64,
        output: Output,
        batch: &RecordBatch,
    ) -> Result<(), SinkError> {
        let mut open = self.open.iter_mut();
        let Some(open) = open.find(|open| open.outlet.output == output) else { return Ok(()) };
        if let Some(acknowledged) = &mut self.acknowledged
            && output == Output::Alerts
        {
            acknowledged.hold(batch);
        }
        open.write(epoch, batch)
    }

    /// Whatever is due, at each activation; counts what has become durable.
    ///
    /// # Errors
    /// As [`Outlets::write`].
    pub fn tick(&mut self) -> Result<(), SinkError> {
        let ticked: Vec<_> = self.open.iter_mut().map(Open::tick).collect();
        if let Some(acknowledged) = &mut self.acknowledged {
            let all = self.open.iter_mut().flat_map(|open| open.outlet.sink.acknowledged());
            all.for_each(|rows| acknowledged.add(&rows));
        }
        ticked.into_iter().collect()
    }

    /// The records that are acknowledged with all that there is of them, until somebody takes them; `None`
    /// if nobody asks.
    pub fn acknowledged(&mut self) -> Option<&mut Acknowledged> {
        self.acknowledged.as_mut().filter(|acknowledged| acknowledged.rows() > 0)
    }

    /// The lowest epoch of which something is not acknowledged.
    pub fn unacknowledged(&self) -> Option<u64> {
        self.open.iter().filter_map(Open::lowest_unacknowledged).min()
    }

    /// Everything of the epochs before `complete` has been written here; `None` at the end of the input.
    pub fn complete_before(&mut self, complete: Option<u64>) {
        self.complete_before = self.complete_before.max(complete.unwrap_or(u64::MAX));
    }

    /// `wake` has [`Outlets::tick`] called at once, from any thread.
    pub fn wake_with(&mut self, wake: Wake) {
        self.open.iter_mut().for_each(|open| open.outlet.sink.wake_with(wake.clone()));
    }

    /// The end, when nothing is unacknowledged: makes everything durable. Nothing more is written then,
    /// nor is there anything left to do. By output how many rows have become durable.
    ///
    /// # Errors
    /// As [`Outlets::write`].
    pub fn finish(&mut self) -> Result<Vec<(Output, u64)>, SinkError> {
        self.open.iter_mut().try_for_each(Open::finish)?;
        let durable = self.open.drain(..);
        Ok(durable.map(|open| (open.outlet.output, open.durable_rows)).collect())
    }

    /// Whether there are results of no record, so that commits wait for epochs of which these are
    /// durable: otherwise everything that is written is of records, which are settled one by one.
    pub fn hold_epochs(&self) -> bool {
        self.open.iter().any(|open| open.outlet.output == Output::Drift)
    }

    /// The lowest epoch whose offsets cannot be committed for what was written here; there is none
    /// unless [`Outlets::hold_epochs`].
    pub fn holds_commits(&self) -> Option<u64> {
        let holds = self.open.iter().filter_map(Open::holds).min();
        holds.filter(|_| self.hold_epochs())
    }

    /// All is durable here of the epochs before this.
    pub fn durable_before(&self) -> u64 {
        self.holds_commits().unwrap_or(u64::MAX).min(self.complete_before)
    }
}

#[cfg(test)]
mod tests;
