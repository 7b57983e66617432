//! What `check` says of a job: its inputs, features, model, drift and outputs.

pub mod sheet;
mod tables;

use std::sync::Arc;

use anyhow::{Error, Result};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use driftline_operators::drift::coverage::Coverage;
use driftline_operators::features::sql_bounds::takes_log_of_one;
use driftline_operators::model_input::ModelInput;
use driftline_operators::watermark::EVENTS;

use self::sheet::{NO_BREAK, Sheet};
use super::baseline_file::BaselineFile;
use super::drift::PreparedDrift;
use super::lateness::foreseen;
use super::loading::describe as describe_dependence;
use super::numbers::thousands;
use super::options::{RunOptions, TopicUse};
use super::plan::{route_words, words};
use super::prepare::{Prepared, inputs};
use super::scoring::ScoringParts;
use super::served;
use crate::config::Job;
use crate::config::duration::instant_text;
use crate::config::job::{Drift, Feature, ShardBy};

/// What `check` found.
pub struct Described {
    pub text: String,
    /// The first thing that a replay would fail on; what can be said without it is in the text.
    pub problem: Option<Error>,
}

/// Opens all that a replay would open, and describes it.
pub fn describe(job: &Arc<Job>) -> Described {
    let mut sheet = Sheet::default();
    sheet.line(&format!("job {}: rows in order of {}", job.name, job.order.name()));
    let options = RunOptions { topics: TopicUse::Described, ..RunOptions::default() };
    let opened = all_columns(job, &options)
        .and_then(|all_columns| Ok((all_columns, Prepared::new(job, &options)?)));
    let (all_columns, prepared) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            declared(&mut sheet, job);
            return Described { text: sheet.text(), problem: Some(error) };
        }
    };
    source(&mut sheet, &prepared, &all_columns[EVENTS]);
    tables::add(&mut sheet, &prepared, &all_columns);
    let model = job.model.as_ref();
    let parts = model.map(|_| ScoringParts::load(&prepared, &options)).transpose();
    let mut traps = Vec::new();
    let problem = match parts {
        Ok(parts) => {
            let found = parts.iter().flat_map(|parts| parts.all());
            traps.extend(found.flat_map(|of| {
                let whose = match job.routing {
                    Some(_) => format!("model {}", of.identity.name),
                    None => "model".to_owned(),
                };
                of.traps.iter().map(move |trap| format!("{whose}: {trap}"))
            }));
            with_model(&mut sheet, &prepared, parts.as_ref()).err()
        }
        Err(error) => {
            features(&mut sheet, &prepared, None);
            if let Some(model) = model {
                let version = match &model.registered {
                    Some(_) => String::new(),
                    None => format!(" version {}", model.version),
                };
                let title = format!("model {}{version}: cannot be used", model.name);
                sheet.section(&title, &[vec![words::path(&model.path)]]);
            }
            if let Some(drift) = &job.drift {
                add_drift(&mut sheet, drift, None, BaselineFile::read(&drift.baseline).as_ref());
            }
            outputs(&mut sheet, job);
            Some(error)
        }
    };
    let logs = job.sql().into_iter().filter(|(_, sql)| takes_log_of_one(sql));
    let mut last: Vec<String> = logs
        .map(|(key, _)| {
            format!("note: {key}: log of one argument is base 10; ln is the natural logarithm")
        })
        .collect();
    let warnings = prepared.inputs.doubts().found().into_iter().chain(foreseen(&prepared));
    last.extend(warnings.chain(traps).map(|warning| format!("warning: {warning}")));
    if problem.is_none() {
        last.push("the job is sound".to_owned());
    }
    if !last.is_empty() {
        sheet.line("");
        last.iter().for_each(|line| sheet.line(line));
    }
    Described { text: sheet.text(), problem }
}

/// What a job is about whose inputs are open; of a job without a model that it has none.
///
/// # Errors
/// What is wrong with its baseline, when all has been described.
fn with_model(sheet: &mut Sheet, prepared: &Prepared, parts: Option<&ScoringParts>) -> Result<()> {
    let job = &prepared.job;
    let inputs: Option<Vec<ModelInput>> =
        parts.map(|parts| parts.all().flat_map(|model| model.inputs.clone()).collect());
    features(sheet, prepared, inputs.as_deref());
    let Some(parts) = parts else {
        sheet.section("no model: the job can only export features", &[]);
        return Ok(());
    };
    parts.all().enumerate().for_each(|(place, _)| add_model(sheet, prepared, parts, place));
    if let Some(routing) = &job.routing {
        let rows = route_words::routing(routing).into_iter();
        let rows: Vec<Vec<String>> = rows.map(|(name, text)| vec![name, text]).collect();
        sheet.section("routes, the first that takes a row", &rows);
    }
    let mut found = Ok(());
    if let Some(drift) = &job.drift {
        let baseline = PreparedDrift::new(job, parts, Coverage::ALL)
            .and_then(|_| BaselineFile::read(&drift.baseline));
        add_drift(sheet, drift, Some(&parts.watched.names), baseline.as_ref());
        found = baseline.map(|_| ());
    }
    outputs(sheet, job);
    found
}

