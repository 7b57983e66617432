//! The account of a process as a piece of state, so that it balances over all runs that go on from each
//! other.
//!
//! What is pending is not in it: it is counted by whoever takes over the rows that wait. Nor are the times
//! that stages took, which are those of a run, nor the rows behind which others were late.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, StructArray, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, UInt32Type, UInt64Type};

use super::{Counters, LateForDrift};
use crate::dead_letter::Reason;
use crate::lateness::LateRows;
use crate::reasons::Reasons;
use crate::state::lists::{list, list_type, lists, numbers};
use crate::state::{Piece, PieceKind, StateError};

/// What the part is called.
pub const PART: &str = "account";

/// Columns of its one row, by position.
const READ: usize = 0;
const SKIPPED: usize = 1;
const PREDICTIONS: usize = 2;
const LATE: usize = 3;
const LATE_ROWS: usize = 4;
const BEHIND: usize = 5;
const LATE_FOR_DRIFT: usize = 6;
const BY_LENGTH: usize = 7;
const REACHED: usize = 8;
const FIRST: usize = 9;
const LAST: usize = 10;
const DEAD_LETTERS: usize = 11;
const TABLES: usize = 12;
const RULES: usize = 13;

fn letter_fields() -> Fields {
    Fields::from(vec![
        Field::new("reason", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("first_partition", DataType::UInt32, false),
        Field::new("first_offset", DataType::UInt64, false),
        Field::new("first_detail", DataType::Utf8, false),
    ])
}

fn rule_fields() -> Fields {
    Fields::from(vec![
        Field::new("rule", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
    ])
}

fn table_fields() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("rows_read", DataType::UInt64, false),
        Field::new("rows_late", DataType::UInt64, false),
        Field::new("behind_ms_most", DataType::Int64, false),
    ])
}

static KIND: LazyLock<PieceKind> = LazyLock::new(|| {
    let count = |name| Field::new(name, DataType::UInt64, false);
    let list = |name, item| Field::new(name, list_type(item, false), false);
    let schema = Schema::new(vec![
        count("read"),
        count("skipped"),
        count("predictions"),
        count("late"),
        count("late_rows"),
        Field::new("behind_ms_most", DataType::Int64, false),
        count("late_for_drift"),
        list("late_for_drift_by_length", DataType::UInt64),
        Field::new("event_time_reached", DataType::Int64, true),
        Field::new("first_event_time", DataType::Int64, true),
        Field::new("last_event_time", DataType::Int64, true),
        list("dead_letters", DataType::Struct(letter_fields())),
        list("tables", DataType::Struct(table_fields())),
        list("rules_failed", DataType::Struct(rule_fields())),
    ]);
    PieceKind::new(PART, Arc::new(schema), &[])
});

/// What has been counted, as of the end of a run.
///
/// # Errors
/// If it cannot be put into columns.
pub fn export(counters: &Counters) -> Result<Piece, StateError> {
    let account = counters.account();
    let (lateness, for_drift) = (counters.lateness().so_far(), counters.late_for_drift());
    let (letters, tables) = (counters.dead_letters(), tables(counters));
    let rules = rules(counters);
    let count = |count: u64| -> ArrayRef { Arc::new(UInt64Array::from(vec![count])) };
    let time = |time: Option<i64>| -> ArrayRef { Arc::new(Int64Array::from(vec![time])) };
    let by_length = UInt64Array::from(for_drift.by_length.clone());
    let columns = vec![
        count(account.read),
        count(account.skipped),
        count(account.predictions),
        count(counters.late()),
        count(lateness.rows),
        time(Some(lateness.behind_ms_most)),
        count(for_drift.rows),
        lists([by_length.len()], Arc::new(by_length), false)?,
        time(counters.highest_event_time()),
        time(counters.event_times().map(|span| span.first)),
        time(counters.event_times().map(|span| span.last)),
        lists([letters.by_rows().len()], Arc::new(letters_column(&letters)), false)?,
        lists([tables.len()], Arc::new(tables), false)?,
        lists([rules.len()], Arc::new(rules), false)?,
    ];
    KIND.piece(0, RecordBatch::try_new(KIND.schema().clone(), columns)?)
}

fn letters_column(letters: &Reasons) -> StructArray {
    let of = letters.by_rows();
    let first = || of.iter().map(|(_, of)| &of.first);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(of.iter().map(|(reason, _)| reason.name()))),
        Arc::new(UInt64Array::from_iter_values(of.iter().map(|(_, of)| of.rows))),
        Arc::new(UInt32Array::from_iter_values(first().map(|first| first.partition))),
        Arc::new(UInt64Array::from_iter_values(first().map(|first| first.offset))),
        Arc::new(StringArray::from_iter_values(first().map(|first| &first.detail))),
    ];
    StructArray::new(letter_fields(), columns, None)
}

fn tables(counters: &Counters) -> StructArray {
    let tables = counters.table_states();
    let states = || tables.iter().map(|(_, state)| state);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(tables.iter().map(|(name, _)| name))),
        Arc::new(UInt64Array::from_iter_values(states().map(|state| state.rows_read))),
        Arc::new(UInt64Array::from_iter_values(states().map(|state| state.rows_late))),
        Arc::new(Int64Array::from_iter_values(states().map(|state| state.behind_ms_most))),
    ];
    StructArray::new(table_fields(), columns, None)
}

fn rules(counters: &Counters) -> StructArray {
    let failed = counters.failed_rules();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(failed.keys())),
        Arc::new(UInt64Array::from_iter_values(failed.values().copied())),
    ];
    StructArray::new(rule_fields(), columns, None)
}

