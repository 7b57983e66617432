//! Epochs as they become complete at a worker, and the watermarks as of each.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{EVENTS, Mark, Span, Watermarks};
use crate::control::Controls;

/// How far a worker has come; to be looked at by the source of the same worker.
#[derive(Clone)]
pub struct Progress {
    epoch: Rc<Cell<u64>>,
    watermarks: Rc<RefCell<Watermarks>>,
}

impl Progress {
    pub fn new(watermarks: Watermarks) -> Self {
        Progress { epoch: Rc::default(), watermarks: Rc::new(RefCell::new(watermarks)) }
    }

    /// The last complete epoch; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Goes on from the end of an epoch.
    pub(super) fn restore(&self, epoch: u64, watermarks: Watermarks) {
        self.epoch.set(epoch);
        *self.watermarks.borrow_mut() = watermarks;
    }

    /// The watermarks as of [`Progress::epoch`].
    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.watermarks.borrow()
    }
}

/// What follows from the completion of an epoch, the same on every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    pub epoch: u64,
    /// That of the job (ms), as of the epoch.
    pub watermark: i64,
    /// How far the events reach by then.
    pub seen: Span,
    /// The least state of control that a row can have whose turn comes later.
    pub control: u64,
}

/// The one account of epochs and watermarks that a worker keeps. Every epoch has a mark, whatever rows
/// it has.
pub struct EpochClock {
    progress: Progress,
    pub controls: Controls,
    waiting: BTreeMap<u64, Told>,
}

/// What has been told of an epoch that is not complete.
#[derive(Default)]
struct Told {
    marks: Vec<Mark>,
    switches: Vec<u64>,
}

impl EpochClock {
    /// Epochs whose completion is seen in `progress`.
    pub fn new(progress: Progress, controls: Controls) -> Self {
        EpochClock { progress, controls, waiting: BTreeMap::new() }
    }

    /// Marks of an epoch have come.
    pub fn mark(&mut self, epoch: u64, marks: impl IntoIterator<Item = Mark>) {
        self.waiting.entry(epoch).or_default().marks.extend(marks);
    }

    /// Switches have been told in an epoch.
    pub fn switch(&mut self, epoch: u64, switches: impl IntoIterator<Item = u64>) {
        self.waiting.entry(epoch).or_default().switches.extend(switches);
    }

    /// The next epoch, if it is complete; the watermarks are then as of it.
    pub fn next(&mut self, complete: impl Fn(u64) -> bool) -> Option<Tick> {
        let entry = self.waiting.first_entry().filter(|entry| complete(*entry.key()))?;
        let (epoch, Told { marks, switches }) = entry.remove_entry();
        let mut watermarks = self.progress.watermarks.borrow_mut();
        marks.into_iter().for_each(|mark| watermarks.apply(mark));
        self.progress.epoch.set(epoch);
        let (watermark, seen) = (watermarks.of_job(), watermarks.seen(EVENTS));
        let control = self.controls.complete(epoch, watermark, &switches);
        Some(Tick { epoch, watermark, seen, control })
    }

    pub fn watermarks(&self) -> Ref<'_, Watermarks> {
        self.progress.watermarks()
    }
}
