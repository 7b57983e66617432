//! The owner of columns of drift: parts of panes become windows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::finish::Out;
use crate::alert::AlertRules;
use crate::drift::columns::DriftColumns;
use crate::drift::partials::Partial;
use crate::drift::windows::{OpenWindows, Schedule, WindowOutput};
use crate::sinks::Output;
use crate::state::{Piece, StateError};
use crate::watermark::{Span, Tick};

/// Values that are looked at before others have their turn, or columns of few of them: some 0.2 ms.
const WORK_PER_STEP: usize = 8_192;

/// Windows of the columns that one worker owns, whatever is made of them.
trait Windows {
    fn add(&mut self, part: Partial);

    /// The windows whose turn it is are to be issued.
    fn begin(&mut self, watermark: i64);

    /// Goes on with them.
    fn step(&mut self, seen: Span) -> Result<Step, ArrowError>;

    fn export(&self, columns: &DriftColumns, groups: Range<u64>) -> Result<Vec<Piece>, StateError>;

    fn import(&mut self, columns: &DriftColumns, piece: &Piece) -> Result<(), StateError>;

    fn resume(&mut self, watermark: i64);
}

enum Step {
    /// There are more figures to be made.
    Unfinished,
    /// The rows of the windows, if there are any.
    Done(Option<RecordBatch>),
}

struct Formatted<O: WindowOutput> {
    windows: OpenWindows<O::Figures>,
    format: O,
}

impl<O: WindowOutput> Windows for Formatted<O> {
    fn add(&mut self, part: Partial) {
        self.windows.add(part);
    }

    fn begin(&mut self, watermark: i64) {
        self.windows.begin(watermark);
    }

    fn step(&mut self, seen: Span) -> Result<Step, ArrowError> {
        Ok(match self.windows.step(&self.format, WORK_PER_STEP) {
            None => Step::Unfinished,
            Some(issued) if issued.is_empty() => Step::Done(None),
            Some(issued) => Step::Done(Some(self.format.batch(&issued, seen)?)),
        })
    }

    fn export(&self, columns: &DriftColumns, groups: Range<u64>) -> Result<Vec<Piece>, StateError> {
        self.windows.export(columns, groups)
    }

    fn import(&mut self, columns: &DriftColumns, piece: &Piece) -> Result<(), StateError> {
        self.windows.import(columns, piece)
    }

    fn resume(&mut self, watermark: i64) {
        self.windows.resume(watermark);
    }
}

/// The second phase of drift, at the owner of each column.
pub struct DriftOwner {
    windows: Box<dyn Windows>,
    output: Output,
    alerts: Option<Arc<AlertRules>>,
    /// Of epochs that are not complete.
    arrived: BTreeMap<u64, Vec<Partial>>,
    /// The epoch whose windows are being issued.
    closing: Option<Tick>,
}

impl DriftOwner {
    /// Windows whose figures `format` makes rows of `output` of; what exceeds a threshold of `alerts` is
    /// told of.
    pub fn new<O: WindowOutput>(
        schedule: Schedule,
        format: O,
        output: Output,
        alerts: Option<Arc<AlertRules>>,
    ) -> Self {
        let windows = Box::new(Formatted { windows: OpenWindows::new(schedule), format });
        DriftOwner { windows, output, alerts, arrived: BTreeMap::new(), closing: None }
    }

    /// Holds parts of panes until their epoch is complete.
    pub fn arrive(&mut self, epoch: u64, parts: Vec<Partial>) {
        self.arrived.entry(epoch).or_default().extend(parts);
    }

    /// Adds a part of the epoch that is about to be completed.
    pub fn add(&mut self, part: Partial) {
        self.windows.add(part);
    }

    /// An epoch is complete, and every worker closes a pane at the same one: its parts are all here. The
    /// one before must be closed.
    pub fn complete(&mut self, tick: &Tick) {
        for part in self.arrived.remove(&tick.epoch).unwrap_or_default() {
            self.windows.add(part);
        }
        self.windows.begin(tick.watermark);
        self.closing = Some(*tick);
    }

    /// The pieces of the columns of some key groups, between epochs.
    ///
    /// # Errors
    /// If an epoch is not closed.
    pub fn export(
        &self,
        columns: &DriftColumns,
        groups: Range<u64>,
    ) -> Result<Vec<Piece>, StateError> {
        if self.closing.is_some() || !self.arrived.is_empty() {
            return Err(StateError::WithinEpoch { part: columns.parts()[1].to_owned() });
        }
        self.windows.export(columns, groups)
    }

    /// Adds what a piece holds of columns.
    ///
    /// # Errors
    /// If it is one of other columns.
    pub fn import(&mut self, columns: &DriftColumns, piece: &Piece) -> Result<(), StateError> {
        self.windows.import(columns, piece)
    }

    /// Goes on from the watermark (ms) of the last epoch.
    pub fn resume(&mut self, watermark: i64) {
        self.windows.resume(watermark);
    }

    /// The epoch that is complete, and not closed.
    pub fn closing(&self) -> Option<u64> {
        self.closing.map(|tick| tick.epoch)
    }

    /// Goes on closing an epoch, until [`closing`](Self::closing) is none.
    ///
    /// # Errors
    /// If rows cannot be made of the windows.
    pub fn step(&mut self, out: &mut Vec<Out>) -> Result<(), ArrowError> {
        let Some(Tick { epoch, seen, .. }) = self.closing else { return Ok(()) };
        let Step::Done(rows) = self.windows.step(seen)? else { return Ok(()) };
        self.closing = None;
        let Some(rows) = rows else { return Ok(()) };
        let raised = self.alerts.as_ref().map(|rules| rules.of_snapshots(&rows));
        out.push(Out { epoch, output: self.output, rows });
        if let Some(rows) = raised.transpose()?.flatten() {
            out.push(Out { epoch, output: Output::Alerts, rows });
        }
        Ok(())
    }
}
