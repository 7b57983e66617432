//! Which rows are kept, and what is said of the others.

use arrow::array::{RecordBatch, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{Field, Schema};

use super::*;
use crate::accounting::Account;
use crate::layout::CameAs;
use crate::watermark::{EVENTS, Reached, Span};

fn admission(late: LatePolicy, from: i64, to: i64) -> Admission {
    let event =
        Schema::new(vec![Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true)]);
    Admission {
        layout: EventLayout::new(&event, None, None, CameAs::Columns),
        time_column: 0,
        filter: None,
        allowed_lateness_ms: 10,
        late,
        late_horizon_ms: Some(100),
        future_horizon: None,
        warm_up: WarmUp::before(from),
        to,
        warm_up_from: from.saturating_sub(20),
        partition_names: ["p".to_owned()].into(),
        counters: Counters::default(),
        settled: Settled::default(),
    }
}

fn chunk(times: &[Option<i64>], first: u64, highest_before: i64) -> Chunk {
    let column: ArrayRef = Arc::new(TimestampMillisecondArray::from(times.to_vec()));
    let rows = RecordBatch::try_from_iter_with_nullable([("t", column, true)]).unwrap();
    let offsets = UInt64Array::from_iter_values(first..first + times.len() as u64);
    Chunk { highest_before, ..Chunk::new(1, EVENTS, 0, rows, offsets) }
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The rule, taken literally: a row is late when its time is below the highest time of the rows
/// before it, less the allowed lateness.
#[test]
fn late_rows_are_those_of_the_rule_whatever_the_chunks() {
    for seed in 1..40u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let times: Vec<Option<i64>> = (0..200)
            .map(|i| {
                let jitter = (xorshift(&mut state) % 60) as i64;
                (xorshift(&mut state) % 20 >= 1).then_some(i * 3 - jitter)
            })
            .collect();
        let expected: Vec<bool> = (0..times.len())
            .filter_map(|row| {
                let before = times[..row].iter().flatten().max();
                let time = times[row]?;
                Some(before.is_some_and(|&highest| time < highest - 10))
            })
            .collect();
        let admission = admission(LatePolicy::Score, i64::MIN, i64::MAX);
        let (mut found, mut highest, mut at) = (Vec::new(), i64::MIN, 0);
        while at < times.len() {
            let length = (1 + xorshift(&mut state) as usize % 50).min(times.len() - at);
            let admitted = admission
                .admit(chunk(&times[at..at + length], at as u64, highest), i64::MIN, Duration::ZERO)
                .unwrap();
            found.extend(admission.layout.late(&admitted.rows).iter().flatten());
            let Reached::Time(time) = admitted.marks[0].reached else { panic!() };
            highest = time;
            at += length;
        }
        assert_eq!(found, expected, "seed {seed}");
        let missing = times.iter().filter(|time| time.is_none()).count() as u64;
        let account = admission.counters.account();
        assert_eq!(account, Account { read: 200, ..Account::default() }, "seed {seed}");
        assert_eq!(found.len() as u64 + missing, 200, "seed {seed}");
    }
}

#[test]
fn late_rows_go_where_the_job_says() {
    let times = [Some(1_000), Some(995), Some(980), Some(800), None];
    let admit = |late| {
        let admission = admission(late, i64::MIN, i64::MAX);
        let admitted =
            admission.admit(chunk(&times, 0, i64::MIN), i64::MIN, Duration::ZERO).unwrap();
        let reasons = admitted.dead_letters.column(2).as_string::<i32>().iter().flatten();
        let reasons: Vec<String> = reasons.map(str::to_owned).collect();
        let account = admission.counters.account();
        (admitted.rows.num_rows(), reasons, account.skipped)
    };
    let lost = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(admit(LatePolicy::Score), (3, lost(&["too_late", "no_event_time"]), 0));
    assert_eq!(admit(LatePolicy::DeadLetter), (2, lost(&["late", "too_late", "no_event_time"]), 0));
    assert_eq!(admit(LatePolicy::Skip), (2, lost(&["too_late", "no_event_time"]), 1));
}

#[test]
fn a_row_at_the_horizon_is_not_beyond_it() {
    let admission = admission(LatePolicy::Score, i64::MIN, i64::MAX);
    let times = [Some(1_000), Some(900), Some(899)];
    let admitted = admission.admit(chunk(&times, 0, i64::MIN), i64::MIN, Duration::ZERO).unwrap();
    assert_eq!(admission.layout.times(&admitted.rows).values(), &[1_000, 900]);
    assert_eq!(admitted.dead_letters.num_rows(), 1);
}

