//! What was typed wrong, on one line.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::arguments::Cli;

/// The exit code for wrong arguments.
const WRONG_ARGUMENTS: u8 = 2;

/// Prints what a command line comes to that is no run: help, the version, or what is wrong with it.
pub fn explain(error: &clap::Error) -> ExitCode {
    let is_help = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if is_help || !error.use_stderr() {
        if let Err(error) = error.print().and_then(|()| std::io::stdout().flush())
            // A reader that has seen enough is no error.
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            say!("error: standard output: {error}");
            return ExitCode::FAILURE;
        }
        return if is_help { ExitCode::from(WRONG_ARGUMENTS) } else { ExitCode::SUCCESS };
    }
    say!("error: {}", one_line(&error.to_string(), std::env::args().nth(1).as_deref()));
    ExitCode::from(WRONG_ARGUMENTS)
}

/// clap's message without its usage, and where to read on. `first`: the first argument.
fn one_line(message: &str, first: Option<&str>) -> String {
    let mut line = String::new();
    let said = message.lines().take_while(|line| !line.starts_with("Usage:"));
    for part in said.map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("For more information") || part.starts_with("tip: to pass") {
            continue;
        }
        match part.strip_prefix("tip: ") {
            Some(tip) => {
                let similar = tip.split_once(" exists: ").map(|(_, name)| name);
                let tip = similar.map_or(tip.to_owned(), |name| format!("did you mean {name}?"));
                line.push_str(&format!("; {tip}"));
            }
            None if line.is_empty() => line.push_str(part.strip_prefix("error: ").unwrap_or(part)),
            None => line.push_str(&format!(" {part}")),
        }
    }
    let is_command =
        |name: &&str| Cli::command().get_subcommands().any(|command| command.get_name() == *name);
    let command = first.filter(is_command).map_or(String::new(), |name| format!(" {name}"));
    format!("{line}; see `driftline{command} --help`")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn one_line_says_what_is_wrong_and_where_to_read_on() {
        let said = |arguments: &[&str]| {
            let typed = std::iter::once("driftline").chain(arguments.iter().copied());
            let Err(error) = Cli::try_parse_from(typed) else { panic!("{arguments:?} is right") };
            one_line(&error.to_string(), arguments.first().copied())
        };
        assert_eq!(
            said(&["repaly"]),
            "unrecognized subcommand 'repaly'; did you mean 'replay'?; see `driftline --help`"
        );
        assert_eq!(
            said(&["check"]),
            "the following required arguments were not provided: <JOB>; see `driftline check --help`"
        );
        assert_eq!(
            said(&["plan", "job", "--format", "svg"]),
            "invalid value 'svg' for '--format <FORMAT>' [possible values: text, mermaid]; see `driftline plan --help`"
        );
        assert_eq!(
            said(&["check", "job", "--nonsense"]),
            "unexpected argument '--nonsense' found; see `driftline check --help`"
        );
    }
}
