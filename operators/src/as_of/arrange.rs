//! Rows of a table become a differential arrangement of versions, at the owners of their keys.

use std::collections::VecDeque;
use std::rc::Rc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use differential_dataflow::operators::arrange::{Arranged, TraceAgent, arrangement::arrange_core};
use differential_dataflow::trace::implementations::{ValBatcher, ValSpine};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::Operator;
use timely::dataflow::{Stream, StreamVec};

use super::table::{AsOfTable, DELETED, KEY, OFFSET, PARTITION, SEQUENCE, TIME, VALUES};
use super::versions::{Key, Version, Versions};
use crate::exchange::{Route, RowDistributor};
use crate::rows::Rows;
use crate::run::Run;
use crate::watermark::{BatchesByEpoch, CompleteEpochs, Mark, Watermarks};

/// Versions by key; the times are epochs.
pub type TableTrace = TraceAgent<ValSpine<Key, Version, u64, isize>>;
pub type ArrangedTable<'scope> = Arranged<'scope, TableTrace>;

type Updates = Vec<((Key, Version), u64, isize)>;

/// How long versions are kept that are superseded by the watermark of the job.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// How far behind the watermark (ms) a row may still look up.
    pub history_ms: i64,
    /// How many epochs a lookup may lag behind the watermark.
    pub epochs: usize,
}

/// Arranges the versions in `rows` by key. An epoch's versions are there, and those it supersedes
/// are gone, once the epoch is complete; what a lookup of the same epoch may find stays.
pub fn arrange_table<'scope>(
    rows: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    table: &AsOfTable,
    retention: Retention,
    watermarks: Watermarks,
    run: &Run,
) -> ArrangedTable<'scope> {
    let changes = changes(rows, marks, table, retention, watermarks, run);
    let name = format!("Arrange({})", table.name);
    arrange_core(changes, Pipeline, &name, |logger, operator| {
        ValBatcher::<Key, Version, u64, isize>::new(logger, operator)
    })
}

fn changes<'scope>(
    rows: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    table: &AsOfTable,
    retention: Retention,
    watermarks: Watermarks,
    run: &Run,
) -> StreamVec<'scope, u64, ((Key, Version), u64, isize)> {
    let Run { counters, failure, .. } = run.clone();
    let worker = rows.scope().index();
    let schema = table.schema();
    let route = Route::KeyGroup { key: KEY, partition: PARTITION, offset: OFFSET };
    let pact = {
        let (schema, failure) = (schema.clone(), failure.clone());
        DistributorPact(move |peers| RowDistributor::new(route, schema, failure, peers))
    };
    let name = format!("Versions({})", table.name);
    let table = table.clone();
    rows.binary_frontier::<_, CapacityContainerBuilder<Updates>, _, _, _, _>(
        marks,
        pact,
        Pipeline,
        &name,
        move |_capability, _info| {
            let mut epochs = BatchesByEpoch::new(CompleteEpochs::new(watermarks));
            let mut versions = Versions::new(table.max_age_ms);
            // Watermarks of epochs whose rows may still be looked up, oldest first.
            let mut passed = VecDeque::from(vec![i64::MIN; retention.epochs + 1]);
            let converter = failure.check(value_rows(&table));
            move |(rows, row_frontier), (marks, mark_frontier), output| {
                rows.for_each(|capability, container| {
                    let Some(&epoch) = capability.least() else { return };
                    if let Some(batch) = failure.check(container.take(&schema)) {
                        epochs.hold(epoch, batch);
                    }
                });
                epochs.read(marks, output.output_index());
                let Some(converter) = &converter else { return };
                while let Some((capability, batches)) = epochs.next([row_frontier, mark_frontier]) {
                    let epoch = *capability.time();
                    let mut changes = Vec::new();
                    // 1. What no row of this or a later epoch can look up goes.
                    let lowest = passed.pop_front().unwrap_or(i64::MIN);
                    passed.push_back(epochs.watermarks().of_job());
                    versions.forget(lowest.saturating_sub(retention.history_ms), &mut changes);
                    // 2. The epoch's own versions come.
                    for batch in batches {
                        let rows = failure.check(decode(&batch, converter));
                        for (key, version) in rows.into_iter().flatten() {
                            versions.insert(key, version, &mut changes);
                        }
                    }
                    counters.versions_held(&table.name, worker, versions.held() as u64);
                    if !changes.is_empty() {
                        let updates = changes.into_iter().map(|(what, diff)| (what, epoch, diff));
                        output.session(&capability).give_iterator(updates);
                    }
                }
            }
        },
    )
}

/// The converter between the values of a table and their row format.
///
/// # Errors
/// If a column is of a type that has no row format.
pub fn value_rows(table: &AsOfTable) -> Result<RowConverter, ArrowError> {
    let fields = table.values.iter().map(|field| SortField::new(field.data_type().clone()));
    RowConverter::new(fields.collect())
}

fn decode(
    batch: &RecordBatch,
    converter: &RowConverter,
) -> Result<Vec<(Key, Version)>, ArrowError> {
    let times = batch.column(TIME).as_primitive::<Int64Type>();
    let sequences = batch.column(SEQUENCE).as_primitive::<Int64Type>();
    let deleted = batch.column(DELETED).as_boolean();
    let partitions = batch.column(PARTITION).as_primitive::<UInt32Type>();
    let offsets = batch.column(OFFSET).as_primitive::<UInt64Type>();
    let rows = converter.convert_columns(&batch.columns()[VALUES..])?;
    let key = keys(batch.column(KEY))?;
    let decoded = (0..batch.num_rows()).filter_map(|row| {
        let values = (!deleted.value(row)).then(|| Rc::from(rows.row(row).as_ref()));
        let sequence = (sequences.value(row), partitions.value(row), offsets.value(row));
        Some((key(row)?, Version { valid_from: times.value(row), sequence, values }))
    });
    Ok(decoded.collect())
}

/// The keys of a column, `None` for null.
///
/// # Errors
/// If the column is neither Utf8, Int64 nor UInt64.
pub fn keys(column: &ArrayRef) -> Result<Box<dyn Fn(usize) -> Option<Key> + '_>, ArrowError> {
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            Ok(Box::new(|row| texts.is_valid(row).then(|| Key::Text(Rc::from(texts.value(row))))))
        }
        DataType::Int64 => {
            let numbers = column.as_primitive::<Int64Type>();
            Ok(Box::new(|row| numbers.is_valid(row).then(|| Key::Number(numbers.value(row)))))
        }
        // Keys of a table are of one type: their bits tell them apart.
        DataType::UInt64 => {
            let counts = column.as_primitive::<UInt64Type>();
            let number = |row| Key::Number(counts.value(row).cast_signed());
            Ok(Box::new(move |row| counts.is_valid(row).then(|| number(row))))
        }
        other => Err(ArrowError::SchemaError(format!("a table cannot be keyed by {other}"))),
    }
}
