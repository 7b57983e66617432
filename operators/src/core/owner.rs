//! The owner of keys: their windows, and their versions in tables.

mod state;

pub use state::OwnerPieces;

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take, take_record_batch};
use arrow::datatypes::UInt64Type;
use arrow::error::ArrowError;

use super::requests::{self, TripSchemas};
use super::tables::{Retention, TableOwner};
use super::windows::{WindowOwner, WindowRows};
use crate::accounting::{TableGauge, WindowGauge};
use crate::as_of::table::AsOfTable;
use crate::features::plan::FeaturePlan;
use crate::features::trip::{Errand, KeyedWindow, Trip};
use crate::fine_time::ns_within_ms;
use crate::gate::Order;
use crate::key_group::as_key_of;
use crate::layout::EventLayout;
use crate::run::Run;
use crate::sort::{OrderColumns, RowOrder};
use crate::watermark::Tick;

/// The state of the keys that one worker owns.
pub struct Owner {
    /// By trip; none for lookups.
    windows: Vec<Option<GaugedWindows>>,
    tables: Vec<GaugedTable>,
}

struct GaugedWindows {
    gauge: WindowGauge,
    owner: WindowOwner,
}

struct GaugedTable {
    gauge: TableGauge,
    owner: TableOwner,
    /// Versions of epochs that are not complete.
    arrived: BTreeMap<u64, Vec<RecordBatch>>,
}

impl Owner {
    /// # Errors
    /// If a table has values that cannot be kept.
    pub fn new(
        plan: &FeaturePlan,
        tables: &[AsOfTable],
        retention: Retention,
        order: Order,
        worker: usize,
        run: &Run,
    ) -> Result<Self, ArrowError> {
        let windows = plan.trips.iter().map(|trip| match &trip.errand {
            Errand::Windows(windows) => {
                let is_limited = windows.first().is_some_and(|window| window.keys_max.is_some());
                let ever = if is_limited { ", ever" } else { "" };
                let gauge = run.counters.windows_gauge(&format!("{}{ever}", trip.key_sql), worker);
                let in_order = rows_are_in_order(windows, order);
                let owner = WindowOwner::new(windows).with_rows_in_order(in_order);
                Some(GaugedWindows { gauge, owner })
            }
            Errand::Lookups(_) => None,
        });
        let gauged = |table: &AsOfTable| {
            let owner = TableOwner::new(table, retention)?;
            let gauge = run.counters.table_gauge(&table.name, worker);
            Ok(GaugedTable { gauge, owner, arrived: BTreeMap::new() })
        };
        Ok(Owner {
            windows: windows.collect(),
            tables: tables.iter().map(gauged).collect::<Result<_, ArrowError>>()?,
        })
    }

    /// Versions of a table have come, of an epoch that is not complete.
    pub fn versions(&mut self, epoch: u64, table: usize, rows: RecordBatch) {
        self.tables[table].arrived.entry(epoch).or_default().push(rows);
    }

    /// An epoch is complete: its versions count from now on.
    ///
    /// # Errors
    /// If they are not those of their table.
    pub fn begin(&mut self, tick: &Tick) -> Result<(), ArrowError> {
        for GaugedTable { gauge, owner, arrived } in &mut self.tables {
            let arrived = arrived.remove(&tick.epoch).unwrap_or_default();
            owner.complete(&arrived, tick.watermark)?;
            gauge.held(owner.held() as u64);
        }
        Ok(())
    }

    /// All that an epoch asks has been answered: what no row of a later one can read is forgotten.
    pub fn end(&mut self, tick: &Tick) {
        for GaugedWindows { gauge, owner } in self.windows.iter_mut().flatten() {
            gauge.held(owner.keys(), owner.rows());
            gauge.forgotten(owner.forgotten());
            owner.forget(tick.watermark);
        }
    }

    /// The answers to events of this worker, of all trips, `[rows]` each.
    ///
    /// # Errors
    /// If a key or a value cannot be made.
    pub fn ask(
        &mut self,
        plan: &FeaturePlan,
        layout: &EventLayout,
        order: Order,
        rows: &RecordBatch,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        let in_order = InOrder::new(rows, layout.order_columns(), order);
        let mut answers = Vec::new();
        for (number, trip) in plan.trips.iter().enumerate() {
            let asked = Asked::of_events(trip, layout, rows)?;
            answers.extend(match &in_order {
                InOrder::AsTheyAre => self.answer(number, trip, &asked)?,
                InOrder::Sorted { rows, places } => {
                    let sorted = asked.take(rows)?;
                    let answers = self.answer(number, trip, &sorted)?;
                    let back = |answer: &ArrayRef| take(answer, places, None);
                    answers.iter().map(back).collect::<Result<Vec<_>, _>>()?
                }
            });
        }
        Ok(answers)
    }

    /// The answers to events of this worker, which are in order, of one trip, `[rows]` each.
    ///
    /// # Errors
    /// As [`Owner::ask`].
    pub fn ask_trip(
        &mut self,
        number: usize,
        trip: &Trip,
        layout: &EventLayout,
        rows: &RecordBatch,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        self.answer(number, trip, &Asked::of_events(trip, layout, rows)?)
    }

