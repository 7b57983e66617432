//! The second phase of drift, at the owner of each column: panes become windows, and windows are
//! issued, revised and made final.
//!
//! A window is first issued when the watermark reaches its end, as revision 0. Rows that come later
//! revise it, at most once per `interval_ms` of watermark, until the watermark is `horizon_ms` past
//! its end: then it is issued for the last time, is final, and takes no more. What is issued when
//! follows from the rows and the watermark of each epoch alone, so all owners agree on it, and so do
//! the workers, which count the rows that came too late.

mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;

use crate::drift::calendar::WindowLength;
use crate::drift::partials::Partial;
use crate::drift::runs::MergeSpace;
use crate::drift::sample::{GrowingSample, Sample};
use crate::drift::versions::Versions;
use crate::watermark::Span;

/// What figures of few values cost: as much as looking at so many.
const FIGURES_WORK: usize = 1_024;

/// When windows are issued again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revisions {
    /// How far the watermark is past the end of a window that is final (ms); 0: windows are final at
    /// once.
    pub horizon_ms: i64,
    /// How far the watermark rises from one revision to the next (ms).
    pub interval_ms: i64,
}

impl Revisions {
    pub const NONE: Revisions = Revisions { horizon_ms: 0, interval_ms: 0 };
}

/// Which windows there are, and when they are issued.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub lengths: Vec<WindowLength>,
    pub revisions: Revisions,
}

impl Schedule {
    /// Whether a window that ends at `end` takes no more rows.
    fn is_final(&self, end: i64, watermark: i64) -> bool {
        end.saturating_add(self.revisions.horizon_ms) <= watermark
    }

    /// How many windows of `length` around `time` still take rows.
    pub fn open_around(&self, length: WindowLength, time: i64, watermark: i64) -> u64 {
        let takes = |back: u64| {
            let window = length.nth_around(time, back);
            window.is_some_and(|(_, end)| !self.is_final(end, watermark))
        };
        let overlap = length.overlap();
        if takes(overlap - 1) {
            return overlap;
        }
        // The further back, the earlier the end: the first window that takes none.
        let (mut open, mut closed) = (0, overlap - 1);
        while open < closed {
            let middle = (open + closed) / 2;
            if takes(middle) { open = middle + 1 } else { closed = middle }
        }
        open
    }
}

/// A window of one column as it is issued.
#[derive(Clone, Debug, PartialEq)]
pub struct Issued<F> {
    pub length: WindowLength,
    pub start: i64,
    pub end: i64,
    pub column: usize,
    /// 0, 1, … in the order of issue.
    pub revision: i32,
    pub is_final: bool,
    pub figures: F,
}

/// What an owner makes of windows.
pub trait WindowOutput: 'static {
    /// What is kept of an issued window, to be repeated if no row revises it.
    type Figures: Clone + 'static;

    /// The figures of a window of one column: of its values, and how many were null.
    fn figures(&self, column: usize, sample: &Sample, null_count: u64) -> Self::Figures;

    /// The versions of the model, where there can be several.
    fn versions(&self) -> Option<Arc<dyn Versions>> {
        None
    }

    /// Rows of the output, of windows that are issued together; events have been `seen` so far.
    ///
    /// # Errors
    /// If they cannot be made.
    fn batch(
        &self,
        windows: &[Issued<Self::Figures>],
        seen: Span,
    ) -> Result<RecordBatch, ArrowError>;
}

/// The windows that are not final, of the columns that one worker owns.
pub struct OpenWindows<F> {
    schedule: Schedule,
    /// By start and column; kept until every window of theirs is final.
    panes: BTreeMap<i64, BTreeMap<usize, GrowingSample>>,
    /// Panes that have grown since the last epoch.
    grown: BTreeSet<i64>,
    /// By length and start.
    open: BTreeMap<(WindowLength, i64), OpenWindow<F>>,
    /// As of the last epoch.
    watermark: i64,
    issuing: Issuing<F>,
    space: MergeSpace,
}

/// What is being issued.
struct Issuing<F> {
    is_under_way: bool,
    /// Those that are still to be issued, in order.
    due: VecDeque<(WindowLength, i64)>,
    /// Of the first one of them: the columns that are done, and those that are not.
    figures: Vec<(usize, F)>,
    columns: Option<VecDeque<usize>>,
    issued: Vec<Issued<F>>,
    /// What came meanwhile.
    waiting: Vec<Partial>,
}

