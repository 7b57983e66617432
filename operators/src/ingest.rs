//! The source end of the graph: chunks become admitted rows, versions of tables, dead letters and
//! marks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::{ProbeHandle, Scope, Stream, StreamVec};
use timely::scheduling::Activator;

use crate::admit::{Admission, Admitted};
use crate::as_of::table::TableAdmission;
use crate::chunk::Chunk;
use crate::rows::Rows;
use crate::run::Run;
use crate::watermark::EVENTS;
use crate::watermark::{Mark, Progress};

/// One worker's share of all inputs of a job. Kafka, Parquet and JSON lines are each one of these.
///
/// Epochs start at 1 and each chunk's is higher than the one before on the same worker.
pub trait Source {
    /// The epoch of the next chunk, as far as it is known; `None` at the end of the input.
    fn next_epoch(&self) -> Option<u64>;

    /// The next chunk that `allowance` admits, if there is one by now.
    ///
    /// # Errors
    /// Whatever keeps the input from being read on; it ends the run.
    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError>;

    /// `wake` has the source polled at once, from any thread, in place of after its wait.
    fn wake_with(&mut self, _wake: Wake) {}
}

/// Has something done at once.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

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

/// When to look again whether what is under way has come further: its progress activates nobody.
const LOOK_AGAIN: Duration = Duration::from_micros(50);

/// Rows gathered before the other operators have their turn, unless one chunk has more.
const ROWS_PER_ACTIVATION: usize = 1_024;

/// Rows gathered at a time for which a source rests no longer than the job says; for more of them it
/// does, as what a row costs falls with the rows that go together.
const FEW_ROWS: usize = 16;
const LONGER_REST_MAX: Duration = Duration::from_millis(5);

/// How long a source that has gathered rows rests; not at all where there may be more of them.
fn rest(gather_for: Duration, rows: usize) -> Duration {
    match rows {
        1..ROWS_PER_ACTIVATION => {
            let longer = gather_for * rows.div_ceil(FEW_ROWS) as u32;
            longer.min(LONGER_REST_MAX).max(gather_for)
        }
        _ => Duration::ZERO,
    }
}

/// How much may be under way at once.
#[derive(Clone, Copy, Debug)]
pub struct FlowBounds {
    pub epochs_in_flight_max: u64,
    /// Rows of the events that were read and are neither settled nor in an order gate; it counts where
    /// epochs are small.
    pub rows_in_flight_max: u64,
    /// Rows that wait in the order gates of this process.
    pub gate_rows_max: u64,
    /// How far (ms of event time) a partition may be ahead of the others of its stream.
    pub partition_skew_max_ms: Option<i64>,
    /// If set, what there is goes through the graph together, under the epoch of the last chunk, and
    /// the source is not asked again within so long, or within up to 5 ms where more comes at a time,
    /// but at once where there is more than goes together. Not where epochs mean something: how much
    /// there is at a moment is chance.
    pub gather_for: Option<Duration>,
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
}

pub struct Ingested<'scope> {
    pub rows: Stream<'scope, u64, Rows>,
    /// Versions of each table.
    pub tables: Vec<Stream<'scope, u64, Rows>>,
    pub dead_letters: Stream<'scope, u64, Rows>,
    /// Broadcast: every worker sees every mark.
    pub marks: StreamVec<'scope, u64, Mark>,
}

type RowsOut = OutputBuilder<u64, CapacityContainerBuilder<Rows>>;

struct Outputs {
    marks: OutputBuilder<u64, CapacityContainerBuilder<Vec<Mark>>>,
    dead_letters: RowsOut,
    /// By stream.
    rows: Vec<RowsOut>,
}

/// What leaves together.
#[derive(Default)]
struct Gathered {
    /// The epoch of the last chunk, for each output; empty if nothing has come.
    at: Vec<Capability<u64>>,
    marks: Vec<Mark>,
    dead_letters: Vec<RecordBatch>,
    /// With their streams.
    rows: Vec<(usize, RecordBatch)>,
    count: usize,
    /// The epochs of the first chunk and of the last.
    epochs: Option<(u64, u64)>,
}

impl Gathered {
    fn add(&mut self, stream: usize, admitted: Admitted) {
        let Admitted { rows, dead_letters, marks } = admitted;
        self.count += rows.num_rows() + dead_letters.num_rows();
        self.marks.extend(marks);
        self.dead_letters.push(dead_letters);
        self.rows.push((stream, rows));
    }
}

impl Outputs {
    fn send(&mut self, gathered: Gathered) -> Result<(), ArrowError> {
        let Gathered { at, marks, dead_letters, rows, .. } = gathered;
        let [at_marks, at_dead, at_rows @ ..] = at.as_slice() else { return Ok(()) };
        self.marks.activate().session(at_marks).give_iterator(marks.into_iter());
        send(&mut self.dead_letters, at_dead, dead_letters.iter())?;
        for (stream, (out, at)) in self.rows.iter_mut().zip(at_rows).enumerate() {
            send(out, at, rows.iter().filter(|(of, _)| *of == stream).map(|(_, rows)| rows))?;
        }
        Ok(())
    }
}

