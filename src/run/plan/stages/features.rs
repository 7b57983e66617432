//! What is asked of the owners of keys, and the features made of their answers.

use driftline_operators::features::trip::{AsOfLookups, Errand, KeyedWindow, Trip};
use driftline_operators::gate::Order;

use super::super::graph::Line;
use super::super::words;
use crate::config::Job;
use crate::config::job::FeatureKind;
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;

pub(super) fn trip_title(prepared: &Prepared, position: usize) -> String {
    let trip = &prepared.plan.trips[position];
    match &trip.errand {
        Errand::Windows(_) => format!("windows by {}", trip.key_sql),
        Errand::Lookups(lookups) => {
            format!("lookups of {} by {}", prepared.tables[lookups.table].table.name, trip.key_sql)
        }
    }
}

pub(super) fn trip(prepared: &Prepared, position: usize) -> Vec<Line> {
    let (job, trip) = (&prepared.job, &prepared.plan.trips[position]);
    // In arrival order owners answer from what is there.
    let waits = (job.order == Order::Arrival).then(|| Line::new("waits for", "nothing"));
    let mut lines = Vec::from_iter(waits);
    lines.push(Line::new("key", trip.key_sql.as_str()));
    lines.extend(match &trip.errand {
        Errand::Windows(windows) => of_windows(job, windows),
        Errand::Lookups(lookups) => of_lookups(prepared, trip, lookups),
    });
    lines
}

pub(super) fn waiting() -> Vec<Line> {
    vec![
        Line::new("order", "as rows left the order gate"),
        Line::new("of one worker", "none: it is asked and answers in one call"),
    ]
}

pub(super) fn features(job: &Job) -> Vec<Line> {
    let lines =
        job.features.iter().map(|(name, feature)| Line::new(name, words::feature(job, feature)));
    lines.collect()
}

fn of_windows(job: &Job, windows: &[KeyedWindow]) -> Vec<Line> {
    let answers = job.features.iter().filter_map(|(name, feature)| {
        let (_, window) = words::window_of(&feature.kind)?;
        windows.iter().any(|window| window.feature == *name).then(|| Line::new(name, window))
    });
    let mut lines: Vec<Line> = answers.collect();
    let history = windows.iter().map(|window| window.spec.history_ms).max().unwrap_or(0);
    let more = match history {
        0 => String::new(),
        history => format!(" and {}", words::length(history)),
    };
    let until = format!("rows at most until the job's watermark is the length{more} past them");
    let kept = match windows.first().and_then(|window| window.keys_max) {
        Some(keys) => format!("the last row of each key, of {} keys at most", thousands(keys)),
        None => until,
    };
    lines.push(Line::new("keeps", kept));
    lines
}

fn of_lookups(prepared: &Prepared, trip: &Trip, lookups: &AsOfLookups) -> Vec<Line> {
    let table_name = &prepared.tables[lookups.table].table.name;
    let asks = |key: &String, table: &String| *key == trip.key_sql && table == table_name;
    let answers = prepared.job.features.iter().filter_map(|(name, feature)| match &feature.kind {
        FeatureKind::Lookup { table, key, column } if asks(key, table) => {
            Some(Line::new(name, format!("{table}.{column}")))
        }
        FeatureKind::Age { table, key } if asks(key, table) => {
            Some(Line::new(name, format!("age of {table}'s values in ms")))
        }
        _ => None,
    });
    answers.collect()
}
