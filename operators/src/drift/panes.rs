//! The first phase of drift, at each row's home: rows are gathered into panes.
//!
//! Panes are disjoint, and every window is a union of them. A pane is sent to the owners of its
//! columns when the watermark passes its end; a row that comes later opens it anew, and what is sent
//! then is only that row.

mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::datatypes::{Float64Type, Int64Type};

use crate::accounting::LateForDrift;
use crate::drift::calendar::WindowLength;
use crate::drift::counting::Counting;
use crate::drift::dictionary::{CountsByCode, Dictionary};
use crate::drift::partials::Partial;
use crate::drift::profile::{Bins, Profile};
use crate::drift::runs::Runs;
use crate::drift::sample::{Mode, Sample};
use crate::drift::versions::{ByVersion, Versions};
use crate::drift::windows::Schedule;
use crate::watched::{self, Watched};

/// The open panes of one worker, by column.
pub struct OpenPanes {
    schedule: Schedule,
    pane: WindowLength,
    mode: Mode,
    columns: ByVersion,
    /// Where versions beside the first can be.
    versions: Option<Arc<dyn Versions>>,
    /// By column, of features.
    dictionaries: Vec<Dictionary>,
    /// By version, of those with open panes and of the one that came last.
    predictions: BTreeMap<usize, Predictions>,
    last_version: usize,
    counting: Counting,
    open: BTreeMap<i64, Pane>,
    /// The watermark as of the last epoch; panes that end at or before it have been sent.
    watermark: i64,
}

/// What a worker has seen in one pane.
#[derive(Clone)]
struct Pane {
    features: Vec<PaneColumn>,
    /// By version, of those that scored rows of it.
    predictions: BTreeMap<usize, PaneColumn>,
}

/// What goes with the predictions of one version.
struct Predictions {
    dictionary: Dictionary,
    /// Of its reference, where rows are counted by bin.
    bins: Option<Arc<Bins>>,
}

/// What a worker has seen of one column in one pane.
#[derive(Clone)]
struct PaneColumn {
    null_count: u64,
    seen: Seen,
    /// What others had not sent of it, from whom the worker has taken over.
    moved: Option<Sample>,
}

#[derive(Clone)]
enum Seen {
    Values(Values),
    Counts(Profile),
}

#[derive(Clone, Default)]
struct Values {
    /// As they came.
    listed: Vec<f64>,
    /// By the column's dictionary.
    counted: CountsByCode,
}

/// So many values are listed before they are counted.
const LISTED_MAX: usize = 1_024;

impl OpenPanes {
    pub fn new(schedule: Schedule, mode: Mode, columns: usize) -> Self {
        let pane = WindowLength::common_pane(&schedule.lengths);
        let columns = ByVersion::of(columns);
        let dictionaries = (0..columns.features()).map(|_| Dictionary::default()).collect();
        OpenPanes {
            schedule,
            pane,
            mode,
            columns,
            versions: None,
            dictionaries,
            predictions: BTreeMap::new(),
            last_version: 0,
            counting: Counting::default(),
            open: BTreeMap::new(),
            watermark: i64::MIN,
        }
    }

    /// The same, of rows that several versions score.
    #[must_use]
    pub fn with_versions(self, versions: Option<Arc<dyn Versions>>) -> Self {
        OpenPanes { versions, ..self }
    }