struct OpenWindow<F> {
    /// Whether rows have come since the last revision.
    changed: bool,
    last: Option<Revision<F>>,
}

struct Revision<F> {
    number: i32,
    watermark: i64,
    /// By column; none where they were made elsewhere, of the same samples.
    figures: Option<Vec<(usize, F)>>,
}

impl<F: Clone> OpenWindows<F> {
    pub fn new(schedule: Schedule) -> Self {
        OpenWindows {
            schedule,
            panes: BTreeMap::new(),
            grown: BTreeSet::new(),
            open: BTreeMap::new(),
            watermark: i64::MIN,
            issuing: Issuing::default(),
            space: MergeSpace::default(),
        }
    }

    /// Adds what a worker has seen of a pane to the windows that are not final; not to those that are
    /// being issued.
    pub fn add(&mut self, partial: Partial) {
        if self.issuing.is_under_way {
            return self.issuing.waiting.push(partial);
        }
        let Partial { pane_start, column, null_count, sample } = partial;
        let pane = self.panes.entry(pane_start).or_default();
        pane.entry(column).or_default().push(sample, null_count);
        self.grown.insert(pane_start);
    }

    /// The windows of panes that have grown are to be issued (anew), unless they are final.
    fn note_growth(&mut self) {
        for pane_start in std::mem::take(&mut self.grown) {
            for &length in &self.schedule.lengths {
                for (start, end) in length.around(pane_start) {
                    if self.schedule.is_final(end, self.watermark) {
                        break;
                    }
                    let unseen = || OpenWindow { changed: true, last: None };
                    self.open.entry((length, start)).or_insert_with(unseen).changed = true;
                }
            }
        }
    }

    /// Issues the windows whose turn it is now that the watermark is at `watermark`, by length,
    /// start and column.
    pub fn issue<O: WindowOutput<Figures = F>>(
        &mut self,
        watermark: i64,
        output: &O,
    ) -> Vec<Issued<F>> {
        let mut issued = self.finish(output);
        self.begin(watermark);
        issued.append(&mut self.finish(output));
        issued
    }

    /// All that is left of what was begun.
    fn finish<O: WindowOutput<Figures = F>>(&mut self, output: &O) -> Vec<Issued<F>> {
        let is_under_way = self.issuing.is_under_way;
        is_under_way.then(|| self.step(output, usize::MAX)).flatten().unwrap_or_default()
    }

    /// Begins to issue the windows whose turn it is, unless it has begun before and is not done. What is
    /// added until [`step`](Self::step) is done counts only then.
    pub fn begin(&mut self, watermark: i64) {
        if self.issuing.is_under_way {
            return;
        }
        self.note_growth();
        self.watermark = self.watermark.max(watermark);
        self.issuing.due = self.due().into();
        self.issuing.is_under_way = true;
    }

    /// Goes on with what was begun, until about as much `work` is done as looking at so many values, and
    /// by the figures of one column at least if there are any; all that [`issue`](Self::issue) would
    /// have returned, once it is done.
    pub fn step<O: WindowOutput<Figures = F>>(
        &mut self,
        output: &O,
        mut work: usize,
    ) -> Option<Vec<Issued<F>>> {
        while let Some(&(length, start)) = self.issuing.due.front() {
            let is_new = self.open.get(&(length, start)).is_some_and(OpenWindow::is_new);
            if is_new && !self.go_on_with_figures(start, length.end(start), output, &mut work) {
                return None;
            }
            self.issue_window(length, start);
            self.issuing.due.pop_front();
        }
        self.forget_panes();
        self.issuing.is_under_way = false;
        std::mem::take(&mut self.issuing.waiting).into_iter().for_each(|part| self.add(part));
        Some(std::mem::take(&mut self.issuing.issued))
    }

