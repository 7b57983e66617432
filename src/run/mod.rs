//! From a job to a run: data opened, features compiled, workers started, results published.

pub mod backtest;
pub mod baseline;
pub mod baseline_file;
pub mod check;
pub mod drift;
mod drift_columns;
pub mod drift_tally;
mod drift_verdicts;
pub mod engine;
pub mod export;
pub mod extensions;
pub mod lateness;
pub mod letters;
pub mod live;
pub mod loading;
pub mod models;
pub mod numbers;
pub mod options;
pub mod outputs;
pub mod parity;
pub mod performance;
pub mod plan;
pub mod prediction_references;
pub mod prepare;
pub mod progress;
mod range;
pub mod replay;
mod route_lines;
pub mod scoring;
mod served;
pub mod summary;
pub mod switching;

pub use baseline::make_baseline;
pub use export::export_features;
pub use live::run_live;
pub use replay::replay;

use anyhow::{Context, Result, bail};
use driftline_operators::accounting::Counters;
use driftline_operators::failure::Failure;

use crate::sinks::folder::Publication;
use crate::sinks::standard_output::Reader;
use engine::Ended;

/// A signal has ended the run.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; {0}")]
pub struct Interrupted(&'static str);

/// The reader of standard output has seen enough, and closed it.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads standard output any more; nothing else was written")]
pub struct ReaderLeft;

fn publish(publication: &Publication) -> Result<()> {
    publication.publish().context("the results are complete but could not be put in place")
}

/// Ends the run as soon as the reader of standard output, if there is one, has left.
fn watch(reader: Option<&Reader>, failure: &Failure) {
    if let Some(reader) = reader {
        let failure = failure.clone();
        reader.watch(move || failure.report(ReaderLeft));
    }
}

/// Whether standard output was read to the end, if anybody reads it.
fn check_reader(reader: Option<&Reader>, ended: &Ended) -> Result<()> {
    match (reader, &ended.failure) {
        (Some(reader), Some(_)) if reader.has_left() => bail!(ReaderLeft),
        (Some(_), None) if ended.interrupted => {
            bail!(Interrupted("standard output may have been given a part of the rows"))
        }
        _ => Ok(()),
    }
}

/// Whether the run came to its end, and every record is accounted for.
fn check_end(counters: &Counters, ended: &Ended) -> Result<()> {
    if let Some(failure) = &ended.failure {
        bail!("{failure}");
    }
    if ended.interrupted {
        bail!(Interrupted("nothing was written"));
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
