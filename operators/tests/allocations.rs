//! What a batch costs in allocations, whatever its rows: none for what nearly never is, and few for
//! what always is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use driftline_operators::accounting::Counters;
use driftline_operators::alert::AlertRules;
use driftline_operators::dead_letter::DeadLetters;
use driftline_operators::layout::{CameAs, EventLayout, Published};
use driftline_operators::model::{ModelIdentity, Task};
use driftline_operators::numbers::Numbers;
use driftline_operators::partition_names::PartitionNames;
use driftline_operators::prediction::{PredictionFormat, ScoredColumns};
use driftline_operators::warm_up::WarmUp;
use driftline_operators::watched::Watched;

/// The system's allocator, and how often it was asked by each thread, and for how many bytes.
struct Counting;

thread_local! {
    static ASKED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn note(bytes: usize) {
    // A thread that ends has nothing to count any more.
    let _ = ASKED.try_with(|asked| asked.set((asked.get().0 + 1, asked.get().1 + bytes)));
}

// SAFETY: all is done by the system's allocator; what is counted allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often and for how many bytes `work` asks the allocator, the third time it is done.
fn asked<T>(mut work: impl FnMut() -> T) -> (usize, usize) {
    let mut counted = (0, 0);
    for _ in 0..3 {
        let before = ASKED.get();
        let done = work();
        let after = ASKED.get();
        drop(done);
        counted = (after.0 - before.0, after.1 - before.1);
    }
    counted
}

fn identity() -> ModelIdentity {
    ModelIdentity { name: "m".to_owned(), version: "3".to_owned() }
}

fn layout() -> EventLayout {
    let own = Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("key", DataType::Int64, true),
    ]);
    EventLayout::new(&own, Some(0), Some(1), CameAs::Columns)
}

fn format(with_run_columns: bool) -> PredictionFormat {
    PredictionFormat::new(layout(), identity(), Default::default(), false, with_run_columns)
}

fn events(rows: usize) -> RecordBatch {
    let numbers = || Int64Array::from_iter_values(0..rows as i64);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("e{row}")))),
        Arc::new(numbers()),
        Arc::new(numbers()),
        Arc::new(BooleanArray::from(vec![false; rows])),
        Arc::new(UInt32Array::from(vec![0; rows])),
        Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
        Arc::new(numbers()),
    ];
    RecordBatch::try_new(layout().schema, columns).unwrap()
}

fn scored(rows: usize) -> ScoredColumns {
    let mut columns = ScoredColumns::new(2, false);
    columns.predictions = Numbers::Floats(vec![0.5; 2 * rows]);
    columns.run_batch_rows = vec![rows as u32; rows];
    columns.run_inference_ms = vec![0.25; rows];
    columns
}

#[test]
fn no_letters_cost_no_more_than_a_batch_without_rows() {
    let names = PartitionNames::from(["p".to_owned()]);
    let (times, _) = asked(|| DeadLetters::new(names.clone()).finish());
    assert!(times <= 1, "{times}");
    let (times, _) = asked(|| DeadLetters::new(names.clone()).finish_some());
    assert_eq!(times, 0);
}

#[test]
fn no_alerts_cost_nothing() {
    let rows = 1_024;
    let (events, mut format) = (events(rows), format(false));
    let predictions = format.batch(&events, scored(rows), Task::Binary, 0, None).unwrap();
    let columns = (0..Watched::FIRST).map(|at| (format!("{at}"), events.column(1).clone()));
    let x: ArrayRef = Arc::new(Float64Array::from(vec![1.0; rows]));
    let columns = columns.chain([("x".to_owned(), x)]);
    let watched = RecordBatch::try_from_iter(columns).unwrap();
    let model = identity();
    let mut rules = AlertRules {
        score_over: Some(0.9),
        z_over: 3.0,
        ks_p_under: 0.05,
        columns: vec![("x".to_owned(), Some((0.0, 1.0)))],
        versions: None,
    };
    assert_eq!(asked(|| rules.of_rows((&model, 0), &predictions, &watched).unwrap()).0, 0);
    // What is counted can be seen.
    rules.z_over = 0.5;
    assert!(asked(|| rules.of_rows((&model, 0), &predictions, &watched).unwrap()).0 > 0);
}

/// Allocations that a batch of predictions takes, beside what scoring has made.
fn of_predictions(format: &mut PredictionFormat, rows: usize) -> (usize, usize) {
    let events = events(rows);
    let (made, found) = (
        asked(|| scored(rows)),
        asked(|| format.batch(&events, scored(rows), Task::Binary, 0, None).unwrap()),
    );
    (found.0 - made.0, found.1 - made.1)
}

#[test]
fn a_batch_of_predictions_takes_few_allocations_whatever_its_rows() {
    for (with_run_columns, most) in [(false, 14), (true, 20)] {
        let mut format = format(with_run_columns);
        let of = [1, 1_024].map(|rows| of_predictions(&mut format, rows));
        println!("predictions, run columns {with_run_columns}: {of:?}");
        assert!(of[0].0 <= most && of[0].0 == of[1].0, "{of:?}");
    }
}

/// Ids that are no texts are written at one place after the other.
#[test]
fn ids_of_origins_take_no_allocation_each() {
    let own = Schema::new(vec![Field::new("key", DataType::Int64, true)]);
    let layout = EventLayout::new(&own, None, Some(0), CameAs::Columns);
    let mut format =
        PredictionFormat::new(layout.clone(), identity(), Default::default(), false, false);
    let of = [64, 1_024].map(|rows| {
        let columns = events(rows).columns()[1..].to_vec();
        let events = RecordBatch::try_new(layout.schema.clone(), columns).unwrap();
        asked(|| format.batch(&events, scored(rows), Task::Binary, 0, None).unwrap()).0
    });
    assert_eq!(of[0], of[1]);
}

#[test]
fn what_is_published_takes_its_columns_and_nothing_else() {
    let predictions = format(false).batch(&events(1), scored(1), Task::Binary, 0, None).unwrap();
    let mut published = Published::default();
    assert_eq!(asked(|| published.of(&predictions)).0, 1);
    assert!(asked(|| Published::default().of(&predictions)).0 > 1);
}

#[test]
fn rows_behind_the_warm_up_are_looked_at_without_a_mask() {
    let (layout, batch) = (layout(), events(1_024));
    for (firsts, masks) in [(vec![0], 0), (vec![0, 2_000], 0), (vec![5], 1)] {
        let warm_up = WarmUp { first_offsets: firsts.into(), ..WarmUp::none() };
        let (times, _) = asked(|| warm_up.counted(&batch, &layout));
        assert_eq!(times > 0, masks > 0, "{times}");
    }
}

#[test]
fn handles_of_counters_tell_without_allocations() {
    let counters = Counters::default();
    let (batches, windows) =
        (counters.batch_gauge(&identity(), 0), counters.windows_gauge("key", 0));
    let table = counters.table_gauge("t", 0);
    let told = asked(|| {
        batches.scored(1_024, Duration::from_millis(1), Duration::from_micros(700));
        windows.held(10, 100);
        windows.forgotten(1);
        table.held(5);
        counters.table_rows_read("t", 1, 0, 0);
        counters.event_time_reached(7);
        counters.rows_held(-3);
    });
    assert_eq!(told.0, 0);
}