    /// Issues a window with the figures that were made of it, or with those of its last revision.
    fn issue_window(&mut self, length: WindowLength, start: i64) {
        let Some(window) = self.open.remove(&(length, start)) else { return };
        let end = length.end(start);
        let is_final = self.schedule.is_final(end, self.watermark);
        let number = window.last.as_ref().map_or(0, |last| last.number + 1);
        self.issuing.columns = None;
        let made = std::mem::take(&mut self.issuing.figures);
        let repeated = window.last.filter(|_| !window.changed).and_then(|last| last.figures);
        let figures = repeated.unwrap_or(made);
        self.issuing.issued.extend(figures.iter().map(|(column, figures)| Issued {
            length,
            start,
            end,
            column: *column,
            revision: number,
            is_final,
            figures: figures.clone(),
        }));
        if !is_final {
            let last = Revision { number, watermark: self.watermark, figures: Some(figures) };
            let window = OpenWindow { changed: false, last: Some(last) };
            self.open.insert((length, start), window);
        }
    }

    fn due(&self) -> Vec<(WindowLength, i64)> {
        let lengths: BTreeSet<WindowLength> = self.schedule.lengths.iter().copied().collect();
        let mut due = Vec::new();
        for length in lengths {
            for (&(_, start), window) in self.open.range((length, i64::MIN)..=(length, i64::MAX)) {
                let end = length.end(start);
                if end > self.watermark {
                    break;
                }
                let is_due = match &window.last {
                    None => true,
                    Some(_) if self.schedule.is_final(end, self.watermark) => true,
                    Some(last) => {
                        let risen = self.watermark.saturating_sub(last.watermark);
                        window.changed && risen >= self.schedule.revisions.interval_ms
                    }
                };
                due.extend(is_due.then_some((length, start)));
            }
        }
        due
    }

    /// Makes figures of a window, from the panes between its bounds, while `work` lasts; returns whether
    /// they are complete.
    fn go_on_with_figures<O: WindowOutput<Figures = F>>(
        &mut self,
        start: i64,
        end: i64,
        output: &O,
        work: &mut usize,
    ) -> bool {
        let until = if end == i64::MAX { Bound::Unbounded } else { Bound::Excluded(end) };
        let inside = (Bound::Included(start), until);
        let Self { panes, space, issuing, .. } = self;
        let columns = issuing.columns.get_or_insert_with(|| {
            let known = panes.range(inside).flat_map(|(_, pane)| pane.keys().copied());
            known.collect::<BTreeSet<usize>>().into_iter().collect()
        });
        while let Some(&column) = columns.front() {
            if *work == 0 {
                return false;
            }
            columns.pop_front();
            let weights = panes.range(inside).filter_map(|(_, pane)| pane.get(&column));
            let weight: usize = weights.map(GrowingSample::weight).sum();
            *work = work.saturating_sub(FIGURES_WORK + weight);
            let panes = panes.range_mut(inside).filter_map(|(_, pane)| pane.get_mut(&column));
            let figures = figures_of(panes, space, |sample, nulls| {
                (column, output.figures(column, sample, nulls))
            });
            issuing.figures.extend(figures);
        }
        true
    }

    /// Drops the panes whose windows are all final.
    fn forget_panes(&mut self) {
        let Self { schedule, panes, watermark, .. } = self;
        while let Some(pane) = panes.first_entry() {
            let time = *pane.key();
            let mut lengths = schedule.lengths.iter();
            // The ends of windows rise with their panes: behind a pane that is needed all are.
            if lengths.any(|length| !schedule.is_final(length.latest(time).1, *watermark)) {
                break;
            }
            pane.remove();
        }
    }
}

impl<F> OpenWindow<F> {
    /// Whether figures are to be made of it: they are not those of its last revision, or not known.
    fn is_new(&self) -> bool {
        self.changed || self.last.as_ref().is_none_or(|last| last.figures.is_none())
    }
}

impl<F> Default for Issuing<F> {
    fn default() -> Self {
        Issuing {
            is_under_way: false,
            due: VecDeque::new(),
            figures: Vec::new(),
            columns: None,
            issued: Vec::new(),
            waiting: Vec::new(),
        }
    }
}