    /// Adds watched rows that a version scored, each to the windows of it that are not final.
    pub fn add(&mut self, seen: &watched::Seen) -> LateForDrift {
        let rows = &seen.rows;
        let times = rows.column(Watched::TIME).as_primitive::<Int64Type>().values();
        let lengths = self.schedule.lengths.len();
        let mut too_late = LateForDrift { by_length: vec![0; lengths], ..LateForDrift::default() };
        let mut start = 0;
        while start < times.len() {
            let (pane_start, pane_end) = self.pane.latest(times[start]);
            let inside =
                |time: &i64| *time >= pane_start && (*time < pane_end || pane_end == i64::MAX);
            let length = times[start..].iter().take_while(|time| inside(time)).count();
            if self.count_too_late(pane_start, length as u64, &mut too_late) {
                self.add_to_pane(pane_start, seen, start, length);
            }
            start += length;
        }
        if seen.with_features {
            return too_late;
        }
        // Of shadows nobody asks how late rows are: they are where their predictions are.
        let lengths = self.schedule.lengths.iter().zip(&too_late.by_length);
        let held = lengths.map(|(length, missed)| length.overlap() * times.len() as u64 - missed);
        LateForDrift { of_shadows: held.collect(), ..LateForDrift::default() }
    }

    /// Counts the windows that miss `rows` rows of a pane; returns whether any takes them.
    fn count_too_late(&self, pane_start: i64, rows: u64, too_late: &mut LateForDrift) -> bool {
        let (mut some_miss, mut some_take) = (false, false);
        for (&length, missed) in self.schedule.lengths.iter().zip(&mut too_late.by_length) {
            let taking = self.schedule.open_around(length, pane_start, self.watermark);
            *missed += (length.overlap() - taking) * rows;
            some_miss |= taking < length.overlap();
            some_take |= taking > 0;
        }
        too_late.rows += if some_miss { rows } else { 0 };
        some_take
    }

    fn add_to_pane(
        &mut self,
        pane_start: i64,
        watched: &watched::Seen,
        start: usize,
        length: usize,
    ) {
        let watched::Seen { rows, version, with_features, .. } = watched;
        let version = *version;
        self.know(version);
        if *with_features {
            self.last_version = version;
        }
        let Self { dictionaries, mode, counting, open, columns, predictions, .. } = self;
        let pane = open.entry(pane_start).or_insert_with(|| Pane::new(columns.features(), mode));
        let values = |column: usize| {
            let values = rows.column(Watched::FIRST + column).as_primitive::<Float64Type>();
            values.slice(start, length)
        };
        let features = pane.features.iter_mut().zip(dictionaries).enumerate();
        for (column, (seen, dictionary)) in features.filter(|_| *with_features) {
            let bins = match &*mode {
                Mode::Profile(bins) => Some(&bins[column]),
                Mode::Exact => None,
            };
            seen.add(&values(column), dictionary, bins, counting);
        }
        if let Some(Predictions { dictionary, bins }) = predictions.get_mut(&version) {
            let seen = pane.predictions.entry(version).or_insert_with(|| PaneColumn::new(mode));
            let column = if *with_features { columns.features() } else { 0 };
            seen.add(&values(column), dictionary, bins.as_ref(), counting);
        }
    }

    /// Makes ready what goes with the predictions of a version.
    fn know(&mut self, version: usize) {
        let Self { predictions, mode, columns, versions, .. } = self;
        predictions.entry(version).or_insert_with(|| {
            let bins = match mode {
                Mode::Exact => None,
                Mode::Profile(bins) if version == 0 => bins.get(columns.features()).cloned(),
                Mode::Profile(_) => {
                    let reference = versions.as_ref().map(|versions| versions.reference(version));
                    reference.and_then(|known| known.comparison.bins().cloned())
                }
            };
            Predictions { dictionary: Dictionary::default(), bins }
        });
    }

    /// Takes out what has come of the panes that end at or before `watermark`.
    pub fn close(&mut self, watermark: i64) -> Vec<Partial> {
        self.watermark = self.watermark.max(watermark);
        let mut partials = Vec::new();
        while let Some(entry) = self.open.first_entry() {
            let pane_start = *entry.key();
            if self.pane.end(pane_start) > watermark {
                break;
            }
            let pane = entry.remove();
            partials.extend(self.partials(pane_start, pane));
        }
        if !partials.is_empty() {
            let Self { open, last_version, .. } = self;
            self.predictions.retain(|version, _| {
                version == last_version
                    || open.values().any(|pane| pane.predictions.contains_key(version))
            });
        }
        partials
    }

