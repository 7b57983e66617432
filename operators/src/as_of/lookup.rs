//! The owner's end of a lookup: requests in, values as of their times out.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::row::RowConverter;
use differential_dataflow::trace::TraceReader;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Stream;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::{Capability, Operator};
use timely::progress::Antichain;

use super::arrange::{ArrangedTable, TableTrace, keys, value_rows};
use super::seek::Seeker;
use super::table::AsOfTable;
use super::versions::{Key, Version};
use crate::exchange::RowDistributor;
use crate::failure::Failure;
use crate::features::trip::AsOfLookups;
use crate::gate::Order;
use crate::key_map::KeyMap;
use crate::rows::Rows;
use crate::side_trip::request::{self, TripSchemas};

/// Answers requests from `table`. A request of epoch e is answered as of e: once the arrangement is
/// complete through it; in `arrival` order from what is there when it comes.
pub fn answer_lookups<'scope>(
    requests: Stream<'scope, u64, Rows>,
    mut table: ArrangedTable<'scope>,
    described: &AsOfTable,
    lookups: &AsOfLookups,
    schemas: TripSchemas,
    order: Order,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let schema = schemas.request.clone();
    let pact = {
        let (schema, failure) = (schema.clone(), failure.clone());
        let route = request::to_owner();
        DistributorPact(move |peers| RowDistributor::new(route, schema, failure, peers))
    };
    let name = format!("Lookup({})", described.name);
    // No past state is asked for by its epoch range, so batches may merge as they like.
    table.trace.set_physical_compaction(Antichain::new().borrow());
    let mut reader = AsOfReader {
        trace: Some(table.trace),
        converter: failure.check(value_rows(described)),
        lookups: lookups.clone(),
        max_age_ms: described.max_age_ms,
    };
    requests.binary_frontier::<_, CapacityContainerBuilder<Rows>, _, _, _, _>(
        table.stream,
        pact,
        Pipeline,
        &name,
        move |_capability, _info| {
            let mut epochs: BTreeMap<u64, (Capability<u64>, Vec<RecordBatch>)> = BTreeMap::new();
            move |(requests, request_frontier), (changes, table_frontier), output| {
                // 1. Requests wait for their epoch. The changes are in the trace already: only the
                //    frontier of the table counts.
                requests.for_each(|capability, container| {
                    let Some(retained) = capability.retain_least(output.output_index()) else {
                        return;
                    };
                    if let Some(batch) = failure.check(container.take(&schema)) {
                        let epoch = *retained.time();
                        epochs.entry(epoch).or_insert_with(|| (retained, Vec::new())).1.push(batch);
                    }
                });
                changes.for_each(|_capability, _container| {});
                // 2. Each epoch that is complete in the table is answered. The requests of an epoch
                //    need not be all there: answers do not depend on each other.
                while let Some(entry) = epochs.first_entry() {
                    if order != Order::Arrival && table_frontier.less_equal(entry.key()) {
                        break;
                    }
                    let (capability, batches) = entry.remove();
                    let as_of = match order {
                        Order::Arrival => u64::MAX,
                        Order::Epoch | Order::EventTime => *capability.time(),
                    };
                    let answered = concat_batches(&schema, &batches)
                        .and_then(|requests| reader.answer(&requests, as_of, &schemas.answer));
                    if let Some(batch) = failure.check(answered) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                }
                // 3. Epochs before those still asked for are told apart no longer.
                let mut since = request_frontier.frontier().to_owned();
                since.extend(epochs.keys().next().copied());
                reader.compact(&since);
            }
        },
    )
}

/// Reads the arrangement of a table.
struct AsOfReader {
    /// Let go when nothing more is asked for.
    trace: Option<TableTrace>,
    converter: Option<RowConverter>,
    lookups: AsOfLookups,
    max_age_ms: Option<i64>,
}

impl AsOfReader {
    fn compact(&mut self, since: &Antichain<u64>) {
        if since.is_empty() {
            self.trace = None;
        } else if let Some(trace) = &mut self.trace {
            trace.set_logical_compaction(since.borrow());
        }
    }

