//! What every job is made of: events in, the parts of a worker's core that it has, outputs out.
//!
//! ```text
//! source ─ admit ─▶ home: order gate ─────────▶ features ─▶ work ─┬─▶ outputs
//!   │        │            │ asks                ▲ answers         └─▶ panes ─▶ owner: windows ─▶ drift
//!   │        │            └─▶ owner: windows, lookups                    of drift
//!   │        └─▶ dead letters         ▲
//!   └─ tables ─ admit ────────────────┘
//! ```

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use driftline_operators::alert::AlertRules;
use driftline_operators::as_of::table::AsOfTable;
use driftline_operators::core::drift::DriftOwner;
use driftline_operators::core::finish::{Finish, Work};
use driftline_operators::core::tables::Retention;
use driftline_operators::drift::panes::OpenPanes;
use driftline_operators::drift::partials::{PartialCodec, owners};
use driftline_operators::drift::sample::Mode;
use driftline_operators::drift::windows::{Schedule, WindowOutput};
use driftline_operators::exchange::Route;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::gate::Order;
use driftline_operators::ingest::Intake;
use driftline_operators::layout::EventLayout;
use driftline_operators::rows::Rows;
use driftline_operators::run::Run;
use driftline_operators::sinks::{Outlet, Outlets, Output};
use driftline_operators::stages::gather::gather;
use driftline_operators::stages::sinks::sinks;
use driftline_operators::stages::{DriftParts, Parts, fused::fused, split::split};
use driftline_operators::watched::Watched;
use timely::dataflow::operators::Probe;
use timely::dataflow::{ProbeHandle, Scope, Stream};

/// One worker's parts up to the features.
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
    /// Whether each part is in an operator of its own even where there is one worker.
    pub is_split: bool,
    pub run: Run,
}

/// Both phases of drift.
pub struct Drift {
    panes: OpenPanes,
    parts: DriftParts,
}

impl Drift {
    /// Gathers what is `watched` into windows, whose figures `format` makes rows of `output` of.
    pub fn new<O: WindowOutput>(
        schedule: Schedule,
        mode: Mode,
        watched: &Watched,
        format: O,
        output: Output,
        alerts: Option<Arc<AlertRules>>,
        workers: usize,
    ) -> Self {
        let columns = watched.names.len();
        let costs: Vec<u32> = (0..columns).map(|column| format.cost(column)).collect();
        let codec = PartialCodec::new(&mode);
        Drift {
            panes: OpenPanes::new(schedule.clone(), mode, columns),
            parts: DriftParts {
                codec,
                owners: owners(&costs, workers),
                owner: DriftOwner::new(schedule, format, output, alerts),
            },
        }
    }
}

/// What a job does behind the features.
pub struct Behind {
    pub work: Box<dyn Work>,
    pub drift: Option<Drift>,
    /// An output of which the rows of all workers go to the sink of the first, as those of one would.
    pub gathered: Option<(Output, SchemaRef)>,
}

/// The parts of a worker's core that a job has.
pub fn parts(events: Events, behind: Behind, worker: usize) -> Parts {
    let Events { intake, layout, plan, order, shard_by, tables, retention, run, .. } = events;
    let (partition, offset) = (layout.partition, layout.offset);
    let home = match shard_by {
        Some(key) => Route::KeyGroup { key, partition, offset },
        None => Route::Origin { partition, offset },
    };
    let (panes, drift) = behind.drift.map(|drift| (drift.panes, drift.parts)).unzip();
    let finish = Finish::new(behind.work, panes, worker, &run);
    Parts { intake, layout, plan, order, home, tables, retention, finish, drift, run }
}

/// The outputs of a job, by [`Output`]; `probe` must be behind what becomes of them.
///
/// # Errors
/// If a table has values that cannot be kept.
pub fn outputs<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    behind: Behind,
    probe: ProbeHandle<u64>,
) -> Result<Vec<Stream<'scope, u64, Rows>>, ArrowError> {
    let is_split = events.is_split;
    let (failure, order_columns) = (events.run.failure.clone(), events.layout.order_columns());
    let gathered = behind.gathered.clone();
    let parts = parts(events, behind, scope.index());
    if scope.peers() == 1 && !is_split {
        return Ok(vec![fused(scope, parts, probe)?]);
    }
    let mut outputs = split(scope, parts, probe)?;
    // Where there is one worker, it would only make epochs wait for their end.
    if let Some((output, schema)) = gathered.filter(|_| scope.peers() > 1) {
        let rows = outputs.remove(FROM_HOMES);
        outputs.push(gather(rows, output, schema, order_columns, failure));
    }
    Ok(outputs)
}

/// Where the outputs of homes are among those of [`split`].
const FROM_HOMES: usize = 1;

/// Builds a job in `scope`. It is done when `probe` is.
pub fn graph(
    scope: Scope<'_, u64>,
    events: Events,
    behind: Behind,
    outlets: Vec<Outlet>,
    probe: &ProbeHandle<u64>,
) {
    let run = events.run.clone();
    let outputs = outputs(scope, events, behind, probe.clone());
    if let Some(outputs) = run.failure.check(outputs) {
        sinks(scope, outputs, Outlets::new(outlets, &run), &run).probe_with(probe);
    }
}
