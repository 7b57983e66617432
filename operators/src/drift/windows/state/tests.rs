use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow::error::ArrowError;

use super::*;
use crate::drift::panes::OpenPanes;
use crate::drift::profile::Bins;
use crate::drift::runs::Runs;
use crate::drift::sample::{Mode, Sample};
use crate::drift::windows::{Issued, Revisions, Schedule, WindowOutput};
use crate::features::window::naive::Random;
use crate::key_group::worker_of_group;
use crate::state::groups::groups_of_worker;
use crate::watched::Seen;
use crate::watermark::Span;

/// Keeps samples as they are.
struct Samples;

impl WindowOutput for Samples {
    type Figures = (Sample, u64);

    fn figures(&self, _column: usize, sample: &Sample, null_count: u64) -> (Sample, u64) {
        (sample.clone(), null_count)
    }

    fn batch(
        &self,
        _windows: &[Issued<(Sample, u64)>],
        _seen: Span,
    ) -> Result<RecordBatch, ArrowError> {
        unreachable!("the tests look at what is issued")
    }
}

type Windows = OpenWindows<(Sample, u64)>;

const COLUMNS: usize = 5;

/// Both phases of drift on some workers.
struct Workers {
    schedule: Schedule,
    mode: Mode,
    columns: DriftColumns,
    panes: Vec<OpenPanes>,
    windows: Vec<Windows>,
    watermark: i64,
}

impl Workers {
    fn new(schedule: Schedule, mode: Mode) -> Self {
        let names: Vec<String> = (0..COLUMNS).map(|at| format!("column {at}")).collect();
        let columns = DriftColumns::new(&names, &mode, &schedule);
        let (panes, windows) = (Vec::new(), Vec::new());
        let watermark = i64::MIN;
        let mut workers = Workers { schedule, mode, columns, panes, windows, watermark };
        workers.start(1);
        workers
    }

    fn start(&mut self, workers: usize) {
        let panes = || OpenPanes::new(self.schedule.clone(), self.mode.clone(), COLUMNS);
        self.panes = (0..workers).map(|_| panes()).collect();
        self.windows = (0..workers).map(|_| OpenWindows::new(self.schedule.clone())).collect();
    }

    /// An epoch of rows: what is issued, and how many rows came too late.
    fn epoch(&mut self, rows: &[RecordBatch], watermark: i64) -> (Vec<Issued<(Sample, u64)>>, u64) {
        let (workers, mut late) = (self.panes.len(), 0);
        for (at, rows) in rows.iter().enumerate() {
            late += self.panes[at % workers].add(&Seen::of(rows.clone(), 0)).rows;
        }
        let owners = self.columns.owners(workers);
        for panes in &mut self.panes {
            for part in panes.close(watermark) {
                self.windows[owners[part.column] as usize].add(part);
            }
        }
        self.watermark = watermark;
        let issued = self.windows.iter_mut().flat_map(|open| open.issue(watermark, &Samples));
        let mut issued: Vec<_> = issued.collect();
        issued.sort_by_key(|window| (window.length, window.start, window.column));
        (issued, late)
    }

    fn go_on_with(&mut self, workers: usize) {
        let mut pieces = Vec::new();
        let before = self.panes.len();
        for worker in 0..before {
            let groups = groups_of_worker(worker, before);
            pieces.extend(self.panes[worker].export(&self.columns, groups.start).unwrap());
            pieces.extend(self.windows[worker].export(&self.columns, groups).unwrap());
        }
        self.start(workers);
        for piece in pieces {
            let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
            let worker = worker_of_group(piece.group, workers);
            if piece.part == "drift_panes" {
                self.panes[worker].import(&self.columns, &piece).unwrap();
            } else {
                self.windows[worker].import(&self.columns, &piece).unwrap();
            }
        }
        for worker in 0..workers {
            self.panes[worker].resume(self.watermark);
            self.windows[worker].resume(self.watermark);
        }
    }
}

