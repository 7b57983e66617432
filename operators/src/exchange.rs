//! Moving rows to the worker they belong to.

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{SchemaRef, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use timely::communication::Push;
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::progress::Stamp;

use crate::failure::Failure;
use crate::key_group::{as_key, for_each_group, worker_of_group};
use crate::rows::Rows;

/// How a row finds its worker.
#[derive(Clone)]
pub enum Route {
    /// To the owner of the key group of `key`; null keys by their origin.
    KeyGroup { key: usize, partition: usize, offset: usize },
    /// To the key group of the origin itself.
    Origin { partition: usize, offset: usize },
    /// To the worker whose index stands in a UInt32 column.
    Worker { column: usize },
    /// To the first worker.
    First,
}

impl Route {
    /// The key group of each row, `[rows]`, given to `with`; of a route that goes by none, 0.
    ///
    /// # Errors
    /// If the key is of a type that cannot be one.
    pub fn for_each_group(
        &self,
        batch: &RecordBatch,
        with: impl FnMut(usize, u64),
    ) -> Result<(), ArrowError> {
        let (keys, partition, offset) = match *self {
            Route::KeyGroup { key, partition, offset } => {
                (as_key(batch.column(key))?, partition, offset)
            }
            Route::Origin { partition, offset } => {
                let no_key: ArrayRef =
                    std::sync::Arc::new(arrow::array::Int64Array::new_null(batch.num_rows()));
                (no_key, partition, offset)
            }
            Route::Worker { .. } | Route::First => {
                let mut with = with;
                (0..batch.num_rows()).for_each(|row| with(row, 0));
                return Ok(());
            }
        };
        for_each_group(
            &keys,
            batch.column(partition).as_primitive::<UInt32Type>(),
            batch.column(offset).as_primitive::<UInt64Type>(),
            with,
        )
    }

    /// The worker of each row, `[rows]`, given to `with`.
    fn assign(
        &self,
        batch: &RecordBatch,
        workers: usize,
        mut with: impl FnMut(usize, usize),
    ) -> Result<(), ArrowError> {
        match *self {
            Route::KeyGroup { .. } | Route::Origin { .. } => {
                self.for_each_group(batch, |row, group| with(row, worker_of_group(group, workers)))
            }
            Route::Worker { column } => {
                let targets = batch.column(column).as_primitive::<UInt32Type>();
                for row in 0..targets.len() {
                    with(row, targets.value(row) as usize);
                }
                Ok(())
            }
            Route::First => {
                (0..batch.num_rows()).for_each(|row| with(row, 0));
                Ok(())
            }
        }
    }
}

/// One of the kinds of rows that go over an edge: where its rows go, and what they are.
#[derive(Clone)]
pub struct Edge {
    pub route: Route,
    pub schema: SchemaRef,
}

/// The rows of a batch for each of `workers`.
///
/// # Errors
/// If the key is of a type that cannot be one.
pub fn shares(
    route: &Route,
    batch: &RecordBatch,
    workers: usize,
) -> Result<Vec<Option<RecordBatch>>, ArrowError> {
    let mut rows_of = vec![Vec::new(); workers];
    route.assign(batch, workers, |row, worker| rows_of[worker].push(row as u32))?;
    let share = |rows: Vec<u32>| match rows.len() {
        0 => Ok(None),
        all if all == batch.num_rows() => Ok(Some(batch.clone())),
        _ => take_record_batch(batch, &UInt32Array::from(rows)).map(Some),
    };
    rows_of.into_iter().map(share).collect()
}

/// Distributes rows by the [`Route`] of their kind, as they come. timely bypasses it when there is one
/// worker.
pub struct RowDistributor {
    /// By kind.
    edges: Vec<Edge>,
    failure: Failure,
}

impl RowDistributor {
    /// The pact of an edge that carries rows of these kinds.
    pub fn pact(
        edges: Vec<Edge>,
        failure: &Failure,
    ) -> DistributorPact<impl FnOnce(usize) -> Self + use<>> {
        let failure = failure.clone();
        DistributorPact(move |_peers| RowDistributor { edges, failure })
    }
}

impl Distributor<Rows> for RowDistributor {
    fn partition<T: Clone, P: Push<Message<T, Rows>>>(
        &mut self,
        container: &mut Rows,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let kind = container.kind();
        let Edge { route, schema } = &self.edges[kind];
        let shares = container.take(schema).and_then(|rows| shares(route, &rows, pushers.len()));
        for (share, pusher) in self.failure.check(shares).into_iter().flatten().zip(pushers) {
            if let Some(rows) = share {
                Message::push_at(&mut Rows::of_kind(kind, rows), stamp.clone(), pusher);
            }
        }
    }

    /// Nothing is held back.
    fn flush<T: Clone, P: Push<Message<T, Rows>>>(
        &mut self,
        _stamp: &Stamp<T>,
        _pushers: &mut [P],
    ) {
    }
}