/// Batches of one output as one.
fn send<'a>(
    out: &mut RowsOut,
    at: &Capability<u64>,
    batches: impl Iterator<Item = &'a RecordBatch>,
) -> Result<(), ArrowError> {
    let batches: Vec<&RecordBatch> = batches.filter(|batch| batch.num_rows() > 0).collect();
    let rows = match batches.as_slice() {
        [] => return Ok(()),
        [batch] => (*batch).clone(),
        [first, ..] => concat_batches(first.schema_ref(), batches)?,
    };
    out.activate().session(at).give_container(&mut Rows::new(rows));
    Ok(())
}

/// Reads the source for as long as its bounds allow, by `probe`, which is behind every sink.
pub fn ingest<'scope>(
    scope: Scope<'scope, u64>,
    mut intake: Intake,
    probe: ProbeHandle<u64>,
    run: &Run,
) -> Ingested<'scope> {
    let run = run.clone();
    let mut builder = OperatorBuilder::new("Ingest".to_owned(), scope);
    let address = builder.operator_info().address;
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let activator = scope.activator_for(address);
    // Outputs: marks, dead letters, then the rows of each stream.
    let (marks_out, marks) = builder.new_output();
    let (dead_out, dead_letters) = builder.new_output();
    let (rows_out, mut streams): (Vec<_>, Vec<_>) =
        (0..=intake.tables.len()).map(|_| builder.new_output()).unzip();
    let mut outputs = Outputs {
        marks: OutputBuilder::from(marks_out),
        dead_letters: RowsOut::from(dead_out),
        rows: rows_out.into_iter().map(RowsOut::from).collect(),
    };

    // A worker that has left has nothing to be woken for.
    intake.source.wake_with(Arc::new(move || {
        let _ = wake.activate();
    }));
    let gather_for = intake.bounds.gather_for;
    builder.build(move |capabilities| {
        let mut reader = Reader { intake, probe, run, returning: None };
        let mut alarm = Alarm { activator, due: None };
        let mut rests_until: Option<Instant> = None;
        let mut held = Some(capabilities);
        move |_frontiers| {
            let Some(capabilities) = held.as_mut() else { return };
            if let Some(until) = rests_until {
                let rest = until.saturating_duration_since(Instant::now());
                if !rest.is_zero() {
                    return alarm.set(rest);
                }
            }
            let mut gathered = Gathered::default();
            let next = loop {
                match reader.next(capabilities) {
                    Next::Admitted { epoch, stream, admitted } => {
                        gathered.at = capabilities.iter().map(|c| c.delayed(&epoch)).collect();
                        gathered.epochs = Some((gathered.epochs.map_or(epoch, |e| e.0), epoch));
                        gathered.add(stream, admitted);
                        if gather_for.is_none() || gathered.count >= ROWS_PER_ACTIVATION {
                            break Next::Later(Duration::ZERO);
                        }
                    }
                    next => break next,
                }
            };
            rests_until = gather_for.map(|gather| Instant::now() + rest(gather, gathered.count));
            if let Some((first, last)) = gathered.epochs.filter(|(first, last)| first < last) {
                reader.run.settled.together(first, last);
            }
            reader.run.failure.check(outputs.send(gathered));
            match next {
                Next::Later(delay) => alarm.set(delay),
                _ => held = None,
            }
        }
    });
    let rows = streams.remove(EVENTS);
    Ingested { rows, tables: streams, dead_letters, marks: marks.broadcast() }
}

/// The next activation of an operator that something else may activate meanwhile.
struct Alarm {
    activator: Activator,
    due: Option<Instant>,
}

impl Alarm {
    /// Rings after `delay`, or before if it is set already: an alarm each time would be ever more of
    /// them.
    fn set(&mut self, delay: Duration) {
        if delay.is_zero() {
            return self.activator.activate();
        }
        let now = Instant::now();
        let due = now + delay;
        if !self.due.is_some_and(|set| now < set && set <= due) {
            self.due = Some(due);
            self.activator.activate_after(delay);
        }
    }
}

/// What an activation of a source comes to.
enum Next {
    Admitted { epoch: u64, stream: usize, admitted: Admitted },
    Later(Duration),
    End,
}

/// A chunk, and when it was asked for.
struct Read {
    chunk: Box<Chunk>,
    at: Duration,
}

struct Reader {
    intake: Intake,
    probe: ProbeHandle<u64>,
    run: Run,
    /// A chunk of a partition that was idle, until the watermark it is measured against is known.
    returning: Option<Read>,
}

