//! How the parts of a job are called in its plan.

use std::path::{Component, Path, PathBuf};

use driftline_operators::drift::alarms::Thresholds;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::windows::Revisions;
use driftline_operators::features::rules::Rule;
use driftline_operators::features::validity::OnFail;
use driftline_operators::features::window::Aggregate;
use driftline_operators::layout::CameAs;
use driftline_operators::prediction;

use crate::config::Job;
use crate::config::duration::length_text;
use crate::config::job::{
    Compression, DriftMode, Feature, FeatureKind, Figure, Format, Input, Output, Source, Table,
};
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;

/// A length of time that is not negative.
pub fn length(millis: i64) -> String {
    length_text(millis.max(0).unsigned_abs())
}

/// A path from the current folder on if it lies below it, else an absolute one.
pub fn path(path: &Path) -> String {
    if path.as_os_str() == "-" {
        return "standard input".to_owned();
    }
    std::env::current_dir()
        .map_or_else(|_| path.display().to_string(), |folder| path_from(&folder, path))
}

fn path_from(folder: &Path, path: &Path) -> String {
    let mut plain = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    match plain.strip_prefix(folder) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => plain.display().to_string(),
    }
}

pub fn format(format: Format) -> &'static str {
    match format {
        Format::Parquet => "Parquet",
        Format::Json => "JSON lines",
        Format::Csv => "CSV",
    }
}

pub fn output(output: &Output) -> String {
    let compressed = match output.compression {
        None => "",
        Some(Compression::Gzip) => ", gzip",
        Some(Compression::Zstd) => ", zstd",
    };
    format!("{} ({}{compressed})", path(&output.path), format(output.format))
}

/// As [`output`], with the columns of predictions if the job chooses some.
pub fn predictions(job: &Job) -> String {
    let left_out = &job.left_out_of_predictions;
    let is_written = |name: &&str| !left_out.iter().any(|left_out| left_out == name);
    let written: Vec<&str> = prediction::COLUMNS.into_iter().filter(is_written).collect();
    match left_out.is_empty() {
        true => output(&job.outputs.predictions),
        false => format!("{}: {}", output(&job.outputs.predictions), written.join(", ")),
    }
}

/// Where the source of the events is.
pub fn source(source: &Source) -> String {
    let topics = source.topics.as_ref().map(|topics| topics.names.as_slice());
    place(source.input.as_ref(), topics.unwrap_or_default())
}

/// Where a table is.
pub fn table(table: &Table) -> String {
    place(table.input.as_ref(), table.topic.as_slice())
}

fn place(input: Option<&Input>, topics: &[String]) -> String {
    match (input, topics) {
        (Some(input), _) => path(&input.path),
        (None, [topic]) => format!("topic {topic}"),
        (None, topics) => format!("topics {}", topics.join(", ")),
    }
}

/// The form and the partitions of a stream.
pub fn stored(prepared: &Prepared, stream: usize) -> String {
    let inputs = &prepared.inputs;
    let count = inputs.partitions().iter().filter(|partition| partition.stream == stream).count();
    match inputs.came_as(stream) {
        CameAs::Columns | CameAs::Bytes => {
            format!("{}, {}", format(inputs.format(stream)), partitions(count))
        }
        CameAs::Messages => "JSON messages".to_owned(),
    }
}

fn partitions(count: usize) -> String {
    if count == 1 { "1 partition".to_owned() } else { format!("{count} partitions") }
}

/// What a window says of the rows of its key.
fn window(figure: &Figure, value: Option<&str>, length_ms: i64) -> String {
    let length = length(length_ms);
    let name = match figure {
        Figure::Aggregate(Aggregate::TimeSinceLast) => {
            return format!("time since the last row, within {length}");
        }
        Figure::Aggregate(aggregate) => aggregate.name(),
        Figure::Function(function) => function,
    };
    format!("{name} of {} over {length}", value.unwrap_or("rows"))
}

/// What a feature says of the rows of its key, if it is a window: key and words.
pub fn window_of(kind: &FeatureKind) -> Option<(&str, String)> {
    match kind {
        FeatureKind::Window { key, keys_max: Some(keys), .. } => {
            let keys = thousands(*keys);
            Some((key, format!("time since the last row, ever (of {keys} keys at most)")))
        }
        FeatureKind::Window { key, value, figure, length_ms, .. } => {
            Some((key, window(figure, value.as_deref(), *length_ms)))
        }
        _ => None,
    }
}

/// How a feature is computed, and what becomes of null.
pub fn feature(job: &Job, feature: &Feature) -> String {
    let null = match (&feature.default, feature.allow_null) {
        (Some(default), _) => format!("; default {default}"),
        (None, true) => "; may be null".to_owned(),
        (None, false) => String::new(),
    };
    format!("{}{null}", kind(job, &feature.kind))
}

