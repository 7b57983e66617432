//! Side trips: a row stays at its home, a narrow request goes to the owner of a key, and the answer
//! comes back to the row. All trips are under way at once.

pub mod rejoin;
pub mod request;
pub mod windows;

use std::sync::Arc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Operator;
use timely::dataflow::{Stream, StreamVec};

use self::rejoin::rejoin;
use self::request::{TripSchemas, request};
use self::windows::{WindowTrip, answer_windows};
use crate::as_of::arrange::ArrangedTable;
use crate::as_of::lookup::answer_lookups;
use crate::as_of::table::AsOfTable;
use crate::failure::Failure;
use crate::features::plan::FeaturePlan;
use crate::features::trip::Errand;
use crate::gate::Order;
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::run::Run;
use crate::warm_up::WarmUp;
use crate::watermark::{Mark, Watermarks};

/// What the trips of a job go to, and in which order.
pub struct Enrichment<'a, 'scope> {
    pub plan: Arc<FeaturePlan>,
    pub layout: EventLayout,
    pub order: Order,
    /// Rows that are in no account.
    pub warm_up: WarmUp,
    pub watermarks: Watermarks,
    pub tables: &'a [(AsOfTable, ArrangedTable<'scope>)],
}

/// Sends the rows on every side trip of the plan and appends the features, in the order they came.
///
/// In `arrival` order owners answer as requests come; otherwise an epoch's requests are answered in
/// order of (event time, id) once the epoch is complete at the owner, and in tables. A batch goes on
/// when all its answers are back, by their number.
pub fn enrich<'scope>(
    rows: Stream<'scope, u64, Rows>,
    marks: StreamVec<'scope, u64, Mark>,
    enrichment: Enrichment<'_, 'scope>,
    run: &Run,
) -> Stream<'scope, u64, Rows> {
    let Enrichment { plan, layout, order, warm_up, watermarks, tables } = enrichment;
    let Run { failure, faults, .. } = run.clone();
    if plan.trips.is_empty() {
        return append_features(rows, plan, layout, failure);
    }
    let (numbered, requests) = request(rows, plan.clone(), layout.clone(), failure.clone());
    let answers = requests.into_iter().zip(&plan.trips).map(|(requests, trip)| {
        let schemas = TripSchemas::new(trip, &layout);
        let requests =
            faults.behind("requests", requests, schemas.request.clone(), failure.clone());
        let answers = match &trip.errand {
            Errand::Windows(windows) => {
                let key_sql = &trip.key_sql;
                let has_id = layout.id.is_some();
                let trip = WindowTrip { key_sql, windows, schemas: schemas.clone(), has_id, order };
                answer_windows(requests, marks.clone(), trip, watermarks.clone(), run)
            }
            Errand::Lookups(lookups) => {
                let (described, table) = &tables[lookups.table];
                let failure = failure.clone();
                let (table, schemas) = (table.clone(), schemas.clone());
                answer_lookups(requests, table, described, lookups, schemas, order, failure)
            }
        };
        let answers = faults.behind("answers", answers, schemas.answer.clone(), failure.clone());
        (answers, schemas)
    });
    let answers = answers.collect();
    rejoin(numbered, answers, plan, layout, warm_up, run)
}

/// Features of rows that need no side trip.
fn append_features<'scope>(
    rows: Stream<'scope, u64, Rows>,
    plan: Arc<FeaturePlan>,
    layout: EventLayout,
    failure: Failure,
) -> Stream<'scope, u64, Rows> {
    let enriched = plan.enriched_schema(&layout);
    rows.unary::<CapacityContainerBuilder<Rows>, _, _, _>(
        Pipeline,
        "Features",
        move |_cap, _info| {
            move |input, output| {
                input.for_each(|capability, container| {
                    let batch = container.take(&layout.schema);
                    let batch = batch.and_then(|batch| plan.append(&batch, Vec::new(), &enriched));
                    if let Some(batch) = failure.check(batch) {
                        output.session(&capability).give_container(&mut Rows::new(batch));
                    }
                });
            }
        },
    )
}
