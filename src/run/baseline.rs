//! The reference for drift, made from a job's events.

use std::sync::Arc;

use anyhow::{Result, bail};
use driftline_jobs::baseline::{BaselineSinks, baseline};
use driftline_jobs::graph::Events;
use timely::dataflow::{ProbeHandle, Scope};

use super::baseline_file::{BaselineFile, Collected, counting};
use super::engine::Engine;
use super::loading::LoadedModel;
use super::options::RunOptions;
use super::outputs::file_metadata;
use super::prepare::Prepared;
use super::scoring::ScoringParts;
use super::summary::Summary;
use super::{check_end, range};
use crate::config::Job;

/// Makes the reference for drift from the job's events, at the place that `drift.baseline` names.
///
/// # Errors
/// As [`replay`](super::replay()).
pub fn make_baseline(job: &Arc<Job>, options: &RunOptions) -> Result<Summary> {
    let Some(drift) = &job.drift else {
        bail!("{}: a baseline belongs to a section [drift]; it names the file", job.path.display());
    };
    let prepared = Arc::new(Prepared::new(job, options)?);
    range::check_known(&prepared, options)?;
    let parts = Arc::new(ScoringParts::load(&prepared, options)?);
    parts.all().for_each(LoadedModel::warn);
    let metadata = file_metadata(&prepared, Some(&parts));
    let notes = prepared.notes();
    let names = prepared.partition_names.clone();
    let engine = Engine::new(prepared.clone(), options);
    let collected = Collected::default();
    let columns = parts.watched.names.clone();
    let build = {
        let (collected, run) = (collected.clone(), engine.run.clone());
        move |scope: Scope<'_, u64>, _worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let scoring = parts.worker(&prepared, &run)?;
            let sinks = BaselineSinks {
                baseline: collected.sink(),
                predictions: counting(),
                dead_letters: counting(),
            };
            baseline(scope, events, scoring, parts.watched.clone(), sinks, probe);
            Ok(())
        }
    };
    let ended = engine.start(build)?;
    check_end(&engine.run.counters, &ended)?;
    range::check_read(engine.prepared(), options, &engine.run.counters)?;
    let scored = engine.run.counters.account().predictions;
    let full = collected.baseline(&columns, scored)?;
    let file = BaselineFile::new(full, scored, drift.baseline_sample_max);
    file.write(&drift.baseline, metadata)?;
    let summary = Summary::of_baseline(&engine.run.counters, &ended, &drift.baseline, &file);
    let share_max = options.max_dead_letter_share(job);
    Ok(summary.with_notes(notes).with_letters(&engine.run.counters, &names, share_max))
}
