//! The parts of a job: which it has, where each stands, and which operator it is in.
//!
//! It all follows from a [`Shape`]. The graph is built by it, and plans and pictures are drawn of it.
//! What goes from part to part is in [`flows`](super::flows).

use crate::as_of::table::AsOfTable;
use crate::features::plan::FeaturePlan;
use crate::features::trip::Errand;
use crate::gate::Order;
use crate::sinks::Output;

/// What says which parts a job has: what comes in, what rows ask, and what goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub order: Order,
    /// Tables that change.
    pub tables: Vec<TableShape>,
    /// How many tables do not: they are read before there is a graph, and no worker owns them.
    pub static_tables: usize,
    pub trips: Vec<TripShape>,
    pub outputs: Vec<Output>,
    /// Whether features or rows must keep rules.
    pub has_rules: bool,
    /// The output of which the first worker has the rows of all.
    pub gathered: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableShape {
    /// Events do not wait for it.
    pub eager: bool,
}

/// What rows ask the owners of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripShape {
    Windows,
    Lookups { table: usize },
}

/// Something that a row or the news of progress comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Events,
    Admit,
    /// The source of a table that changes, by its position among those.
    Table(usize),
    /// By its position among those that do not change.
    StaticTable(usize),
    Watermark,
    Gate,
    Versions(usize),
    Trip(usize, TripShape),
    Waiting,
    Features,
    Validate,
    MicroBatch,
    Model,
    Export,
    Panes,
    DriftWindows,
    Output(Output),
}

/// Where a part stands among workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Inputs,
    Every,
    Home,
    Owner,
    Outputs,
}

/// A timely operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Fused,
    Ingest,
    Home,
    Owner,
    Finish,
    DriftOwner,
    Gather,
    Sinks,
    Post,
}

/// How the parts of a worker are put into operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All but the outputs in one.
    Fused,
    Split {
        workers: usize,
    },
}

impl Part {
    /// A word of lower-case letters, digits and `_`, unlike that of any other part.
    pub fn id(self) -> String {
        match self {
            Part::Events => "events".to_owned(),
            Part::Admit => "admit".to_owned(),
            Part::Table(at) => format!("table_{at}"),
            Part::StaticTable(at) => format!("static_table_{at}"),
            Part::Watermark => "watermark".to_owned(),
            Part::Gate => "gate".to_owned(),
            Part::Versions(at) => format!("versions_{at}"),
            Part::Trip(at, TripShape::Windows) => format!("windows_{at}"),
            Part::Trip(at, TripShape::Lookups { .. }) => format!("lookups_{at}"),
            Part::Waiting => "waiting".to_owned(),
            Part::Features => "features".to_owned(),
            Part::Validate => "validate".to_owned(),
            Part::MicroBatch => "micro_batch".to_owned(),
            Part::Model => "model".to_owned(),
            Part::Export => "export".to_owned(),
            Part::Panes => "drift_panes".to_owned(),
            Part::DriftWindows => "drift_windows".to_owned(),
            Part::Output(_) => self.title().replace(' ', "_"),
        }
    }