    /// The answers to a batch of requests as of epoch `as_of`, `[requests]`.
    fn answer(
        &mut self,
        requests: &RecordBatch,
        as_of: u64,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, ArrowError> {
        let times = requests.column(request::TIME).as_primitive::<Int64Type>();
        let found = self.find(requests.column(request::KEY), times, as_of)?;
        let mut columns =
            vec![requests.column(request::HOME).clone(), requests.column(request::ROW).clone()];
        columns.extend(self.values(&found)?);
        if self.lookups.age {
            let ages = times.values().iter().zip(&found.at).map(|(&time, at)| {
                let version = &found.versions[(*at)? as usize];
                Some(time.saturating_sub(version.valid_from) as f64)
            });
            columns.push(Arc::new(ages.collect::<Float64Array>()));
        }
        RecordBatch::try_new(schema.clone(), columns)
    }

    /// The version of each request.
    fn find(
        &mut self,
        key_column: &ArrayRef,
        times: &Int64Array,
        as_of: u64,
    ) -> Result<Found, ArrowError> {
        let mut found = Found { versions: Vec::new(), at: vec![None; times.len()] };
        let mut seeker = Seeker::new(self.trace.as_mut());
        for (key, mut rows) in rows_by_key(key_column)? {
            seeker.seek_key(&key);
            rows.sort_unstable_by_key(|&row| Reverse(times.value(row as usize)));
            let first = found.versions.len();
            for row in rows {
                let time = times.value(row as usize);
                // The last one found is also that of all times since it began.
                let last = found.versions.get(first..).and_then(<[Version]>::last);
                if last.is_none_or(|version| time < version.valid_from) {
                    let Some(version) = seeker.valid_at(time, as_of) else { break };
                    found.versions.push(version.clone());
                }
                found.at[row as usize] = self.visible(time, &found.versions);
            }
        }
        Ok(found)
    }

    /// The place of the last of `versions`, if a request at `time` finds its values.
    fn visible(&self, time: i64, versions: &[Version]) -> Option<u32> {
        let version = versions.last()?;
        let too_old =
            self.max_age_ms.is_some_and(|age| time.saturating_sub(age) > version.valid_from);
        (version.values.is_some() && !too_old).then(|| versions.len() as u32 - 1)
    }

    /// The looked-up columns, `[requests]`.
    fn values(&self, found: &Found) -> Result<Vec<ArrayRef>, ArrowError> {
        let Some(converter) = &self.converter else { return Ok(Vec::new()) };
        if self.lookups.columns.is_empty() {
            return Ok(Vec::new());
        }
        let parser = converter.parser();
        // A deleted version is never found; an empty place keeps positions in step.
        let mut places = Vec::with_capacity(found.versions.len());
        let mut rows = Vec::new();
        for version in &found.versions {
            places.push(rows.len() as u32);
            rows.extend(version.values.as_deref().map(|values| parser.parse(values)));
        }
        let columns = converter.convert_rows(rows)?;
        let at: UInt32Array = found.at.iter().map(|at| Some(places[(*at)? as usize])).collect();
        let wanted = self.lookups.columns.iter();
        wanted.map(|&column| take(&columns[column], &at, None)).collect()
    }
}

/// The rows of each key, by ascending key, as cursors go.
fn rows_by_key(column: &ArrayRef) -> Result<Vec<(Key, Vec<u32>)>, ArrowError> {
    fn group<K: Hash + Eq>(keys: impl Iterator<Item = Option<K>>) -> Vec<Vec<u32>> {
        let mut group_of: KeyMap<K, usize> = KeyMap::default();
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for (row, key) in keys.enumerate() {
            let Some(key) = key else { continue };
            let group = *group_of.entry(key).or_insert(groups.len());
            if group == groups.len() {
                groups.push(Vec::new());
            }
            groups[group].push(row as u32);
        }
        groups
    }
    let groups = match column.data_type() {
        DataType::Utf8 => group(column.as_string::<i32>().iter()),
        DataType::UInt64 => group(column.as_primitive::<UInt64Type>().iter()),
        _ => group(column.as_primitive_opt::<Int64Type>().into_iter().flatten()),
    };
    let key = keys(column)?;
    let keyed = groups.into_iter().filter_map(|rows| Some((key(rows[0] as usize)?, rows)));
    let mut keyed: Vec<(Key, Vec<u32>)> = keyed.collect();
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(keyed)
}

/// Versions, and which of them each request found.
struct Found {
    versions: Vec<Version>,
    at: Vec<Option<u32>>,
}
