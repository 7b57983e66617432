//! What is wrong with a job, and where.

/// Something wrong under a key, such as `drift.windows`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct Problem {
    pub key: String,
    pub message: String,
}

impl Problem {
    pub fn at(key: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { key: key.into(), message: message.into() }
    }
}

/// # Errors
/// If the value is less than the least.
pub fn at_least(key: &str, value: i64, least: i64) -> Result<(), Problem> {
    if value < least {
        return Err(Problem::at(key, format!("{value} is too small; it must be at least {least}")));
    }
    Ok(())
}

/// The known name that is most like `unknown`, as a question, or all that are known.
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let likeness = |name: &str| strsim::jaro_winkler(&unknown.to_lowercase(), &name.to_lowercase());
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest {
        Some(name) if likeness(name) > 0.75 => format!("did you mean {name:?}?"),
        Some(_) => format!("known here: {}", known.join(", ")),
        None => "there is none here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_suggested_and_else_what_there_is() {
        let known = ["arrival", "epoch", "event_time"];
        assert_eq!(suggestion("eventtime", known), "did you mean \"event_time\"?");
        assert_eq!(suggestion("Arrival", known), "did you mean \"arrival\"?");
        assert_eq!(suggestion("sorted", known), "known here: arrival, epoch, event_time");
        assert_eq!(suggestion("x", []), "there is none here");
    }
}