    fn partials(&mut self, pane_start: i64, pane: Pane) -> Vec<Partial> {
        let Self { dictionaries, predictions, columns, .. } = self;
        let part = |column, seen: PaneColumn, dictionary: &mut Dictionary| Partial {
            pane_start,
            column,
            null_count: seen.null_count,
            sample: seen.into_sample(dictionary),
        };
        let features = pane.features.into_iter().zip(dictionaries).enumerate();
        let features = features.map(|(column, (seen, own))| part(column, seen, own));
        let of_versions = pane.predictions.into_iter().map(|(version, seen)| {
            let own = predictions.get_mut(&version).map(|known| &mut known.dictionary);
            part(columns.column(version), seen, own.unwrap_or(&mut Dictionary::default()))
        });
        features.chain(of_versions).collect()
    }
}

impl Pane {
    fn new(features: usize, mode: &Mode) -> Self {
        let features = (0..features).map(|_| PaneColumn::new(mode)).collect();
        Pane { features, predictions: BTreeMap::new() }
    }
}

impl PaneColumn {
    fn new(mode: &Mode) -> Self {
        let seen = match mode {
            Mode::Exact => Seen::Values(Values::default()),
            Mode::Profile(_) => Seen::Counts(Profile::default()),
        };
        PaneColumn { null_count: 0, seen, moved: None }
    }

    /// Adds values, which are counted by `bins` where they are not kept.
    fn add(
        &mut self,
        values: &Float64Array,
        dictionary: &mut Dictionary,
        bins: Option<&Arc<Bins>>,
        counting: &mut Counting,
    ) {
        let taken = match (&mut self.seen, bins) {
            (Seen::Values(listed), _) => listed.extend(values, dictionary),
            (Seen::Counts(profile), Some(bins)) => counting.count(values, bins, profile),
            (Seen::Counts(_), None) => 0,
        };
        // NaN counts as null.
        self.null_count += values.len() as u64 - taken;
    }

    fn into_sample(self, dictionary: &mut Dictionary) -> Sample {
        let own = match self.seen {
            Seen::Values(values) => Sample::Exact(values.into_runs(dictionary)),
            Seen::Counts(mut profile) => {
                profile.trim();
                Sample::Profile(profile)
            }
        };
        let moved = self.moved.as_ref().and_then(|moved| Sample::merge([moved, &own]));
        moved.unwrap_or(own)
    }
}

impl Values {
    /// Adds what is neither null nor NaN, and returns how many values these are.
    fn extend(&mut self, values: &Float64Array, dictionary: &mut Dictionary) -> u64 {
        let taken = match values.nulls() {
            None => self.list(values.values()),
            Some(nulls) => {
                let valid = nulls.valid_slices().map(|(from, to)| &values.values()[from..to]);
                valid.map(|values| self.list(values)).sum()
            }
        };
        if self.listed.len() >= LISTED_MAX {
            dictionary.count(&mut self.listed, &mut self.counted);
        }
        taken
    }

    /// Adds values that are not NaN, and returns how many there were.
    fn list(&mut self, values: &[f64]) -> u64 {
        let has_nan = values.iter().fold(false, |found, value| found | value.is_nan());
        if !has_nan {
            self.listed.extend_from_slice(values);
            return values.len() as u64;
        }
        let before = self.listed.len();
        self.listed.extend(values.iter().filter(|value| !value.is_nan()));
        (self.listed.len() - before) as u64
    }

    fn into_runs(mut self, dictionary: &mut Dictionary) -> Runs {
        dictionary.count(&mut self.listed, &mut self.counted);
        if self.counted.is_empty() {
            return Runs::from_values(self.listed);
        }
        let counted = dictionary.runs(&self.counted);
        if self.listed.is_empty() {
            return counted;
        }
        Runs::merge([&counted, &Runs::from_values(self.listed)])
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};

    use super::*;
    use crate::drift::calendar::DAY_MS;
    use crate::drift::windows::Revisions;

