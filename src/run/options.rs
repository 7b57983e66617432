//! What a run is asked for beyond its job file.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use driftline_operators::fault::Faults;
use driftline_operators::stage_clock::StageClock;

use super::extensions::Extensions;
use super::switching::ModelControl;
use crate::config::Job;
use crate::config::job::{Compression, Format, Input, Output, Outputs};
use crate::interrupt::Interrupt;
use crate::models::own::ModelFactory;
use crate::sinks::own::OwnSinks;
use crate::sources::inputs::Topics;
use crate::sources::kafka::begin::Place;
use crate::sources::own::OwnEvents;

/// How workers pass rows to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Exchange {
    /// As they are, between threads.
    #[default]
    Threads,
    /// As bytes, as between processes.
    Bytes,
}

/// How feature rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportForm {
    Parquet,
    /// JSON lines
    Json,
    #[value(name = "json.gz")]
    JsonGzip,
    #[value(name = "json.zst")]
    JsonZstd,
    Csv,
    #[value(name = "csv.gz")]
    CsvGzip,
    #[value(name = "csv.zst")]
    CsvZstd,
}

impl ExportForm {
    pub fn of_files(said: Option<Self>) -> Self {
        said.unwrap_or(ExportForm::Parquet)
    }

    pub fn of_standard_output(said: Option<Self>) -> Self {
        said.unwrap_or(ExportForm::Json)
    }

    /// Files of the form, in a folder that is to be named.
    pub fn output(self) -> Output {
        let (format, compression) = match self {
            ExportForm::Parquet => (Format::Parquet, None),
            ExportForm::Json => (Format::Json, None),
            ExportForm::JsonGzip => (Format::Json, Some(Compression::Gzip)),
            ExportForm::JsonZstd => (Format::Json, Some(Compression::Zstd)),
            ExportForm::Csv => (Format::Csv, None),
            ExportForm::CsvGzip => (Format::Csv, Some(Compression::Gzip)),
            ExportForm::CsvZstd => (Format::Csv, Some(Compression::Zstd)),
        };
        Output { path: PathBuf::new(), format, compression }
    }
}

#[derive(Clone, Default)]
pub struct RunOptions {
    pub input: Option<PathBuf>,
    /// What is made of topics.
    pub topics: TopicUse,
    /// Events of the program, in place of any file.
    pub events: Option<OwnEvents>,
    pub from: Option<i64>,
    pub to: Option<i64>,
    pub limit: Option<u64>,
    /// In place of the job's.
    pub max_dead_letter_share: Option<f64>,
    pub workers: usize,
    pub exchange: Exchange,
    /// How feature rows are written; where nobody has said, as [`ExportForm::of_files`] or
    /// [`ExportForm::of_standard_output`].
    pub export: Option<ExportForm>,
    /// A folder for the dead letters of an export, in place of the one beside its features.
    pub dead_letters: Option<PathBuf>,
    /// A folder for the results, or `-`.
    pub out: Option<PathBuf>,
    /// The program's own sinks, in place of any file.
    pub sinks: OwnSinks,
    /// Somebody waits for each row: none is too late to be scored.
    pub on_request: bool,
    /// Rows of requests that may wait.
    pub rows_waiting_max: Option<u64>,
    /// Drift is not measured, whatever the job says.
    pub without_drift: bool,
    pub overwrite: bool,
    pub with_inputs: bool,
    pub run_columns: bool,
    /// Whether progress is drawn on standard error.
    pub progress: bool,
    /// The program's own model, in place of the job's file.
    pub model: Option<ModelFactory>,
    /// What takes its place later.
    pub models: ModelControl,
    /// What the program adds to the job's features.
    pub extensions: Extensions,
    pub faults: Faults,
    /// What workers spend their time on.
    pub stages: StageClock,
    /// How long a run that is interrupted may take to finish what is under way; without it all is
    /// dropped.
    pub drain: Option<Duration>,
    pub interrupt: Interrupt,
}

/// What a run makes of the topics of its job.
#[derive(Clone, Default)]
pub enum TopicUse {
    /// It reads files.
    #[default]
    Never,
    /// Nothing is read; where there is no file, what the job says of topics is looked at.
    Described,
    Read(Arc<OpenTopics>),
}

/// Topics of a job whose partitions are known.
pub struct OpenTopics {
    pub reading: Topics,
    pub events: Vec<Place>,
    /// By as-of table; `None` for one that is read from files.
    pub tables: Vec<Option<Vec<Place>>>,
}

impl TopicUse {
    pub fn reading(&self) -> Option<&Topics> {
        match self {
            TopicUse::Read(open) => Some(&open.reading),
            TopicUse::Never | TopicUse::Described => None,
        }
    }
}

impl RunOptions {
    pub fn from(&self) -> i64 {
        self.from.unwrap_or(i64::MIN)
    }

    pub fn to(&self) -> i64 {
        self.to.unwrap_or(i64::MAX)
    }

    /// The share of the records read above which dead letters fail the run.
    pub fn max_dead_letter_share(&self, job: &Job) -> Option<f64> {
        self.max_dead_letter_share.or(job.max_dead_letter_share)
    }

    pub fn to_standard_output(&self) -> bool {
        self.out.as_ref().is_some_and(|out| out.as_os_str() == "-")
    }

    /// Where events are read from; `None` if the program brings them, or nobody has said.
    pub fn source(&self, job: &Job) -> Option<Input> {
        match (&self.events, &self.input) {
            (Some(_), _) => None,
            (None, Some(path)) => Some(Input { path: path.clone(), format: self.format(job) }),
            (None, None) => job.source.as_ref().and_then(|source| source.input.clone()),
        }
    }

    /// The format of an input in place of the job's: standard input has no name that tells it.
    fn format(&self, job: &Job) -> Option<Format> {
        let is_standard = self.input.as_ref().is_some_and(|path| path.as_os_str() == "-");
        let said = job.source.as_ref().and_then(|source| source.input.as_ref()?.format);
        said.filter(|format| is_standard && *format != Format::Parquet)
    }

    pub fn outputs(&self, job: &Job) -> Outputs {
        match &self.out {
            Some(base) if !self.to_standard_output() => job.outputs.below(base),
            _ => job.outputs.clone(),
        }
    }
}
