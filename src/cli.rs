//! The command line.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use driftline_jobs::scoring::STAGES;
use driftline_operators::fault::Faults;

use crate::config::Job;
use crate::config::duration::instant_ms;
use crate::run::options::{Exchange, Interrupt, RunOptions};
use crate::run::plan::{self, Form};
use crate::run::{self, check};

/// Score streams of events with ML models, and watch the models for drift.
#[derive(Parser)]
#[command(name = "driftline", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a job file against its data, tables, model and baseline
    Check { job: PathBuf },
    /// Show the dataflow that a replay runs: stages, keys, what waits for what, bounds
    Plan {
        job: PathBuf,
        /// Events in place of the job's source: a file, a folder, or - for standard input
        #[arg(long, value_name = "PATH")]
        input: Option<PathBuf>,
        /// How the plan is written
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Run a job over stored events: predictions, drift snapshots and dead letters
    Replay {
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
    },
    /// Write the feature rows that the model would see, for training
    Export {
        job: PathBuf,
        #[command(flatten)]
        events: EventArgs,
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Replace the results of an earlier run
        #[arg(long)]
        overwrite: bool,
    },
    /// Make the reference that drift is measured against
    Baseline {
        job: PathBuf,
        #[command(flatten)]
        events: EventArgs,
    },
}

#[derive(Args)]
struct EventArgs {
    /// Events in place of the job's source: a file, a folder, or - for JSON lines on standard input
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Score events from this instant on; windows are fed from before
    #[arg(long, value_name = "TIME", value_parser = instant_ms, conflicts_with = "limit")]
    from: Option<i64>,
    /// Score events before this instant
    #[arg(long, value_name = "TIME", value_parser = instant_ms, conflicts_with = "limit")]
    to: Option<i64>,
    /// Read only this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// How rows travel between workers
    #[arg(long, value_enum, default_value_t, hide = true)]
    exchange: Exchange,
}

impl EventArgs {
    fn options(self, interrupt: Interrupt) -> Result<RunOptions> {
        if self.from.zip(self.to).is_some_and(|(from, to)| from >= to) {
            bail!("--from must be before --to");
        }
        Ok(RunOptions {
            input: self.input,
            from: self.from,
            to: self.to,
            limit: self.limit,
            workers: usize::from(self.workers),
            exchange: self.exchange,
            progress: true,
            faults: faults()?,
            interrupt,
            ..RunOptions::default()
        })
    }
}

/// The fault that a test asks for.
fn faults() -> Result<Faults> {
    let lose_row_after = std::env::var("DRIFTLINE_FAULT_LOSE_ROW").ok();
    if let Some(stage) = lose_row_after.as_deref().filter(|stage| !STAGES.contains(stage)) {
        bail!(
            "DRIFTLINE_FAULT_LOSE_ROW: there is no stage {stage:?}; stages are {}",
            STAGES.join(", ")
        );
    }
    Ok(Faults { lose_row_after })
}

/// The exit code of a run that a signal ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// What the program does from its arguments to its exit code.
pub fn main() -> ExitCode {
    abort_on_panic();
    let command = Cli::parse().command;
    let interrupt = Interrupt::default();
    match dispatch(command, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if interrupt.is_set() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

/// A worker that panics would leave the others waiting for it for ever.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

fn dispatch(command: Command, interrupt: &Interrupt) -> Result<()> {
    let on_signal = interrupt.clone();
    ctrlc::set_handler(move || {
        if on_signal.is_set() {
            std::process::exit(INTERRUPTED.into());
        }
        on_signal.set();
    })
    .context("signals cannot be handled")?;
    match command {
        Command::Check { job } => {
            show(&check::describe(&load(&job)?)?)?;
        }
        Command::Plan { job, input, format } => {
            let options = RunOptions { input, ..RunOptions::default() };
            show(&plan::describe(&load(&job)?, &options, format)?)?;
        }
        Command::Replay { job, events, out, overwrite, with_inputs, run_columns } => {
            let options = RunOptions {
                out,
                overwrite,
                with_inputs,
                run_columns,
                ..events.options(interrupt.clone())?
            };
            eprint!("{}", run::replay(&load(&job)?, &options)?);
        }
        Command::Export { job, events, out, overwrite } => {
            let job = load(&job)?;
            let options = RunOptions { overwrite, ..events.options(interrupt.clone())? };
            let folder =
                out.unwrap_or_else(|| job.outputs.predictions.path.with_file_name("features"));
            eprint!("{}", run::export_features(&job, &options, &folder)?);
        }
        Command::Baseline { job, events } => {
            eprint!("{}", run::make_baseline(&load(&job)?, &events.options(interrupt.clone())?)?);
        }
    }
    Ok(())
}

/// Writes to standard output; a reader that has seen enough is no error.
fn show(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

fn load(path: &std::path::Path) -> Result<Arc<Job>> {
    let job = Job::load(path)?;
    for warning in &job.warnings {
        eprintln!("warning: {}: {warning}", path.display());
    }
    Ok(Arc::new(job))
}
