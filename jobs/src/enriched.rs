//! What every job begins with: events in, feature rows at their homes out.
//!
//! ```text
//! source ─ admit ─▶ home: order gate ─ requests ───────────────▶ rejoin ─ features ─▶ rows
//!   │        │                            │ side trips, in parallel ▲
//!   │        ├─ dead letters              ├─▶ owner: windows ───────┤
//!   │        └─ marks (broadcast)         └─▶ owner: lookups ───────┘
//!   │             ▼ watermarks                    ▲
//!   └─ tables ─ admit ─▶ owner: versions ─ arrangement
//! ```

use std::sync::Arc;

use driftline_operators::as_of::arrange::{Retention, arrange_table};
use driftline_operators::as_of::table::AsOfTable;
use driftline_operators::exchange::Route;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::gate::{Order, Ordering, order_rows};
use driftline_operators::ingest::{Ingested, Intake, ingest};
use driftline_operators::layout::EventLayout;
use driftline_operators::rows::Rows;
use driftline_operators::run::Run;
use driftline_operators::side_trip::{Enrichment, enrich};
use driftline_operators::watermark::{Mark, Watermarks};
use timely::dataflow::{ProbeHandle, Scope, Stream, StreamVec};

/// One worker's parts of the graph up to the features.
pub struct Events {
    pub intake: Intake,
    pub layout: EventLayout,
    pub plan: Arc<FeaturePlan>,
    pub order: Order,
    /// The column whose key group is a row's home; the origin's where there is none.
    pub shard_by: Option<usize>,
    pub tables: Vec<AsOfTable>,
    /// How long the versions of tables are kept.
    pub retention: Retention,
    pub watermarks: Watermarks,
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
    let Events { intake, layout, plan, order, retention, watermarks, run, .. } = events;
    let Run { failure, faults, .. } = run.clone();
    let (partition, offset) = (layout.partition, layout.offset);
    let home = match events.shard_by {
        Some(key) => Route::KeyGroup { key, partition, offset },
        None => Route::Origin { partition, offset },
    };

    let (progress, warm_up) = (intake.gate.clone(), intake.events.warm_up.clone());
    let Ingested { rows, tables, dead_letters, marks } = ingest(scope, intake, probe, &run);
    let rows = faults.behind("ingest", rows, layout.schema.clone(), failure.clone());
    let waiting = warm_up.clone();
    let ordering = Ordering { home, order, layout: layout.clone(), warm_up: waiting, progress };
    let rows = order_rows(rows, marks.clone(), ordering, &run);
    let rows = faults.behind("order", rows, layout.schema.clone(), failure.clone());

    let arranged = tables.into_iter().zip(events.tables).map(|(versions, table)| {
        let watermarks = watermarks.clone();
        let arranged = arrange_table(versions, marks.clone(), &table, retention, watermarks, &run);
        (table, arranged)
    });
    let tables: Vec<_> = arranged.collect();
    let enrichment = Enrichment {
        plan: plan.clone(),
        layout: layout.clone(),
        order,
        warm_up,
        watermarks,
        tables: &tables,
    };
    let rows = enrich(rows, marks.clone(), enrichment, &run);
    let rows = faults.behind("features", rows, plan.enriched_schema(&layout), failure);
    Enriched { rows, dead_letters, marks }
}
