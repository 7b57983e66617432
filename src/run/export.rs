//! Feature rows of a job, for training.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use arrow::datatypes::SchemaRef;
use driftline_jobs::export::{Outputs, export};
use driftline_jobs::graph::Events;
use driftline_operators::dead_letter;
use driftline_operators::export::ExportFormat;
use driftline_operators::sinks::{Sink, SinkError};
use timely::dataflow::{ProbeHandle, Scope};

use super::engine::Engine;
use super::options::{ExportForm, RunOptions};
use super::outputs::{Sinks, Target, file_metadata};
use super::prepare::Prepared;
use super::summary::Summary;
use super::{check_end, check_reader, publish, range, watch};
use crate::config::Job;
use crate::config::job::{Format, Output};
use crate::sinks::csv::CsvSink;
use crate::sinks::folder::Publication;
use crate::sinks::function::FunctionSink;
use crate::sinks::json_lines::JsonLinesSink;
use crate::sinks::own::SinkFactory;
use crate::sinks::parquet::Footer;
use crate::sinks::standard_output::Reader;
use crate::sinks::text_file::TextFile;

/// Writes the feature rows of the job's events to the folder `out`, and dead letters beside it; or, if
/// it is `-`, to standard output.
///
/// # Errors
/// As [`replay`](super::replay()); [`ReaderLeft`](super::ReaderLeft) where nobody reads standard output any more.
pub fn export_features(job: &Arc<Job>, options: &RunOptions, out: &Path) -> Result<Summary> {
    let Targets { features, dead_letters, reader } = Targets::new(options, out)?;
    let prepared = Arc::new(Prepared::new(job, options)?);
    range::check_known(&prepared, options)?;
    let folders = [&features, &dead_letters].into_iter().filter_map(Target::files);
    let folders: Vec<&Path> = folders.map(|output| output.path.as_path()).collect();
    let publication = Publication::prepare(&folders, options.overwrite)?;
    let notes = prepared.notes();
    let names = prepared.partition_names.clone();
    let engine = Engine::new(prepared.clone(), options);
    let sinks =
        Sinks::new(&publication, Footer { pairs: file_metadata(&prepared, None), footnotes: None });
    let warm_up = prepared.warm_up(options);
    let is_gathered = reader.is_some();
    let build = {
        let (features, dead_letters) = (features.clone(), dead_letters.clone());
        move |scope: Scope<'_, u64>, worker: usize, probe: &ProbeHandle<u64>, events: Events| {
            let format =
                ExportFormat::new(&prepared.plan, &prepared.layout, warm_up.clone(), is_gathered);
            let features = sinks.sink(&features, worker, format.schema.clone(), &["event_id"])?;
            let letters = dead_letter::SCHEMA.clone();
            let dead_letters = sinks.sink(&dead_letters, worker, letters, &["event_id"])?;
            export(scope, events, Outputs { format, features, dead_letters }, probe);
            Ok(())
        }
    };
    watch(reader.as_ref(), &engine.run.failure);
    let ended = engine.start(build)?;
    check_reader(reader.as_ref(), &ended)?;
    check_end(&engine.run.counters, &ended)?;
    range::check_read(engine.prepared(), options, &engine.run.counters)?;
    publish(&publication)?;
    let counters = &engine.run.counters;
    let summary = Summary::of_export(counters, &ended, &features, &dead_letters).with_notes(notes);
    Ok(summary.with_letters(counters, &names, options.max_dead_letter_share(job)))
}

/// Where the rows of an export go.
struct Targets {
    features: Target,
    dead_letters: Target,
    /// Of standard output, if that is where features go.
    reader: Option<Reader>,
}

impl Targets {
    fn new(options: &RunOptions, out: &Path) -> Result<Self> {
        if options.dead_letters.as_ref().is_some_and(|folder| folder.as_os_str() == "-") {
            bail!("--dead-letters: dead letters go to files; name a folder");
        }
        if out.as_os_str() == "-" {
            return Targets::of_standard_output(options);
        }
        let form = ExportForm::of_files(options.export);
        let letters = options.dead_letters.clone().unwrap_or(beside(out, "_dead_letters"));
        if letters == out {
            let out = out.display();
            bail!("--dead-letters: {out} is where feature rows go; name another folder");
        }
        Ok(Targets {
            features: files(form, out),
            dead_letters: files(form, &letters),
            reader: None,
        })
    }

    fn of_standard_output(options: &RunOptions) -> Result<Self> {
        let form = ExportForm::of_standard_output(options.export);
        if form == ExportForm::Parquet {
            bail!(
                "--format parquet: standard output cannot take Parquet; use --format json or csv, or --out for a folder"
            );
        }
        let reader = Reader::default();
        let letters = options.dead_letters.as_deref();
        Ok(Targets {
            features: Target::Own(to_standard_output(form, reader.clone())),
            dead_letters: letters.map_or_else(|| Target::Own(to_nowhere()), |to| files(form, to)),
            reader: Some(reader),
        })
    }
}

fn files(form: ExportForm, folder: &Path) -> Target {
    Target::Files(Output { path: folder.to_owned(), ..form.output() })
}

/// The first worker writes the rows of all.
fn to_standard_output(form: ExportForm, reader: Reader) -> SinkFactory {
    let Output { format, compression, .. } = form.output();
    Arc::new(move |worker, schema| {
        if worker > 0 {
            return nowhere();
        }
        let file = TextFile::standard_output(&reader, compression)?;
        Ok(match format {
            Format::Csv => Box::new(CsvSink::to(file, schema)?),
            Format::Json | Format::Parquet => Box::new(JsonLinesSink::to(file)),
        })
    })
}

/// What is counted and not kept.
fn to_nowhere() -> SinkFactory {
    Arc::new(|_worker: usize, _schema: &SchemaRef| nowhere())
}

fn nowhere() -> Result<Box<dyn Sink>, SinkError> {
    Ok(Box::new(FunctionSink::new("nowhere", |_| Ok(()))))
}

/// `folder` with `ending` behind its name: beside it, so that readers of the folder do not see it.
pub fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    folder.with_file_name(name)
}
