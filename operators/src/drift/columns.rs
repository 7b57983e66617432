//! The columns that drift watches: who merges each, how their samples travel, and the pieces that their
//! state moves in.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};

use super::partials::{Partial, PartialCodec};
use super::sample::Mode;
use super::versions::ByVersion;
use super::windows::Schedule;
use crate::core::parts::Part;
use crate::key_group::{group_of_bytes, worker_of_group};
use crate::state::{PieceKind, StateError};

/// The watched columns of a job.
#[derive(Clone)]
pub struct DriftColumns {
    pub codec: PartialCodec,
    /// By column its key group, which is that of its name.
    pub groups: Vec<u64>,
    pub(super) names: Vec<String>,
    /// Samples of panes that have not been sent.
    pub(super) panes: PieceKind,
    /// Samples of panes, at the owner of their column.
    pub(super) windows: PieceKind,
    /// Windows that are not final.
    pub(super) issued: PieceKind,
}

/// The part of which a piece says what has been issued of the windows beside it.
const ISSUED: &str = "drift_issued";

/// Columns of windows that are not final, by position: which of the job's lengths, the start, whether
/// rows have come since the last revision, and its number and its watermark, if there was one.
pub(super) const LENGTH: usize = 0;
pub(super) const START: usize = 1;
pub(super) const CHANGED: usize = 2;
pub(super) const REVISION: usize = 3;
pub(super) const REVISED_AT: usize = 4;

impl DriftColumns {
    pub fn new(names: &[String], mode: &Mode, schedule: &Schedule) -> Self {
        let codec = PartialCodec::new(mode);
        let of_pane = |first: Field| {
            let rest = codec.schema.fields().iter().skip(1).map(|field| field.as_ref().clone());
            Arc::new(Schema::new(std::iter::once(first).chain(rest).collect::<Vec<_>>()))
        };
        let issued = Schema::new(vec![
            Field::new("length", DataType::UInt32, false),
            Field::new("start", DataType::Int64, false),
            Field::new("changed", DataType::Boolean, false),
            Field::new("revision", DataType::Int32, true),
            Field::new("revised_at", DataType::Int64, true),
        ]);
        let kept = match mode {
            Mode::Exact => "exact".to_owned(),
            Mode::Profile(bins) => format!("{bins:?}"),
        };
        let spec = [names.join("\n"), kept, format!("{:?}", schedule.lengths)];
        let revised = [&spec[..], &[format!("{:?}", schedule.revisions)]].concat();
        let name = of_pane(Field::new("name", DataType::Utf8, false));
        let grown = of_pane(Field::new("grown", DataType::Boolean, false));
        DriftColumns {
            groups: names.iter().map(|name| group_of_bytes(name.as_bytes())).collect(),
            names: names.to_vec(),
            panes: PieceKind::new(Part::Panes.id(), name, &spec),
            windows: PieceKind::new(Part::DriftWindows.id(), grown, &spec),
            issued: PieceKind::new(ISSUED, Arc::new(issued), &revised),
            codec,
        }
    }

    /// The worker that merges each column.
    pub fn owners(&self, workers: usize) -> Vec<u32> {
        self.groups.iter().map(|&group| worker_of_group(group, workers) as u32).collect()
    }

    /// What a column goes by; predictions of all versions by the last name.
    pub fn name(&self, column: usize) -> &str {
        &self.names[ByVersion::of(self.names.len()).shared(column)]
    }

    /// Its key group.
    pub fn group(&self, column: usize) -> u64 {
        self.groups[ByVersion::of(self.groups.len()).shared(column)]
    }

    /// The parts that it has pieces of.
    pub fn parts(&self) -> [&str; 3] {
        [self.panes.part(), self.windows.part(), self.issued.part()]
    }

    /// Rows of `kind`, one a partial, beside whose columns `first` stands.
    pub(super) fn rows(
        &self,
        kind: &PieceKind,
        partials: &[Partial],
        first: ArrayRef,
    ) -> Result<RecordBatch, StateError> {
        let encoded = self.codec.encode(partials, &[0])?;
        let mut columns = encoded.columns().to_vec();
        columns[0] = first;
        Ok(RecordBatch::try_new(kind.schema().clone(), columns)?)
    }

    /// The partials of [`rows`](Self::rows).
    pub(super) fn partials(&self, rows: &RecordBatch) -> Result<Vec<Partial>, StateError> {
        Ok(self.codec.decode(rows)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::calendar::WindowLength;
    use crate::drift::windows::Revisions;

    #[test]
    fn the_owner_of_a_column_follows_from_its_name_alone() {
        let schedule = Schedule { lengths: vec![WindowLength::All], revisions: Revisions::NONE };
        let names: Vec<String> = (0..300).map(|column| format!("column {column}")).collect();
        let columns = DriftColumns::new(&names, &Mode::Exact, &schedule);
        for workers in [1, 2, 3, 16] {
            let owners = columns.owners(workers);
            let last = DriftColumns::new(&names[299..], &Mode::Exact, &schedule).owners(workers);
            assert_eq!(owners[299], last[0]);
            for worker in 0..workers as u32 {
                assert!(owners.contains(&worker), "{workers}: {worker} has no column of 300");
            }
        }
        assert_eq!(columns.groups[7], group_of_bytes(b"column 7"));
    }
}
