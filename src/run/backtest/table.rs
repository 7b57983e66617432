//! Candidates as a table: to be read, as JSON, and as columns.

use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use serde_json::{Value, json};

use super::{BesideFirst, Candidate};
use crate::run::numbers::thousands;

/// A table, a line for each candidate.
pub fn text(candidates: &[Candidate]) -> String {
    let mut rows = vec![heads(candidates)];
    rows.extend(candidates.iter().map(|candidate| cells(candidate, has_drift(candidates))));
    let columns = rows[0].len();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            // Names begin where they begin, numbers end where they end.
            if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn has_drift(candidates: &[Candidate]) -> bool {
    candidates.iter().any(|candidate| candidate.drift.is_some())
}

fn heads(candidates: &[Candidate]) -> Vec<String> {
    let mut heads = vec![
        "candidate",
        "version",
        "rows",
        "failed",
        "score",
        "confidence",
        "µs/row",
        "batch p99 µs",
        "other decisions",
        "|Δ score|",
        "at most",
    ];
    if has_drift(candidates) {
        heads.extend(["drifted", "KS at most"]);
    }
    heads.into_iter().map(str::to_owned).collect()
}

fn cells(of: &Candidate, has_drift: bool) -> Vec<String> {
    let figure =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let beside = of.beside_first.as_ref().filter(|beside| beside.rows > 0);
    let share = |beside: &BesideFirst| {
        format!("{:.2} %", beside.other_decisions as f64 / beside.rows as f64 * 100.0)
    };
    let mut cells = vec![
        of.name.clone(),
        of.model.version.clone(),
        thousands(of.rows),
        thousands(of.failed),
        figure(of.mean_score),
        figure(of.mean_confidence),
        format!("{:.2}", of.us_per_row),
        format!("{:.0}", of.batch_p99_us),
        beside.map_or_else(|| "-".to_owned(), share),
        figure(beside.map(|beside| beside.mean_distance)),
        figure(beside.map(|beside| beside.largest_distance)),
    ];
    if has_drift {
        let drift = of.drift.clone().unwrap_or_default();
        cells.push(match drift.judged {
            0 => "-".to_owned(),
            judged => format!("{} of {judged}", drift.drifted),
        });
        cells.push(figure(drift.largest_ks));
    }
    cells
}

pub fn json(candidates: &[Candidate]) -> Value {
    let candidate = |of: &Candidate| {
        let beside = of.beside_first.as_ref().map(|beside| {
            json!({
                "rows": beside.rows,
                "other_decisions": beside.other_decisions,
                "mean_score_distance": beside.mean_distance,
                "largest_score_distance": beside.largest_distance,
            })
        });
        let drift = of.drift.as_ref().map(|drift| {
            json!({
                "windows_judged": drift.judged,
                "windows_drifted": drift.drifted,
                "largest_ks_statistic": drift.largest_ks,
            })
        });
        json!({
            "candidate": of.name,
            "model_name": of.model.name,
            "model_version": of.model.version,
            "rows": of.rows,
            "failed_rows": of.failed,
            "mean_score": of.mean_score,
            "mean_confidence": of.mean_confidence,
            "inference_us_per_row": of.us_per_row,
            "batch_p99_us": of.batch_p99_us,
            "beside_first": beside,
            "drift": drift,
        })
    };
    json!({"candidates": candidates.iter().map(candidate).collect::<Vec<_>>()})
}

/// A row for each candidate.
///
/// # Errors
/// None that is known.
pub fn batch(candidates: &[Candidate]) -> Result<RecordBatch> {
    let text = |of: fn(&Candidate) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(candidates.iter().map(of)))
    };
    let count = |of: fn(&Candidate) -> Option<u64>| -> ArrayRef {
        Arc::new(candidates.iter().map(of).collect::<UInt64Array>())
    };
    let figure = |of: fn(&Candidate) -> Option<f64>| -> ArrayRef {
        Arc::new(candidates.iter().map(of).collect::<Float64Array>())
    };
    fn beside(of: &Candidate) -> Option<&BesideFirst> {
        of.beside_first.as_ref().filter(|beside| beside.rows > 0)
    }
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("candidate", text(|of| &of.name), false),
        ("model_name", text(|of| &of.model.name), false),
        ("model_version", text(|of| &of.model.version), false),
        ("rows", count(|of| Some(of.rows)), false),
        ("failed_rows", count(|of| Some(of.failed)), false),
        ("mean_score", figure(|of| of.mean_score), true),
        ("mean_confidence", figure(|of| of.mean_confidence), true),
        ("inference_us_per_row", figure(|of| Some(of.us_per_row)), false),
        ("batch_p99_us", figure(|of| Some(of.batch_p99_us)), false),
        ("compared_rows", count(|of| Some(beside(of)?.rows)), true),
        ("other_decisions", count(|of| Some(beside(of)?.other_decisions)), true),
        ("mean_score_distance", figure(|of| Some(beside(of)?.mean_distance)), true),
        ("largest_score_distance", figure(|of| Some(beside(of)?.largest_distance)), true),
        ("windows_judged", count(|of| Some(of.drift.as_ref()?.judged)), true),
        ("windows_drifted", count(|of| Some(of.drift.as_ref()?.drifted)), true),
        ("largest_ks_statistic", figure(|of| of.drift.as_ref()?.largest_ks), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}
