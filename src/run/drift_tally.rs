//! Which columns drifted when, as the snapshots pass by on their way to the sink. Of each window its
//! final revision counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMillisecondType, UInt64Type};
use driftline_operators::accounting::LateForDrift;
use driftline_operators::deliver::{Sink, SinkError};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::ingest::Wake;

use crate::config::duration::date_text;

/// Windows that are listed one by one in a summary; of more, only their number is told.
const LISTED_MAX: u64 = 24;

#[derive(Clone)]
pub struct DriftTally {
    /// Columns of a window; each has one final row.
    columns: usize,
    /// By label.
    lengths: Arc<Mutex<BTreeMap<String, OfLength>>>,
}

/// The windows of one length.
#[derive(Default)]
struct OfLength {
    /// Values and nulls in all of them, by column.
    rows: BTreeMap<String, u64>,
    windows: u64,
    drifted: u64,
    /// By start, those whose columns have not all come.
    open: BTreeMap<i64, Window>,
    /// By start, those that are whole, while they are few enough to be listed.
    listed: BTreeMap<i64, Drifted>,
}

/// Columns that drifted, and their distances.
type Drifted = Vec<(String, f64)>;

#[derive(Default)]
struct Window {
    seen: usize,
    drifted: Drifted,
}

impl OfLength {
    fn add(&mut self, start: i64, drifted: Option<(&str, f64)>, columns: usize) {
        let window = self.open.entry(start).or_default();
        window.seen += 1;
        window.drifted.extend(drifted.map(|(name, statistic)| (name.to_owned(), statistic)));
        if window.seen < columns {
            return;
        }
        let Some(window) = self.open.remove(&start) else { return };
        self.windows += 1;
        self.drifted += u64::from(!window.drifted.is_empty());
        if self.windows <= LISTED_MAX {
            self.listed.insert(start, window.drifted);
        } else {
            self.listed.clear();
        }
    }
}

impl DriftTally {
    /// A tally of windows with so many columns.
    pub fn new(columns: usize) -> Self {
        DriftTally { columns, lengths: Arc::default() }
    }

    fn lengths(&self) -> MutexGuard<'_, BTreeMap<String, OfLength>> {
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        let mut lengths = self.lengths();
        for row in (0..snapshots.num_rows()).filter(|&row| is_final.value(row)) {
            let (label, feature) = (labels.value(row), features.value(row));
            let of_length = entry(&mut lengths, label);
            *entry(&mut of_length.rows, feature) += values.value(row) + nulls.value(row);
            let drifted = drifted.value(row).then(|| (feature, statistics.value(row)));
            of_length.add(starts.value(row), drifted, self.columns);
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
        let tallied = self.lengths();
        for (at, (length, label)) in lengths.iter().enumerate() {
            let missed = late.by_length.get(at).copied().unwrap_or(0);
            let rows = (scored * length.overlap()).saturating_sub(missed);
            for column in columns {
                let of_length = tallied.get(label);
                let counted = of_length.and_then(|of| of.rows.get(column)).copied().unwrap_or(0);
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
        let tallied = self.lengths();
        let none = OfLength::default();
        let mut lines = Vec::new();
        for (length, label) in lengths {
            let OfLength { windows, drifted, listed, .. } = tallied.get(label).unwrap_or(&none);
            lines.push(format!("{label}: {drifted} of {windows} windows"));
            for (start, columns) in listed {
                lines.push(format!("  {}  {}", date_text(*start, *length), list(columns)));
            }
        }
        lines
    }
}

/// What is at `name`, which is only copied for the first time.
fn entry<'a, V: Default>(all: &'a mut BTreeMap<String, V>, name: &str) -> &'a mut V {
    if !all.contains_key(name) {
        all.insert(name.to_owned(), V::default());
    }
    all.get_mut(name).expect("it is there by now")
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

    fn unacknowledged(&mut self) -> usize {
        self.sink.unacknowledged()
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        self.sink.tick()
    }

