//! The parts of a job in words. Which there are, and what goes from one to another, is what the graph
//! itself is built by: [`driftline_operators::core::parts`].

mod features;
mod inputs;
mod order;
mod scores;

use driftline_operators::core::flows;
use driftline_operators::core::flows::Wait;
use driftline_operators::core::parts::{Form, Part, Shape};
use driftline_operators::gate::Order;
use driftline_operators::sinks::Output;

use super::graph::{Carries, Flow, Graph, Line, Stage};
use super::words;
use crate::config::Job;
use crate::run::numbers::thousands;
use crate::run::options::RunOptions;
use crate::run::prepare::Prepared;

/// Several workers, however many.
const SEVERAL: Form = Form::Split { workers: 2 };

/// The graph that a replay of the job runs, or an export if it has no model.
pub fn graph(prepared: &Prepared, options: &RunOptions) -> Graph {
    let job = &prepared.job;
    let order = match job.order {
        Order::EventTime => "in order of event time",
        Order::Epoch => "in order within each epoch",
        Order::Arrival => "as they arrive",
    };
    let shape = shape(prepared);
    let bare = Graph::of_shape(&shape);
    let lines = |part| lines(part, &shape, prepared, options);
    let stages = shape.parts().into_iter().zip(bare.stages).map(|(part, stage)| Stage {
        title: title(part, prepared),
        lines: lines(part),
        ..stage
    });
    let flows = shape.flows().into_iter().zip(bare.flows).map(|(flow, bare)| Flow {
        label: label(&flow, prepared),
        waits: flow.waits.map(|wait| waits(wait, job)),
        ..bare
    });
    let operators = [
        ("operators of the worker, where there is one", Form::Fused),
        ("operators of each worker, where there are several", SEVERAL),
    ];
    let operators = operators.map(|(heading, form)| {
        let name = |part| title(part, prepared);
        (heading.to_owned(), operators_of(&shape, form, name))
    });
    Graph {
        title: format!("plan of job {}: rows {order} (order = {:?})", job.name, job.order.name()),
        stages: stages.collect(),
        flows: flows.collect(),
        operators: operators.into(),
        bounds: bounds(prepared),
    }
}

impl Graph {
    /// The graph without what only a job can say.
    pub fn of_shape(shape: &Shape) -> Self {
        let stage = |part: Part| Stage {
            id: part.id(),
            title: part.title().to_owned(),
            place: part.place(),
            lines: Vec::new(),
        };
        let flow = |flow: flows::Flow| Flow {
            from: flow.from.id(),
            to: flow.to.id(),
            carries: match flow.carries {
                flows::Carries::Rows(_) | flows::Carries::DeadLetters => Carries::Rows,
                flows::Carries::Progress(_) => Carries::Progress,
            },
            label: String::new(),
            waits: None,
        };
        Graph {
            stages: shape.parts().into_iter().map(stage).collect(),
            flows: shape.flows().into_iter().map(flow).collect(),
            ..Graph::default()
        }
    }
}

/// What a replay makes of the job, or an export if it has no model.
pub fn shape(prepared: &Prepared) -> Shape {
    let job = &prepared.job;
    let outputs = match &job.model {
        Some(_) => {
            let drift = job.drift.is_some().then_some(Output::Drift);
            let alerts = job.kafka.alerts.is_some().then_some(Output::Alerts);
            let scored = [Output::Predictions].into_iter().chain(drift).chain(alerts);
            scored.chain([Output::DeadLetters]).collect()
        }
        None => vec![Output::Features, Output::DeadLetters],
    };
    let tables = prepared.tables.iter().map(|compiled| &compiled.table);
    Shape {
        static_tables: prepared.static_tables.len(),
        ..Shape::new(job.order, tables, &prepared.plan, outputs)
    }
}

/// Each operator with parts of the job, and these; not what workers tell each other by.
fn operators_of(shape: &Shape, form: Form, name: impl Fn(Part) -> String) -> Vec<Line> {
    let operators = shape.operators(form).into_iter().map(|operator| {
        let parts: Vec<String> = shape.parts_of(operator).into_iter().map(&name).collect();
        (!parts.is_empty()).then(|| Line::new(operator.name(), parts.join(", ")))
    });
    operators.flatten().collect()
}

/// What the job calls a part.
fn title(part: Part, prepared: &Prepared) -> String {
    match part {
        Part::Table(at) => format!("table {}", prepared.tables[at].table.name),
        Part::StaticTable(at) => format!("static table {}", inputs::static_name(&prepared.job, at)),
        Part::Versions(at) => format!("versions of {}", prepared.tables[at].table.name),
        Part::Trip(at, _) => features::trip_title(prepared, at),
        other => other.title().to_owned(),
    }
}

/// What the job says of a part.
fn lines(part: Part, shape: &Shape, prepared: &Prepared, options: &RunOptions) -> Vec<Line> {
    let job = &prepared.job;
    match part {
        Part::Events => inputs::events(prepared, options),
        Part::Admit => inputs::admission(&job.event),
        Part::Table(at) => inputs::as_of_table(prepared, at),
        Part::StaticTable(at) => inputs::static_table(job, at),
        Part::Watermark => inputs::watermark(job),
        Part::Gate => order::gate(job),
        Part::Versions(at) => order::versions(prepared, at),
        Part::Trip(at, _) => features::trip(prepared, at),
        Part::Waiting => features::waiting(),
        Part::Features => features::features(job),
        _ => scores::lines(part, shape, prepared),
    }
}

fn label(flow: &flows::Flow, prepared: &Prepared) -> String {
    match flow.carries {
        flows::Carries::Rows(what) | flows::Carries::Progress(what) => what.to_owned(),
        flows::Carries::DeadLetters => inputs::reasons(flow.from, prepared),
    }
}

fn waits(wait: Wait, job: &Job) -> String {
    match wait {
        Wait::Epoch => "the row's epoch to be complete".to_owned(),
        Wait::Watermark => {
            let streams = inputs::waited_for(job);
            format!(
                "an epoch to be complete whose watermark is past the row's event time: {streams}"
            )
        }
        Wait::EpochAtOwner => "the epoch of the request to be complete at the owner".to_owned(),
        Wait::Answers => "the answers of all owners to all rows of a batch".to_owned(),
        Wait::MoreRows => {
            "more rows while any are at hand: max_batch_size or batch_timeout_ms at most".to_owned()
        }
        Wait::EndOfPane => "the job's watermark to reach the end of the pane".to_owned(),
        Wait::EndOfWindow => "the job's watermark to reach the end of the window".to_owned(),
    }
}

fn bounds(prepared: &Prepared) -> Vec<Line> {
    let job = &prepared.job;
    let flow = job.bounds;
    let skew = flow.partition_skew_max_ms.map_or_else(|| "not set".to_owned(), words::length);
    vec![
        Line::new("epoch_rows_max", format!("{} rows", thousands(job.epoch_rows_max as u64))),
        Line::new("epochs_in_flight_max", format!("{} epochs", flow.epochs_in_flight_max)),
        Line::new("gate_rows_max", format!("{} rows", thousands(flow.gate_rows_max))),
        Line::new("gate_bytes_max", format!("{} bytes", thousands(flow.gate_bytes_max))),
        Line::new("bytes_in_flight_max", format!("{} bytes", thousands(flow.bytes_in_flight_max))),
        Line::new("partition_skew_max_ms", skew),
        Line::new("late_horizon_ms", words::length(job.event.late_horizon_ms)),
    ]
}
