//! Feature rows of a job, for training.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use driftline_jobs::enriched::Events;
use driftline_jobs::export::export;
use driftline_operators::dead_letter;
use driftline_operators::export::ExportFormat;
use timely::dataflow::{ProbeHandle, Scope};

use super::engine::Engine;
use super::options::RunOptions;
use super::outputs::{Sinks, Target, file_metadata};
use super::prepare::Prepared;
use super::summary::Summary;
use super::{check_end, publish, range};
use crate::config::Job;
use crate::config::job::Output;
use crate::sinks::folder::Publication;

/// Writes the feature rows of the job's events to `folder`, and dead letters beside it.
///
/// # Errors
/// As [`replay`](super::replay()).
pub fn export_features(job: &Arc<Job>, options: &RunOptions, folder: &Path) -> Result<Summary> {
    let prepared = Arc::new(Prepared::new(job, options)?);
    range::check_known(&prepared, options)?;
    let letters_folder = beside(folder, "_dead_letters");
    let publication = Publication::prepare(&[folder, &letters_folder], options.overwrite)?;
    let files = |path: &Path| Output { path: path.to_owned(), ..options.export.output() };
    let output = files(folder);
    let (features, letters) =
        (Target::Files(output.clone()), Target::Files(files(&letters_folder)));
    let notes = prepared.notes();
    let names = prepared.partition_names.clone();
    let engine = Engine::new(prepared.clone(), options);
    let sinks = Sinks::new(&publication, file_metadata(&prepared, None));
    let warm_up = prepared.warm_up(options);
    let build =
        move |scope: Scope<'_, u64>, worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let format = ExportFormat::new(&prepared.plan, &prepared.layout, warm_up.clone());
            let rows = sinks.sink(&features, worker, format.schema.clone(), &["event_id"])?;
            let letters =
                sinks.sink(&letters, worker, dead_letter::SCHEMA.clone(), &["event_id"])?;
            export(scope, events, format, rows, letters, probe);
            Ok(())
        };
    let ended = engine.start(build)?;
    check_end(&engine.run.counters, &ended)?;
    range::check_read(engine.prepared(), options, &engine.run.counters)?;
    publish(&publication)?;
    let summary = Summary::of_export(&engine.run.counters, &ended, &output).with_notes(notes);
    let share_max = options.max_dead_letter_share(job);
    Ok(summary.with_letters(&engine.run.counters, &names, share_max))
}

/// `folder` with `ending` behind its name: beside it, so that readers of the folder do not see it.
pub fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    folder.with_file_name(name)
}
