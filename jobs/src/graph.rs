//! What every job is made of: events in, the parts of a worker's core that it has, outputs out.
//!
//! ```text
//! source ─ admit ─▶ home: order gate ─────────▶ features ─▶ work ─┬─▶ outputs
//!   │        │            │ asks                ▲ answers         └─▶ panes ─▶ owner: windows ─▶ drift
//!   │        │            └─▶ owner: windows, lookups                    of drift
//!   │        └─▶ dead letters         ▲
//!   └─ tables ─ admit ────────────────┘
//! ```
//!
//! Which parts there are follows from a [`Shape`], as does what plans say of them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use driftline_operators::alert::AlertRules;
use driftline_operators::as_of::table::AsOfTable;
use driftline_operators::core::drift::DriftOwner;
use driftline_operators::core::finish::{Finish, Work};
use driftline_operators::core::parts::{Form, Operator, Part, Shape};
use driftline_operators::core::tables::Retention;
use driftline_operators::drift::columns::DriftColumns;
use driftline_operators::drift::panes::OpenPanes;
use driftline_operators::drift::sample::Mode;
use driftline_operators::drift::windows::{Schedule, WindowOutput};
use driftline_operators::exchange::Route;
use driftline_operators::features::plan::FeaturePlan;
use driftline_operators::gate::Order;
use driftline_operators::ingest::Intake;
use driftline_operators::known::Known;
use driftline_operators::layout::EventLayout;
use driftline_operators::reports::{Reporter, Reports};
use driftline_operators::rows::Rows;
use driftline_operators::run::Run;
use driftline_operators::sinks::{Outlet, Outlets, Output};
use driftline_operators::sort::OrderColumns;
use driftline_operators::stages::gather::gather;
use driftline_operators::stages::post::{NoticeFor, post};
use driftline_operators::stages::sinks::{Written, sinks};
use driftline_operators::stages::split::{Split, split};
use driftline_operators::stages::{DriftParts, Parts, fused::fused};
use driftline_operators::watched::Watched;
use timely::dataflow::operators::Probe;
use timely::dataflow::{ProbeHandle, Scope, Stream, StreamVec};

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
    output: Output,
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
    ) -> Self {
        let columns = DriftColumns::new(&watched.names, &mode, &schedule);
        Drift {
            output,
            panes: OpenPanes::new(schedule.clone(), mode, watched.names.len())
                .with_versions(format.versions()),
            parts: DriftParts { columns, owner: DriftOwner::new(schedule, format, output, alerts) },
        }
    }
}

/// What a job does behind the features.
pub struct Behind {
    pub work: Box<dyn Work>,
    pub drift: Option<Drift>,
    pub gathered: Option<Gathered>,
}

/// An output of which the rows of all workers go to the sink of the first, as those of one would.
#[derive(Clone)]
pub struct Gathered {
    pub output: Output,
    pub schema: SchemaRef,
    /// The columns that order its rows.
    pub by: OrderColumns,
}

impl Behind {
    /// The outputs that it names.
    fn outputs(&self) -> Vec<Output> {
        let of_drift = self.drift.iter().map(|drift| drift.output);
        of_drift.chain(self.gathered.iter().map(|gathered| gathered.output)).collect()
    }
}

/// The parts of a worker's core that a job has.
pub fn parts(events: Events, behind: Behind, worker: usize) -> Parts {
    let wanted = behind.outputs();
    parts_of(events, behind, wanted, worker)
}

/// As [`parts`], where these are all outputs that somebody wants.
fn parts_of(events: Events, behind: Behind, wanted: Vec<Output>, worker: usize) -> Parts {
    let Events { intake, layout, plan, order, shard_by, tables, retention, run, .. } = events;
    let Behind { work, drift, gathered } = behind;
    let shape = Shape {
        gathered: gathered.map(|gathered| gathered.output),
        ..Shape::new(order, &tables, &plan, wanted)
    };
    let (partition, offset) = (layout.partition, layout.offset);
    let home = match shard_by {
        Some(key) => Route::KeyGroup { key, partition, offset },
        None => Route::Origin { partition, offset },
    };
    // Drift that nobody wants is not watched.
    let drift = drift.filter(|_| shape.has(Part::DriftWindows));
    let (panes, drift) = drift.map(|drift| (drift.panes, drift.parts)).unzip();
    let finish = Finish::new(work, panes, worker, &run);
    Parts { shape, intake, layout, plan, order, home, tables, retention, finish, drift, run }
}