/// What a rule asks for, and what becomes of rows that fail it.
pub fn rule(rule: &Rule) -> String {
    let what = match rule.on_fail {
        OnFail::DeadLetter => "a dead letter",
        OnFail::Default => "the default",
        OnFail::Clip => "the bound",
        OnFail::Flag => "flagged",
    };
    format!("{}; else {what}", rule.words)
}

/// How a feature is computed.
pub fn kind(job: &Job, kind: &FeatureKind) -> String {
    let is_as_of = |table: &String| job.tables[table].versions.is_some();
    match kind {
        FeatureKind::Column(column) => format!("column {column}"),
        FeatureKind::Sql(sql) => format!("sql {sql}"),
        FeatureKind::Window { key, .. } => format!("window by {key}"),
        FeatureKind::Lookup { table, key, column } if is_as_of(table) => {
            format!("as-of lookup {table}.{column} by {key}")
        }
        FeatureKind::Lookup { table, key, column } => format!("lookup {table}.{column} by {key}"),
        FeatureKind::Age { table, key } => format!("as-of lookup age of {table} by {key}"),
        FeatureKind::Encode { input, categories, unseen } => {
            let unseen = unseen.map_or_else(|| "null".to_owned(), |code| code.to_string());
            let count = categories.len();
            format!("encode {input}, {count} categories, unseen {unseen}")
        }
    }
}

/// The rules that raise an alarm.
pub fn drift_rules(thresholds: &Thresholds) -> String {
    let Thresholds { min_rows, ks_p_value, min_effect, mean_shift_sd, z_test, .. } = *thresholds;
    let Thresholds { share_beyond_3, share_out_of_range, null_share, .. } = *thresholds;
    let rules = [
        ks_p_value.map(|p| match min_effect {
            0.0 => format!("p < {p}"),
            effect => format!("p < {p} and D >= {effect}"),
        }),
        mean_shift_sd.map(|shift| format!("|mean_shift_sd| > {shift}")),
        z_test.map(|z| format!("|z_test| > {z}")),
        share_beyond_3.map(|share| format!("share_beyond_3 > {share}")),
        share_out_of_range.map(|share| format!("share_out_of_range > {share}")),
        null_share.map(|share| format!("the null share moves by > {share}")),
    ];
    let rules: Vec<String> = rules.into_iter().flatten().collect();
    match rules.is_empty() {
        true => "never".to_owned(),
        false => format!("{}; with {min_rows} values at least", rules.join("; or ")),
    }
}

/// What becomes of rows behind the end of their window.
pub fn late_for_drift(revisions: Revisions) -> String {
    match revisions.horizon_ms {
        0 => "counted: windows are final at their end".to_owned(),
        horizon => format!(
            "revise their window, every {} at most, until it is final {} after its end",
            length(revisions.interval_ms),
            length(horizon)
        ),
    }
}

/// A window's length as the job has it, and what it means.
pub fn drift_window(window: WindowLength, written: &str) -> String {
    match window {
        WindowLength::Millis(millis) => length(millis),
        WindowLength::Sliding { length_ms, slide_ms } => {
            format!("{} every {}", length(length_ms), length(slide_ms))
        }
        WindowLength::Week => format!("{written} (from Monday)"),
        WindowLength::Month => format!("{written} (calendar month)"),
        WindowLength::All => "all of time".to_owned(),
    }
}

/// What is kept of a window.
pub fn drift_mode(mode: DriftMode) -> String {
    match mode {
        DriftMode::Exact => "exact: the values of windows that are not final".to_owned(),
        DriftMode::Profile { bins } => format!("profile: counts in {bins} bins of the baseline"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_below_the_folder_are_relative_to_it() {
        let shown = |path: &str| path_from(Path::new("/a/b"), Path::new(path));
        assert_eq!(shown("jobs/../data/x.parquet"), "data/x.parquet");
        assert_eq!(shown("/a/b/out/./y"), "out/y");
        assert_eq!(shown("../c"), "/a/c");
        assert_eq!(shown("/a/bc/d"), "/a/bc/d");
        assert_eq!(shown("/a/b"), ".");
    }

    #[test]
    fn windows_are_told_by_aggregate_value_and_length() {
        let hour = |figure, value| window(&figure, value, 3_600_000);
        let of = Figure::Aggregate;
        assert_eq!(hour(of(Aggregate::Mean), Some("a + b")), "mean of a + b over 1 h");
        assert_eq!(hour(of(Aggregate::Count), None), "count of rows over 1 h");
        let since = hour(of(Aggregate::TimeSinceLast), None);
        assert_eq!(since, "time since the last row, within 1 h");
        let own = hour(Figure::Function("trend".to_owned()), Some("a"));
        assert_eq!(own, "trend of a over 1 h");
    }
}
