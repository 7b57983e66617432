//! Windows that an earlier run has made final: they have their last row, and get no other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Final windows of a job, of the model that it runs; shared by its workers.
#[derive(Clone, Default)]
pub struct FinalWindows(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// The starts (ms) of windows, by how their length is written and by column.
    starts: HashMap<String, HashMap<String, HashSet<i64>>>,
    left_out: AtomicU64,
}

impl FinalWindows {
    /// Of windows, each given by how its length is written, column and start (ms).
    pub fn new(windows: impl IntoIterator<Item = (String, String, i64)>) -> Self {
        let mut starts: HashMap<String, HashMap<String, HashSet<i64>>> = HashMap::new();
        for (length, column, start) in windows {
            starts.entry(length).or_default().entry(column).or_default().insert(start);
        }
        FinalWindows(Arc::new(Inner { starts, left_out: AtomicU64::new(0) }))
    }

    pub fn has(&self, length: &str, column: &str, start: i64) -> bool {
        let columns = self.0.starts.get(length);
        columns.and_then(|columns| columns.get(column)).is_some_and(|of| of.contains(&start))
    }

    /// Rows of such windows are left out.
    pub(super) fn leave_out(&self, rows: usize) {
        self.0.left_out.fetch_add(rows as u64, Relaxed);
    }

    /// Rows that were left out so far.
    pub fn left_out(&self) -> u64 {
        self.0.left_out.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::TimestampMillisecondType;

    use super::*;
    use crate::drift::alarms::Thresholds;
    use crate::drift::baseline::{Reference, ReferenceKind};
    use crate::drift::calendar::WindowLength;
    use crate::drift::coverage::Coverage;
    use crate::drift::figures::Comparison;
    use crate::drift::runs::Runs;
    use crate::drift::sample::Sample;
    use crate::drift::snapshot::SnapshotFormat;
    use crate::drift::windows::{Issued, WindowOutput};
    use crate::model::ModelIdentity;
    use crate::watermark::Span;

    #[test]
    fn a_window_that_is_final_gets_no_other_row_and_others_do() {
        let reference = Reference::new(Runs::from_values(vec![1.0, 2.0, 3.0]), 0);
        let comparison = Arc::new(Comparison::exact(&reference));
        let (length, longer) = (WindowLength::Millis(10), WindowLength::Millis(20));
        let final_windows = [("10ms", "a", 0), ("10ms", "b", 20), ("20ms", "a", 40)];
        let finals = final_windows.map(|(l, c, start)| (l.to_owned(), c.to_owned(), start));
        let format = SnapshotFormat {
            models: Arc::new(ModelIdentity { name: "m".to_owned(), version: "1".to_owned() }),
            labels: vec![(length, "10ms".to_owned()), (longer, "20ms".to_owned())],
            names: vec!["a".to_owned(), "b".to_owned()],
            comparisons: vec![comparison; 2],
            versions: None,
            thresholds: Thresholds::default(),
            reference_kind: ReferenceKind::Full,
            reference_id: "".into(),
            coverage: Coverage::ALL,
            finals: FinalWindows::new(finals),
        };
        let sample = Sample::Exact(Runs::from_values(vec![2.0]));
        let issued = |(length, start, column, is_final): (WindowLength, i64, usize, bool)| Issued {
            length,
            start,
            end: length.end(start),
            column,
            revision: 0,
            is_final,
            figures: format.figures(column, &sample, 0),
        };
        let batch = |windows: Vec<(WindowLength, i64, usize, bool)>| {
            let windows: Vec<_> = windows.into_iter().map(issued).collect();
            let rows = format.batch(&windows, Span::NONE).unwrap();
            let starts = rows["window_start"].as_primitive::<TimestampMillisecondType>();
            let columns = rows["feature"].as_string::<i32>();
            let row = |row| (starts.value(row), columns.value(row).to_owned());
            (0..starts.len()).map(row).collect::<Vec<_>>()
        };
        let windows = vec![
            (length, 0, 0, true),
            (length, 0, 1, true),
            (longer, 0, 0, true),
            (length, 20, 1, false),
        ];
        assert_eq!(batch(windows), [(0, "b".to_owned()), (0, "a".to_owned())]);
        assert_eq!(format.finals.left_out(), 2);
        assert_eq!(batch(vec![(longer, 40, 0, true)]), []);
        assert_eq!(batch(vec![(length, 40, 0, true)]), [(40, "a".to_owned())]);
        assert_eq!(format.finals.left_out(), 3);
    }
}
