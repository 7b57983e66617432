//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use driftline_operators::model::Task;
use driftline_operators::parity::Tolerance;

use super::examples;
use crate::config::duration::instant_ms;
use crate::config::raw::parity::{EXPECTED, ROWS_MAX, TOLERANCE_ABSOLUTE, TOLERANCE_RELATIVE};
use crate::config::raw::words::TaskWord;
use crate::run::backtest::Form as BacktestForm;
use crate::run::models::Form as ListForm;
use crate::run::options::{Exchange, ExportForm};
use crate::run::parity::by_hand::Asked;
use crate::run::plan::Form;
use crate::run::switching::{ModelSince, RouteWeights, WeightsSince};

/// Score streams of events with ML models, and watch the models for drift
#[derive(Parser)]
#[command(name = "driftline", version, after_long_help = examples::PROGRAM)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Check a job file against its data, tables, model and baseline
    ///
    /// Opens all that a replay would open, tries the model on made-up rows, and describes what it
    /// found: the columns of each input, how each feature is made, what goes into the model, what
    /// drift watches, and where results go. Reads no events and writes nothing.
    #[command(after_long_help = examples::CHECK)]
    Check {
        /// The job file
        job: PathBuf,
    },
    /// Show the dataflow that a replay runs: parts, keys, what waits for what, operators, bounds
    #[command(after_long_help = examples::PLAN)]
    Plan {
        /// The job file
        job: PathBuf,
        /// Events in place of the job's source: a file, a folder, or - for standard input
        #[arg(long, value_name = "PATH")]
        input: Option<PathBuf>,
        /// How the plan is written
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Say which version of the model serves now, and why
    ///
    /// What the reference of the job means, the version and the digest of its files, what it says of
    /// itself (signature, inference_config, deployment_config) and what of that holds; likewise of the
    /// versions that --model-since names. Fetches and tries them, scores no events.
    #[command(after_long_help = examples::MODELS)]
    Models {
        /// The job file
        job: PathBuf,
        /// Versions that are to score events from an event time on, as in `driftline replay`
        #[arg(long, value_name = "TIME=VERSION", value_parser = model_since)]
        model_since: Vec<ModelSince>,
        /// How they are listed
        #[arg(long, value_enum, default_value_t)]
        format: ListForm,
    },
    /// Run a job over stored events: predictions, drift snapshots and dead letters
    ///
    /// Results appear together when the run is complete and accounted for, or not at all.
    #[command(after_long_help = examples::REPLAY)]
    Replay {
        /// The job file
        job: PathBuf,
        #[command(flatten)]
        events: EventArgs,
        /// A folder for predictions, drift and dead letters; or - for predictions on standard output
        /// and dead letters on standard error, as JSON lines
        #[arg(long, value_name = "DIR|-")]
        out: Option<PathBuf>,
        /// Replace the results of an earlier run
        #[arg(long)]
        overwrite: bool,
        /// Write the model's input tensor beside each prediction
        #[arg(long)]
        with_inputs: bool,
        /// Write run_* columns: inference time, batch size, worker
        #[arg(long)]
        run_columns: bool,
        /// Score events from an event time on with another version of the model, as the summary of a run
        /// says it has: of a registry's model, or with =FILE of a file's; TIME=MODEL:VERSION where the
        /// job has several
        #[arg(long, value_name = "TIME=VERSION", value_parser = model_since)]
        model_since: Vec<ModelSince>,
        /// Give the variants of a route other weights from an event time on, such as
        /// 2026-05-01T00:00:00Z=rest:control=8000,treatment=2000
        #[arg(long, value_name = "TIME=ROUTE:VARIANT=WEIGHT,…", value_parser = weights_since)]
        weights_since: Vec<WeightsSince>,
    },
    /// Run a job on its Kafka topics until it is told to stop: predictions, drift, dead letters
    ///
    /// The graph of a replay. Offsets are committed once all that came of the records before them is
    /// acknowledged. SIGTERM or Ctrl-C finishes what is under way; a second one stops at once.
    #[command(after_long_help = examples::RUN)]
    Run {
        /// The job file
        job: PathBuf,
        /// Worker threads
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = workers)]
        workers: u16,
        /// End when all has been read and nothing has come for so long, such as 5s (the default)
        #[arg(long, value_name = "QUIET", num_args = 0..=1, require_equals = true, default_missing_value = "5s", value_parser = quiet)]
        until_caught_up: Option<std::time::Duration>,
        /// Fail, with --until-caught-up, if more than this share of the records read are dead letters
        #[arg(long, value_name = "SHARE", value_parser = share)]
        max_dead_letter_share: Option<f64>,
        /// Write the model's input tensor beside each prediction
        #[arg(long)]
        with_inputs: bool,
        /// Write run_* columns: inference time, batch size, worker
        #[arg(long)]
        run_columns: bool,
        /// How rows travel between workers
        #[arg(long, value_enum, default_value_t, hide = true)]
        exchange: Exchange,
    },
    /// Write the feature rows that the model would see, for training
    ///
    /// The same graph as a replay up to the features; needs no model. On standard output the rows of
    /// several workers stand as one worker would write them, byte for byte (not in `arrival` order,
    /// in which nothing is reproducible). Where its reader leaves, the export ends, exit code 0.
    #[command(after_long_help = examples::EXPORT)]
    Export {
        /// The job file
        job: PathBuf,
        #[command(flatten)]
        events: EventArgs,
        /// The folder to write to, or - for standard output; without it `features` beside the
        /// predictions
        #[arg(long, value_name = "DIR|-")]
        out: Option<PathBuf>,
        /// The folder for dead letters; without it they are written beside the folder of features, and
        /// with --out - only counted
        #[arg(long, value_name = "DIR")]
        dead_letters: Option<PathBuf>,
        /// How feature rows and dead letters are written: parquet without it, json with --out -, which
        /// takes all but parquet
        #[arg(long, value_enum)]
        format: Option<ExportForm>,
        /// Replace the results of an earlier run
        #[arg(long)]
        overwrite: bool,
    },
    /// Score stored events by several models in one pass, and compare what they say
    ///
    /// The first one is what the others are compared with. Nothing but the comparison is written.
    #[command(after_long_help = examples::BACKTEST)]
    Backtest {
        /// The job file
        job: PathBuf,
        /// The models: names of the job's [models.NAME], or files (FILE or NAME=FILE) that take the features of
        /// its [model]
        #[arg(long, value_name = "A,B,…", value_delimiter = ',', required = true)]
        models: Vec<String>,
        #[command(flatten)]
        events: EventArgs,
        /// A folder for backtest.parquet and backtest.json
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Replace those of an earlier one
        #[arg(long)]
        overwrite: bool,
        /// How it is told on standard output
        #[arg(long, value_enum, default_value_t)]
        format: BacktestForm,
    },
    /// Make the reference that drift is measured against
    ///
    /// Scores the events and keeps the model's inputs and the scores, in the file that
    /// `drift.baseline` names. An earlier one is replaced.
    #[command(after_long_help = examples::BASELINE)]
    Baseline {
        /// The job file
        job: PathBuf,
        /// Of several models, keep the scores of this one, in NAME.baseline.parquet beside NAME.onnx; without it
        /// those of the first, in the file that drift.baseline names
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        #[command(flatten)]
        events: EventArgs,
    },
    /// Compare a model with its trainer's predictions: does it score as it did where it was trained?
    ///
    /// Scores rows that hold the trainer's own predictions, by the same engine that scores events, and
    /// tells how far the two are apart and which row is the worst. Exit code 1 if a row differs by more
    /// than is allowed. Jobs do the same before a model scores any event: section [model.parity].
    #[command(after_long_help = examples::PARITY)]
    Parity {
        /// An ONNX file, a folder that has one, or a model of a registry: models:/NAME@ALIAS
        model: String,
        #[command(flatten)]
        how: ParityArgs,
    },
    /// Print the JSON Schema of job files, for editors
    ///
    /// Editors that know Taplo complete and check a job file whose first line is
    /// `#:schema ./driftline.schema.json`.
    #[command(after_long_help = examples::SCHEMA)]
    Schema,
    /// Print the completions of a shell
    #[command(after_long_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

