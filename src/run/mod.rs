//! From a job to a run: data opened, features compiled, workers started, results published.

pub mod baseline_file;
pub mod check;
pub mod drift_tally;
pub mod engine;
pub mod options;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod scoring;
pub mod summary;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use arrow::datatypes::SchemaRef;
use driftline_jobs::baseline::{BaselineSinks, baseline};
use driftline_jobs::enriched::Events;
use driftline_jobs::export::export;
use driftline_jobs::scoring::{Outputs as JobOutputs, scoring as scoring_graph};
use driftline_operators::accounting::Counters;
use driftline_operators::dead_letter;
use driftline_operators::deliver::Sink;
use driftline_operators::drift::calendar::WindowLength;
use driftline_operators::drift::figures::Comparison;
use driftline_operators::drift::snapshot::{self, SnapshotFormat};
use driftline_operators::drift::windows::Schedule;
use driftline_operators::export::ExportFormat;
use timely::dataflow::{ProbeHandle, Scope};

use crate::config::Job;
use crate::config::job::{DriftMode, Format, Output};
use crate::sinks::folder::Publication;
use crate::sinks::json_lines::JsonLinesSink;
use crate::sinks::parquet::ParquetSink;
use drift_tally::DriftTally;
use engine::{Ended, Engine};
use options::RunOptions;
use prepare::Prepared;
use scoring::ScoringParts;
use summary::Summary;

/// Replays the job's events: predictions, drift and dead letters.
///
/// # Errors
/// Whatever ends the run before all of its output is durable and accounted for.
pub fn replay(job: &Arc<Job>, options: &RunOptions) -> Result<Summary> {
    let prepared = Arc::new(Prepared::new(job, options)?);
    let parts = Arc::new(ScoringParts::load(&prepared, options)?);
    let outputs = options.outputs(job);
    let to_standard_output = options.to_standard_output();
    let drift = match to_standard_output {
        true => None,
        false => prepare_drift(job, &parts)?.map(Arc::new),
    };
    let mut folders: Vec<&Path> = Vec::new();
    if !to_standard_output {
        folders.extend([outputs.predictions.path.as_path(), &outputs.dead_letters.path]);
        folders.extend(drift.is_some().then_some(outputs.drift.path.as_path()));
    }
    let publication = Publication::prepare(&folders, options.overwrite)?;

    let engine = Engine::new(prepared.clone(), options);
    let files = OutputFiles::new(&publication, prepared.file_metadata(Some(&parts)));
    let tally = DriftTally::default();
    let build = {
        let (outputs, parts, drift) = (outputs.clone(), parts.clone(), drift.clone());
        let tally = tally.clone();
        let run = engine.run.clone();
        move |scope: Scope<'_, u64>, worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let scoring = parts.worker(&prepared, &run)?;
            let schema = scoring.format.schema.clone();
            let predictions = match to_standard_output {
                true => Box::new(JsonLinesSink::standard_output()),
                false => files.sink(&outputs.predictions, worker, schema, &["event_id"])?,
            };
            let drift = match &drift {
                Some(drift) => {
                    let sink = files.sink(&outputs.drift, worker, snapshot::schema(), &[])?;
                    Some((drift.schedule.clone(), drift.format.clone(), tally.watch(sink)))
                }
                None => None,
            };
            let letters = dead_letter::SCHEMA.clone();
            let dead_letters = match to_standard_output {
                true => Box::new(JsonLinesSink::standard_error()),
                false => files.sink(&outputs.dead_letters, worker, letters, &["event_id"])?,
            };
            let watched = parts.watched.clone();
            let outputs = JobOutputs {
                scoring,
                watched,
                drift,
                predictions,
                dead_letters,
                latencies: parts.latencies.clone(),
            };
            scoring_graph(scope, events, outputs, probe);
            Ok(())
        }
    };
    let ended = engine.start(build)?;
    check_end(&engine.run.counters, &ended)?;
    if let Some(drift) = &drift {
        check_drift(&engine.run.counters, &tally, drift, &parts.watched.names)?;
    }
    publish(&publication)?;
    let mut summary =
        Summary::of_replay(job, &parts, &engine.run.counters, &ended, &outputs, options);
    if let Some(drift) = drift {
        summary.drift = tally.lines(drift.windows());
    }
    Ok(summary)
}

/// Writes the feature rows of the job's events to `folder`, and dead letters beside it.
///
/// # Errors
/// As [`replay`].
pub fn export_features(job: &Arc<Job>, options: &RunOptions, folder: &Path) -> Result<Summary> {
    let prepared = Arc::new(Prepared::new(job, options)?);
    let features = Output { path: folder.to_owned(), format: Format::Parquet };
    let letters = Output { path: beside(folder, "_dead_letters"), format: Format::Parquet };
    let publication = Publication::prepare(&[&features.path, &letters.path], options.overwrite)?;
    let engine = Engine::new(prepared.clone(), options);
    let files = OutputFiles::new(&publication, prepared.file_metadata(None));
    let from = options.from();
    let build =
        move |scope: Scope<'_, u64>, worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let format = ExportFormat::new(&prepared.plan, &prepared.layout, from);
            let rows = files.sink(&features, worker, format.schema.clone(), &["event_id"])?;
            let letters =
                files.sink(&letters, worker, dead_letter::SCHEMA.clone(), &["event_id"])?;
            export(scope, events, format, rows, letters, probe);
            Ok(())
        };
    let ended = engine.start(build)?;
    check_end(&engine.run.counters, &ended)?;
    publish(&publication)?;
    Ok(Summary::of_export(&engine.run.counters, &ended, folder))
}

