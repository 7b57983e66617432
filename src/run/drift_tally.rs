//! Which columns drifted when, as the snapshots pass by on their way to the sink. Of each window its
//! final revision counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMillisecondType, UInt64Type};
use driftline_operators::accounting::LateForDrift;
use driftline_operators::deliver::{Sink, SinkError};
use driftline_operators::drift::calendar::WindowLength;

use crate::config::duration::date_text;

/// Windows that are listed one by one in a summary; of more, only their number is told.
const LISTED_MAX: usize = 24;

/// Windows seen, by label and start, and the columns that drifted in each.
type Windows = BTreeMap<(String, i64), Vec<(String, f64)>>;

#[derive(Clone, Default)]
pub struct DriftTally(Arc<Mutex<Tallied>>);

#[derive(Default)]
struct Tallied {
    windows: Windows,
    /// Values and nulls in the windows of a length, by label and column.
    rows: BTreeMap<(String, String), u64>,
}

impl DriftTally {
    /// `sink`, with what it writes tallied here.
    pub fn watch(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        Box::new(Watching { sink, tally: self.clone() })
    }

    fn add(&self, snapshots: &RecordBatch) -> Option<()> {
        let text = |name| Some(snapshots.column_by_name(name)?.as_string::<i32>());
        let (labels, features) = (text("window")?, text("feature")?);
        let starts = snapshots.column_by_name("window_start")?;
        let starts = starts.as_primitive::<TimestampMillisecondType>();
        let statistics = snapshots.column_by_name("ks_statistic")?.as_primitive::<Float64Type>();
        let drifted = snapshots.column_by_name("drift_detected")?.as_boolean();
        let is_final = snapshots.column_by_name("final")?.as_boolean();
        let count = |name| Some(snapshots.column_by_name(name)?.as_primitive::<UInt64Type>());
        let (values, nulls) = (count("n_current")?, count("null_count_current")?);
        let mut tallied = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for row in (0..snapshots.num_rows()).filter(|&row| is_final.value(row)) {
            let window = (labels.value(row).to_owned(), starts.value(row));
            let place = (window.0.clone(), features.value(row).to_owned());
            *tallied.rows.entry(place).or_default() += values.value(row) + nulls.value(row);
            let columns = tallied.windows.entry(window).or_default();
            if drifted.value(row) {
                columns.push((features.value(row).to_owned(), statistics.value(row)));
            }
        }
        Some(())
    }

    /// Whether the windows of each length hold each of `scored` rows as often as they overlap, in each
    /// of `columns`, but for those that came too late.
    ///
    /// # Errors
    /// The first length and column that do not.
    pub fn check(
        &self,
        scored: u64,
        late: &LateForDrift,
        lengths: &[(WindowLength, String)],
        columns: &[String],
    ) -> Result<(), String> {
        let tallied = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (at, (length, label)) in lengths.iter().enumerate() {
            let missed = late.by_length.get(at).copied().unwrap_or(0);
            let rows = (scored * length.overlap()).saturating_sub(missed);
            for column in columns {
                let place = (label.clone(), column.clone());
                let counted = tallied.rows.get(&place).copied().unwrap_or(0);
                if counted != rows {
                    return Err(format!(
                        "the {label} windows of {column:?} hold {counted} rows, but {rows} were scored for them"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lines for a summary: the windows of a length one by one if they are few, else their number.
    pub fn lines(&self, lengths: &[(WindowLength, String)]) -> Vec<String> {
        let tallied = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut lines = Vec::new();
        for (length, label) in lengths {
            let of_length: Vec<_> =
                tallied.windows.iter().filter(|((l, _), _)| l == label).collect();
            let drifted = of_length.iter().filter(|(_, columns)| !columns.is_empty()).count();
            lines.push(format!("{label}: {drifted} of {} windows", of_length.len()));
            if of_length.len() <= LISTED_MAX {
                for ((_, start), columns) in of_length {
                    lines.push(format!("  {}  {}", date_text(*start, *length), list(columns)));
                }
            }
        }
        lines
    }
}

fn list(columns: &[(String, f64)]) -> String {
    if columns.is_empty() {
        return "-".to_owned();
    }
    let mut columns: Vec<_> = columns.to_vec();
    columns.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let texts: Vec<String> =
        columns.iter().map(|(name, statistic)| format!("{name} (D {statistic:.2})")).collect();
    texts.join(", ")
}

struct Watching {
    sink: Box<dyn Sink>,
    tally: DriftTally,
}

impl Sink for Watching {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), SinkError> {
        self.tally.add(batch);
        self.sink.write(batch)
    }

    fn durable_rows(&mut self) -> u64 {
        self.sink.durable_rows()
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}
