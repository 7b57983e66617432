//! The owner of columns of drift: parts of panes become windows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use super::finish::Out;
use crate::alert::AlertRules;
use crate::drift::partials::Partial;
use crate::drift::windows::{OpenWindows, Schedule, WindowOutput};
use crate::sinks::Output;
use crate::watermark::{Span, Tick};

/// Windows of the columns that one worker owns, whatever is made of them.
trait Windows {
    fn add(&mut self, part: Partial);

    /// The rows of windows that are issued now.
    fn issue(&mut self, watermark: i64, seen: Span) -> Result<Option<RecordBatch>, ArrowError>;
}

struct Formatted<O: WindowOutput> {
    windows: OpenWindows<O::Figures>,
    format: O,
}

impl<O: WindowOutput> Windows for Formatted<O> {
    fn add(&mut self, part: Partial) {
        self.windows.add(part);
    }

    fn issue(&mut self, watermark: i64, seen: Span) -> Result<Option<RecordBatch>, ArrowError> {
        let issued = self.windows.issue(watermark, &self.format);
        if issued.is_empty() { Ok(None) } else { self.format.batch(&issued, seen).map(Some) }
    }
}

/// The second phase of drift, at the owner of each column.
pub struct DriftOwner {
    windows: Box<dyn Windows>,
    output: Output,
    alerts: Option<Arc<AlertRules>>,
    /// Of epochs that are not complete.
    arrived: BTreeMap<u64, Vec<Partial>>,
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
        DriftOwner { windows, output, alerts, arrived: BTreeMap::new() }
    }

    /// Holds parts of panes until their epoch is complete.
    pub fn arrive(&mut self, epoch: u64, parts: Vec<Partial>) {
        self.arrived.entry(epoch).or_default().extend(parts);
    }

    /// Adds a part of the epoch that is being completed.
    pub fn add(&mut self, part: Partial) {
        self.windows.add(part);
    }

    /// An epoch is complete, and every worker closes a pane at the same one: its parts are all here.
    ///
    /// # Errors
    /// If rows cannot be made of the windows.
    pub fn complete(&mut self, tick: &Tick, out: &mut Vec<Out>) -> Result<(), ArrowError> {
        for part in self.arrived.remove(&tick.epoch).unwrap_or_default() {
            self.windows.add(part);
        }
        let Some(rows) = self.windows.issue(tick.watermark, tick.seen)? else { return Ok(()) };
        let raised = self.alerts.as_ref().map(|rules| rules.of_snapshots(&rows));
        let epoch = tick.epoch;
        out.push(Out { epoch, output: self.output, rows });
        if let Some(rows) = raised.transpose()?.flatten() {
            out.push(Out { epoch, output: Output::Alerts, rows });
        }
        Ok(())
    }
}
