//! Versions of the model: what is watched of predictions is apart by the version that made them, as
//! each has a reference of its own.

use std::sync::Arc;

use super::baseline::ReferenceKind;
use super::figures::Comparison;
use crate::model::ModelIdentity;

/// The versions of a run by number, in the order in which they were first made ready; 0 is the one that
/// it begins with. One that comes back has the number that it had.
pub trait Versions: Send + Sync {
    fn identity(&self, version: usize) -> ModelIdentity;

    /// What predictions of a version are compared with: one without values where nothing is known.
    fn reference(&self, version: usize) -> KnownReference;
}

/// What a column is compared with, and where it is from.
#[derive(Clone)]
pub struct KnownReference {
    pub comparison: Arc<Comparison>,
    pub kind: ReferenceKind,
    /// Identifies the baseline; empty where there is none.
    pub id: Arc<str>,
}

impl KnownReference {
    /// That of no baseline, with a comparison without values.
    pub fn none(comparison: Arc<Comparison>) -> Self {
        KnownReference { comparison, kind: ReferenceKind::Full, id: "".into() }
    }
}

/// The watched columns of which predictions are the last, and those of other versions behind them.
#[derive(Clone, Copy, Debug)]
pub struct ByVersion {
    /// The column of predictions of version 0.
    first: usize,
}

impl ByVersion {
    /// Of so many columns.
    pub fn of(columns: usize) -> Self {
        ByVersion { first: columns - 1 }
    }

    /// How many columns come before predictions.
    pub fn features(self) -> usize {
        self.first
    }

    /// The column of a version's predictions.
    pub fn column(self, version: usize) -> usize {
        self.first + version
    }

    /// The version whose predictions a column is of; none of a feature.
    pub fn version(self, column: usize) -> Option<usize> {
        column.checked_sub(self.first)
    }

    /// The column that says of this one what is the same for all versions.
    pub fn shared(self, column: usize) -> usize {
        column.min(self.first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_of_other_versions_come_behind_all_columns() {
        let columns = ByVersion::of(3);
        assert_eq!((columns.features(), columns.column(0), columns.column(4)), (2, 2, 6));
        assert_eq!([1, 2, 6].map(|at| columns.version(at)), [None, Some(0), Some(4)]);
        assert_eq!([1, 2, 6].map(|at| columns.shared(at)), [1, 2, 2]);
    }
}