    /// The answers to requests of one trip, `[rows]`, addressed to their homes.
    ///
    /// # Errors
    /// If they are not of the trip's schema.
    pub fn answer_requests(
        &mut self,
        number: usize,
        trip: &Trip,
        schemas: &TripSchemas,
        batches: Vec<RecordBatch>,
    ) -> Result<RecordBatch, ArrowError> {
        let requests = match batches.as_slice() {
            [one] => one.clone(),
            many => concat_batches(&schemas.request, many)?,
        };
        let requests = match &trip.errand {
            Errand::Windows(_) => {
                let columns = requests::order_columns(schemas);
                match sorted_rows(&RowOrder::new(&requests, columns)) {
                    None => requests,
                    Some(rows) => take_record_batch(&requests, &rows)?,
                }
            }
            Errand::Lookups(_) => requests,
        };
        let asked = Asked::of_requests(trip, schemas, &requests);
        let mut columns =
            vec![requests.column(requests::HOME).clone(), requests.column(requests::ROW).clone()];
        columns.extend(self.answer(number, trip, &asked)?);
        RecordBatch::try_new(schemas.answer.clone(), columns)
    }

    fn answer(
        &mut self,
        number: usize,
        trip: &Trip,
        asked: &Asked,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        match (&trip.errand, &mut self.windows[number]) {
            (Errand::Windows(_), Some(windows)) => windows.owner.answer(&WindowRows {
                keys: &asked.keys,
                times: &asked.times,
                late: &asked.late,
                ids: asked.ids.as_ref(),
                partitions: &asked.partitions,
                offsets: &asked.offsets,
                values: &asked.rest,
            }),
            (Errand::Lookups(lookups), _) => {
                let table = &self.tables[lookups.table].owner;
                table.answer(lookups, &asked.keys, &asked.times, asked.rest.first())
            }
            (Errand::Windows(_), None) => Ok(Vec::new()),
        }
    }
}

/// Whether rows come in order to their windows: then only late ones could come behind others, and none is
/// scored.
fn rows_are_in_order(windows: &[KeyedWindow], order: Order) -> bool {
    order == Order::EventTime && windows.iter().all(|window| window.spec.history_ms == 0)
}

/// What a trip asks for some rows, `[rows]` each.
struct Asked {
    keys: ArrayRef,
    times: ArrayRef,
    late: ArrayRef,
    ids: Option<ArrayRef>,
    partitions: ArrayRef,
    offsets: ArrayRef,
    /// The values of windows, or of lookups the ns within the ms of the time.
    rest: Vec<ArrayRef>,
}

impl Asked {
    fn of_events(
        trip: &Trip,
        layout: &EventLayout,
        rows: &RecordBatch,
    ) -> Result<Self, ArrowError> {
        let count = rows.num_rows();
        let rest = match &trip.errand {
            Errand::Windows(windows) => {
                let values = windows.iter().filter_map(|window| window.value.as_ref());
                let values = values.map(|value| value.evaluate(rows.columns(), count));
                values.collect::<Result<Vec<_>, _>>()?
            }
            Errand::Lookups(_) => {
                let stored = layout.fine_time.map(|at| ns_within_ms(rows.column(at)));
                stored.transpose()?.into_iter().collect()
            }
        };
        Ok(Asked {
            keys: as_key_of(&trip.key.evaluate(rows.columns(), count)?, &trip.key_type)?,
            times: rows.column(layout.time).clone(),
            late: rows.column(layout.late).clone(),
            ids: layout.id.map(|id| rows.column(id).clone()),
            partitions: rows.column(layout.partition).clone(),
            offsets: rows.column(layout.offset).clone(),
            rest,
        })
    }

    fn of_requests(trip: &Trip, schemas: &TripSchemas, requests: &RecordBatch) -> Self {
        let column = |at: usize| requests.column(at).clone();
        let (late, first) = match &trip.errand {
            Errand::Windows(_) => (requests::LATE, requests::REST + usize::from(schemas.has_id)),
            // Lookups do not ask whether a row is late.
            Errand::Lookups(_) => (requests::KEY, requests::TIME_NS),
        };
        let asks_id = schemas.has_id && matches!(trip.errand, Errand::Windows(_));
        Asked {
            keys: column(requests::KEY),
            times: column(requests::TIME),
            late: column(late),
            ids: asks_id.then(|| column(requests::REST)),
            partitions: column(requests::PARTITION),
            offsets: column(requests::OFFSET),
            rest: requests.columns()[first..].to_vec(),
        }
    }

    /// These rows of it, in their order.
    fn take(&self, rows: &UInt32Array) -> Result<Self, ArrowError> {
        let of = |column: &ArrayRef| take(column, rows, None);
        Ok(Asked {
            keys: of(&self.keys)?,
            times: of(&self.times)?,
            late: of(&self.late)?,
            ids: self.ids.as_ref().map(of).transpose()?,
            partitions: of(&self.partitions)?,
            offsets: of(&self.offsets)?,
            rest: self.rest.iter().map(of).collect::<Result<_, _>>()?,
        })
    }
}

/// How rows come to be in the order in which windows are asked.
enum InOrder {
    AsTheyAre,
    Sorted {
        /// The rows in order.
        rows: UInt32Array,
        /// Where each row is among them.
        places: UInt32Array,
    },
}

impl InOrder {
    fn new(batch: &RecordBatch, columns: OrderColumns, order: Order) -> Self {
        // The gate has seen to it.
        if order != Order::Arrival {
            return InOrder::AsTheyAre;
        }
        let Some(rows) = sorted_rows(&RowOrder::new(batch, columns)) else {
            return InOrder::AsTheyAre;
        };
        let mut places = vec![0; rows.len()];
        for (place, &row) in (0..).zip(rows.values()) {
            places[row as usize] = place;
        }
        InOrder::Sorted { rows, places: places.into() }
    }
}

/// The rows in order; none where they are.
fn sorted_rows(order: &RowOrder) -> Option<UInt32Array> {
    (!order.is_sorted()).then(|| order.sorted_rows().into())
}

/// The numbers of the rows that answers are for.
pub fn answered_rows(answers: &RecordBatch) -> &[u64] {
    answers.column(requests::ANSWER_ROW).as_primitive::<UInt64Type>().values()
}
