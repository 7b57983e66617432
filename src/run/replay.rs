//! The main job from start to end.

use std::sync::Arc;

use anyhow::Result;
use driftline_jobs::graph::Events;
use driftline_jobs::scoring::{Outputs, scoring as scoring_graph};
use driftline_operators::accounting::Counters;
use driftline_operators::dead_letter;
use driftline_operators::drift::snapshot;
use timely::dataflow::{ProbeHandle, Scope};

use super::drift::PreparedDrift;
use super::drift_tally::DriftTally;
use super::engine::Engine;
use super::loading::LoadedModel;
use super::options::RunOptions;
use super::outputs::{Sinks, Targets, footer};
use super::prepare::Prepared;
use super::scoring::ScoringParts;
use super::summary::Summary;
use super::{check_end, check_reader, publish, range, watch};
use crate::config::Job;
use crate::sinks::folder::Publication;

/// Runs the job over its events: predictions, drift and dead letters.
///
/// # Errors
/// Whatever ends the run before all of its output is durable and accounted for;
/// [`ReaderLeft`](super::ReaderLeft) where nobody reads standard output any more.
pub fn replay(job: &Arc<Job>, options: &RunOptions) -> Result<Summary> {
    replay_with(job, options, |_parts, _counters| ()).map(|(summary, ())| summary)
}

/// The same, with what is made of its models and of what was counted at its end.
///
/// # Errors
/// As it.
pub fn replay_with<T>(
    job: &Arc<Job>,
    options: &RunOptions,
    at_end: impl FnOnce(&ScoringParts, &Counters) -> T,
) -> Result<(Summary, T)> {
    let prepared = Arc::new(Prepared::new(job, options)?);
    range::check_known(&prepared, options)?;
    let parts = Arc::new(ScoringParts::load(&prepared, options)?);
    parts.all().for_each(LoadedModel::warn);
    let targets = Targets::new(job, options);
    let drift = match targets.drift {
        Some(_) => PreparedDrift::new(job, &parts, prepared.coverage(options))?.map(Arc::new),
        None => None,
    };
    let publication = Publication::prepare(&targets.folders(drift.is_some()), options.overwrite)?;

    let notes = prepared.notes();
    let names = prepared.partition_names.clone();
    let engine = Engine::new(prepared.clone(), options);
    let sinks = Sinks::new(&publication, footer(&prepared, &parts));
    let tally = DriftTally::new(parts.watched.names.len());
    let build = {
        let (targets, parts, drift) = (targets.clone(), parts.clone(), drift.clone());
        let (tally, run) = (tally.clone(), engine.run.clone());
        move |scope: Scope<'_, u64>, worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let scoring = parts.worker(&prepared, &run)?;
            let schema = scoring.schema();
            let letters = dead_letter::SCHEMA.clone();
            let drift = match drift.as_ref().zip(targets.drift.as_ref()) {
                Some((drift, target)) => {
                    let sink = sinks.sink(target, worker, snapshot::schema(), &[])?;
                    Some((drift.schedule.clone(), drift.format.clone(), tally.watch(sink)))
                }
                None => None,
            };
            let outputs = Outputs {
                scoring,
                watched: parts.watched.clone(),
                drift,
                predictions: sinks.predictions(
                    &prepared.job,
                    &targets.predictions,
                    worker,
                    schema,
                )?,
                dead_letters: sinks.sink(&targets.dead_letters, worker, letters, &["event_id"])?,
                alerts: None,
                latencies: parts.latencies.clone(),
            };
            scoring_graph(scope, events, outputs, probe);
            Ok(())
        }
    };
    watch(targets.reader(), &engine.run.failure);
    let ended = engine.start(build)?;
    check_reader(targets.reader(), &ended)?;
    check_end(&engine.run.counters, &ended)?;
    range::check_read(engine.prepared(), options, &engine.run.counters)?;
    if let Some(drift) = &drift {
        drift.check(&engine.run.counters, &tally)?;
    }
    publish(&publication)?;
    let summary = Summary::of_replay(job, &parts, &engine.run.counters, &ended, &targets);
    let summary = summary.with_notes(notes);
    let share_max = options.max_dead_letter_share(job);
    let mut summary = summary.with_letters(&engine.run.counters, &names, share_max);
    if let Some(drift) = drift {
        summary.drift = tally.lines(drift.windows());
    }
    let found = at_end(&parts, &engine.run.counters);
    Ok((summary, found))
}
