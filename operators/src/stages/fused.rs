//! The whole core of a worker in one operator: where there is one worker.

use std::time::Duration;

use arrow::error::ArrowError;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{ProbeHandle, Scope, Stream};

use super::moving::{Leaving, begin};
use super::reader::{Next, Reader};
use super::{Parts, RowsOut, build, builder};
use crate::control::ControlFeed;
use crate::core::ROWS_PER_TURN;
use crate::core::parts::Operator;
use crate::core::{Features, Taken, WorkerCore};
use crate::ingest::Intake;
use crate::known::{Known, Notice};
use crate::rows::Rows;
use crate::run::Run;
use crate::stage_clock::{Stage, StageTimer};
use crate::watermark::EpochClock;

/// Rows of all outputs, by [`Output`](crate::sinks::Output).
///
/// # Errors
/// If a table has values that cannot be kept.
pub fn fused<'scope>(
    scope: Scope<'scope, u64>,
    parts: Parts,
    probe: ProbeHandle<u64>,
) -> Result<Stream<'scope, u64, Rows>, ArrowError> {
    let run = parts.run.clone();
    let (core, intake, leaving) = leaving_core_of(parts)?;
    let known = intake.known.clone();
    let mut builder = builder(Operator::Fused, scope);
    let address = builder.operator_info().address;
    let feed = intake.control.feed.clone();
    let reader = Reader::new(intake, scope, address, probe, &run);
    let (out, outputs) = builder.new_output();
    let out = RowsOut(OutputBuilder::from(out));
    build(builder, (Operator::Fused, run.turns.clone()), move |capabilities| {
        let timer = run.stages.timer(&run.clock);
        let at = capabilities.into_iter().next();
        let (taken, next) = (None, None);
        let mut fused =
            Fused { reader, core, feed, known, out, at, taken, next, leaving, timer, run };
        move |_frontiers| fused.work()
    });
    Ok(outputs)
}

/// The core of a worker that is alone, and what it reads.
///
/// # Errors
/// As [`fused`].
pub fn core_of(parts: Parts) -> Result<(WorkerCore, Intake), ArrowError> {
    leaving_core_of(parts).map(|(core, intake, _)| (core, intake))
}

/// As [`core_of`], with what it leaves at its end.
fn leaving_core_of(mut parts: Parts) -> Result<(WorkerCore, Intake, Leaving), ArrowError> {
    let (home, owner, leaving) = begin(&mut parts, (0, 1))?;
    let Parts { intake, layout, plan, order, finish, drift, run, .. } = parts;
    let clock = EpochClock::new(intake.gate.clone(), intake.controls(order));
    let enriched = plan.enriched_schema(&layout);
    let features = Features { plan, layout, order, enriched };
    let drift = drift.map(|drift| drift.owner);
    let core = WorkerCore::new(clock, home, owner, finish, drift, features, &run);
    Ok((core, intake, leaving))
}

struct Fused {
    reader: Reader,
    core: WorkerCore,
    /// Who wants to know what has been decided of switches.
    feed: ControlFeed,
    known: Known,
    out: RowsOut,
    /// None at the end of the input.
    at: Option<Capability<u64>>,
    /// What was read, and is not begun with.
    taken: Option<(u64, Taken)>,
    /// When to read on, while what was read is not worked off.
    next: Option<Next>,
    leaving: Leaving,
    timer: StageTimer,
    run: Run,
}

impl Fused {
    fn work(&mut self) {
        if self.at.is_none() {
            return;
        }
        if self.run.failure.is_set() {
            self.at = None;
            return;
        }
        let done = self.read_or_go_on();
        let next = self.run.failure.check(done).unwrap_or(Some(Next::End));
        if let Some(at) = &self.at {
            self.out.send_out(at, self.core.out());
        }
        match next {
            None => self.reader.come_back(Duration::ZERO),
            Some(Next::End) if self.core.closing().is_some() => {
                self.next = Some(Next::End);
                self.reader.come_back(Duration::ZERO);
            }
            Some(Next::End) => {
                self.leave();
                self.at = None;
            }
            Some(Next::Later(delay)) => {
                let next = self.reader.next_epoch();
                self.stand_at(next);
                let is_closing = self.core.closing().is_some();
                self.reader.come_back(if is_closing { Duration::ZERO } else { delay });
            }
        }
    }

    /// Reads an epoch, or works on with the one that was read; when to read on, if it is worked off.
    fn read_or_go_on(&mut self) -> Result<Option<Next>, ArrowError> {
        let next = match self.next.take() {
            Some(next) => next,
            None => {
                let started = self.timer.start();
                let (taken, next) = self.reader.gather()?;
                self.timer.stop(Stage::Read, started);
                let Some((epoch, taken)) = taken else {
                    // What time there is is drift's.
                    if self.core.closing().is_some() {
                        self.core.step()?;
                    }
                    return Ok(Some(next));
                };
                self.stand_at(Some(epoch));
                let rows = taken.rows.iter().map(|(_, rows)| rows.num_rows()).sum::<usize>();
                self.taken = Some((epoch, taken));
                if rows > ROWS_PER_TURN {
                    // To read so many has taken long enough.
                    self.next = Some(next);
                    return Ok(None);
                }
                next
            }
        };
        if let Some((epoch, taken)) = self.taken.take() {
            self.core.take(epoch, taken)?;
            self.feed.note(self.core.clock.controls.decided());
            let news = self.core.home.news();
            news.for_each(|(home, rows)| self.known.hear(Notice::of_gate(home, rows)));
        }
        if self.core.step()? {
            self.next = Some(next);
            return Ok(None);
        }
        Ok(Some(next))
    }

    /// Everything that was read is worked off.
    fn leave(&mut self) {
        let WorkerCore { home, owner, finish, drift, .. } = &mut self.core;
        self.leaving.at(None, |moving| {
            let mut pieces = moving.home(home)?;
            pieces.extend(moving.owner(owner)?);
            pieces.extend(moving.finish(finish)?);
            if let Some(drift) = drift {
                pieces.extend(moving.drift(drift)?);
            }
            Ok(pieces)
        });
    }

    /// Everything before an epoch is worked off, but perhaps for drift.
    fn stand_at(&mut self, epoch: Option<u64>) {
        let epoch =
            epoch.map(|epoch| self.core.closing().map_or(epoch, |closing| closing.min(epoch)));
        if let (Some(at), Some(epoch)) = (&mut self.at, epoch)
            && *at.time() < epoch
        {
            at.downgrade(&epoch);
        }
    }
}
