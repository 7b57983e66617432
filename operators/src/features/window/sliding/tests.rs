use super::*;
use crate::features::window::naive::{Random, Row, assert_same, naive};
use crate::features::window::{Aggregate, OwnAggregate, Place};

/// One window of one key, and the key's rows.
struct SlidingWindow {
    spec: WindowSpec,
    rows: KeyRows,
    window: [Window; 1],
}

impl SlidingWindow {
    fn new(spec: WindowSpec) -> Self {
        SlidingWindow { spec, rows: KeyRows::default(), window: [Window::new(&spec)] }
    }

    fn add(&mut self, time: i64, place: Place, value: Option<f64>) -> Option<f64> {
        let SlidingWindow { spec, rows, window: [window] } = self;
        let up_to = rows.up_to(time, Some(place));
        let read = window.read(spec, rows, (time, up_to), value);
        let is_last = up_to == rows.len();
        rows.insert(up_to, time, Some(place));
        let answer = if is_last {
            let pushed = window.push(spec, rows, value);
            assert_eq!(pushed.map(f64::to_bits), read.map(f64::to_bits), "{spec:?}: {time}");
            pushed
        } else {
            window.insert(spec, rows, up_to, value);
            read
        };
        self.rows.forget(&self.window);
        answer
    }

    fn read(&self, time: i64, place: Place, value: Option<f64>) -> Option<f64> {
        let SlidingWindow { spec, rows, window: [window] } = self;
        window.read(spec, rows, (time, rows.up_to(time, Some(place))), value)
    }

    fn rows(&self) -> usize {
        self.window[0].held()
    }
}

const AT: Place = Place::Number(0);

const AGGREGATES: [Aggregate; 7] = [
    Aggregate::Count,
    Aggregate::Sum,
    Aggregate::Mean,
    Aggregate::Min,
    Aggregate::Max,
    Aggregate::Std,
    Aggregate::TimeSinceLast,
];

/// Depends on which rows are inside, on their times and on their order.
fn own() -> Aggregate {
    Aggregate::Own(OwnAggregate::new("weighted", |rows: &mut dyn Iterator<Item = (i64, f64)>| {
        let of_row = |sum: f64, (time, value): (i64, f64)| sum / 2.0 + value * time as f64;
        let first = rows.next()?;
        Some(rows.fold(of_row(0.0, first), of_row))
    }))
}

fn spec(aggregate: Aggregate) -> WindowSpec {
    WindowSpec { aggregate, length_ms: 10, history_ms: 100 }
}

fn apply(window: &mut SlidingWindow, row: &Row) -> Option<f64> {
    if row.late {
        window.read(row.time, row.place(), row.value)
    } else {
        window.add(row.time, row.place(), row.value)
    }
}

/// Rows in disorder by up to the history, with ties of time, a few late ones and a few gaps.
fn random_rows(random: &mut Random, rows: i64, history_ms: i64) -> Vec<Row> {
    let mut newest = i64::MIN;
    let mut clock = 0;
    (0..rows)
        .map(|id| {
            clock += [0, 0, 1, 1, 3, 60][random.below(6) as usize] * random.below(2) as i64;
            let behind = random.below(4) == 0 && id > 0;
            let time = if behind {
                newest - random.below(history_ms as u64 + 1) as i64
            } else {
                newest.max(clock)
            };
            let late = behind && random.below(2) == 0;
            newest = newest.max(time);
            let place = random.below(1000) as i64 * rows + id;
            Row { time, place, late, value: random.value() }
        })
        .collect()
}

#[test]
fn equals_the_definition_in_any_order() {
    for seed in 1..=40 {
        let mut random = Random::new(seed);
        let history_ms = [0, 7, 40, 200][seed as usize % 4];
        let rows = random_rows(&mut random, 400, history_ms);
        for aggregate in AGGREGATES.into_iter().chain([own()]) {
            let spec =
                WindowSpec { aggregate, length_ms: [1, 12, 50][seed as usize % 3], history_ms };
            let mut window = SlidingWindow::new(spec);
            for (i, row) in rows.iter().enumerate() {
                let expected = naive(spec, &rows[..i], row);
                let found = apply(&mut window, row);
                assert_same(aggregate, found, expected, &format!("seed {seed}, row {i}: {row:?}"));
            }
        }
    }
}

#[test]
fn the_order_of_arrival_leaves_no_trace() {
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let mut rows: Vec<(i64, f64)> =
            (0..40).map(|i| (i / 2, 1.0 + random.below(1 << 52) as f64 / 2f64.powi(52))).collect();
        for aggregate in AGGREGATES {
            let mut seen = Vec::new();
            for _ in 0..5 {
                let mut window = SlidingWindow::new(spec(aggregate));
                window.add(-1, AT, Some(1e100));
                for &(time, value) in &rows {
                    window.add(time, Place::Number((value * 1e15) as i64), Some(value));
                }
                let last = window.read(19, Place::Number(i64::MAX), None);
                assert_eq!(window.add(19, Place::Number(i64::MAX), None), last, "seed {seed}");
                seen.push(last.map(f64::to_bits));
                random.shuffle(&mut rows);
            }
            seen.dedup();
            assert_eq!(seen.len(), 1, "seed {seed}, {aggregate:?}");
        }
    }
}