/// Rows around the watermark, many of them behind it.
fn rows(random: &mut Random, watermark: i64) -> RecordBatch {
    let count = random.below(12) as usize;
    let time = |random: &mut Random| match random.below(3) {
        0 => watermark - random.below(160) as i64,
        _ => watermark + random.below(40) as i64,
    };
    let mut times: Vec<i64> = (0..count).map(|_| time(random)).collect();
    times.sort_unstable();
    let mut columns: Vec<(String, ArrayRef, bool)> = vec![
        ("time".to_owned(), Arc::new(Int64Array::from(times)), false),
        ("late".to_owned(), Arc::new(BooleanArray::from(vec![false; count])), false),
    ];
    for at in 0..COLUMNS {
        let values: Float64Array = (0..count).map(|_| random.value()).collect();
        columns.push((format!("column {at}"), Arc::new(values), true));
    }
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn schedule(seed: u64) -> Schedule {
    let (horizon_ms, interval_ms) = [(0, 0), (120, 25), (90, 0), (40, 1_000)][seed as usize % 4];
    let lengths = vec![
        WindowLength::Millis(100),
        WindowLength::Sliding { length_ms: 60, slide_ms: 20 },
        WindowLength::Millis(40),
    ];
    Schedule { lengths, revisions: Revisions { horizon_ms, interval_ms } }
}

fn modes() -> [Mode; 2] {
    let reference = Runs::from_values((0..90).map(|at| f64::from(at % 31) - 15.0).collect());
    let bins = Arc::new(Bins::new(&reference, 8));
    [Mode::Exact, Mode::Profile(vec![bins; COLUMNS])]
}

#[test]
fn moved_windows_are_issued_revised_and_final_as_if_they_had_stayed() {
    let (mut revised, mut too_late) = (0, 0);
    for seed in 1..=16 {
        for mode in modes() {
            let mut random = Random::new(seed);
            let mut stayed = Workers::new(schedule(seed), mode.clone());
            let mut moved = Workers::new(schedule(seed), mode);
            let mut watermark = 0;
            for epoch in 0..60 {
                let came: Vec<RecordBatch> = (0..3).map(|_| rows(&mut random, watermark)).collect();
                watermark += [0, 1, 9, 30][random.below(4) as usize];
                let (wanted, late) = stayed.epoch(&came, watermark);
                let (found, found_late) = moved.epoch(&came, watermark);
                let context = format!("seed {seed}, epoch {epoch}, watermark {watermark}");
                assert_eq!(found_late, late, "{context}");
                assert_eq!(found.len(), wanted.len(), "{context}");
                for (found, wanted) in found.iter().zip(&wanted) {
                    assert_eq!(found, wanted, "{context}");
                }
                revised += wanted.iter().filter(|window| window.revision > 0).count();
                too_late += late;
                if random.below(3) == 0 {
                    moved.go_on_with(1 + random.below(3) as usize);
                }
            }
        }
    }
    assert!(revised > 1_000 && too_late > 1_000, "{revised} {too_late}");
}

#[test]
fn windows_of_other_lengths_are_refused_and_none_is_moved_while_it_is_issued() {
    let mut workers = Workers::new(schedule(1), Mode::Exact);
    let mut random = Random::new(1);
    for epoch in 0..3 {
        workers.epoch(&[rows(&mut random, 100 + epoch * 30)], 100 + epoch * 30);
    }
    let pieces = workers.windows[0].export(&workers.columns, 0..256).unwrap();
    assert!(pieces.len() > COLUMNS, "samples and windows of {} groups", pieces.len());
    let other = Workers::new(schedule(2), Mode::Exact);
    let of_windows = pieces.iter().find(|piece| piece.part == "drift_issued").unwrap();
    let mut empty = Windows::new(schedule(2));
    let refused = empty.import(&other.columns, of_windows).unwrap_err();
    assert!(matches!(refused, StateError::OtherJob { .. }), "{refused}");
    let mut elsewhere = Windows::new(schedule(1));
    elsewhere.import(&workers.columns, of_windows).unwrap();
    workers.epoch(&[rows(&mut random, 400)], 1_000);
    let later = workers.windows[0].export(&workers.columns, 0..256).unwrap();
    // They are of different moments.
    let refused = later.iter().any(|piece| elsewhere.import(&workers.columns, piece).is_err());
    assert!(refused || later.is_empty());
    workers.windows[0].begin(2_000);
    let refused = workers.windows[0].export(&workers.columns, 0..256).unwrap_err();
    assert!(matches!(refused, StateError::WithinEpoch { .. }), "{refused}");
}
