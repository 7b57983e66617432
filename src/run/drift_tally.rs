//! Which columns drifted when, as the snapshots pass by on their way to the sink. Of each window its
//! final revision counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{TimestampMillisecondType, UInt64Type};
use driftline_operators::accounting::LateForDrift;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::sinks::Sink;
use driftline_operators::watched::PREDICTION;

use super::drift_columns::{self, ColumnTally};
use super::drift_verdicts::{Drifted, Verdicts};
use crate::config::duration::date_text;
use crate::run::numbers::thousands;
use crate::sinks::overheard::{Listener, Overheard};

/// Windows that are listed one by one in a summary; of more, what their columns came to is told.
const LISTED_MAX: u64 = 24;
/// Columns of a window that are listed.
const COLUMNS_MAX: usize = 12;

#[derive(Clone)]
pub struct DriftTally {
    /// Columns of a window; each has one final row.
    columns: usize,
    tallied: Arc<Mutex<Tallied>>,
}

#[derive(Default)]
struct Tallied {
    /// By label.
    lengths: BTreeMap<String, OfLength>,
    /// Infinite values of references, by column that has some.
    infinite: BTreeMap<String, u64>,
    /// Values of references that are too small for a verdict, by column.
    small: BTreeMap<String, u64>,
}

/// The windows of one length.
#[derive(Default)]
struct OfLength {
    /// Values and nulls in all of them, by column.
    rows: BTreeMap<String, u64>,
    /// What has become of each column.
    columns: BTreeMap<String, ColumnTally>,
    windows: u64,
    drifted: u64,
    /// Windows of which no column had enough values for a verdict, and none drifted.
    unjudged: u64,
    /// Windows with infinite values, by column that has some.
    infinite: BTreeMap<String, u64>,
    /// By start, those whose columns have not all come.
    open: BTreeMap<i64, Window>,
    /// By start, those that are whole, while they are few enough to be listed.
    listed: BTreeMap<i64, Window>,
}

#[derive(Default)]
struct Window {
    seen: usize,
    is_judged: bool,
    is_partial: bool,
    drifted: Vec<Drifted>,
}

impl Window {
    fn is_unjudged(&self) -> bool {
        !self.is_judged && self.drifted.is_empty()
    }
}

impl OfLength {
    /// A row of a window.
    fn add(&mut self, start: i64, column: &str, (verdicts, row): (&Verdicts, usize)) {
        let (is_judged, drifted) = (verdicts.is_judged(row), verdicts.drifted(column, row));
        let far = drifted.as_ref().map(|drifted| drifted.far);
        let of_column = entry(&mut self.columns, column);
        of_column.add(start, is_judged, far, || verdicts.figures(row));
        let window = self.open.entry(start).or_default();
        window.is_judged |= is_judged;
        window.is_partial |= verdicts.is_partial(row);
        window.drifted.extend(drifted);
    }

    /// All rows of a column of a window with so many columns are there.
    fn seen(&mut self, start: i64, columns: usize) {
        let window = self.open.entry(start).or_default();
        window.seen += 1;
        if window.seen < columns {
            return;
        }
        let Some(window) = self.open.remove(&start) else { return };
        self.windows += 1;
        self.drifted += u64::from(!window.drifted.is_empty());
        self.unjudged += u64::from(window.is_unjudged());
        if self.windows <= LISTED_MAX {
            self.listed.insert(start, window);
        } else {
            self.listed.clear();
        }
    }
}

impl DriftTally {
    /// A tally of windows with so many columns.
    pub fn new(columns: usize) -> Self {
        DriftTally { columns, tallied: Arc::default() }
    }

    fn tallied(&self) -> MutexGuard<'_, Tallied> {
        self.tallied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `sink`, with what it writes tallied here.
    pub fn watch(&self, sink: Box<dyn Sink>) -> Box<dyn Sink> {
        Box::new(Overheard::new(sink, self.clone()))
    }

