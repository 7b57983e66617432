//! Side trips to the owners of keys, and the features made of their answers.

use driftline_operators::features::trip::{AsOfLookups, Errand, KeyedWindow, Trip};
use driftline_operators::gate::Order;

use super::super::graph::{Graph, Group, Line};
use super::super::words;
use super::ids;
use crate::config::Job;
use crate::config::job::FeatureKind;
use crate::run::numbers::thousands;
use crate::run::prepare::Prepared;

pub(super) fn add(graph: &mut Graph, prepared: &Prepared) {
    let (job, trips) = (&prepared.job, &prepared.plan.trips);
    for (position, trip) in trips.iter().enumerate() {
        match &trip.errand {
            Errand::Windows(windows) => add_windows(graph, job, position, trip, windows),
            Errand::Lookups(lookups) => add_lookups(graph, prepared, position, trip, lookups),
        }
    }
    let before = if trips.is_empty() { ids::GATE } else { ids::REJOIN };
    if !trips.is_empty() {
        let lines = vec![Line::new("order", "as rows left the order gate")];
        graph.stage(ids::REJOIN, "rejoin", Group::Home, lines);
        graph.rows(ids::GATE, ids::REJOIN, "rows");
        for position in 0..trips.len() {
            graph
                .rows(&ids::trip(position), ids::REJOIN, "answers")
                .waits_for("the answers of all side trips to all rows of a batch");
        }
    }
    let lines =
        job.features.iter().map(|(name, feature)| Line::new(name, words::feature(job, feature)));
    graph.stage(ids::FEATURES, "features, in order", Group::Home, lines.collect());
    graph.rows(before, ids::FEATURES, "rows");
    let static_tables = job.tables.values().enumerate().filter(|(_, t)| t.versions.is_none());
    for (position, _) in static_tables {
        graph.rows(&ids::table(position), ids::FEATURES, "values by key");
    }
}

fn add_windows(
    graph: &mut Graph,
    job: &Job,
    position: usize,
    trip: &Trip,
    windows: &[KeyedWindow],
) {
    let answers = job.features.iter().filter_map(|(name, feature)| {
        let (_, window) = words::window_of(&feature.kind)?;
        windows.iter().any(|window| window.feature == *name).then(|| Line::new(name, window))
    });
    let mut lines = Vec::from_iter(without_waiting(job.order));
    lines.push(Line::new("key", trip.key_sql.as_str()));
    lines.extend(answers);
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
    let id = ids::trip(position);
    graph.stage(&id, &format!("trip: windows by {}", trip.key_sql), Group::Owner, lines);
    let requests = graph.rows(ids::GATE, &id, "requests: key, event time, id, values");
    if job.order != Order::Arrival {
        requests.waits_for("the epoch of the request to be complete at the owner");
    }
    graph.progress(ids::WATERMARK, &id, "what no row reads any more");
}

fn add_lookups(
    graph: &mut Graph,
    prepared: &Prepared,
    position: usize,
    trip: &Trip,
    lookups: &AsOfLookups,
) {
    let job = &prepared.job;
    let table_name = &prepared.tables[lookups.table].table.name;
    let asks = |key: &String, table: &String| *key == trip.key_sql && table == table_name;
    let answers = job.features.iter().filter_map(|(name, feature)| match &feature.kind {
        FeatureKind::Lookup { table, key, column } if asks(key, table) => {
            Some(Line::new(name, format!("{table}.{column}")))
        }
        FeatureKind::Age { table, key } if asks(key, table) => {
            Some(Line::new(name, format!("age of {table}'s values in ms")))
        }
        _ => None,
    });
    let mut lines = Vec::from_iter(without_waiting(job.order));
    lines.push(Line::new("key", trip.key_sql.as_str()));
    lines.extend(answers);
    let id = ids::trip(position);
    let title = format!("trip: {table_name} by {}", trip.key_sql);
    graph.stage(&id, &title, Group::Owner, lines);
    graph.rows(ids::GATE, &id, "requests: key, event time");
    let versions = graph.rows(&ids::versions(lookups.table), &id, "versions as of the event time");
    if job.order != Order::Arrival {
        versions.waits_for("the epoch of the request to be complete in the arrangement");
    }
}

/// In arrival order owners answer from what is there.
fn without_waiting(order: Order) -> Option<Line> {
    (order == Order::Arrival).then(|| Line::new("waits for", "nothing"))
}