#[test]
fn after_idleness_rows_that_the_watermark_has_passed_are_late() {
    let admission = admission(LatePolicy::Score, i64::MIN, i64::MAX);
    let times = [Some(499), Some(500), Some(409), Some(505), Some(489)];
    let admitted = admission.admit(chunk(&times, 0, 100), 500, Duration::ZERO).unwrap();
    let late: Vec<bool> = admission.layout.late(&admitted.rows).iter().flatten().collect();
    // The third is more than 100 ms behind: as if the partition had come to 510.
    assert_eq!(late, [true, false, false, true]);
    assert_eq!(admitted.dead_letters.num_rows(), 1);
    assert_eq!(admitted.marks[0].reached, Reached::Time(505));
}

#[test]
fn rows_outside_are_as_if_never_read_and_warm_up_is_not_counted() {
    let admission = admission(LatePolicy::Score, 100, 200);
    let times = [Some(70), Some(85), Some(100), Some(199), Some(200), None];
    let admitted = admission.admit(chunk(&times, 0, i64::MIN), i64::MIN, Duration::ZERO).unwrap();
    assert_eq!(admission.layout.times(&admitted.rows).values(), &[85, 100, 199]);
    assert_eq!(admission.counters.account().read, 2);
    assert_eq!(admitted.dead_letters.num_rows(), 0);
    assert_eq!(admitted.marks[0].reached, Reached::Time(200));
    // What is passed over says how far the events reach.
    assert_eq!(admitted.marks[1].reached, Reached::From(70));
    assert_eq!(admission.counters.event_times(), Some(Span { first: 70, last: 200 }));
}

#[test]
fn where_events_begin_is_said_again_only_for_rows_below_those_before() {
    let admission = admission(LatePolicy::Score, i64::MIN, i64::MAX);
    let lowest = |times: &[Option<i64>], before: i64| {
        let admitted = admission.admit(chunk(times, 0, before), i64::MIN, Duration::ZERO);
        let marks = admitted.unwrap().marks.into_iter().map(|mark| mark.reached);
        marks.filter(|reached| matches!(reached, Reached::From(_))).collect::<Vec<_>>()
    };
    assert_eq!(lowest(&[Some(505), None, Some(500)], i64::MIN), [Reached::From(500)]);
    assert_eq!(lowest(&[Some(600), Some(601)], 600), []);
    assert_eq!(lowest(&[Some(650), Some(595)], 600), [Reached::From(595)]);
    // One that is too late for anything is no beginning.
    assert_eq!(lowest(&[Some(20)], 600), []);
    assert_eq!(lowest(&[None], i64::MIN), []);
}

#[test]
fn times_of_every_unit_are_milliseconds_rounded_down() {
    use arrow::array::{TimestampMicrosecondArray, TimestampNanosecondArray};
    let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_999, -1]));
    assert_eq!(event_times(&micros).unwrap().values(), &[1, -1]);
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_999_999, -1]));
    assert_eq!(event_times(&nanos).unwrap().values(), &[1, -1]);
    let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["1970-01-01T00:00:01Z"]));
    assert_eq!(event_times(&text).unwrap().values(), &[1_000]);
    let float: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![1.0]));
    assert!(event_times(&float).is_err());
}

#[test]
fn rows_of_the_future_are_dead_letters_and_make_nothing_late() {
    let times = [Some(5), Some(60), Some(500), Some(61), None, Some(600), Some(111)];
    let mut admission = admission(LatePolicy::Score, i64::MIN, i64::MAX);
    let admit = |admission: &Admission, sent: Option<Vec<Option<i64>>>| {
        let chunk = Chunk { sent: sent.map(Int64Array::from), ..chunk(&times, 0, i64::MIN) };
        let admitted = admission.admit(chunk, i64::MIN, Duration::ZERO).unwrap();
        let reasons = admitted.dead_letters.column_by_name("reason").unwrap();
        let reasons: Vec<String> =
            reasons.as_string::<i32>().iter().map(|r| r.unwrap().to_owned()).collect();
        let highest = match admitted.marks[0].reached {
            Reached::Time(time) => time,
            other => panic!("{other:?}"),
        };
        (admitted.rows.num_rows(), reasons, highest, admission.counters.late())
    };
    let sent = vec![Some(10), Some(10), Some(10), Some(10), Some(10), None, Some(10)];
    // Without a horizon one row makes others too late.
    let (rows, reasons, highest, _) = admit(&admission, Some(sent.clone()));
    assert_eq!((rows, highest), (4, 600));
    assert_eq!(reasons, ["too_late", "no_event_time", "too_late"]);
    admission.future_horizon = Some(FutureHorizon { horizon_ms: 100, sent_column: None });
    let sent = vec![Some(10), Some(10), Some(10), Some(10), Some(10), Some(10), Some(10)];
    let (rows, reasons, highest, late) = admit(&admission, Some(sent));
    assert_eq!((rows, highest, late), (3, 61, 0));
    assert_eq!(reasons, ["too_early", "no_event_time", "too_early", "too_early"]);
    // What has no time of its own is not judged.
    let (rows, _, highest, _) = admit(&admission, None);
    assert_eq!((rows, highest), (4, 600));
}
