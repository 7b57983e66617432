//! The source of a worker, and what its chunks go through before anything else.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use timely::dataflow::{ProbeHandle, Scope};

use super::alarm::Alarm;
use crate::admit::Admitted;
use crate::chunk::Chunk;
use crate::core::Taken;
use crate::gate::GateRows;
use crate::ingest::{Allowance, FlowBounds, Intake, Polled};
use crate::run::Run;
use crate::watermark::EVENTS;

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

/// When a source is to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Later(Duration),
    End,
}

/// What asking a source once comes to.
enum Asked {
    Admitted { epoch: u64, stream: usize, admitted: Admitted },
    Not(Next),
}

/// A chunk, and when it was asked for.
struct Read {
    chunk: Box<Chunk>,
    at: Duration,
}

/// A worker's source as an operator reads it.
pub struct Reader {
    intake: Intake,
    probe: ProbeHandle<u64>,
    run: Run,
    alarm: Alarm,
    rests_until: Option<Instant>,
    /// Whether the source need not say that there is something: the alarm that ends the rest is set.
    is_resting: Arc<AtomicBool>,
    /// A chunk that is not admitted yet, see [`Reader::is_early`].
    waiting: Option<Read>,
    /// Epochs that are under way, and the bytes of their rows.
    under_way: VecDeque<(u64, usize)>,
    /// Their sum, and the most it may be.
    bytes: usize,
    bytes_max: usize,
}