impl Reader {
    fn next(&mut self, capabilities: &mut [Capability<u64>]) -> Next {
        let waiting = self.returning.as_ref().map(|read| read.chunk.epoch);
        let epoch = waiting.or_else(|| self.intake.source.next_epoch());
        let Some(epoch) = epoch.filter(|_| !self.run.failure.is_set()) else { return Next::End };
        // 1. Stand at the next epoch, so that everything before it can complete.
        for capability in capabilities.iter_mut().filter(|c| *c.time() < epoch) {
            capability.downgrade(&epoch);
        }
        // 2. Wait while too much is under way.
        if self.is_full(epoch) {
            return Next::Later(LOOK_AGAIN);
        }
        // 3. Read a chunk.
        let read = match self.returning.take() {
            Some(read) => read,
            None => {
                let allowance = self.allowance();
                let at = self.run.clock.now();
                match self.run.failure.check(self.intake.source.poll(&allowance)) {
                    Some(Polled::Chunk(chunk)) => Read { chunk, at },
                    Some(Polled::Wait(delay)) => return Next::Later(delay),
                    Some(Polled::Held(partition)) => {
                        return self.held(epoch, &allowance, partition);
                    }
                    Some(Polled::End) | None => return Next::End,
                }
            }
        };
        // 4. Admit it. After idleness it is measured against the watermark of the epoch before.
        if read.chunk.was_idle && self.intake.gate.epoch() + 1 < read.chunk.epoch {
            self.returning = Some(read);
            return Next::Later(LOOK_AGAIN);
        }
        let (epoch, stream) = (read.chunk.epoch, read.chunk.stream);
        match self.run.failure.check(self.admit(read)) {
            Some(admitted) => Next::Admitted { epoch, stream, admitted },
            None => Next::End,
        }
    }

    fn is_full(&self, epoch: u64) -> bool {
        let FlowBounds { epochs_in_flight_max, rows_in_flight_max, .. } = self.intake.bounds;
        let Run { settled, counters, .. } = &self.run;
        let in_flight = || settled.unsettled().saturating_sub(counters.gate_rows_pending());
        self.probe.less_than(&epoch.saturating_sub(epochs_in_flight_max))
            || in_flight() > rows_in_flight_max
    }

    fn admit(&self, read: Read) -> Result<Admitted, ArrowError> {
        let Read { chunk, at } = read;
        let passed = match chunk.was_idle {
            true => self.intake.gate.watermarks().of_stream(chunk.stream),
            false => i64::MIN,
        };
        match chunk.stream {
            EVENTS => self.intake.events.admit(*chunk, passed, at),
            table => self.intake.tables[table - 1].admit(&chunk),
        }
    }

    fn allowance(&self) -> Allowance {
        let FlowBounds { gate_rows_max, partition_skew_max_ms, .. } = self.intake.bounds;
        let watermarks = self.intake.gate.watermarks();
        let is_full = self.run.counters.gate_rows() > gate_rows_max;
        let ahead = partition_skew_max_ms.map(|skew| watermarks.ahead(skew));
        Allowance {
            only: is_full.then(|| watermarks.holding()),
            ahead: ahead.unwrap_or_default(),
            event_time: watermarks.highest(EVENTS),
            complete_before: self
                .probe
                .with_frontier(|frontier| frontier.first().copied().unwrap_or(u64::MAX)),
        }
    }

    /// What is under way may still empty the gate; if nothing is, nobody will.
    fn held(&self, epoch: u64, allowance: &Allowance, partition: u32) -> Next {
        if self.probe.less_than(&epoch) {
            return Next::Later(LOOK_AGAIN);
        }
        let names = &self.intake.events.partition_names;
        let name = |partition: &u32| {
            names.get(*partition).unwrap_or_else(|| "an unknown partition".to_owned())
        };
        let holding = allowance.only.iter().flatten().map(name).collect::<Vec<_>>().join(", ");
        self.run.failure.report(format!(
            "the order gate holds {} rows, more than job.gate_rows_max = {}, and they wait for {holding}, but the next rows to read are of {}; raise job.gate_rows_max, or give the files smaller row groups",
            self.run.counters.gate_rows(),
            self.intake.bounds.gate_rows_max,
            name(&partition),
        ));
        Next::End
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_rests_longer_the_more_it_gathers_until_it_does_not_rest_at_all() {
        let ms = Duration::from_millis;
        for (gather_for, rows, rested) in [
            (ms(1), 0, ms(0)),
            (ms(1), 1, ms(1)),
            (ms(1), 16, ms(1)),
            (ms(1), 17, ms(2)),
            (ms(1), 1_023, ms(5)),
            (ms(1), 1_024, ms(0)),
            (ms(0), 1_023, ms(0)),
            (ms(100), 1_023, ms(100)),
        ] {
            assert_eq!(rest(gather_for, rows), rested, "{rows} rows");
        }
    }
}