    /// What it is, whatever the job calls it.
    pub fn title(self) -> &'static str {
        match self {
            Part::Events => "events",
            Part::Admit => "admit",
            Part::Table(_) => "table",
            Part::StaticTable(_) => "static table",
            Part::Watermark => "watermark of the job",
            Part::Gate => "order gate",
            Part::Versions(_) => "versions",
            Part::Trip(_, TripShape::Windows) => "windows",
            Part::Trip(_, TripShape::Lookups { .. }) => "lookups",
            Part::Waiting => "waiting rows",
            Part::Features => "features, in order",
            Part::Validate => "validate",
            Part::MicroBatch => "micro-batch",
            Part::Model => "model",
            Part::Export => "export",
            Part::Panes => "drift panes",
            Part::DriftWindows => "drift windows",
            Part::Output(Output::Predictions) => "predictions",
            Part::Output(Output::DeadLetters) => "dead letters",
            Part::Output(Output::Alerts) => "alerts",
            Part::Output(Output::Drift) => "drift snapshots",
            Part::Output(Output::Features) => "feature rows",
            Part::Output(Output::Baseline) => "baseline",
            Part::Output(Output::Skipped) => "skipped rows",
        }
    }

    /// The struct that does it.
    pub fn structure(self) -> &'static str {
        match self {
            Part::Events | Part::Table(_) => "ingest::Source",
            Part::Admit => "admit::Admission",
            Part::StaticTable(_) => "features::table::StaticTable",
            Part::Watermark => "watermark::EpochClock",
            Part::Gate => "core::home::Home",
            Part::Versions(_) | Part::Trip(_, TripShape::Lookups { .. }) => {
                "core::tables::TableOwner"
            }
            Part::Trip(_, TripShape::Windows) => "core::windows::WindowOwner",
            Part::Waiting => "core::waiting::Waiting",
            Part::Features => "features::plan::FeaturePlan",
            Part::Validate => "validate::Validator",
            Part::MicroBatch => "micro_batch::MicroBatcher",
            Part::Model => "model::Model",
            Part::Export => "export::Exporter",
            Part::Panes => "drift::panes::OpenPanes",
            Part::DriftWindows => "core::drift::DriftOwner",
            Part::Output(_) => "sinks::Outlets",
        }
    }

    pub fn place(self) -> Place {
        match self {
            Part::Events | Part::Admit | Part::Table(_) | Part::StaticTable(_) => Place::Inputs,
            Part::Watermark => Place::Every,
            Part::Gate
            | Part::Waiting
            | Part::Features
            | Part::Validate
            | Part::MicroBatch
            | Part::Model
            | Part::Export
            | Part::Panes => Place::Home,
            Part::Versions(_) | Part::Trip(..) | Part::DriftWindows => Place::Owner,
            Part::Output(_) => Place::Outputs,
        }
    }

    /// The operator it is in where there are several workers; none where it is read before.
    pub fn operator(self) -> Option<Operator> {
        match self {
            Part::Events | Part::Admit | Part::Table(_) => Some(Operator::Ingest),
            Part::StaticTable(_) => None,
            Part::Watermark | Part::Gate => Some(Operator::Home),
            Part::Versions(_) | Part::Trip(..) => Some(Operator::Owner),
            Part::Waiting
            | Part::Features
            | Part::Validate
            | Part::MicroBatch
            | Part::Model
            | Part::Export
            | Part::Panes => Some(Operator::Finish),
            Part::DriftWindows => Some(Operator::DriftOwner),
            Part::Output(_) => Some(Operator::Sinks),
        }
    }
}

impl Place {
    pub const ALL: [Place; 5] =
        [Place::Inputs, Place::Every, Place::Home, Place::Owner, Place::Outputs];

    pub fn id(self) -> &'static str {
        match self {
            Place::Inputs => "inputs",
            Place::Every => "every",
            Place::Home => "home",
            Place::Owner => "owner",
            Place::Outputs => "outputs",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Place::Inputs => "inputs",
            Place::Every => "every worker",
            Place::Home => "home of each row",
            Place::Owner => "owner of each key or column",
            Place::Outputs => "outputs",
        }
    }
}

impl Operator {
    pub const ALL: [Operator; 8] = [
        Operator::Fused,
        Operator::Ingest,
        Operator::Home,
        Operator::Owner,
        Operator::Finish,
        Operator::DriftOwner,
        Operator::Gather,
        Operator::Sinks,
    ];

    /// As timely knows it.
    pub fn name(self) -> &'static str {
        match self {
            Operator::Fused => "Fused",
            Operator::Ingest => "Ingest",
            Operator::Home => "Home",
            Operator::Owner => "Owner",
            Operator::Finish => "Finish",
            Operator::DriftOwner => "DriftOwner",
            Operator::Gather => "Gather",
            Operator::Sinks => "Sinks",
            Operator::Post => "Post",
        }
    }
}

