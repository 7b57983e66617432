//! Whether any event is in the time that `--from` and `--to` leave.

use anyhow::{Result, bail};
use driftline_operators::accounting::Counters;
use driftline_operators::watermark::Span;

use super::options::RunOptions;
use super::prepare::Prepared;
use crate::config::duration::instant_text;

/// Where files tell the times of all events before these are read.
///
/// # Errors
/// If none can be in the range.
pub fn check_known(prepared: &Prepared, options: &RunOptions) -> Result<()> {
    if is_bounded(options) && prepared.inputs.has_none_between(options.from(), options.to()) {
        let known = prepared.inputs.known_times();
        return none_there(prepared, options, known);
    }
    Ok(())
}

/// When all events have been read.
///
/// # Errors
/// If none was in the range.
pub fn check_read(prepared: &Prepared, options: &RunOptions, counters: &Counters) -> Result<()> {
    if is_bounded(options) && counters.account().read == 0 {
        let read = counters.event_times();
        let known = prepared.inputs.known_times();
        return none_there(prepared, options, read.into_iter().chain(known).reduce(Span::and));
    }
    Ok(())
}

fn is_bounded(options: &RunOptions) -> bool {
    options.from.is_some() || options.to.is_some()
}

fn none_there(prepared: &Prepared, options: &RunOptions, events: Option<Span>) -> Result<()> {
    let source = options.source(&prepared.job).map(|source| source.path);
    let place = match source {
        Some(path) if path.as_os_str() == "-" => "standard input: ".to_owned(),
        Some(path) => format!("{}: ", path.display()),
        None => String::new(),
    };
    let none = match (options.from.map(instant_text), options.to.map(instant_text)) {
        (Some(from), Some(to)) => format!("no event is from --from ({from}) to --to ({to})"),
        (Some(from), None) => format!("--from ({from}) is beyond all events"),
        (None, Some(to)) => format!("--to ({to}) is before all events"),
        (None, None) => "there are no events".to_owned(),
    };
    let there = match events {
        Some(Span { first, last }) if first == last => {
            format!("they are at {}", instant_text(first))
        }
        Some(Span { first, last }) => {
            format!("they are from {} to {}", instant_text(first), instant_text(last))
        }
        None => "none has a time".to_owned(),
    };
    bail!("{place}{none}; {there}; nothing was written");
}