impl Reader {
    /// For the operator at `address`, which is activated when there is something to read. `probe` must
    /// be behind every sink.
    pub fn new(
        mut intake: Intake,
        scope: Scope<'_, u64>,
        address: Rc<[usize]>,
        probe: ProbeHandle<u64>,
        run: &Run,
    ) -> Self {
        let wake = scope.worker().sync_activator_for(address.to_vec());
        let is_resting = Arc::new(AtomicBool::new(false));
        let is_asleep = is_resting.clone();
        intake.source.wake_with(Arc::new(move || {
            if !is_asleep.load(Acquire) {
                // A worker that has left has nothing to be woken for.
                let _ = wake.activate();
            }
        }));
        if intake.source.counts_epochs() {
            let activator = scope.activator_for(address.clone());
            intake.known.follow_with(Box::new(move || activator.activate()));
        }
        let alarm = Alarm::new(scope.activator_for(address));
        let bytes_max = intake.bounds.bytes_in_flight_max as usize / scope.peers().max(1);
        Reader {
            intake,
            probe,
            run: run.clone(),
            alarm,
            rests_until: None,
            is_resting,
            waiting: None,
            under_way: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// The lowest epoch that may still come; `None` at the end of the input.
    pub fn next_epoch(&self) -> Option<u64> {
        let waiting = self.waiting.as_ref().map(|read| read.chunk.epoch);
        let epoch = waiting.or_else(|| self.intake.source.next_epoch());
        epoch.into_iter().for_each(|epoch| self.intake.known.stand_at(epoch));
        epoch.filter(|_| !self.run.failure.is_set())
    }

    /// Has the operator activated again after `delay`, or at once.
    pub fn come_back(&mut self, delay: Duration) {
        self.alarm.set(delay);
    }

    /// What has come since the last time and goes together, with its epoch, and when to ask again.
    ///
    /// # Errors
    /// If rows of a stream do not go together.
    pub fn gather(&mut self) -> Result<(Option<(u64, Taken)>, Next), ArrowError> {
        // Also while it rests, and where there is nothing to read: others wait for it to go on.
        self.intake.source.epoch_seen(self.intake.known.highest_epoch());
        if let Some(until) = self.rests_until {
            let rest = until.saturating_duration_since(Instant::now());
            if !rest.is_zero() {
                return Ok((None, Next::Later(rest)));
            }
        }
        let gather_for = self.intake.bounds.gather_for;
        // Before it is asked: what comes from now on has this woken.
        let was_resting = self.is_resting.swap(false, AcqRel);
        let (mut epochs, mut taken, mut rows) = (None, Taken::default(), 0);
        let mut next = loop {
            match self.ask() {
                Asked::Admitted { epoch, stream, admitted } => {
                    epochs = Some((epochs.map_or(epoch, |(first, _)| first), epoch));
                    rows += admitted.rows.num_rows() + admitted.dead_letters.num_rows();
                    taken.add(stream, admitted);
                    if gather_for.is_none() || rows >= ROWS_PER_ACTIVATION {
                        break Next::Later(Duration::ZERO);
                    }
                }
                Asked::Not(next) => break next,
            }
        };
        if let Some(gather_for) = gather_for {
            next = self.rest(rest(gather_for, rows), was_resting, next);
        }
        if let Some((first, last)) = epochs.filter(|(first, last)| first < last) {
            self.intake.known.settled().together(first, last);
        }
        if epochs.is_some() {
            taken.switches = self.intake.control.feed.take();
        }
        let taken = epochs.map(|(_, last)| Ok::<_, ArrowError>((last, taken.joined()?)));
        Ok((taken.transpose()?, next))
    }

    /// Rests, where rows have come. Where they come about as often as rests end, the source does not wake
    /// anybody for each of them.
    fn rest(&mut self, rest: Duration, was_resting: bool, next: Next) -> Next {
        let now = Instant::now();
        let is_steady = was_resting || self.rests_until.is_some_and(|until| now < until + rest);
        self.rests_until = Some(now + rest);
        match next {
            Next::Later(delay) if is_steady && !rest.is_zero() => {
                self.is_resting.store(true, Release);
                Next::Later(delay.min(rest))
            }
            next => next,
        }
    }

    fn ask(&mut self) -> Asked {
        let Some(epoch) = self.next_epoch() else { return Asked::Not(Next::End) };
        // 1. Wait while too much is under way.
        if self.is_full(epoch) {
            return Asked::Not(Next::Later(LOOK_AGAIN));
        }
        // 2. Read a chunk.
        let read = match self.waiting.take() {
            Some(read) => read,
            None => {
                let allowance = self.allowance();
                let at = self.run.clock.now();
                match self.run.failure.check(self.intake.source.poll(&allowance)) {
                    Some(Polled::Chunk(chunk)) => Read { chunk, at },
                    Some(Polled::Wait(delay)) => return Asked::Not(Next::Later(delay)),
                    Some(Polled::Held(partition)) => {
                        return Asked::Not(self.held(epoch, &allowance, partition));
                    }
                    Some(Polled::End) | None => return Asked::Not(Next::End),
                }
            }
        };
        // 3. Admit it.
        if self.is_early(&read.chunk) {
            self.waiting = Some(read);
            return Asked::Not(Next::Later(LOOK_AGAIN));
        }
        let (epoch, stream) = (read.chunk.epoch, read.chunk.stream);
        match self.run.failure.check(self.admit(read)) {
            Some(admitted) => {
                self.note_under_way(epoch, &admitted);
                Asked::Admitted { epoch, stream, admitted }
            }
            None => Asked::Not(Next::End),
        }
    }

    fn is_full(&mut self, epoch: u64) -> bool {
        let known = &self.intake.known;
        let in_flight = || known.settled().unsettled().saturating_sub(known.gate_rows().yours);
        self.is_far_ahead(epoch)
            || in_flight() > self.intake.bounds.rows_in_flight_max
            || self.bytes_in_flight() > self.bytes_max
    }

    /// Bytes of the rows of this worker whose epoch is under way.
    fn bytes_in_flight(&mut self) -> usize {
        let probe = &self.probe;
        while let Some((_, bytes)) =
            self.under_way.pop_front_if(|(epoch, _)| !probe.less_equal(epoch))
        {
            self.bytes -= bytes;
        }
        self.bytes
    }

    fn note_under_way(&mut self, epoch: u64, admitted: &Admitted) {
        let bytes = [&admitted.rows, &admitted.dead_letters].map(|rows| match rows.num_rows() {
            0 => 0,
            _ => rows.get_array_memory_size(),
        });
        let bytes = bytes.iter().sum();
        self.bytes += bytes;
        self.under_way.push_back((epoch, bytes));
    }

    /// Whether more epochs before this one are under way than may be.
    fn is_far_ahead(&self, epoch: u64) -> bool {
        let first = epoch.saturating_sub(self.intake.bounds.epochs_in_flight_max);
        self.probe.less_than(&first)
    }

    /// Whether a chunk is to wait. Its epoch may be further ahead than it was before it was read; and
    /// after idleness it is measured against the watermark of the epoch before.
    fn is_early(&self, chunk: &Chunk) -> bool {
        self.is_far_ahead(chunk.epoch)
            || chunk.was_idle && self.intake.gate.epoch() + 1 < chunk.epoch
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
        let FlowBounds { gate_rows_max, gate_bytes_max, partition_skew_max_ms, .. } =
            self.intake.bounds;
        let watermarks = self.intake.gate.watermarks();
        let held = self.intake.known.gate_rows();
        let is_full = held.rows > gate_rows_max || held.bytes > gate_bytes_max;
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
        let FlowBounds { gate_rows_max, gate_bytes_max, .. } = self.intake.bounds;
        let GateRows { rows, bytes, .. } = self.intake.known.gate_rows();
        let (held, key) = match rows > gate_rows_max {
            true => (
                format!("{rows} rows, more than job.gate_rows_max = {gate_rows_max}"),
                "gate_rows_max",
            ),
            false => (
                format!("{bytes} bytes, more than job.gate_bytes_max = {gate_bytes_max}"),
                "gate_bytes_max",
            ),
        };
        self.run.failure.report(format!(
            "the order gate holds {held}, and they wait for {holding}, but the next rows to read are of {}; raise job.{key}, or give the files smaller row groups",
            name(&partition),
        ));
        Next::End
    }
}

impl Taken {
    fn add(&mut self, stream: usize, admitted: Admitted) {
        let Admitted { rows, dead_letters, marks } = admitted;
        self.marks.extend(marks);
        if dead_letters.num_rows() > 0 {
            self.dead_letters.push(dead_letters);
        }
        if rows.num_rows() > 0 {
            self.rows.push((stream, rows));
        }
    }

    /// The same with one batch of each stream.
    fn joined(mut self) -> Result<Self, ArrowError> {
        if self.rows.len() > 1 {
            let streams: BTreeSet<usize> = self.rows.iter().map(|(stream, _)| *stream).collect();
            let of_stream = |stream: usize| {
                let rows = self.rows.iter().filter(|(of, _)| *of == stream);
                Ok((stream, join(&rows.map(|(_, rows)| rows).collect::<Vec<_>>())?))
            };
            let joined = streams.into_iter().map(of_stream);
            self.rows = joined.collect::<Result<_, ArrowError>>()?;
        }
        if self.dead_letters.len() > 1 {
            self.dead_letters = vec![join(&self.dead_letters.iter().collect::<Vec<_>>())?];
        }
        Ok(self)
    }
}

/// Batches of one schema as one.
fn join(batches: &[&RecordBatch]) -> Result<RecordBatch, ArrowError> {
    match batches {
        [one] => Ok((*one).clone()),
        many => concat_batches(many[0].schema_ref(), many.iter().copied()),
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
