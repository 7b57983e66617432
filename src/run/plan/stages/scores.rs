//! What is behind the features: the model, drift, and the outputs.

use driftline_operators::core::parts::{Part, Shape};
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::sinks::Output;
use driftline_operators::watched::PREDICTION;

use super::super::graph::Line;
use super::super::{route_words, words};
use crate::config::Job;
use crate::config::job::{self, Drift, ModelFile};
use crate::config::routing::Routing;
use crate::run::export::beside;
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;

/// What the job says of a part behind the features.
pub(super) fn lines(part: Part, shape: &Shape, prepared: &Prepared) -> Vec<Line> {
    let job = &prepared.job;
    let null = "an input that is null, without a default and not allow_null: a dead letter";
    let lines = match part {
        Part::Validate => {
            let refuses = shape.has(Part::Model).then(|| Line::new("refuses", null));
            let rules = prepared.plan.rules.iter();
            let rules = rules.map(|rule| Line::new(rule.name.as_str(), words::rule(rule)));
            Some(refuses.into_iter().chain(rules).collect())
        }
        Part::MicroBatch => Some(micro_batch(job)),
        Part::Model => match &job.routing {
            None => job.model.as_ref().map(model),
            Some(routing) => Some(several(routing)),
        },
        Part::Export => Some(vec![Line::new("model", "none: the job can only export features")]),
        Part::Panes => job.drift.as_ref().map(|drift| panes(drift, &watched(prepared))),
        Part::DriftWindows => job.drift.as_ref().map(drift_windows),
        Part::Output(output) => Some(written(output, shape, job)),
        _ => None,
    };
    lines.unwrap_or_default()
}

fn micro_batch(job: &Job) -> Vec<Line> {
    let bounds = job.realtime.bounds;
    let (rows, timeout) = (bounds.max_rows as u64, bounds.timeout.as_millis() as i64);
    vec![
        Line::new("max_batch_size", format!("{} rows", thousands(rows))),
        Line::new("batch_timeout_ms", words::length(timeout)),
    ]
}

fn model(model: &ModelFile) -> Vec<Line> {
    let mut lines = vec![
        Line::new("name", model.name.as_str()),
        Line::new("version", model.version.as_str()),
        Line::new("path", words::path(&model.path)),
        Line::new("inputs", format!("{}: {}", model.features.len(), model.features.join(", "))),
    ];
    let named = |(input, features): (&String, &Vec<String>)| {
        Line::new("input", format!("{input}: {}", features.join(", ")))
    };
    lines.extend(model.inputs.iter().map(named));
    lines.extend(model.output.as_ref().map(|output| Line::new("output", output.as_str())));
    lines
}

/// Several models, and which scores a row.
fn several(routing: &Routing) -> Vec<Line> {
    let models = routing.models.iter().flat_map(|(name, file)| {
        let version = format!("{} version {}", file.name, file.version);
        let inputs = format!("{}: {}", file.features.len(), file.features.join(", "));
        [
            Line::new(&format!("model {name}"), format!("{version}, {}", words::path(&file.path))),
            Line::new("inputs", inputs),
        ]
    });
    let routes = route_words::routing(routing).into_iter();
    models.chain(routes.map(|(name, text)| Line::new(&name, text))).collect()
}

/// The columns that drift watches: the numeric inputs of the models, and the score.
fn watched(prepared: &Prepared) -> Vec<String> {
    let is_number = |name: &&String| {
        let mut fields = prepared.plan.fields().iter();
        fields.any(|field| field.name() == *name && field.data_type().is_numeric())
    };
    let names = prepared.job.model_features();
    let mut columns: Vec<String> = names.iter().filter(is_number).cloned().collect();
    columns.push(PREDICTION.to_owned());
    columns
}

fn panes(drift: &Drift, watched: &[String]) -> Vec<Line> {
    let lengths: Vec<WindowLength> = drift.windows.iter().map(|(length, _)| *length).collect();
    let pane = match WindowLength::common_pane(&lengths) {
        WindowLength::Millis(millis) => words::length(millis),
        other => format!("{other:?}"),
    };
    vec![
        Line::new("panes", format!("of {pane}, one set on each worker")),
        Line::new("columns", format!("{}: {}", watched.len(), watched.join(", "))),
    ]
}

fn drift_windows(drift: &Drift) -> Vec<Line> {
    let windows: Vec<String> =
        drift.windows.iter().map(|(length, text)| words::drift_window(*length, text)).collect();
    vec![
        Line::new("owner", "of each column, over the panes of all workers"),
        Line::new("windows", windows.join(", ")),
        Line::new("mode", words::drift_mode(drift.mode)),
        Line::new("late rows", words::late_for_drift(drift.revisions)),
        Line::new("baseline", words::path(&drift.baseline)),
        Line::new("drifted", words::drift_rules(&drift.thresholds)),
    ]
}

/// Where an output goes; what an export does not say is where it goes if it is not told.
fn written(output: Output, shape: &Shape, job: &Job) -> Vec<Line> {
    let features = || job.outputs.predictions.path.with_file_name("features");
    let path = |output: &job::Output| vec![Line::new("path", words::output(output))];
    let scores = shape.has(Part::Model);
    match output {
        Output::Predictions => vec![Line::new("path", words::predictions(job))],
        Output::Drift => path(&job.outputs.drift),
        Output::DeadLetters if scores => path(&job.outputs.dead_letters),
        Output::DeadLetters => path(&job::Output::parquet(beside(&features(), "_dead_letters"))),
        Output::Features => path(&job::Output::parquet(features())),
        Output::Alerts => {
            let topic = job.kafka.alerts.as_deref().unwrap_or_default();
            vec![Line::new("topic", format!("{topic}, of live runs alone"))]
        }
        Output::Baseline | Output::Skipped => Vec::new(),
    }
}