    fn panes(lengths: &[WindowLength], horizon_ms: i64) -> OpenPanes {
        let revisions = Revisions { horizon_ms, interval_ms: 0 };
        OpenPanes::new(Schedule { lengths: lengths.to_vec(), revisions }, Mode::Exact, 1)
    }

    fn rows(rows: &[(i64, Option<f64>)]) -> RecordBatch {
        let values: Float64Array = rows.iter().map(|(_, value)| *value).collect();
        RecordBatch::try_from_iter_with_nullable([
            ("time", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))) as _, false),
            ("late", Arc::new(BooleanArray::from(vec![false; rows.len()])) as ArrayRef, false),
            ("value", Arc::new(values) as _, true),
        ])
        .unwrap()
    }

    /// Start, nulls and values of what is closed.
    fn closed(panes: &mut OpenPanes, watermark: i64) -> Vec<(i64, u64, Vec<f64>)> {
        let partials = panes.close(watermark).into_iter();
        let parts = partials.map(|partial| match partial.sample {
            Sample::Exact(runs) => (partial.pane_start, partial.null_count, runs.values),
            Sample::Profile(_) => panic!("exact panes hold values"),
        });
        parts.collect()
    }

    #[test]
    fn what_comes_after_a_pane_was_sent_is_sent_alone() {
        let mut panes = panes(&[WindowLength::Millis(10)], 20);
        let taken = [(3, Some(1.0)), (12, None), (4, Some(f64::NAN)), (14, Some(-0.0))];
        assert_eq!(panes.add(&watched::Seen::of(rows(&taken), 0)).rows, 0);
        assert_eq!(closed(&mut panes, 9), []);
        assert_eq!(closed(&mut panes, 10), [(0, 1, vec![1.0])]);
        panes.add(&watched::Seen::of(rows(&[(5, Some(7.0))]), 0));
        assert_eq!(closed(&mut panes, 10), [(0, 0, vec![7.0])]);
        assert_eq!(closed(&mut panes, i64::MAX), [(10, 1, vec![0.0])]);
    }

    /// Panes of many rows, a part at a time, against sorting and counting.
    #[test]
    fn large_panes_hold_what_came() {
        for (distinct, part) in [(3, 40), (300, 1_000), (1_900, 5_000), (1_000_000, 1_500)] {
            let mut panes = panes(&[WindowLength::Millis(10)], 20);
            let mut state: u64 = distinct;
            for pane in 0..3 {
                let mut came = Vec::new();
                for row in 0..6_000u64 {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let value = ((state >> 33) % distinct) as f64 * 0.1 - 20.0;
                    let value = if row % 50 == 7 { f64::NAN } else { value };
                    came.push((pane * 10, (row % 9 > 0).then_some(value)));
                }
                came.chunks(part).for_each(|part| {
                    assert_eq!(panes.add(&watched::Seen::of(rows(part), 0)).rows, 0)
                });
                let values = came.iter().filter_map(|row| row.1).filter(|value| !value.is_nan());
                let mut sorted: Vec<f64> = values.collect();
                sorted.sort_by(f64::total_cmp);
                let nulls = (came.len() - sorted.len()) as u64;
                let partials = panes.close(pane * 10 + 10);
                let [Partial { null_count, sample: Sample::Exact(runs), .. }] = &partials[..]
                else {
                    panic!("one column")
                };
                let naive = sorted.chunk_by(|a, b| a == b).map(|c| (c[0], c.len() as u64));
                assert_eq!(*null_count, nulls);
                assert_eq!(runs.pairs().collect::<Vec<_>>(), naive.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_row_at_the_end_of_a_pane_is_in_the_next() {
        let mut panes = panes(&[WindowLength::Millis(10)], 0);
        panes.add(&watched::Seen::of(
            rows(&[(9, Some(1.0)), (10, Some(2.0)), (19, Some(3.0)), (20, Some(4.0))]),
            0,
        ));
        let found = closed(&mut panes, i64::MAX);
        assert_eq!(found, [(0, 0, vec![1.0]), (10, 0, vec![2.0, 3.0]), (20, 0, vec![4.0])]);
    }

    #[test]
    fn a_row_is_too_late_for_some_windows_and_not_for_others() {
        let sliding = WindowLength::Sliding { length_ms: 30, slide_ms: 10 };
        let mut panes = panes(&[WindowLength::Millis(10), sliding], 5);
        assert_eq!(closed(&mut panes, 25), []);
        // [0, 10) and the sliding [-20, 10) and [-10, 20) are final; [0, 30) is not.
        let late = panes.add(&watched::Seen::of(rows(&[(1, Some(1.0)), (2, Some(2.0))]), 0));
        assert_eq!(
            late,
            LateForDrift { rows: 2, by_length: vec![2, 4], ..LateForDrift::default() }
        );
        assert_eq!(closed(&mut panes, 25), [(0, 0, vec![1.0, 2.0])]);
        // All windows around −5 are.
        let late = panes.add(&watched::Seen::of(rows(&[(-5, Some(1.0)), (21, None)]), 0));
        assert_eq!(
            late,
            LateForDrift { rows: 1, by_length: vec![1, 3], ..LateForDrift::default() }
        );
        assert_eq!(closed(&mut panes, i64::MAX), [(20, 1, vec![])]);
    }

    #[test]
    fn rows_behind_the_last_pane_of_time_are_in_their_own() {
        for length in [DAY_MS, 1] {
            let mut panes = panes(&[WindowLength::Millis(length)], 0);
            panes.add(&watched::Seen::of(
                rows(&[(i64::MAX, Some(1.0)), (0, Some(2.0)), (i64::MAX, Some(3.0))]),
                0,
            ));
            let found = closed(&mut panes, i64::MAX);
            let last = WindowLength::Millis(length).latest(i64::MAX).0;
            assert_eq!(found, [(0, 0, vec![2.0]), (last, 0, vec![1.0, 3.0])]);
        }
    }

    #[test]
    fn a_row_at_the_beginning_of_time_misses_the_windows_that_would_start_before() {
        let sliding = WindowLength::Sliding { length_ms: 30, slide_ms: 10 };
        let mut panes = panes(&[sliding], 0);
        let late = panes.add(&watched::Seen::of(rows(&[(i64::MIN, Some(1.0))]), 0));
        assert_eq!(late.by_length[0] + sliding.around(i64::MIN).count() as u64, 3);
    }

    /// In parts of a pane each, in order, and none where a version scored nothing.
    #[test]
    fn predictions_are_apart_by_the_version_that_made_them() {
        let mut panes = panes(&[WindowLength::Millis(10)], 0);
        panes.add(&watched::Seen::of(rows(&[(1, Some(1.0)), (2, None), (11, Some(2.0))]), 0));
        panes.add(&watched::Seen::of(rows(&[(3, Some(3.0))]), 7));
        panes.add(&watched::Seen::of(rows(&[(12, Some(4.0)), (4, Some(1.0))]), 0));
        panes.add(&watched::Seen::of(rows(&[(25, Some(5.0))]), 2));
        let closed = panes.close(30);
        let of = |partial: &Partial| {
            let Sample::Exact(runs) = &partial.sample else { unreachable!("exact mode") };
            let (values, counts) = (runs.values.clone(), runs.counts.clone());
            (partial.pane_start, partial.column, partial.null_count, values, counts)
        };
        let expected = vec![
            (0, 0, 1, vec![1.0], vec![2]),
            (0, 7, 0, vec![3.0], vec![1]),
            (10, 0, 0, vec![2.0, 4.0], vec![1, 1]),
            (20, 2, 0, vec![5.0], vec![1]),
        ];
        assert_eq!(closed.iter().map(of).collect::<Vec<_>>(), expected);
        assert_eq!(panes.predictions.keys().copied().collect::<Vec<_>>(), [2]);
    }
}