#[test]
fn the_start_is_outside_and_the_end_inside() {
    let mut window = SlidingWindow::new(spec(Aggregate::Sum));
    assert_eq!(window.add(0, AT, Some(1.0)), Some(1.0));
    assert_eq!(window.add(9, AT, Some(2.0)), Some(3.0));
    assert_eq!(window.add(10, AT, Some(4.0)), Some(6.0));
    assert_eq!(window.add(10, AT, None), Some(6.0));
    assert_eq!(window.add(30, AT, Some(f64::NAN)), None);
}

#[test]
fn a_sum_is_not_disturbed_by_what_has_left() {
    let mut window = SlidingWindow::new(spec(Aggregate::Mean));
    window.add(0, AT, Some(1e100));
    window.add(1, AT, Some(0.1));
    assert_eq!(window.add(10, AT, Some(0.2)), Some((0.1 + 0.2) / 2.0));
}

#[test]
fn a_late_row_reads_at_its_own_time_and_leaves_no_trace() {
    let mut window = SlidingWindow::new(spec(Aggregate::Sum));
    for (time, value) in [(0, 1.0), (5, 2.0), (20, 4.0)] {
        window.add(time, AT, Some(value));
    }
    assert_eq!(window.read(6, AT, Some(8.0)), Some(11.0));
    assert_eq!(window.read(12, AT, None), Some(2.0));
    assert_eq!(window.add(21, AT, Some(1.0)), Some(5.0));
}

#[test]
fn a_row_out_of_order_counts_for_those_after_it() {
    let mut window = SlidingWindow::new(spec(Aggregate::Sum));
    window.add(0, AT, Some(1.0));
    window.add(20, AT, Some(4.0));
    assert_eq!(window.add(15, AT, Some(2.0)), Some(2.0));
    assert_eq!(window.add(5, AT, Some(8.0)), Some(9.0));
    assert_eq!(window.add(21, AT, Some(1.0)), Some(7.0));
    assert_eq!(window.add(25, AT, Some(0.0)), Some(5.0));
}

#[test]
fn a_late_row_sees_of_its_own_time_only_what_comes_before_it() {
    let mut window = SlidingWindow::new(spec(Aggregate::Sum));
    for (place, value) in [(2, 1.0), (4, 2.0)] {
        window.add(0, Place::Number(place), Some(value));
    }
    assert_eq!(window.read(0, Place::Number(1), Some(8.0)), Some(8.0));
    assert_eq!(window.read(0, Place::Number(3), Some(8.0)), Some(9.0));
    assert_eq!(window.read(0, Place::Number(5), Some(8.0)), Some(11.0));
}

#[test]
fn rows_of_one_time_are_kept_in_order_of_place() {
    let mut window = SlidingWindow::new(spec(Aggregate::Sum));
    window.add(5, AT, Some(0.0));
    for (place, value) in [(4, 2.0), (2, 1.0), (3, 4.0)] {
        window.add(0, Place::Number(place), Some(value));
    }
    assert_eq!(window.read(0, Place::Number(2), None), Some(1.0));
    assert_eq!(window.read(0, Place::Number(3), None), Some(5.0));
    assert_eq!(window.read(0, Place::Number(9), None), Some(7.0));
}

#[test]
fn rows_without_an_id_come_first() {
    let mut window = SlidingWindow::new(spec(Aggregate::Count));
    window.add(0, Place::Origin(3, 9), Some(1.0));
    assert_eq!(window.add(0, Place::Number(i64::MIN), Some(1.0)), Some(2.0));
    assert_eq!(window.add(0, Place::Origin(3, 8), Some(1.0)), Some(1.0));
}

#[test]
fn the_time_since_the_last_row_asks_for_no_value() {
    let mut window = SlidingWindow::new(spec(Aggregate::TimeSinceLast));
    let at = Place::Number;
    assert_eq!(window.add(0, at(5), None), None);
    assert_eq!(window.add(0, at(6), Some(f64::NAN)), Some(0.0));
    assert_eq!(window.add(9, at(0), None), Some(9.0));
    assert_eq!(window.add(19, at(0), None), None, "the start is outside");
    assert_eq!(window.read(19, at(-1), None), None, "a place before the only one");
    assert_eq!(window.read(15, at(0), None), Some(6.0));
    assert_eq!(window.add(0, at(4), None), None);
    assert_eq!(window.read(0, at(5), None), Some(0.0));
}

#[test]
fn rows_at_both_ends_of_time_are_alone() {
    for aggregate in AGGREGATES {
        let spec = WindowSpec { aggregate, length_ms: 10, history_ms: i64::MAX };
        let mut window = SlidingWindow::new(spec);
        let alone = naive(spec, &[], &Row { time: 0, place: 0, late: false, value: Some(1.0) });
        for time in [i64::MIN, i64::MAX] {
            assert_eq!(window.add(time, AT, Some(1.0)), alone, "{aggregate:?}");
        }
    }
}

#[test]
fn history_is_dropped_in_the_end() {
    let held = |aggregate, history_ms| {
        let mut window = SlidingWindow::new(WindowSpec { aggregate, length_ms: 10, history_ms });
        for time in 0..1000 {
            window.add(time, AT, Some(1.0));
        }
        window.rows()
    };
    assert_eq!(held(Aggregate::Count, 100), 110);
    assert_eq!(held(Aggregate::Max, 0), 10);
    assert_eq!(held(Aggregate::TimeSinceLast, 100), 102);
    assert_eq!(held(Aggregate::TimeSinceLast, 0), 2);
}