const WORKERS_MAX: u16 = 256;

fn at_least_one(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "it must be a whole number of at least 1".to_owned())
}

fn quiet(text: &str) -> Result<std::time::Duration, String> {
    // A number alone is one of seconds.
    let seconds = text.parse().ok().map(std::time::Duration::from_secs);
    let parsed = seconds.or_else(|| humantime::parse_duration(text).ok());
    parsed.ok_or_else(|| "it must be a length of time, such as 5s or 2m".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "it must be a share from 0 to 1, such as 0.01".to_owned())
}

/// `TIME=VERSION`, or `TIME=VERSION=FILE`.
fn model_since(text: &str) -> Result<ModelSince, String> {
    let (since, version) =
        text.split_once('=').ok_or("it is TIME=VERSION, or TIME=VERSION=FILE")?;
    let (version, file) = match version.split_once('=') {
        Some((version, file)) => (version, Some(PathBuf::from(file))),
        None => (version, None),
    };
    if version.is_empty() {
        return Err("a version has a name".to_owned());
    }
    let since = instant_ms(since)?;
    Ok(ModelSince { since, model: None, version: version.to_owned(), file })
}

/// `TIME=ROUTE:VARIANT=WEIGHT,…`
fn weights_since(text: &str) -> Result<WeightsSince, String> {
    let form = "it is TIME=ROUTE:VARIANT=WEIGHT,…";
    let (since, weights) = text.split_once('=').ok_or(form)?;
    let (route, weights) = weights.split_once(':').ok_or(form)?;
    let weight = |text: &str| {
        let (variant, weight) = text.split_once('=').ok_or(form)?;
        let weight = weight.parse().map_err(|_| format!("{weight:?} is no weight of 10,000"))?;
        Ok::<_, String>((variant.to_owned(), weight))
    };
    let weights = weights.split(',').map(weight).collect::<Result<Vec<_>, _>>()?;
    let weights = RouteWeights { route: route.to_owned(), weights };
    Ok(WeightsSince { since: instant_ms(since)?, weights })
}

