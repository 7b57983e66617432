//! What a worker does between its source and its sinks, in plain structs without timely.
//!
//! | struct | what it keeps | where it stands |
//! | --- | --- | --- |
//! | [`EpochClock`] | marks of epochs that are not complete; the watermarks | every worker |
//! | [`home::Home`] | rows that wait for their turn | the worker of a row's `shard_by` |
//! | [`owner::Owner`] | windows and versions of tables | the worker of a key |
//! | [`waiting::Waiting`] | rows that wait for the answers of owners | a row's home |
//! | [`finish::Finish`] | rows that wait to be scored; open panes of drift | a row's home |
//! | [`drift::DriftOwner`] | windows of drift that are not final | the worker of a column |
//!
//! With one worker [`WorkerCore`] calls them one after the other, and an epoch is complete as soon as
//! it has been read. With several, each is in an operator of its own ([`crate::stages`]), rows and
//! [`requests`] travel between workers, and timely says which epochs are complete. Which of them a job
//! has is said in [`parts`].

pub mod drift;
pub mod finish;
pub mod flows;
pub mod home;
pub mod owner;
pub mod parts;
pub mod requests;
pub mod state;
pub mod tables;
mod values;
mod versions;
pub mod waiting;
pub mod windows;

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use self::drift::DriftOwner;
use self::finish::{Finish, Out};
use self::home::Home;
use self::owner::Owner;
use crate::control::Turn;
use crate::drift::partials::Partial;
use crate::fault::{LoseRow, LostBehind};
use crate::features::plan::FeaturePlan;
use crate::gate::Order;
use crate::layout::EventLayout;
use crate::run::Run;
use crate::sinks::Output;
use crate::stage_clock::{Stage, StageTimer};
use crate::watermark::{EVENTS, EpochClock, Tick};

/// Rows that are scored before the sinks have their turn.
pub const ROWS_PER_STEP: usize = 8_192;

/// Rows that are enriched before others have their turn; what a row costs hardly falls beyond it.
pub const ROWS_PER_TURN: usize = 2_048;

/// What a source has read of an epoch, or of several that go together.
#[derive(Default)]
pub struct Taken {
    pub marks: Vec<crate::watermark::Mark>,
    pub dead_letters: Vec<RecordBatch>,
    /// With their streams.
    pub rows: Vec<(usize, RecordBatch)>,
    /// To states of control.
    pub switches: Vec<u64>,
}

/// All that one worker alone does to a chunk, up to what the sinks write.
pub struct WorkerCore {
    pub clock: EpochClock,
    pub home: Home,
    pub owner: Owner,
    pub finish: Finish,
    pub drift: Option<DriftOwner>,
    pub features: Features,
    pub faults: LoseRow,
    timer: StageTimer,
    /// What is to be done with the epoch that was taken, in this order.
    to_do: VecDeque<ToDo>,
    /// The epoch whose rows are all enriched, until they are worked off.
    under_way: Option<Tick>,
    /// Epochs that are worked off, and what drift saw of them; the drift of one before is being closed.
    to_close: VecDeque<(Tick, Vec<Partial>)>,
    /// Rows that were taken since drift began to be behind.
    ahead_of_drift: usize,
    out: Vec<Out>,
}

enum ToDo {
    /// Versions of an epoch count from now on.
    Begin(Tick),
    /// Rows are to be enriched.
    Enrich(Turn, RecordBatch),
    /// All of an epoch has been enriched.
    End(Tick),
}

/// How features are made of rows and answers.
pub struct Features {
    pub plan: Arc<FeaturePlan>,
    pub layout: EventLayout,
    pub order: Order,
    pub enriched: SchemaRef,
}

impl WorkerCore {
    pub fn new(
        clock: EpochClock,
        home: Home,
        owner: Owner,
        finish: Finish,
        drift: Option<DriftOwner>,
        features: Features,
        run: &Run,
    ) -> Self {
        let (faults, timer) = (run.faults.on(0), run.stages.timer(&run.clock));
        let (to_do, under_way, to_close, out) = Default::default();
        WorkerCore {
            clock,
            home,
            owner,
            finish,
            drift,
            features,
            faults,
            timer,
            to_do,
            under_way,
            to_close,
            ahead_of_drift: 0,
            out,
        }
    }

    /// Takes all of an epoch, which is complete with it; [`step`](Self::step) must have said that the one
    /// before is worked off.
    ///
    /// # Errors
    /// If rows are not what the job makes of its input.
    pub fn take(&mut self, epoch: u64, taken: Taken) -> Result<(), ArrowError> {
        let Taken { marks, dead_letters, rows, switches } = taken;
        for letters in dead_letters {
            let letters = self.faults.behind(LostBehind::DeadLetters, letters);
            self.out.push(Out { epoch, output: Output::DeadLetters, rows: letters });
        }
        for (stream, rows) in rows {
            match stream {
                EVENTS => {
                    let rows = self.faults.behind(LostBehind::Ingest, rows);
                    self.ahead_of_drift += rows.num_rows();
                    if let Some(rows) = self.home.arrive(epoch, rows) {
                        let control = self.clock.controls.of_epoch(epoch);
                        self.to_do.push_back(ToDo::Enrich(Turn { epoch, control }, rows));
                    }
                }
                table => self.owner.versions(epoch, table - 1, rows),
            }
        }
        self.clock.mark(epoch, marks);
        self.clock.switch(epoch, switches);
        while let Some(tick) = self.clock.next(|marked| marked <= epoch) {
            let started = self.timer.start();
            let released = self.home.complete(&tick, &self.clock)?;
            self.timer.stop(Stage::Order, started);
            self.to_do.push_back(ToDo::Begin(tick));
            let turn = |control| Turn { epoch: tick.epoch, control };
            let rows = released.into_iter();
            self.to_do.extend(rows.map(|(control, rows)| ToDo::Enrich(turn(control), rows)));
            self.to_do.push_back(ToDo::End(tick));
        }
        Ok(())
    }

