//! The whole core of a worker in one operator: where there is one worker.

use std::time::Duration;

use arrow::error::ArrowError;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::{ProbeHandle, Scope, Stream};

use super::reader::{Next, Reader};
use super::{Parts, RowsOut, builder};
use crate::core::home::Home;
use crate::core::owner::Owner;
use crate::core::parts::Operator;
use crate::core::{Features, WorkerCore};
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
    let (core, intake) = core_of(parts)?;
    let known = intake.known.clone();
    let mut builder = builder(Operator::Fused, scope);
    let address = builder.operator_info().address;
    let reader = Reader::new(intake, scope, address, probe, &run);
    let (out, outputs) = builder.new_output();
    let out = RowsOut(OutputBuilder::from(out));
    builder.build(move |capabilities| {
        let timer = run.stages.timer(&run.clock);
        let at = capabilities.into_iter().next();
        let mut fused = Fused { reader, core, known, out, at, next: None, timer, run };
        move |_frontiers| fused.work()
    });
    Ok(outputs)
}

/// The core of a worker that is alone, and what it reads.
///
/// # Errors
/// As [`fused`].
pub fn core_of(parts: Parts) -> Result<(WorkerCore, Intake), ArrowError> {
    let Parts { intake, layout, plan, order, tables, retention, finish, drift, run, .. } = parts;
    let clock = EpochClock::new(intake.gate.clone());
    let home = Home::new(order, &layout, &intake.events.warm_up, (1, &intake.bounds), &run);
    let owner = Owner::new(&plan, &tables, retention, order, 0, &run)?;
    let enriched = plan.enriched_schema(&layout);
    let features = Features { plan, layout, order, enriched };
    let drift = drift.map(|drift| drift.owner);
    Ok((WorkerCore::new(clock, home, owner, finish, drift, features, &run), intake))
}

struct Fused {
    reader: Reader,
    core: WorkerCore,
    known: Known,
    out: RowsOut,
    /// None at the end of the input.
    at: Option<Capability<u64>>,
    /// When to read on, while what was read is not worked off.
    next: Option<Next>,
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
            Some(Next::End) => self.at = None,
            Some(Next::Later(delay)) => {
                self.stand_at(self.reader.next_epoch());
                self.reader.come_back(delay);
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
                let Some((epoch, taken)) = taken else { return Ok(Some(next)) };
                self.stand_at(Some(epoch));
                self.core.take(epoch, taken)?;
                let news = self.core.home.news();
                news.for_each(|(home, rows)| self.known.hear(Notice::of_gate(home, rows)));
                next
            }
        };
        if self.core.step()? {
            self.next = Some(next);
            return Ok(None);
        }
        Ok(Some(next))
    }

    /// Everything before an epoch is worked off.
    fn stand_at(&mut self, epoch: Option<u64>) {
        if let (Some(at), Some(epoch)) = (&mut self.at, epoch)
            && *at.time() < epoch
        {
            at.downgrade(&epoch);
        }
    }
}
