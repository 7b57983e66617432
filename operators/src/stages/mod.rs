//! The core of a worker in timely's operators: one with the sinks behind it where there is one worker,
//! and one for each part of it where there are several.
//!
//! ```text
//! one worker       Fused ─────────────────────────────────────────────────▶ Sinks
//!
//! several          Ingest ─rows──▶ Home ─rows──────────▶ Finish ─outputs───▶ Sinks ─notices─▶ Post
//!                    │ │ └marks──▶  │                    ▲   │                ▲ ▲
//!                    │ │            └requests──▶ Owner ──┘   └─▶ DriftOwner ──┘ │
//!                    │ └versions────────────────▶  answers    parts             │
//!                    └dead letters──────────────────────────────────────────────┘
//! ```
//!
//! `Post` hears of the sinks and homes of all workers what the source of its own goes by.
//!
//! Timestamps are epochs. An operator stands at the lowest epoch that it has not worked off, with one
//! capability for each output, and sends under later ones as they are due.

mod alarm;
mod finishing;
pub mod fused;
pub mod gather;
mod moving;
pub mod post;
mod reader;
pub mod sinks;
pub mod split;

use std::sync::Arc;

use arrow::array::RecordBatch;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};
use timely::progress::frontier::MutableAntichain;

use crate::as_of::table::AsOfTable;
use crate::core::drift::DriftOwner;
use crate::core::finish::{Finish, Out};
use crate::core::parts::{Operator, Shape};
use crate::core::tables::Retention;
use crate::drift::columns::DriftColumns;
use crate::exchange::Route;
use crate::features::plan::FeaturePlan;
use crate::gate::Order;
use crate::ingest::Intake;
use crate::layout::EventLayout;
use crate::rows::Rows;
use crate::run::Run;
use crate::turns::Turns;

/// The parts of a worker's core that a job has.
pub struct Parts {
    /// Which operators there are.
    pub shape: Shape,
    pub intake: Intake,
    pub layout: EventLayout,
    pub plan: Arc<FeaturePlan>,
    pub order: Order,
    /// How a row finds its home.
    pub home: Route,
    pub tables: Vec<AsOfTable>,
    /// How long the versions of tables are kept.
    pub retention: Retention,
    pub finish: Finish,
    pub drift: Option<DriftParts>,
    pub run: Run,
}

/// Both ends of drift between workers.
pub struct DriftParts {
    pub columns: DriftColumns,
    pub owner: DriftOwner,
}

/// What an operator of the core is made with.
fn builder(operator: Operator, scope: Scope<'_, u64>) -> OperatorBuilder<'_, u64> {
    OperatorBuilder::new(operator.name().to_owned(), scope)
}

/// Builds an operator, with an eye on how long its turns take.
fn build<'scope, C, W>(builder: OperatorBuilder<'scope, u64>, of: (Operator, Turns), make: C)
where
    C: FnOnce(Vec<Capability<u64>>) -> W,
    W: FnMut(&[MutableAntichain<u64>]) + 'static,
{
    let (operator, turns) = of;
    builder.build(move |capabilities| {
        let (mut work, mut taking) = (make(capabilities), turns.taking(operator));
        move |frontiers| taking.turn(|| work(frontiers))
    });
}

/// An output of an operator that carries rows.
pub struct RowsOut(OutputBuilder<u64, CapacityContainerBuilder<Rows>>);

impl RowsOut {
    fn send(&mut self, at: &Capability<u64>, mut rows: Rows) {
        self.0.activate().session(at).give_container(&mut rows);
    }

    /// Rows of outputs, each at its epoch; `at` is not behind any of them.
    fn send_out(&mut self, at: &Capability<u64>, out: impl Iterator<Item = Out>) {
        let mut open = self.0.activate();
        for Out { epoch, output, rows } in out.filter(|out| out.rows.num_rows() > 0) {
            let mut rows = Rows::of_kind(u8::from(output).into(), rows);
            open.session(&at.delayed(&epoch)).give_container(&mut rows);
        }
    }
}

/// Where an operator stands: the lowest epoch that it may still send anything of.
struct Standing {
    /// By output; none once nothing more can come.
    at: Vec<Capability<u64>>,
}

impl Standing {
    fn new(at: Vec<Capability<u64>>) -> Self {
        Standing { at }
    }

    /// Goes on to `epoch`; `None` where nothing more comes.
    fn go_on(&mut self, epoch: Option<u64>) {
        match epoch {
            None => self.at.clear(),
            Some(epoch) => {
                self.at
                    .iter_mut()
                    .filter(|at| *at.time() < epoch)
                    .for_each(|at| at.downgrade(&epoch));
            }
        }
    }

    /// The capability of an output, of an epoch that is not worked off; `None` once nothing can come.
    fn of(&self, output: usize, epoch: u64) -> Option<Capability<u64>> {
        self.at.get(output).map(|at| at.delayed(&epoch))
    }
}

/// The lowest epoch that may still come on any of the inputs.
fn lowest(frontiers: &[MutableAntichain<u64>]) -> Option<u64> {
    frontiers.iter().filter_map(|frontier| frontier.frontier().first().copied()).min()
}

/// The lower of two epochs, where nothing is higher than all.
fn lower(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn batch_of(
    rows: &mut Rows,
    schema: &arrow::datatypes::SchemaRef,
    run: &Run,
) -> Option<RecordBatch> {
    run.failure.check(rows.take(schema))
}
