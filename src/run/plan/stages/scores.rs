//! What is behind the features: the model, drift, and the outputs.

use driftline_operators::dead_letter::Reason;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::watched::PREDICTION;

use super::super::graph::{Graph, Group, Line};
use super::super::words;
use super::{ids, inputs};
use crate::config::job::{Drift, ModelFile, Output, Realtime};
use crate::run::export::beside;
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;

const VALIDATE: &str = "validate";
const BATCH: &str = "micro_batch";
const MODEL: &str = "model";
const PANES: &str = "drift_panes";
const WINDOWS: &str = "drift_windows";

pub(super) fn add(graph: &mut Graph, prepared: &Prepared) {
    let job = &prepared.job;
    match &job.model {
        Some(model) => {
            add_model(graph, model, &job.realtime);
            if let Some(drift) = &job.drift {
                add_drift(graph, drift, watched(prepared, model));
            }
            let outputs = &job.outputs;
            add_sink(graph, "predictions", "predictions", &outputs.predictions);
            graph.rows(MODEL, "predictions", "a prediction for each row");
            if job.drift.is_some() {
                add_sink(graph, "drift", "drift snapshots", &outputs.drift);
                graph.rows(WINDOWS, "drift", "a row for each window and column");
            }
            add_sink(graph, ids::DEAD_LETTERS, "dead letters", &outputs.dead_letters);
            graph.rows(VALIDATE, ids::DEAD_LETTERS, Reason::MissingFeature.name());
            graph.rows(MODEL, ids::DEAD_LETTERS, Reason::ScoringFailed.name());
        }
        None => add_export(graph, prepared),
    }
    inputs::add_dead_letters(graph, prepared);
}

fn add_model(graph: &mut Graph, model: &ModelFile, realtime: &Realtime) {
    let null = "an input that is null, without a default and not allow_null: a dead letter";
    graph.stage(VALIDATE, VALIDATE, Group::Home, vec![Line::new("refuses", null)]);
    graph.rows(ids::FEATURES, VALIDATE, "rows with features");
    let (rows, timeout) = (realtime.bounds.max_rows as u64, realtime.bounds.timeout);
    let lines = vec![
        Line::new("max_batch_size", format!("{} rows", thousands(rows))),
        Line::new("batch_timeout_ms", words::length(timeout.as_millis() as i64)),
    ];
    graph.stage(BATCH, "micro-batch", Group::Home, lines);
    graph
        .rows(VALIDATE, BATCH, "valid rows")
        .waits_for("more rows while any are at hand: max_batch_size or batch_timeout_ms at most");
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
    graph.stage(MODEL, MODEL, Group::Home, lines);
    graph.rows(BATCH, MODEL, "batches");
}

/// The columns that drift watches: the numeric inputs of the model, and the score.
fn watched(prepared: &Prepared, model: &ModelFile) -> Vec<String> {
    let is_number = |name: &&String| {
        let mut fields = prepared.plan.fields().iter();
        fields.any(|field| field.name() == *name && field.data_type().is_numeric())
    };
    let mut columns: Vec<String> = model.features.iter().filter(is_number).cloned().collect();
    columns.push(PREDICTION.to_owned());
    columns
}

fn add_drift(graph: &mut Graph, drift: &Drift, watched: Vec<String>) {
    let lengths: Vec<WindowLength> = drift.windows.iter().map(|(length, _)| *length).collect();
    let pane = match WindowLength::common_pane(&lengths) {
        WindowLength::Millis(millis) => words::length(millis),
        other => format!("{other:?}"),
    };
    let lines = vec![
        Line::new("panes", format!("of {pane}, one set on each worker")),
        Line::new("columns", format!("{}: {}", watched.len(), watched.join(", "))),
    ];
    graph.stage(PANES, "drift panes", Group::Home, lines);
    graph.rows(MODEL, PANES, "inputs and scores");
    graph
        .progress(ids::WATERMARK, PANES, "")
        .waits_for("the job's watermark to reach the end of the pane");
    let windows: Vec<String> =
        drift.windows.iter().map(|(length, text)| words::drift_window(*length, text)).collect();
    let lines = vec![
        Line::new("owner", "of each column, over the panes of all workers"),
        Line::new("windows", windows.join(", ")),
        Line::new("mode", words::drift_mode(drift.mode)),
        Line::new("late rows", words::late_for_drift(drift.revisions)),
        Line::new("baseline", words::path(&drift.baseline)),
        Line::new("drifted", words::drift_rules(&drift.thresholds)),
    ];
    graph.stage(WINDOWS, "drift windows", Group::Owner, lines);
    graph.rows(PANES, WINDOWS, "closed panes, and late rows of them, by column");
    graph
        .progress(ids::WATERMARK, WINDOWS, "")
        .waits_for("the job's watermark to reach the end of the window");
}

fn add_sink(graph: &mut Graph, id: &str, title: &str, output: &Output) {
    let lines = vec![Line::new("path", words::output(output))];
    graph.stage(id, title, Group::Outputs, lines);
}

/// Where `export` writes to if it is not told.
fn add_export(graph: &mut Graph, prepared: &Prepared) {
    let folder = prepared.job.outputs.predictions.path.with_file_name("features");
    let letters = Output::parquet(beside(&folder, "_dead_letters"));
    let lines = vec![
        Line::new("path", words::output(&Output::parquet(folder))),
        Line::new("model", "none: the job can only export features"),
    ];
    graph.stage("export", "feature rows", Group::Outputs, lines);
    graph.rows(ids::FEATURES, "export", "rows with features");
    add_sink(graph, ids::DEAD_LETTERS, "dead letters", &letters);
}
