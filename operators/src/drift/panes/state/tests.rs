use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};

use super::*;
use crate::drift::calendar::WindowLength;
use crate::drift::runs::Runs;
use crate::drift::sample::Mode;
use crate::drift::windows::{Revisions, Schedule};
use crate::watched::Seen;

fn schedule() -> Schedule {
    let revisions = Revisions { horizon_ms: 50, interval_ms: 0 };
    Schedule { lengths: vec![WindowLength::Millis(10)], revisions }
}

fn panes() -> OpenPanes {
    OpenPanes::new(schedule(), Mode::Exact, 1)
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

fn partial(pane_start: i64, null_count: u64, values: &[f64]) -> Partial {
    let sample = Sample::Exact(Runs::from_values(values.to_vec()));
    Partial { pane_start, column: 0, null_count, sample }
}

/// What has been sent stays sent; what has not is sent once, with what comes after the move.
#[test]
fn only_what_has_not_been_sent_moves() {
    let columns = DriftColumns::new(&["value".to_owned()], &Mode::Exact, &schedule());
    let (mut one, mut other) = (panes(), panes());
    one.add(&Seen::of(rows(&[(3, Some(1.0)), (12, None), (14, Some(2.0))]), 0));
    other.add(&Seen::of(rows(&[(15, Some(2.0)), (22, Some(9.0))]), 0));
    assert_eq!(one.close(10), [partial(0, 0, &[1.0])]);
    assert_eq!(other.close(10), []);
    let before = [&mut one, &mut other].map(|panes| panes.export(&columns, 7).unwrap().unwrap());
    // It is there still.
    assert_eq!(one.export(&columns, 7).unwrap().as_ref(), Some(&before[0]));
    let mut moved = panes();
    moved.resume(10);
    for piece in &before {
        let piece = Piece::decode(&piece.encode().unwrap()).unwrap();
        moved.import(&columns, &piece).unwrap();
    }
    moved.add(&Seen::of(rows(&[(4, Some(5.0)), (13, Some(3.0))]), 0));
    let sent = [partial(0, 0, &[5.0]), partial(10, 1, &[2.0, 2.0, 3.0])];
    assert_eq!(moved.close(20), sent);
    assert_eq!(moved.close(i64::MAX), [partial(20, 0, &[9.0])]);
    assert_eq!(moved.export(&columns, 7).unwrap(), None);
}

#[test]
fn panes_of_other_columns_are_refused() {
    let columns = |name: &str| DriftColumns::new(&[name.to_owned()], &Mode::Exact, &schedule());
    let mut panes = panes();
    panes.add(&Seen::of(rows(&[(3, Some(1.0))]), 0));
    let piece = panes.export(&columns("value"), 0).unwrap().unwrap();
    let refused = panes.import(&columns("other"), &piece).unwrap_err();
    assert!(matches!(refused, StateError::OtherJob { .. }), "{refused}");
}
