//! The topics of a job before a run: their partitions, and where these begin.

use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::datatypes::{Field, Schema};
use driftline_operators::too_early::FutureHorizon;
use rdkafka::consumer::BaseConsumer;

use super::LiveOptions;
use crate::config::{Job, Problem};
use crate::kafka::Cluster;
use crate::kafka::health::Told;
use crate::run::options::{OpenTopics, RunOptions};
use crate::run::prepare::inputs::as_of_tables;
use crate::sources::columns::declared_type;
use crate::sources::inputs::Topics;
use crate::sources::kafka::back::{self, Reach};
use crate::sources::kafka::begin::{self, Place};
use crate::sources::kafka::history;
use crate::sources::kafka::joins::Joins;
use crate::sources::kafka::live::Live;

/// What is known of a job's topics before a run.
pub struct Opened {
    pub topics: OpenTopics,
    /// No record with this event time (ms) or a later one is before the beginning.
    pub complete_from: i64,
}

/// Asks the cluster for all topics that the job names.
///
/// # Errors
/// If one is missing, the cluster does not answer, or the job has no topic of events.
pub fn topics(job: &Job, options: &RunOptions, live: LiveOptions) -> Result<Opened> {
    let source = job.source.as_ref();
    let (name, topics) = match source.map(|source| (&source.name, &source.topics)) {
        Some((name, Some(topics))) => (name, topics),
        Some((name, None)) => return Err(without_topic(job, &format!("sources.{name}.topic"))),
        None => return Err(without_topic(job, "sources")),
    };
    let cluster = Cluster::new(&job.kafka, &job.name);
    let client = Arc::new(cluster.consumer(&topics.group)?);
    for (sink, topic) in sinks(job) {
        let found = cluster.new_partitions(&client, topic);
        found.with_context(|| format!("sinks.{sink}.topic"))?;
    }
    let in_source = || format!("sources.{name}.topic");
    let mut events = begin::events(&cluster, &client, topics).with_context(in_source)?;
    let complete_from = read_back(job, &cluster, &client, &mut events).with_context(in_source)?;
    let mut tables = Vec::new();
    for (name, table, _) in as_of_tables(job) {
        let places = table.topic.as_ref().map(|topic| {
            let places = begin::table(&cluster, &client, topic);
            places.with_context(|| format!("tables.{name}.topic"))
        });
        tables.push(places.transpose()?);
    }
    let eager = as_of_tables(job).zip(&tables).filter(|((_, _, versions), _)| versions.eager);
    let eager = eager.filter_map(|(_, places)| Some(places.as_ref()?.len())).sum();
    let live = Live::new(cluster.health.clone(), live.until_quiet_for, events.len(), eager);
    let reading = Topics {
        cluster,
        group: topics.group.clone(),
        live: Arc::new(live),
        joins: Joins::default(),
        stop: options.interrupt.clone(),
    };
    Ok(Opened { topics: OpenTopics { reading, events, tables }, complete_from })
}

fn sinks(job: &Job) -> impl Iterator<Item = (&'static str, &String)> {
    let kafka = &job.kafka;
    let all = [
        ("predictions", &kafka.predictions),
        ("dead_letters", &kafka.dead_letters),
        ("alerts", &kafka.alerts),
    ];
    all.into_iter().filter_map(|(name, topic)| Some((name, topic.as_ref()?)))
}

fn without_topic(job: &Job, key: &str) -> anyhow::Error {
    let message = "a live run needs to know where events come from: topic = \"...\"";
    job.origin.place(Problem::at(key.to_owned(), message)).into()
}

/// Has places read from far enough back that windows hold what they would have held. From which event
/// time (ms) on nothing is before the beginning: as runs before have noted it, who have seen every
/// record, and by the last records before it, where none has or it began somewhere else.
fn read_back(
    job: &Job,
    cluster: &Cluster,
    client: &Arc<BaseConsumer<Told>>,
    places: &mut [Place],
) -> Result<i64> {
    let noted = places.iter().filter_map(|place| place.noted_highest).max();
    let complete_from =
        |highest: Option<i64>| highest.map_or(i64::MIN, |highest| highest.saturating_add(1));
    let Some(declared) = job.event.columns.get(&job.event.time) else {
        return Ok(complete_from(noted));
    };
    let time = Field::new(&job.event.time, declared_type(*declared), true);
    let reach = Reach {
        windows_ms: job.windows_reach_ms(),
        allowed_lateness_ms: job.event.allowed_lateness_ms,
        future: FutureHorizon { horizon_ms: job.event.live_future_horizon_ms(), sent_column: None },
    };
    let time = Arc::new(Schema::new(vec![time]));
    if job.looks_back_for_ever() {
        say!(
            "reading back from the first record that the topics hold: a feature looks back for ever"
        );
    }
    let reached = back::reach_back(cluster, client, places, time.clone(), reach)?;
    history::look(cluster, client, places, &reached, &time)?;
    Ok(complete_from(reached.into_iter().flatten().chain(noted).max()))
}