/// What a job puts out, and what is behind it.
pub struct Outputs<'scope> {
    /// By [`Output`].
    pub rows: Vec<Stream<'scope, u64, Rows>>,
    pub end: End<'scope>,
}

/// The end of the graph of a worker: who writes its outputs, and who hears of it.
pub struct End<'scope> {
    scope: Scope<'scope, u64>,
    known: Known,
    /// What workers are to hear of each other; none of a worker that is alone.
    notices: Option<StreamVec<'scope, u64, NoticeFor>>,
    run: Run,
}

impl<'scope> End<'scope> {
    /// Has rows of outputs written. An epoch is over when `probe` has passed it.
    pub fn write(
        self,
        rows: Vec<Stream<'scope, u64, Rows>>,
        outlets: Outlets,
        probe: &ProbeHandle<u64>,
    ) {
        let End { scope, known, notices, run } = self;
        let (reports, settled) = (run.reports.clone(), known.settled().clone());
        let reporter = Reporter::new(reports, scope.index(), settled, outlets.hold_epochs());
        let Some(of_homes) = notices else {
            let alone = Some((known, reporter));
            sinks(scope, rows, outlets, alone, &run).notices.probe_with(probe);
            return;
        };
        let Written { notices, durable } = sinks(scope, rows, outlets, None, &run);
        post(scope, vec![of_homes, notices], Some(durable), known, reporter).probe_with(probe);
    }

    /// The same where nothing is written: somebody else has the rows, and has `probe` behind them.
    pub fn without_sinks(self, probe: &ProbeHandle<u64>) {
        let End { scope, known, notices, .. } = self;
        let settled = known.settled().clone();
        let reporter = Reporter::new(Reports::default(), scope.index(), settled, false);
        if let Some(notices) = notices {
            post(scope, vec![notices], None, known, reporter).probe_with(probe);
        }
    }
}

/// The outputs of a job; `probe` must be behind what becomes of them.
///
/// # Errors
/// If a table has values that cannot be kept.
pub fn outputs<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    behind: Behind,
    probe: ProbeHandle<u64>,
) -> Result<Outputs<'scope>, ArrowError> {
    let wanted = behind.outputs();
    outputs_of(scope, events, behind, wanted, probe)
}

/// As [`outputs`], where these are all outputs that somebody wants.
fn outputs_of<'scope>(
    scope: Scope<'scope, u64>,
    events: Events,
    behind: Behind,
    wanted: Vec<Output>,
    probe: ProbeHandle<u64>,
) -> Result<Outputs<'scope>, ArrowError> {
    let form = Form::of(scope.peers(), events.is_split);
    let (run, known) = (events.run.clone(), events.intake.known.clone());
    let gathered = behind.gathered.clone();
    let parts = parts_of(events, behind, wanted, scope.index());
    let operators = parts.shape.operators(form);
    if form == Form::Fused {
        let rows = vec![fused(scope, parts, probe)?];
        return Ok(Outputs { rows, end: End { scope, known, notices: None, run } });
    }
    let Split { mut outputs, notices } = split(scope, parts, probe)?;
    let gathered = gathered.filter(|_| operators.contains(&Operator::Gather));
    if let Some(Gathered { output, schema, by }) = gathered {
        let rows = outputs.remove(FROM_HOMES);
        outputs.push(gather(rows, output, schema, by, run.failure.clone()));
    }
    Ok(Outputs { rows: outputs, end: End { scope, known, notices: Some(notices), run } })
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
    let wanted = outlets.iter().map(|outlet| outlet.output).collect();
    let outputs = outputs_of(scope, events, behind, wanted, probe.clone());
    if let Some(Outputs { rows, end }) = run.failure.check(outputs) {
        end.write(rows, Outlets::new(outlets, &run), probe);
    }
}