fn workers(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=WORKERS_MAX).contains(number));
    number.ok_or_else(|| format!("it must be a whole number from 1 to {WORKERS_MAX}"))
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite());
    number.ok_or_else(|| "it must be a number of at least 0, such as 1e-5".to_owned())
}

#[derive(Args)]
pub struct ParityArgs {
    /// A Parquet file of rows with predictions. MODEL.parity.parquet beside MODEL.onnx without it
    #[arg(long, value_name = "FILE")]
    pub rows: Option<PathBuf>,
    /// The column of what is expected: numbers are scores, lists predictions. Or the columns of all
    /// numbers of a prediction
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', default_value = EXPECTED)]
    pub expected: Vec<String>,
    /// The columns that the model takes, in its order: names apart by commas. All others without it
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub features: Option<Vec<String>>,
    /// The output to read, where several could be the prediction
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// What a prediction is. Told by the columns of the output without it
    #[arg(long, value_enum)]
    pub task: Option<TaskWord>,
    /// Leave all to ONNX Runtime, trees too
    #[arg(long)]
    pub onnxruntime: bool,
    /// A number may differ by this + --tolerance-relative times what is expected
    #[arg(long, value_name = "X", default_value_t = TOLERANCE_ABSOLUTE, value_parser = tolerance)]
    pub tolerance_absolute: f64,
    /// See --tolerance-absolute
    #[arg(long, value_name = "X", default_value_t = TOLERANCE_RELATIVE, value_parser = tolerance)]
    pub tolerance_relative: f64,
    /// Compare only so many rows, the first
    #[arg(long, value_name = "N", default_value_t = ROWS_MAX as u64, value_parser = at_least_one)]
    pub rows_max: u64,
    /// The MLflow server of models:/…; MLFLOW_TRACKING_URI without it
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
}

impl ParityArgs {
    pub fn of(self, model: String) -> Asked {
        Asked {
            model,
            registry: self.registry,
            rows: self.rows,
            expected: self.expected,
            features: self.features,
            output: self.output,
            task: self.task.map(Task::from),
            compile_trees: !self.onnxruntime,
            tolerance: Tolerance {
                absolute: self.tolerance_absolute,
                relative: self.tolerance_relative,
            },
            rows_max: usize::try_from(self.rows_max).unwrap_or(usize::MAX),
        }
    }
}

#[derive(Args)]
pub struct EventArgs {
    /// Events in place of the job's source: a file, a folder, or - for JSON lines on standard input
    #[arg(long, value_name = "PATH")]
    pub input: Option<PathBuf>,
    /// Score events from this instant on: 2013-06-15, or 2013-06-15T12:00:00Z. Windows are fed from
    /// before
    #[arg(long, value_name = "TIME", value_parser = instant_ms, conflicts_with = "limit")]
    pub from: Option<i64>,
    /// Score events before this instant
    #[arg(long, value_name = "TIME", value_parser = instant_ms, conflicts_with = "limit")]
    pub to: Option<i64>,
    /// Read only this many records
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub limit: Option<u64>,
    /// Fail, with the results written, if more than this share of the records read are dead letters
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub max_dead_letter_share: Option<f64>,
    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = workers)]
    pub workers: u16,
    /// How rows travel between workers
    #[arg(long, value_enum, default_value_t, hide = true)]
    pub exchange: Exchange,
}
