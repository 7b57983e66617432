//! The reference for drift, made from a job's events.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use driftline_jobs::baseline::{BaselineSinks, baseline};
use driftline_jobs::graph::Events;
use timely::dataflow::{ProbeHandle, Scope};

use super::baseline_file::{BaselineFile, Collected, counting};
use super::engine::Engine;
use super::loading::LoadedModel;
use super::options::RunOptions;
use super::outputs::file_metadata;
use super::prediction_references::beside;
use super::prepare::Prepared;
use super::scoring::ScoringParts;
use super::summary::Summary;
use super::{check_end, range};
use crate::config::Job;

/// Makes the reference for drift from the job's events, at the place that `drift.baseline` names.
///
/// # Errors
/// As [`replay`](super::replay()).
///
/// Of several models the first one scores all rows; or that which is called `model`, for the predictions of
/// which the baseline is beside its file then.
pub fn make_baseline(job: &Arc<Job>, model: Option<&str>, options: &RunOptions) -> Result<Summary> {
    let Some(drift) = &job.drift else {
        bail!("{}: a baseline belongs to a section [drift]; it names the file", job.path.display());
    };
    let (job, path) = &of_model(job, model)?;
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
    let path = path.as_ref().unwrap_or(&drift.baseline);
    file.write(path, metadata)?;
    let summary = Summary::of_baseline(&engine.run.counters, &ended, path, &file);
    let share_max = options.max_dead_letter_share(job);
    Ok(summary.with_notes(notes).with_letters(&engine.run.counters, &names, share_max))
}

/// A job of which one model scores all rows, and where its baseline goes if that is not where the job says.
fn of_model(job: &Arc<Job>, model: Option<&str>) -> Result<(Arc<Job>, Option<PathBuf>)> {
    let Some(routing) = &job.routing else {
        return match model {
            None => Ok((job.clone(), None)),
            Some(_) => bail!("--model: the job has one model; it goes with [models.NAME]"),
        };
    };
    let Some(name) = model else {
        let routing = routing.with_one(0);
        return Ok((Arc::new(Job { routing: Some(routing), ..Job::clone(job) }), None));
    };
    let (_, file) = routing
        .models
        .iter()
        .find(|(known, _)| known == name)
        .with_context(|| format!("--model: the job has no section [models.{name}]"))?;
    if file.registered.is_some() || file.path.is_dir() {
        bail!(
            "--model {name}: its versions bring their baselines, as scripts/register_model.py has them do"
        );
    }
    let path = beside(&file.path);
    let job = Job { model: Some(file.clone()), routing: None, ..Job::clone(job) };
    Ok((Arc::new(job), Some(path)))
}