    fn wake_with(&mut self, wake: Wake) {
        self.sink.wake_with(wake);
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, StringArray, TimestampMillisecondArray, UInt64Array,
    };

    use super::*;

    const COLUMNS: [&str; 3] = ["a", "b", "prediction"];
    const MINUTE: i64 = 60_000;

    fn has_drifted(window: i64, column: usize) -> bool {
        window % 5 == 0 && column as i64 <= window % 3
    }

    /// Final rows of some columns of some windows, each after a revision that is not.
    fn snapshots(windows: &[i64], columns: &[usize]) -> RecordBatch {
        let rows = windows.iter().flat_map(|&window| columns.iter().map(move |&at| (window, at)));
        let rows: Vec<(i64, usize, bool)> =
            rows.flat_map(|(window, at)| [(window, at, false), (window, at, true)]).collect();
        let labels: StringArray = rows.iter().map(|_| Some("1m")).collect();
        let names: StringArray = rows.iter().map(|row| Some(COLUMNS[row.1])).collect();
        let starts = rows.iter().map(|row| row.0 * MINUTE);
        let count = |count| Arc::new(UInt64Array::from_value(count, rows.len())) as ArrayRef;
        let flag = |flag: fn(&(i64, usize, bool)) -> bool| -> ArrayRef {
            Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(flag(row)))))
        };
        let columns: [(&str, ArrayRef); 8] = [
            ("window", Arc::new(labels)),
            ("feature", Arc::new(names)),
            ("window_start", Arc::new(TimestampMillisecondArray::from_iter_values(starts))),
            ("ks_statistic", Arc::new(Float64Array::from_value(0.25, rows.len()))),
            ("drift_detected", flag(|row| has_drifted(row.0, row.1))),
            ("final", flag(|row| row.2)),
            ("n_current", count(4)),
            ("null_count_current", count(1)),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// Two workers own the columns, one of them a few windows behind.
    fn tallied(windows: i64) -> DriftTally {
        let tally = DriftTally::new(COLUMNS.len());
        let all: Vec<i64> = (0..windows).collect();
        let mut behind: &[i64] = &[];
        for batch in all.chunks(7) {
            tally.add(&snapshots(batch, &[0, 2])).unwrap();
            tally.add(&snapshots(behind, &[1])).unwrap();
            behind = batch;
            assert!(tally.lengths()["1m"].open.len() <= 7);
        }
        tally.add(&snapshots(behind, &[1])).unwrap();
        tally
    }

    #[test]
    fn windows_are_counted_and_few_are_listed() {
        let lengths = [(WindowLength::Millis(MINUTE), "1m".to_owned())];
        for windows in [1, 23, 24, 25, 3_000] {
            let tally = tallied(windows);
            let drifted = (0..windows).filter(|&window| (0..3).any(|at| has_drifted(window, at)));
            let drifted: BTreeSet<i64> = drifted.collect();
            let lines = tally.lines(&lengths);
            assert_eq!(lines[0], format!("1m: {} of {windows} windows", drifted.len()));
            let listed = if windows <= 24 { windows as usize } else { 0 };
            assert_eq!(lines.len(), 1 + listed, "{windows} windows");
            let of_five = lines.get(6).filter(|_| listed > 5);
            assert!(
                of_five.is_none_or(
                    |line| line.ends_with("a (D 0.25), b (D 0.25), prediction (D 0.25)")
                ),
                "{of_five:?}"
            );
            let columns = COLUMNS.map(str::to_owned);
            let rows = windows as u64 * 5;
            tally.check(rows, &LateForDrift::default(), &lengths, &columns).unwrap();
            tally.check(rows + 1, &LateForDrift::default(), &lengths, &columns).unwrap_err();
        }
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_number_of_windows() {
        let kept = |tally: &DriftTally| {
            let lengths = tally.lengths();
            let of = |of: &OfLength| of.open.len() + of.listed.len() + of.rows.len();
            lengths.values().map(of).sum::<usize>()
        };
        assert_eq!(kept(&tallied(5_000)), COLUMNS.len());
    }
}
