//! What every job begins with: events in, feature rows at their homes out.
//!
//! ```text
//! source ─ admit ─▶ home: order gate ─ requests ───────────────▶ rejoin ─ features ─▶ rows
//!            │                            │ side trips, in parallel ▲
//!            ├─ dead letters              └─▶ owner: windows ───────┘
//!            └─ marks (broadcast) ─▶ watermarks
//! ```

use std::sync::Arc;

use driftline_operators::admit::Admission;
use driftline_operators::exchange::Route;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::gate::{Order, Ordering, order_rows};
use driftline_operators::ingest::{Ingested, Source, ingest};
use driftline_operators::layout::EventLayout;
use driftline_operators::rows::Rows;
use driftline_operators::run::Run;
use driftline_operators::side_trip::enrich;
use driftline_operators::watermark::{Mark, Watermarks};
use timely::dataflow::{ProbeHandle, Scope, Stream, StreamVec};

/// One worker's parts of the graph up to the features.
pub struct Events {
    pub source: Box<dyn Source>,
    pub admission: Admission,
    pub layout: EventLayout,
    pub plan: Arc<FeaturePlan>,
    pub order: Order,
    /// The column whose key group is a row's home; the origin's where there is none.
    pub shard_by: Option<usize>,
    pub watermarks: Watermarks,
    pub epochs_in_flight_max: u64,
    pub run: Run,
}

pub struct Enriched<'scope> {
    /// Rows of [`FeaturePlan::enriched_schema`].
    pub rows: Stream<'scope, u64, Rows>,
    pub dead_letters: Stream<'scope, u64, Rows>,
    pub marks: StreamVec<'scope, u64, Mark>,
}

/// Builds the graph up to the features; `probe` must be behind every sink.
pub fn enriched<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    probe: ProbeHandle<u64>,
) -> Enriched<'scope> {
    let Events { layout, plan, order, run, .. } = events;
    let Run { failure, faults, .. } = run.clone();
    let (partition, offset) = (layout.partition, layout.offset);
    let home = match events.shard_by {
        Some(key) => Route::KeyGroup { key, partition, offset },
        None => Route::Origin { partition, offset },
    };

    let Ingested { rows, dead_letters, marks } = ingest(
        scope,
        events.source,
        events.admission,
        probe,
        events.epochs_in_flight_max,
        failure.clone(),
    );
    let rows = faults.behind("ingest", rows, layout.schema.clone(), failure.clone());
    let watermarks = events.watermarks;
    let ordering = Ordering { home, order, layout: layout.clone(), watermarks };
    let rows = order_rows(rows, marks.clone(), ordering, &run);
    let rows = faults.behind("order", rows, layout.schema.clone(), failure.clone());
    let rows = enrich(rows, plan.clone(), layout.clone(), order, &run);
    let rows = faults.behind("features", rows, plan.enriched_schema(&layout), failure);
    Enriched { rows, dead_letters, marks }
}