/// What `figures` makes of the union of a column's panes and of their nulls; `None` of no panes.
fn figures_of<'a, T>(
    panes: impl Iterator<Item = &'a mut GrowingSample>,
    space: &mut MergeSpace,
    figures: impl FnOnce(&Sample, u64) -> T,
) -> Option<T> {
    let (mut nulls, mut parts) = (0, Vec::new());
    for pane in panes {
        pane.consolidate();
        nulls += pane.null_count;
        parts.extend(pane.whole());
    }
    // A window of one pane needs no union.
    if let [one] = parts.as_slice() {
        return Some(figures(one, nulls));
    }
    let merged = Sample::merge_in(space, parts)?;
    let made = figures(&merged, nulls);
    space.reuse(merged);
    Some(made)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::drift::runs::Runs;

    /// The values of a window, and how often figures were made.
    #[derive(Default)]
    struct Values(Cell<usize>);

    impl WindowOutput for Values {
        type Figures = Vec<f64>;

        fn figures(&self, _column: usize, sample: &Sample, _null_count: u64) -> Vec<f64> {
            self.0.set(self.0.get() + 1);
            match sample {
                Sample::Exact(runs) => runs.values.clone(),
                Sample::Profile(_) => Vec::new(),
            }
        }

        fn batch(
            &self,
            _windows: &[Issued<Vec<f64>>],
            _seen: Span,
        ) -> Result<RecordBatch, ArrowError> {
            unreachable!("the tests look at what is issued")
        }
    }

    fn windows(
        lengths: &[WindowLength],
        horizon_ms: i64,
        interval_ms: i64,
    ) -> OpenWindows<Vec<f64>> {
        let revisions = Revisions { horizon_ms, interval_ms };
        OpenWindows::new(Schedule { lengths: lengths.to_vec(), revisions })
    }

    fn part(pane_start: i64, values: &[f64]) -> Partial {
        let sample = Sample::Exact(Runs::from_values(values.to_vec()));
        Partial { pane_start, column: 0, null_count: 0, sample }
    }

    /// Start, revision, whether it is final, and values of what is issued.
    fn issue(
        windows: &mut OpenWindows<Vec<f64>>,
        watermark: i64,
        output: &Values,
    ) -> Vec<(i64, i32, bool, Vec<f64>)> {
        let issued = windows.issue(watermark, output).into_iter();
        issued.map(|w| (w.start, w.revision, w.is_final, w.figures)).collect()
    }

    #[test]
    fn a_window_is_issued_revised_and_final() {
        let (mut open, output) = (windows(&[WindowLength::Millis(10)], 20, 5), Values::default());
        open.add(part(0, &[1.0]));
        assert_eq!(issue(&mut open, 9, &output), []);
        assert_eq!(issue(&mut open, 11, &output), [(0, 0, false, vec![1.0])]);
        open.add(part(0, &[2.0]));
        // Not before the watermark has risen by five.
        assert_eq!(issue(&mut open, 15, &output), []);
        open.add(part(0, &[3.0]));
        assert_eq!(issue(&mut open, 16, &output), [(0, 1, false, vec![1.0, 2.0, 3.0])]);
        assert_eq!(issue(&mut open, 29, &output), []);
        // Nothing has changed since: the figures are repeated, and not made again.
        assert_eq!(output.0.get(), 2);
        assert_eq!(issue(&mut open, 30, &output), [(0, 2, true, vec![1.0, 2.0, 3.0])]);
        assert_eq!(output.0.get(), 2);
        assert!(open.open.is_empty() && open.panes.is_empty());
    }

    #[test]
    fn without_a_horizon_the_first_revision_is_final() {
        let (mut open, output) = (windows(&[WindowLength::Millis(10)], 0, 5), Values::default());
        open.add(part(0, &[1.0]));
        open.add(part(20, &[2.0]));
        assert_eq!(issue(&mut open, 10, &output), [(0, 0, true, vec![1.0])]);
        assert_eq!(issue(&mut open, i64::MAX, &output), [(20, 0, true, vec![2.0])]);
    }

    #[test]
    fn a_final_window_takes_no_more_while_others_of_its_pane_do() {
        let sliding = WindowLength::Sliding { length_ms: 20, slide_ms: 10 };
        let (mut open, output) = (windows(&[sliding], 0, 0), Values::default());
        open.add(part(0, &[1.0]));
        assert_eq!(issue(&mut open, 10, &output), [(-10, 0, true, vec![1.0])]);
        open.add(part(0, &[2.0]));
        assert_eq!(open.panes.len(), 1);
        assert_eq!(issue(&mut open, 20, &output), [(0, 0, true, vec![1.0, 2.0])]);
        assert!(open.panes.is_empty());
    }

    #[test]
    fn a_window_whose_first_row_is_late_is_issued_at_once() {
        let (mut open, output) = (windows(&[WindowLength::Millis(10)], 50, 5), Values::default());
        assert_eq!(issue(&mut open, 30, &output), []);
        open.add(part(0, &[1.0]));
        assert_eq!(issue(&mut open, 30, &output), [(0, 0, false, vec![1.0])]);
    }

    /// What is issued a few columns at a time is what is issued at once, in the same order; what is
    /// added meanwhile counts only then.
    #[test]
    fn slices_of_an_issue_are_the_whole() {
        let sliding = WindowLength::Sliding { length_ms: 30, slide_ms: 10 };
        for columns_max in 1..5 {
            let lengths = [sliding, WindowLength::Millis(20), WindowLength::Millis(10)];
            let (mut whole, mut sliced) = (windows(&lengths, 25, 10), windows(&lengths, 25, 10));
            let (output, of_slices) = (Values::default(), Values::default());
            let mut state = columns_max as u64;
            let mut next = |bound: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                (state >> 33) % bound
            };
            let mut issued = 0;
            for watermark in (0..400).step_by(7) {
                let mut parts = || -> Vec<Partial> {
                    let part_of = |pane: u64, column: u64, value: u64| Partial {
                        column: column as usize,
                        ..part(watermark - pane as i64 * 10, &[value as f64])
                    };
                    (0..3).map(|_| part_of(next(5), next(6), next(9))).collect()
                };
                let (before, meanwhile) = (parts(), parts());
                let place = |part: Partial| Partial {
                    pane_start: part.pane_start.div_euclid(10) * 10,
                    ..part
                };
                for part in before.into_iter().map(place) {
                    whole.add(part.clone());
                    sliced.add(part);
                }
                let expected = whole.issue(watermark, &output);
                sliced.begin(watermark);
                let mut meanwhile = meanwhile.into_iter().map(place);
                let found = loop {
                    let figures = of_slices.0.get();
                    let work = (columns_max - 1) * FIGURES_WORK + 1;
                    let done = sliced.step(&of_slices, work);
                    assert!(of_slices.0.get() - figures <= columns_max);
                    if let Some(found) = done {
                        break found;
                    }
                    meanwhile.next().into_iter().for_each(|part| {
                        whole.add(part.clone());
                        sliced.add(part);
                    });
                };
                assert_eq!(found, expected, "{columns_max} {watermark}");
                issued += found.len();
            }
            assert!(issued > 300, "{issued}");
            assert_eq!(output.0.get(), of_slices.0.get());
        }
    }

    #[test]
    fn the_last_instant_of_time_is_in_a_window() {
        for length in [1, 1_000] {
            let length = WindowLength::Millis(length);
            let (mut open, output) = (windows(&[length], 0, 0), Values::default());
            let start = length.latest(i64::MAX).0;
            open.add(part(start, &[1.0]));
            assert_eq!(issue(&mut open, i64::MAX - 1, &output), []);
            assert_eq!(issue(&mut open, i64::MAX, &output), [(start, 0, true, vec![1.0])]);
        }
    }

    #[test]
    fn open_windows_are_those_around_that_are_not_final() {
        let sliding = WindowLength::Sliding { length_ms: 70, slide_ms: 10 };
        for horizon_ms in [0, 5, 33] {
            let revisions = Revisions { horizon_ms, interval_ms: 0 };
            let schedule = Schedule { lengths: vec![sliding], revisions };
            for time in (-30..30).chain([i64::MIN, i64::MIN + 25, i64::MAX - 3, i64::MAX]) {
                let near = (-90..90).map(|behind| time.saturating_add(behind));
                for watermark in near.chain([i64::MIN, i64::MAX]) {
                    let ends = sliding.around(time).map(|(_, end)| end);
                    let open = ends.filter(|&end| end.saturating_add(horizon_ms) > watermark);
                    let found = schedule.open_around(sliding, time, watermark);
                    assert_eq!(found, open.count() as u64, "{time} {watermark} {horizon_ms}");
                }
            }
        }
    }
}
