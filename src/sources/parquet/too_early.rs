//! Row groups with rows that are too early: statistics count these, and they are to count for nothing.

use super::folder::FolderColumns;
use super::footers::FileFooter;
use super::guard::guarded;
use super::time_order::{Range, read_groups, set_times};
use crate::sources::stream::Future;
use crate::sources::{SourceError, damaged, failed};
use driftline_operators::admit::event_times;
use driftline_operators::too_early::FutureHorizon;

/// Looks at when the rows of file `at` were sent: the groups of `footer` then say what times the rows
/// have that count.
///
/// # Errors
/// If one of both columns cannot be read.
pub fn look_at(
    footer: &mut FileFooter,
    at: usize,
    columns: &FolderColumns,
    future: &Future,
) -> Result<(), SourceError> {
    let error = |error: &dyn std::fmt::Display| failed(footer.path.display(), error);
    let schema = columns.schema();
    // That there is no such column is said when the job is compiled.
    let sent = future.sent_column.as_ref().and_then(|name| schema.index_of(name).ok());
    let Some(sent) = sent.filter(|_| footer.has_times()) else { return Ok(()) };
    let time = columns.time_column().map_err(|e| error(&e))?;
    let mut both = columns.clone();
    both.project(&[time, sent])?;
    let horizon = FutureHorizon { horizon_ms: future.horizon_ms, sent_column: Some(1) };
    let mut ranges = Vec::new();
    for group in 0..footer.groups.len() {
        let stored = guarded(|| read_groups(footer, &both, vec![group]));
        let mut range = Range::default();
        for batch in stored.map_err(|e| error(&damaged(&e)))? {
            let rows = both.arrange(&batch, at, footer).map_err(|e| error(&e))?.rows;
            let times = event_times(rows.column(0)).map_err(|e| error(&e))?;
            let sent = horizon.sent(&rows, None).map_err(|e| error(&e))?;
            range.add(&horizon.counted(&times, &sent));
        }
        ranges.push(range.0);
    }
    let low = ranges.iter().flatten().map(|(low, _)| *low).min().unwrap_or(footer.floor());
    set_times(&mut footer.groups, &ranges, low);
    Ok(())
}