/// `folder` with `ending` behind its name: beside it, so that readers of the folder do not see it.
fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    folder.with_file_name(name)
}

/// Makes the reference for drift from the job's events, at the place that `drift.baseline` names.
///
/// # Errors
/// As [`replay`].
pub fn make_baseline(job: &Arc<Job>, options: &RunOptions) -> Result<Summary> {
    let Some(drift) = &job.drift else {
        bail!("{}: a baseline belongs to a section [drift]; it names the file", job.path.display());
    };
    let prepared = Arc::new(Prepared::new(job, options)?);
    let parts = Arc::new(ScoringParts::load(&prepared, options)?);
    let metadata = prepared.file_metadata(Some(&parts));
    let engine = Engine::new(prepared.clone(), options);
    let collected = baseline_file::Collected::default();
    let columns = parts.watched.names.clone();
    let build = {
        let collected = collected.clone();
        let run = engine.run.clone();
        move |scope: Scope<'_, u64>, _worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let scoring = parts.worker(&prepared, &run)?;
            let sinks = BaselineSinks {
                baseline: collected.sink(),
                predictions: baseline_file::counting(),
                dead_letters: baseline_file::counting(),
            };
            baseline(scope, events, scoring, parts.watched.clone(), sinks, probe);
            Ok(())
        }
    };
    let ended = engine.start(build)?;
    check_end(&engine.run.counters, &ended)?;
    let scored = engine.run.counters.account().predictions;
    let full = collected.baseline(&columns, scored)?;
    let file = baseline_file::BaselineFile::new(full, scored, drift.baseline_sample_max);
    file.write(&drift.baseline, metadata)?;
    Ok(Summary::of_baseline(&engine.run.counters, &ended, &drift.baseline, &file))
}

/// The files of a run's outputs.
struct OutputFiles {
    publication: Publication,
    metadata: Vec<(String, String)>,
}

impl OutputFiles {
    fn new(publication: &Publication, metadata: Vec<(String, String)>) -> Self {
        OutputFiles { publication: publication.clone(), metadata }
    }

    /// One worker's sink for an output; columns of `unique` values need no dictionary.
    fn sink(
        &self,
        output: &Output,
        worker: usize,
        schema: SchemaRef,
        unique: &[&str],
    ) -> Result<Box<dyn Sink>> {
        Ok(match output.format {
            Format::Parquet => {
                let path =
                    self.publication.file(&output.path, &format!("part-{worker:05}.parquet"));
                Box::new(ParquetSink::create(path, schema, &self.metadata, unique)?)
            }
            Format::Json => {
                let path = self.publication.file(&output.path, &format!("part-{worker:05}.jsonl"));
                Box::new(JsonLinesSink::create(path)?)
            }
        })
    }
}

/// A job's drift section with its baseline, read once for all workers.
struct PreparedDrift {
    schedule: Schedule,
    format: SnapshotFormat,
}

impl PreparedDrift {
    /// Each length, and how it is written.
    fn windows(&self) -> &[(WindowLength, String)] {
        &self.format.labels
    }
}

fn prepare_drift(job: &Job, parts: &ScoringParts) -> Result<Option<PreparedDrift>> {
    let Some(drift) = &job.drift else { return Ok(None) };
    let file = baseline_file::BaselineFile::read(&drift.baseline)?;
    let names = parts.watched.names.clone();
    let comparison = |name: &String| {
        let reference = file.baseline.references.get(name).ok_or_else(|| {
            anyhow!(
                "{}: the baseline has no {name:?}; make it anew with `driftline baseline`",
                drift.baseline.display()
            )
        })?;
        Ok(Arc::new(match drift.mode {
            DriftMode::Exact => Comparison::exact(reference),
            DriftMode::Profile { bins } => Comparison::profile(reference, bins),
        }))
    };
    let comparisons = names.iter().map(comparison).collect::<Result<_>>()?;
    let lengths = drift.windows.iter().map(|(length, _)| *length).collect();
    Ok(Some(PreparedDrift {
        schedule: Schedule { lengths, revisions: drift.revisions },
        format: SnapshotFormat {
            model: parts.identity.clone(),
            labels: drift.windows.clone(),
            names,
            comparisons,
            thresholds: drift.thresholds,
            reference_kind: file.kind,
            reference_id: file.id,
        },
    }))
}

/// Whether every scored row is in the drift windows, but for late ones that came too late for theirs.
fn check_drift(
    counters: &Counters,
    tally: &DriftTally,
    drift: &PreparedDrift,
    columns: &[String],
) -> Result<()> {
    let (scored, late) = (counters.account().predictions, counters.late_for_drift());
    let checked = tally.check(scored, &late, drift.windows(), columns);
    let checked = checked.map_err(|problem| anyhow!(problem));
    checked.context("the account of drift does not balance, and nothing was written")
}

fn publish(publication: &Publication) -> Result<()> {
    publication.publish().context("the results are complete but could not be put in place")
}

/// Whether the run came to its end, and every record is accounted for.
fn check_end(counters: &Counters, ended: &Ended) -> Result<()> {
    if let Some(failure) = &ended.failure {
        bail!("{failure}");
    }
    if ended.interrupted {
        bail!("interrupted; nothing was written");
    }
    let account = counters.account();
    if account.missing() != 0 || account.pending != 0 {
        bail!(
            "the account does not balance, and nothing was written: {} read, {} predictions, {} skipped, {} dead letters, {} pending: {} missing",
            account.read,
            account.predictions,
            account.skipped,
            account.dead_letters,
            account.pending,
            account.missing()
        );
    }
    Ok(())
}
