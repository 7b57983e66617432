//! The command line.

mod arguments;
mod examples;
mod usage;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use driftline_operators::fault::{Faults, LostBehind};
use driftline_operators::guarded::is_guarded;

use self::arguments::{Cli, Command, EventArgs};
use crate::config::duration::instant_text;
use crate::config::schema::job_schema;
use crate::config::{Job, on_one_line};
use crate::interrupt::Interrupt;
use crate::run::backtest::backtest;
use crate::run::check::Described;
use crate::run::live::LiveOptions;
use crate::run::models::Listed;
use crate::run::options::RunOptions;
use crate::run::parity::by_hand::{Answer, parity};
use crate::run::summary::Summary;
use crate::run::switching::ModelControl;
use crate::run::{self, check, models, plan};

impl EventArgs {
    fn options(self, interrupt: Interrupt) -> Result<RunOptions> {
        if let Some((from, to)) = self.from.zip(self.to).filter(|(from, to)| from >= to) {
            let (from, to) = (instant_text(from), instant_text(to));
            bail!("--from ({from}) must be before --to ({to})");
        }
        Ok(RunOptions {
            input: self.input,
            from: self.from,
            to: self.to,
            limit: self.limit,
            max_dead_letter_share: self.max_dead_letter_share,
            workers: usize::from(self.workers),
            exchange: self.exchange,
            progress: true,
            faults: faults()?,
            interrupt,
            ..RunOptions::default()
        })
    }
}

/// The fault that a test asks for; a release knows none.
fn faults() -> Result<Faults> {
    let asked = std::env::var("DRIFTLINE_FAULT_LOSE_ROW").ok().filter(|_| cfg!(debug_assertions));
    let Some(asked) = asked else { return Ok(Faults::default()) };
    let mut all = LostBehind::ALL.into_iter();
    let Some(behind) = all.find(|behind| behind.name() == asked) else {
        let stages = LostBehind::ALL.map(LostBehind::name).join(", ");
        bail!("DRIFTLINE_FAULT_LOSE_ROW: there is no stage {asked:?}; stages are {stages}");
    };
    Ok(Faults { lose_row_after: Some(behind) })
}

/// The exit code of a run that a signal ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// What the program does from its arguments to its exit code.
pub fn main() -> ExitCode {
    abort_on_panic();
    let command = match Cli::try_parse() {
        Ok(typed) => typed.command,
        Err(error) => return usage::explain(&error),
    };
    let interrupt = Interrupt::default();
    match dispatch(command, &interrupt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that has seen enough is no error.
            if error.is::<run::ReaderLeft>() {
                return ExitCode::SUCCESS;
            }
            say!("error: {}", on_one_line(&format!("{error:#}")));
            match error.is::<run::Interrupted>() {
                true => ExitCode::from(INTERRUPTED),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// A worker that panics would leave the others waiting for it for ever. Where a damaged file is read a
/// panic is an error.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            report(panic);
            std::process::abort();
        }
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
            let Described { text, problem } = check::describe(&load(&job)?);
            show(&text)?;
            if let Some(problem) = problem {
                return Err(problem);
            }
        }
        Command::Plan { job, input, format } => {
            let options = RunOptions { input, ..RunOptions::default() };
            show(&plan::describe(&load(&job)?, &options, format)?)?;
        }
        Command::Models { job, model_since, format } => {
            let Listed { text, problem } = models::list(&load(&job)?, model_since, format)?;
            show(&text)?;
            if let Some(problem) = problem {
                return Err(problem);
            }
        }
        Command::Replay {
            job,
            events,
            out,
            overwrite,
            with_inputs,
            run_columns,
            model_since,
            weights_since,
        } => {
            let job = load(&job)?;
            let options = RunOptions {
                out,
                overwrite,
                with_inputs,
                run_columns,
                models: ModelControl::scheduled(&job, model_since, weights_since)?,
                ..events.options(interrupt.clone())?
            };
            tell(&run::replay(&job, &options)?)?;
        }
        Command::Backtest { job, models, events, out, overwrite, format } => {
            let options = events.options(interrupt.clone())?;
            let found = backtest(&load(&job)?, &models, &options)?;
            if let Some(folder) = &out {
                found.write(folder, overwrite)?;
            }
            show(&found.text(format))?;
            eprint!("{}", found.summary);
        }
        Command::Run {
            job,
            workers,
            until_caught_up,
            max_dead_letter_share,
            with_inputs,
            run_columns,
            exchange,
        } => {
            let options = RunOptions {
                max_dead_letter_share,
                workers: usize::from(workers),
                exchange,
                with_inputs,
                run_columns,
                faults: faults()?,
                interrupt: interrupt.clone(),
                ..RunOptions::default()
            };
            let live = LiveOptions { until_quiet_for: until_caught_up };
            tell(&run::run_live(&load(&job)?, &options, live)?)?;
        }
        Command::Export { job, events, out, dead_letters, format, overwrite } => {
            let job = load(&job)?;
            let options = RunOptions {
                overwrite,
                dead_letters,
                export: format,
                ..events.options(interrupt.clone())?
            };
            let out =
                out.unwrap_or_else(|| job.outputs.predictions.path.with_file_name("features"));
            tell(&run::export_features(&job, &options, &out)?)?;
        }
        Command::Baseline { job, model, events } => {
            let options = events.options(interrupt.clone())?;
            tell(&run::make_baseline(&load(&job)?, model.as_deref(), &options)?)?;
        }
        Command::Parity { model, how } => {
            let Answer { text, refusal } = parity(&how.of(model))?;
            show(&text)?;
            if let Some(refusal) = refusal {
                bail!("{refusal}");
            }
        }
        Command::Schema => show(&job_schema()?)?,
        Command::Completions { shell } => show(&completions(shell))?,
    }
    Ok(())
}

/// What makes a shell complete commands, options and their values.
fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "driftline", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The closing words of a run, and whether it has failed all the same.
fn tell(summary: &Summary) -> Result<()> {
    // As with `say!`.
    let _ = write!(std::io::stderr().lock(), "{summary}");
    match &summary.too_many_dead_letters {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

/// Writes to standard output; a reader that has seen enough is no error.
fn show(text: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output")
        }
        _ => Ok(()),
    }
}

fn load(path: &std::path::Path) -> Result<Arc<Job>> {
    let job = Job::load(path)?;
    for warning in &job.warnings {
        say!("warning: {}: {warning}", path.display());
    }
    Ok(Arc::new(job))
}