/// What a job says of itself, where its inputs cannot be read.
fn declared(sheet: &mut Sheet, job: &Job) {
    let features = job
        .features
        .iter()
        .map(|(name, feature)| vec![name.clone(), null(feature, true), made(job, feature)]);
    sheet.section("features, in order", &features.collect::<Vec<_>>());
    if let Some(drift) = &job.drift {
        add_drift(sheet, drift, None, BaselineFile::read(&drift.baseline).as_ref());
    }
    if job.model.is_some() {
        outputs(sheet, job);
    }
}

/// The columns of each stream, before it is known which are read. Standard input cannot be opened
/// twice; it says nothing here.
fn all_columns(job: &Job, options: &RunOptions) -> Result<Vec<SchemaRef>> {
    let streams = 1 + inputs::as_of_tables(job).count();
    let tables = inputs::as_of_tables(job).filter_map(|(_, table, _)| table.input.as_ref());
    let events = job.source.iter().filter_map(|source| source.input.as_ref());
    if events.chain(tables).any(|input| input.path.as_os_str() == "-") {
        let unknown: SchemaRef = Arc::new(Schema::empty());
        return Ok(vec![unknown; streams]);
    }
    let inputs = inputs::open(job, options)?;
    Ok((0..streams).map(|stream| inputs.schema(stream)).collect())
}

fn source(sheet: &mut Sheet, prepared: &Prepared, all: &Schema) {
    let job = &prepared.job;
    let rows = match prepared.inputs.total_rows() {
        Some(rows) => format!("{} rows", thousands(rows)),
        None => "rows not known beforehand".to_owned(),
    };
    let schema = prepared.inputs.schema(EVENTS);
    let role = |name: &str| {
        let is = |named: &Option<String>| named.as_deref() == Some(name);
        let shard = matches!(&job.shard_by, ShardBy::Column(column) if column == name);
        let roles = [
            ("time", job.event.time == name),
            ("id", is(&job.event.id)),
            ("key", is(&job.event.key)),
            ("shard_by", shard),
        ];
        let roles = roles.iter().filter(|(_, is)| *is).map(|(role, _)| *role);
        roles.collect::<Vec<_>>().join(", ")
    };
    let (name, path) = match &job.source {
        Some(source) => (source.name.as_str(), words::source(source)),
        None => ("", String::new()),
    };
    let title = format!("source {name}: {path} ({}, {rows})", words::stored(prepared, EVENTS));
    let mut rows = columns(&schema, all, role);
    rows.extend(notes(prepared, EVENTS));
    sheet.section(&title, &rows);
}

/// What is to be said of the columns of a stream, a row each.
fn notes(prepared: &Prepared, stream: usize) -> Vec<Vec<String>> {
    prepared.inputs.notes(stream).into_iter().map(note).collect()
}

fn note(text: String) -> Vec<String> {
    vec!["(note)".to_owned(), text]
}

/// A row for each column that is read, and one for all others.
fn columns(read: &Schema, all: &Schema, role: impl Fn(&str) -> String) -> Vec<Vec<String>> {
    let row =
        |name: &str, data_type: &DataType| vec![name.to_owned(), data_type.to_string(), role(name)];
    let mut rows: Vec<Vec<String>> =
        read.fields().iter().map(|field| row(field.name(), field.data_type())).collect();
    let unread = all.fields().iter().filter(|field| read.index_of(field.name()).is_err());
    let unread = unread.map(|field| format!("{}{NO_BREAK}{}", field.name(), field.data_type()));
    let unread: Vec<String> = unread.collect();
    if !unread.is_empty() {
        rows.push(vec!["(not read)".to_owned(), unread.join(", ")]);
    }
    rows
}