    /// Does some of what is to be done, up to [`ROWS_PER_TURN`] rows of it; whether it was so many.
    fn go_on(&mut self) -> Result<bool, ArrowError> {
        let mut room = ROWS_PER_TURN;
        while let Some(next) = self.to_do.pop_front() {
            match next {
                ToDo::Begin(tick) => {
                    let started = self.timer.start();
                    self.owner.begin(&tick)?;
                    self.timer.stop(Stage::Owner, started);
                }
                ToDo::Enrich(turn, rows) if room == 0 => {
                    self.to_do.push_front(ToDo::Enrich(turn, rows));
                    break;
                }
                ToDo::Enrich(turn, rows) => {
                    // In arrival order rows that came together are asked for in order of time.
                    let is_whole = self.features.order == Order::Arrival;
                    let now = if is_whole { rows.num_rows() } else { rows.num_rows().min(room) };
                    room = room.saturating_sub(now);
                    if now < rows.num_rows() {
                        let rest = rows.slice(now, rows.num_rows() - now);
                        self.to_do.push_front(ToDo::Enrich(turn, rest));
                    }
                    self.enrich(turn, rows.slice(0, now))?;
                }
                ToDo::End(tick) => {
                    let started = self.timer.start();
                    self.owner.end(&tick);
                    self.timer.stop(Stage::Owner, started);
                    self.under_way = Some(tick);
                }
            }
        }
        Ok(room == 0)
    }

    fn enrich(&mut self, turn: Turn, rows: RecordBatch) -> Result<(), ArrowError> {
        let rows = self.faults.behind(LostBehind::Order, rows);
        let started = self.timer.start();
        let answers = self.answers(&rows)?;
        self.timer.stop(Stage::Owner, started);
        let started = self.timer.start();
        let Features { plan, enriched, .. } = &self.features;
        let rows = plan.append(&rows, answers, enriched)?;
        self.timer.stop(Stage::Features, started);
        self.finish.take(turn, self.faults.behind(LostBehind::Features, rows), &mut self.out)
    }

    /// The answers of all owners to rows, `[rows]` each.
    fn answers(&mut self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, ArrowError> {
        let Features { plan, layout, order, .. } = &self.features;
        if plan.trips.is_empty() {
            return Ok(Vec::new());
        }
        let asking = self.faults.behind(LostBehind::Requests, rows.clone());
        let mut answers = self.owner.ask(plan, layout, *order, &asking)?;
        if self.faults.loses(LostBehind::Answers, rows.num_rows()) {
            answers.iter_mut().for_each(|answer| *answer = answer.slice(1, answer.len() - 1));
        }
        match answers.first().map(|answer| rows.num_rows() - answer.len()) {
            Some(missing) if missing > 0 => Err(waiting::lost(missing)),
            _ => Ok(answers),
        }
    }

    /// Works on, on some rows at most; returns whether there is more to do before the next epoch can be
    /// taken. Of drift there may be: rows do not wait for it, unless there are many of them.
    ///
    /// # Errors
    /// If rows are not what the job makes of its input.
    pub fn step(&mut self) -> Result<bool, ArrowError> {
        let were_many = self.go_on()?;
        let is_enriched = self.to_do.is_empty();
        let started = self.timer.start();
        self.finish.step(is_enriched, &mut self.out)?;
        self.timer.stop(Stage::Work, started);
        // Behind many rows drift has a turn of its own.
        if !is_enriched || self.finish.waits_for().is_some() || were_many {
            return Ok(true);
        }
        let started = self.timer.start();
        if let Some(tick) = self.under_way.take() {
            self.to_close.push_back((tick, self.finish.complete(&tick)));
        }
        self.close()?;
        self.timer.stop(Stage::Drift, started);
        Ok(self.closing().is_some() && self.ahead_of_drift >= ROWS_PER_TURN)
    }

    /// Closes epochs that are worked off, until that has taken long enough.
    fn close(&mut self) -> Result<(), ArrowError> {
        let Some(drift) = &mut self.drift else {
            self.to_close.clear();
            return Ok(());
        };
        loop {
            if drift.closing().is_none() {
                let Some((tick, parts)) = self.to_close.pop_front() else {
                    self.ahead_of_drift = 0;
                    return Ok(());
                };
                parts.into_iter().for_each(|part| drift.add(part));
                drift.complete(&tick);
            }
            drift.step(&mut self.out)?;
            if drift.closing().is_some() {
                return Ok(());
            }
        }
    }

    /// The lowest epoch that is worked off, but for its drift.
    pub fn closing(&self) -> Option<u64> {
        let first = || self.to_close.front().map(|(tick, _)| tick.epoch);
        self.drift.as_ref().and_then(DriftOwner::closing).or_else(first)
    }

    /// What has come out since the last time.
    pub fn out(&mut self) -> std::vec::Drain<'_, Out> {
        self.out.drain(..)
    }
}