    fn add(&self, snapshots: &RecordBatch) -> Option<()> {
        let text = |name| Some(snapshots.column_by_name(name)?.as_string::<i32>());
        let (labels, features) = (text("window")?, text("feature")?);
        let starts = snapshots.column_by_name("window_start")?;
        let starts = starts.as_primitive::<TimestampMillisecondType>();
        let verdicts = Verdicts::of(snapshots)?;
        let is_final = snapshots.column_by_name("final")?.as_boolean();
        let count = |name| Some(snapshots.column_by_name(name)?.as_primitive::<UInt64Type>());
        let (values, nulls) = (count("n_current")?, count("null_count_current")?);
        let mut tallied = self.tallied();
        let Tallied { lengths, infinite, small } = &mut *tallied;
        let (models, versions) = (text("model_name")?, text("model_version")?);
        let rows: Vec<usize> =
            (0..snapshots.num_rows()).filter(|&row| is_final.value(row)).collect();
        for (at, &row) in rows.iter().enumerate() {
            let (label, feature) = (labels.value(row), features.value(row));
            let place = |row: usize| (labels.value(row), starts.value(row), features.value(row));
            // Predictions have a row for each version, one behind the other.
            let is_last = rows.get(at + 1).is_none_or(|&next| place(next) != place(row));
            let of_length = entry(lengths, label);
            *entry(&mut of_length.rows, feature) += values.value(row) + nulls.value(row);
            let [of_reference, of_window] = verdicts.infinite(row);
            if of_window > 0 {
                *entry(&mut of_length.infinite, feature) += 1;
            }
            if of_reference > 0 {
                *entry(infinite, feature) = of_reference;
            }
            if let Some(values) = verdicts.small_reference(row) {
                let of_version = match feature {
                    PREDICTION if values == 0 => {
                        let (model, version) = (models.value(row), versions.value(row));
                        format!("{PREDICTION} of {model} version {version}")
                    }
                    feature => feature.to_owned(),
                };
                small.insert(of_version, values);
            }
            of_length.add(starts.value(row), feature, (&verdicts, row));
            if is_last {
                of_length.seen(starts.value(row), self.columns);
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
        let tallied = self.tallied();
        for (at, (length, label)) in lengths.iter().enumerate() {
            let missed = late.by_length.get(at).copied().unwrap_or(0);
            let rows = (scored * length.overlap()).saturating_sub(missed);
            let of_shadows = late.of_shadows.get(at).copied().unwrap_or(0);
            for column in columns {
                let rows = if column == PREDICTION { rows + of_shadows } else { rows };
                let of_length = tallied.lengths.get(label);
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

    /// Lines for a summary: the windows of a length one by one if they are few, else what became of the
    /// columns; and what could not be judged or had infinite values.
    pub fn lines(&self, lengths: &[(WindowLength, String)]) -> Vec<String> {
        let tallied = self.tallied();
        let none = OfLength::default();
        let mut lines = Vec::new();
        for (length, label) in lengths {
            let of_length = tallied.lengths.get(label).unwrap_or(&none);
            let OfLength { windows, drifted, unjudged, listed, columns, .. } = of_length;
            let unjudged = match unjudged {
                0 => String::new(),
                several => {
                    format!(", {several} with too few values for a verdict (drift.min_rows)")
                }
            };
            let of_columns = match listed.is_empty() && *drifted > 0 {
                true => {
                    let drifted = drift_columns::drifted(columns);
                    format!(", {drifted} of {} columns", columns.len())
                }
                false => String::new(),
            };
            let counted = format!("{} of {} windows", thousands(*drifted), thousands(*windows));
            lines.push(format!("{label}: {counted}{of_columns}{unjudged}"));
            for (start, window) in listed {
                let partial = if window.is_partial { " (partial)" } else { "" };
                let date = date_text(*start, *length);
                lines.push(format!("  {date}{partial}  {}", list(window)));
            }
            if listed.is_empty() {
                lines.extend(drift_columns::lines(columns, *length));
            }
        }
        let labels: Vec<&str> = lengths.iter().map(|(_, label)| label.as_str()).collect();
        lines.extend(tallied.small_references());
        lines.extend(tallied.infinite_values(&labels));
        lines
    }
}

impl Tallied {
    fn small_references(&self) -> Option<String> {
        let columns = self.small.iter();
        let texts: Vec<String> =
            columns.map(|(name, values)| format!("{name} ({values})")).collect();
        (!texts.is_empty()).then(|| {
            format!("no verdict on values, too few in the reference: {}", texts.join(", "))
        })
    }

    /// Where infinite values were.
    fn infinite_values(&self, labels: &[&str]) -> Option<String> {
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, values) in &self.infinite {
            let place = format!("{} in the reference", thousands(*values));
            places.entry(name).or_default().push(place);
        }
        for label in labels {
            let Some(of_length) = self.lengths.get(*label) else { continue };
            for (name, windows) in &of_length.infinite {
                let place = format!("in {windows} of {} {label} windows", of_length.windows);
                places.entry(name).or_default().push(place);
            }
        }
        let texts =
            places.into_iter().map(|(name, places)| format!("{name} ({})", places.join(", ")));
        let texts = texts.collect::<Vec<_>>().join(", ");
        (!texts.is_empty())
            .then(|| format!("infinite values, left out of means and deviations: {texts}"))
    }
}

/// What is at `name`, which is only copied for the first time.
fn entry<'a, V: Default>(all: &'a mut BTreeMap<String, V>, name: &str) -> &'a mut V {
    if !all.contains_key(name) {
        all.insert(name.to_owned(), V::default());
    }
    all.get_mut(name).expect("it is there by now")
}

fn list(window: &Window) -> String {
    if window.is_unjudged() {
        return "too few values".to_owned();
    }
    if window.drifted.is_empty() {
        return "-".to_owned();
    }
    let mut columns: Vec<&Drifted> = window.drifted.iter().collect();
    columns.sort_by(|a, b| b.far.total_cmp(&a.far).then_with(|| a.name.cmp(&b.name)));
    let more = columns.len().saturating_sub(COLUMNS_MAX);
    columns.truncate(COLUMNS_MAX);
    let texts: Vec<String> =
        columns.iter().map(|Drifted { name, by, .. }| format!("{name} ({by})")).collect();
    match more {
        0 => texts.join(", "),
        more => format!("{} and {more} more", texts.join(", ")),
    }
}

impl Listener for DriftTally {
    fn taken(&mut self, batch: &RecordBatch) {
        self.add(batch);
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
        let number = |number| Arc::new(Float64Array::from_value(number, rows.len())) as ArrayRef;
        let versions: StringArray = rows.iter().map(|_| Some("1")).collect();
        let models: StringArray = rows.iter().map(|_| Some("m")).collect();
        let columns: [(&str, ArrayRef); 25] = [
            ("window", Arc::new(labels)),
            ("model_name", Arc::new(models)),
            ("model_version", Arc::new(versions)),
            ("feature", Arc::new(names)),
            ("window_start", Arc::new(TimestampMillisecondArray::from_iter_values(starts))),
            ("ks_statistic", number(0.25)),
            ("ks_p_value", number(1e-9)),
            ("mean_shift_sd", number(-0.3)),
            ("partial", flag(|row| row.0 == 0)),
            ("share_out_of_range", number(0.5)),
            ("null_share_reference", number(0.0)),
            ("null_share_current", number(0.2)),
            ("drift_ks", flag(|row| has_drifted(row.0, row.1))),
            ("drift_mean_shift", flag(|_| false)),
            ("drift_z_test", flag(|_| false)),
            ("drift_share_beyond_3", flag(|_| false)),
            ("drift_out_of_range", flag(|row| row.0 == 10 && row.1 == 1)),
            ("drift_null_share", flag(|row| row.0 == 10 && row.1 > 0)),
            ("judged", flag(|row| row.0 != 11)),
            ("final", flag(|row| row.2)),
            ("n_reference", count(29)),
            ("n_current", count(4)),
            ("null_count_current", count(1)),
            ("n_infinite_reference", count(0)),
            ("min_rows", count(29)),
        ];
        let infinite = rows.iter().map(|row| u64::from(row.0 % 7 == 3 && row.1 == 2));
        let infinite: ArrayRef = Arc::new(UInt64Array::from_iter_values(infinite));
        let columns = columns.into_iter().chain([("n_infinite_current", infinite)]);
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
            assert!(tally.tallied().lengths["1m"].open.len() <= 7);
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
            let unjudged = match windows {
                1 => "",
                _ => ", 1 with too few values for a verdict (drift.min_rows)",
            };
            let counted = format!("1m: {} of {} windows", drifted.len(), thousands(windows as u64));
            let of_columns = if windows <= 24 { "" } else { ", 3 of 3 columns" };
            assert_eq!(lines[0], format!("{counted}{of_columns}{unjudged}"));
            let listed = if windows <= 24 { windows as usize } else { COLUMNS.len() };
            if windows > 24 {
                let often = (0..windows).filter(|&window| has_drifted(window, 0)).count();
                let told =
                    format!("{} of {} (", thousands(often as u64), thousands(windows as u64 - 1));
                let a = lines[1..4].iter().find(|line| line.starts_with("  a")).unwrap();
                assert!(a.contains(&told), "{a}");
                assert!(
                    a.ends_with("strongest 1970-01-01T00:00: D 0.25, p 1e-9, mean -0.30 sd"),
                    "{a}"
                );
                // b is out of range in one window, and that is its strongest.
                assert!(lines[1].starts_with("  b ") && lines[1].contains("out of range 0.50"));
            }
            let with_infinite = (0..windows).filter(|window| window % 7 == 3).count();
            assert_eq!(
                lines.len(),
                1 + listed + usize::from(with_infinite > 0),
                "{windows} windows"
            );
            if with_infinite > 0 {
                let wanted = format!(
                    "infinite values, left out of means and deviations: prediction (in {with_infinite} of {windows} 1m windows)"
                );
                assert_eq!(lines.last(), Some(&wanted));
            }
            if listed > 11 && windows <= 24 {
                assert!(lines[1].starts_with("  1970-01-01T00:00 (partial)  "), "{}", lines[1]);
                let ends =
                    |at: usize, text: &str| assert!(lines[at].ends_with(text), "{}", lines[at]);
                ends(12, "  too few values");
                ends(
                    11,
                    "  b (D 0.25, out of range 0.50, nulls 0.00 -> 0.20), a (D 0.25), prediction (nulls 0.00 -> 0.20)",
                );
            }
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

    /// Of which the last has two rows, one for each version.
    #[test]
    fn a_window_is_whole_when_its_columns_are_whatever_the_number_of_versions() {
        let tally = DriftTally::new(COLUMNS.len());
        tally.add(&snapshots(&[1, 2], &[0, 2, 2])).unwrap();
        assert_eq!(tally.tallied().lengths["1m"].windows, 0);
        tally.add(&snapshots(&[1, 2], &[1])).unwrap();
        let tallied = tally.tallied();
        let of_length = &tallied.lengths["1m"];
        assert_eq!((of_length.windows, of_length.open.len()), (2, 0));
        assert_eq!((of_length.rows["a"], of_length.rows["prediction"]), (2 * 5, 2 * 2 * 5));
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_number_of_windows() {
        let kept = |tally: &DriftTally| {
            let lengths = &tally.tallied().lengths;
            let of = |of: &OfLength| {
                of.open.len() + of.listed.len() + of.rows.len().max(of.columns.len())
            };
            lengths.values().map(of).sum::<usize>()
        };
        assert_eq!(kept(&tallied(5_000)), COLUMNS.len());
    }
    #[test]
    fn what_the_reference_lacks_is_said() {
        let tally = DriftTally::new(1);
        let snapshots = snapshots(&[1], &[0]);
        let with = |name: &str, count: u64| {
            let replaced = |(field, own): (&arrow::datatypes::FieldRef, &ArrayRef)| {
                let own = match field.name() == name {
                    true => Arc::new(UInt64Array::from_value(count, own.len())),
                    false => own.clone(),
                };
                (field.name().clone(), own)
            };
            let schema = snapshots.schema();
            let columns = schema.fields().iter().zip(snapshots.columns()).map(replaced);
            RecordBatch::try_from_iter(columns).unwrap()
        };
        tally.add(&with("n_reference", 28)).unwrap();
        tally.add(&with("n_infinite_reference", 1_234)).unwrap();
        let lines = tally.lines(&[(WindowLength::Millis(MINUTE), "1m".to_owned())]);
        let said = [
            "no verdict on values, too few in the reference: a (28)",
            "infinite values, left out of means and deviations: a (1,234 in the reference)",
        ];
        assert_eq!(lines[lines.len() - 2..], said);
    }
}