impl Form {
    /// How `workers` run a job; one alone has operators as several only where it is told to.
    pub fn of(workers: usize, is_split: bool) -> Self {
        if workers == 1 && !is_split { Form::Fused } else { Form::Split { workers } }
    }
}

impl Shape {
    pub fn new<'a>(
        order: Order,
        tables: impl IntoIterator<Item = &'a AsOfTable>,
        plan: &FeaturePlan,
        outputs: Vec<Output>,
    ) -> Self {
        let tables = tables.into_iter().map(|table| TableShape { eager: table.eager });
        let trips = plan.trips.iter().map(|trip| match &trip.errand {
            Errand::Windows(_) => TripShape::Windows,
            Errand::Lookups(lookups) => TripShape::Lookups { table: lookups.table },
        });
        Shape {
            order,
            tables: tables.collect(),
            static_tables: 0,
            trips: trips.collect(),
            outputs,
            has_rules: !plan.rules.is_empty(),
            gathered: None,
        }
    }

    /// The parts of the job, in the order that rows reach them.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = vec![Part::Events, Part::Admit];
        parts.extend((0..self.tables.len()).map(Part::Table));
        parts.extend((0..self.static_tables).map(Part::StaticTable));
        parts.extend([Part::Watermark, Part::Gate]);
        parts.extend((0..self.tables.len()).map(Part::Versions));
        parts.extend(self.trips());
        parts.extend((!self.trips.is_empty()).then_some(Part::Waiting));
        parts.push(Part::Features);
        parts.extend(self.validates().then_some(Part::Validate));
        if self.scores() {
            parts.extend([Part::MicroBatch, Part::Model]);
        }
        parts.extend(self.puts_out(Output::Features).then_some(Part::Export));
        if self.watches_drift() {
            parts.extend([Part::Panes, Part::DriftWindows]);
        }
        parts.extend(self.outputs.iter().map(|&output| Part::Output(output)));
        parts
    }

    pub fn has(&self, part: Part) -> bool {
        self.parts().contains(&part)
    }

    /// The operators of each worker.
    pub fn operators(&self, form: Form) -> Vec<Operator> {
        use Operator::{DriftOwner, Finish, Gather, Home, Ingest, Owner, Post, Sinks};
        let Form::Split { workers } = form else { return vec![Operator::Fused, Operator::Sinks] };
        let of_parts = |operator| match operator {
            Operator::Fused => false,
            Operator::Post => true,
            // Where there is one worker, it would only make epochs wait for their end.
            Operator::Gather => self.gathered.is_some() && workers > 1,
            operator => self.parts().iter().any(|part| part.operator() == Some(operator)),
        };
        let all = [Ingest, Home, Owner, Finish, DriftOwner, Gather, Sinks, Post];
        all.into_iter().filter(|&operator| of_parts(operator)).collect()
    }

    /// The parts that an operator is of.
    pub fn parts_of(&self, operator: Operator) -> Vec<Part> {
        let is_of = |part: &Part| match (operator, part.operator()) {
            (Operator::Fused, of) => of.is_some_and(|of| of != Operator::Sinks),
            (operator, of) => of == Some(operator),
        };
        self.parts().into_iter().filter(is_of).collect()
    }

    pub(super) fn puts_out(&self, output: Output) -> bool {
        self.outputs.contains(&output)
    }

    pub(super) fn scores(&self) -> bool {
        self.puts_out(Output::Predictions)
    }

    /// Whether rows are refused for their features.
    pub(super) fn validates(&self) -> bool {
        self.scores() || self.has_rules
    }

    /// Snapshots of drift, or the reference for them.
    fn watches_drift(&self) -> bool {
        self.drift_output().is_some()
    }

    pub(super) fn drift_output(&self) -> Option<Output> {
        [Output::Drift, Output::Baseline].into_iter().find(|&output| self.puts_out(output))
    }

    pub(super) fn trips(&self) -> impl Iterator<Item = Part> {
        self.trips.iter().enumerate().map(|(at, &trip)| Part::Trip(at, trip))
    }
}
