//! Errors of libraries in the words of this program.

use std::io::{Error, ErrorKind};
use std::path::Path;

use super::check::problem::suggestion;

/// What is wrong with a file or folder: its path and a reason.
pub fn in_words(path: &Path, error: &Error) -> String {
    let reason = match error.kind() {
        ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "a folder, not a file".to_owned(),
        ErrorKind::NotADirectory => "part of its path is a file, not a folder".to_owned(),
        ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        ErrorKind::StorageFull => "no space left on the device".to_owned(),
        ErrorKind::FileTooLarge => "the file would be larger than is allowed here".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        _ => error.to_string(),
    };
    format!("{}: {reason}", path.display())
}

/// Names of jobs and columns may have any characters; a message is one line.
pub fn on_one_line(text: &str) -> String {
    let piece = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(piece).collect()
}

/// What is wrong with an SQL expression, without the names of the layers that found it.
pub fn expression(message: &str) -> String {
    let message = message.replace("Schema error: ", "").replace("Error during planning: ", "");
    match message.split_once("SQL error: ParserError(\"") {
        Some((expression, problem)) => {
            format!("{expression}{}", problem.strip_suffix("\")").unwrap_or(problem))
        }
        None => message,
    }
}

/// Types of this program, and what they are in a job file.
const TYPES: &[(&str, &str)] = &[
    ("usize", "a whole number of at least 0"),
    ("u64", "a whole number of at least 0"),
    ("i64", "a whole number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a sequence", "a list"),
    ("a map", "a section"),
];

/// An error of deserialisation below `key`, on one line.
pub(crate) fn deserialisation(key: &str, message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let key = if key == "." { "" } else { key };
    let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    let wrong = |reason: &str| match key {
        "" => reason.to_owned(),
        key => format!("{key}: {reason}"),
    };
    match quoted.as_slice() {
        [unknown, known @ ..] if line.starts_with("unknown field") => {
            // The path ends with the key itself where the file says it, not where a variable does.
            let section = key.strip_suffix(unknown).map_or(key, |rest| rest.trim_end_matches('.'));
            let nearest = suggestion(unknown, known.iter().copied());
            let reason = format!("unknown key {unknown:?}; {nearest}");
            if section.is_empty() { reason } else { format!("{section}: {reason}") }
        }
        [unknown, known @ ..] if line.starts_with("unknown variant") => {
            let nearest = suggestion(unknown, known.iter().copied());
            let all = known.join(", ");
            let nearest =
                nearest.strip_prefix("did you mean").map(|rest| format!("; did you mean{rest}"));
            wrong(&format!("{unknown:?} is not one of {all}{}", nearest.unwrap_or_default()))
        }
        [missing] if line.starts_with("missing field") => {
            wrong(&format!("the key {missing:?} is missing"))
        }
        _ => wrong(&types(line)),
    }
}

/// "invalid type: string "x", expected usize" in plain words.
fn types(line: &str) -> String {
    let Some((found, expected)) = line.split_once(", expected ") else { return line.to_owned() };
    let kind =
        ["invalid type: ", "invalid value: "].iter().find_map(|kind| found.strip_prefix(kind));
    let Some(found) = kind else { return line.to_owned() };
    let expected = expected.strip_prefix("expected ").unwrap_or(expected);
    let expected = if expected.starts_with("struct ") || expected.starts_with("internally") {
        "a section"
    } else {
        TYPES
            .iter()
            .find_map(|(ours, plain)| (*ours == expected).then_some(*plain))
            .unwrap_or(expected)
    };
    let found = match found {
        "sequence" => "a list".to_owned(),
        "map" => "a section".to_owned(),
        other => other.replace('`', ""),
    };
    format!("{found} where {expected} is needed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_told_what_is_wrong_alone() {
        let parser = r#""hour * (60": SQL error: ParserError("Expected: ), found: EOF")"#;
        assert_eq!(expression(parser), "\"hour * (60\": Expected: ), found: EOF");
        assert_eq!(expression("\"x\": Schema error: No field"), "\"x\": No field");
    }

    #[test]
    fn errors_say_the_key_and_what_is_needed() {
        let said = |message| deserialisation("job.order", message);
        assert_eq!(
            said("unknown variant `eventtime`, expected one of `event_time`, `epoch`"),
            "job.order: \"eventtime\" is not one of event_time, epoch; did you mean \"event_time\"?"
        );
        assert_eq!(
            said("unknown variant `x`, expected `event_time` or `epoch`"),
            "job.order: \"x\" is not one of event_time, epoch"
        );
        assert_eq!(
            said("invalid type: string \"many\", expected usize"),
            "job.order: string \"many\" where a whole number of at least 0 is needed"
        );
        assert_eq!(
            said("invalid type: integer `3`, expected struct JobSection"),
            "job.order: integer 3 where a section is needed"
        );
        assert_eq!(
            deserialisation("job", "missing field `name`"),
            "job: the key \"name\" is missing"
        );
        assert_eq!(
            deserialisation(".", "unknown field `evnt`, expected one of `job`, `event`"),
            "unknown key \"evnt\"; did you mean \"event\"?"
        );
        assert_eq!(
            deserialisation(".", "unclosed table, expected `]`"),
            "unclosed table, expected `]`"
        );
    }
}