/// `inputs`: what the model reads, if there is one.
fn features(sheet: &mut Sheet, prepared: &Prepared, inputs: Option<&[ModelInput]>) {
    let job = &prepared.job;
    let is_read = |name: &str| inputs.is_none_or(|all| all.iter().any(|input| input.name == name));
    let row = |(field, (name, feature)): (&arrow::datatypes::Field, &(String, Feature))| {
        let null = null(feature, is_read(name));
        vec![field.name().clone(), field.data_type().to_string(), null, made(job, feature)]
    };
    let rows: Vec<Vec<String>> =
        prepared.plan.fields().iter().zip(&job.features).map(row).collect();
    sheet.section("features, in order", &rows);
    let rules = prepared.plan.rules.iter();
    let rules: Vec<Vec<String>> =
        rules.map(|rule| vec![rule.name.clone(), words::rule(rule)]).collect();
    if !rules.is_empty() {
        sheet.section("rules: what features and rows must be", &rules);
    }
}

fn made(job: &Job, feature: &Feature) -> String {
    match words::window_of(&feature.kind) {
        Some((key, window)) => format!("window {window} by {key}"),
        None => words::kind(job, &feature.kind),
    }
}

fn null(feature: &Feature, is_read: bool) -> String {
    match (&feature.default, feature.allow_null) {
        (Some(default), _) => format!("default {default}"),
        (None, true) => "null is NaN".to_owned(),
        (None, false) if is_read => "null is a dead letter".to_owned(),
        (None, false) => "null stays".to_owned(),
    }
}

fn add_model(sheet: &mut Sheet, prepared: &Prepared, parts: &ScoringParts, place: usize) {
    let job = &prepared.job;
    let Some(model) = parts.all().nth(place) else { return };
    let (name, version) = (&model.identity.name, &model.identity.version);
    let finding = describe_dependence(model.dependence);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let several = job.routing.as_ref().and_then(|routing| routing.models.get(place));
    let file = several.map(|(_, file)| file).or(job.model.as_ref());
    let path = file.map(|file| words::path(&file.path)).unwrap_or_default();
    rows.extend(model.digest.iter().map(|digest| vec![format!("{path} (XXH3 {digest})")]));
    rows.extend(parts.versions[place].iter().map(|version| {
        vec![format!("registered from {}, at {}", version.source, instant_text(version.created_ms))]
    }));
    rows.extend(model.described.iter().map(|line| vec![line.clone()]));
    rows.extend(model.parity.iter().map(|found| vec![format!("parity: {found}")]));
    let most = thousands(served::batch_size(&job.realtime, &model.file.card).value);
    let wait = job.realtime.bounds.timeout.as_millis();
    rows.push(vec![format!("batches of at most {most} rows; a row waits at most {wait} ms")]);
    let said = served::lines(&job.realtime, model).into_iter();
    rows.extend(said.map(|(name, text)| vec![format!("{name}: {text}")]));
    sheet.section(&format!("model {name} version {version}: {finding}"), &rows);
}

/// `watched` is known where there is a model.
fn add_drift(
    sheet: &mut Sheet,
    drift: &Drift,
    watched: Option<&[String]>,
    baseline: Result<&BaselineFile, &Error>,
) {
    let row = |name: &str, text: String| vec![name.to_owned(), text];
    let path = words::path(&drift.baseline);
    let (title, held) = match baseline {
        Ok(BaselineFile { kind, rows, rows_held, .. }) => {
            let (held, rows) = (thousands(*rows_held), thousands(*rows));
            let title = match watched {
                Some(_) => "drift: the baseline covers all watched columns",
                None => "drift",
            };
            (title, format!("{path} ({}, {held} of {rows} rows)", kind.name()))
        }
        Err(_) if !drift.baseline.exists() => {
            ("drift: there is no baseline yet", format!("{path} (missing)"))
        }
        Err(_) => ("drift: the baseline cannot be used", path),
    };
    let watched = watched.map(|all| row("watches", format!("{}: {}", all.len(), all.join(", "))));
    let windows = drift.windows.iter().map(|(length, text)| words::drift_window(*length, text));
    let mut lines = vec![row("baseline", held)];
    lines.extend(watched);
    lines.extend([
        row("windows", windows.collect::<Vec<_>>().join(", ")),
        row("drifted if", words::drift_rules(&drift.thresholds)),
        row("mode", words::drift_mode(drift.mode)),
        row("late rows", words::late_for_drift(drift.revisions)),
    ]);
    sheet.section(title, &lines);
}

fn outputs(sheet: &mut Sheet, job: &Job) {
    let mut rows = vec![("predictions", words::predictions(job))];
    rows.extend(job.drift.is_some().then(|| ("drift", words::output(&job.outputs.drift))));
    rows.push(("dead letters", words::output(&job.outputs.dead_letters)));
    let rows = rows.into_iter().map(|(name, output)| vec![name.to_owned(), output]);
    sheet.section("results", &rows.collect::<Vec<_>>());
}