/// Adds what others have counted.
///
/// # Errors
/// If it is not an account.
pub fn import(counters: &Counters, piece: &Piece) -> Result<(), StateError> {
    let rows = KIND.open(piece)?;
    if rows.num_rows() != 1 {
        return Err(StateError::damaged("it is not one account"));
    }
    let count = |at: usize| rows.column(at).as_primitive::<UInt64Type>().value(0);
    let time = |at: usize| rows.column(at).as_primitive::<Int64Type>().iter().next().flatten();
    counters.rows_read(count(READ));
    counters.rows_skipped(count(SKIPPED));
    counters.predictions_durable(count(PREDICTIONS));
    counters.rows_late(count(LATE));
    let behind_ms_most = time(BEHIND).unwrap_or(0);
    counters.lateness().add(LateRows::of(count(LATE_ROWS), behind_ms_most));
    let by_length = numbers::<UInt64Type>(rows.column(BY_LENGTH), 0);
    counters.rows_late_for_drift(&LateForDrift {
        rows: count(LATE_FOR_DRIFT),
        by_length,
        ..LateForDrift::default()
    });
    time(REACHED).into_iter().for_each(|time| counters.event_time_reached(time));
    counters.event_times_there(time(FIRST).into_iter().chain(time(LAST)));
    counters.dead_letters_durable(&letters(&list(rows.column(DEAD_LETTERS), 0))?);
    let tables = list(rows.column(TABLES), 0);
    let tables = tables.as_struct();
    for (at, name) in tables.column(0).as_string::<i32>().iter().flatten().enumerate() {
        let count = |column: usize| tables.column(column).as_primitive::<UInt64Type>().value(at);
        let behind_ms = tables.column(3).as_primitive::<Int64Type>().value(at);
        counters.table_rows_read(name, count(1), count(2), behind_ms);
    }
    let failed = list(rows.column(RULES), 0);
    let failed = failed.as_struct();
    let names = failed.column(0).as_string::<i32>().iter().flatten();
    let rows = failed.column(1).as_primitive::<UInt64Type>().values();
    counters.rules_failed(names.zip(rows.iter().copied()));
    Ok(())
}

fn letters(column: &ArrayRef) -> Result<Reasons, StateError> {
    let letters = column.as_struct();
    let mut reasons = Reasons::default();
    for at in 0..letters.len() {
        let text = |column: usize| letters.column(column).as_string::<i32>().value(at);
        let count = |column: usize| letters.column(column).as_primitive::<UInt64Type>().value(at);
        let reason = Reason::named(text(0));
        let reason = reason.ok_or_else(|| StateError::damaged("a dead letter has no reason"))?;
        let partition = letters.column(2).as_primitive::<UInt32Type>().value(at);
        reasons.count(reason, count(1), (partition, count(3)), text(4));
    }
    Ok(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reasons::First;

    fn counted() -> Counters {
        let counters = Counters::default();
        counters.rows_read(100);
        counters.rows_skipped(7);
        counters.predictions_durable(60);
        counters.rows_held(30);
        counters.rows_late(5);
        counters.lateness().add(LateRows::of(9, 77));
        counters.rows_late_for_drift(&LateForDrift {
            rows: 2,
            by_length: vec![1, 2],
            ..LateForDrift::default()
        });
        counters.event_time_reached(-4);
        counters.event_times_there([-9, 30].into_iter());
        let mut letters = Reasons::default();
        let first =
            |partition, detail: &str| First { partition, offset: 5, detail: detail.to_owned() };
        letters.add(Reason::Late, first(2, "behind"));
        letters.add(Reason::Late, first(1, "far behind"));
        letters.add(Reason::ScoringFailed, first(0, ""));
        counters.dead_letters_durable(&letters);
        counters.table_rows_read("t", 10, 3, 44);
        counters.rules_failed([("x.min", 3), ("fits", 1), ("x.min", 2)].into_iter());
        counters
    }

    #[test]
    fn an_account_goes_on_where_it_was() {
        let before = counted();
        let piece = Piece::decode(&export(&before).unwrap().encode().unwrap()).unwrap();
        let after = Counters::default();
        import(&after, &piece).unwrap();
        // Who takes the rows over that wait counts them.
        assert_eq!(after.account().missing(), 30);
        after.rows_held(30);
        assert_eq!(after.account(), before.account());
        assert_eq!(after.account().missing(), 0);
        assert_eq!(after.dead_letters(), before.dead_letters());
        assert_eq!(after.late_for_drift(), before.late_for_drift());
        assert_eq!(after.lateness().so_far(), before.lateness().so_far());
        assert_eq!(after.table_states(), before.table_states());
        assert_eq!(after.failed_rules(), [("fits".to_owned(), 1), ("x.min".to_owned(), 5)].into());
        assert_eq!(after.event_times(), before.event_times());
        assert_eq!((after.late(), after.highest_event_time()), (5, Some(-4)));
    }

    /// As those of several processes do.
    #[test]
    fn accounts_add_up() {
        let (one, all) = (counted(), Counters::default());
        for _ in 0..2 {
            import(&all, &export(&one).unwrap()).unwrap();
        }
        assert_eq!((all.account().read, all.account().dead_letters), (200, 6));
        assert_eq!(all.dead_letters().rows_of(Reason::Late), 4);
        let none = Counters::default();
        import(&none, &export(&Counters::default()).unwrap()).unwrap();
        assert_eq!((none.account(), none.event_times()), (Default::default(), None));
    }
}
