//! Lengths of time and instants, as people write them.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use driftline_operators::drift::calendar::{DAY_MS, WindowLength};

/// A length such as `1h`, `90s`, `7 days`, in ms.
///
/// # Errors
/// What is wrong with the text.
pub fn length_ms(text: &str) -> Result<i64, String> {
    let length = humantime::parse_duration(text).map_err(|error| {
        format!("{text:?} is not a length of time such as \"1h\" or \"7 days\": {error}")
    })?;
    match i64::try_from(length.as_millis()) {
        Ok(millis) if millis > 0 => Ok(millis),
        _ => Err(format!("{text:?} must be at least a millisecond")),
    }
}

/// In how many windows of a length a row may be.
const OVERLAP_MAX: i64 = 1_000;

/// A drift window: a length, `1w` (from Monday) or `1mo` (a calendar month); or length and slide of
/// windows that overlap, such as `7d/1d`.
///
/// # Errors
/// What is wrong with the text.
pub fn window_length(text: &str) -> Result<WindowLength, String> {
    match text.split_once('/') {
        None if text == "1mo" => Ok(WindowLength::Month),
        None if text == "1w" => Ok(WindowLength::Week),
        None => length_ms(text).map(WindowLength::Millis),
        Some(("1mo" | "1w", _)) => Err(format!(
            "{text:?}: calendar windows do not slide; write a length of days, such as \"7d/1d\""
        )),
        Some((length, slide)) => sliding(text, length_ms(length)?, length_ms(slide)?),
    }
}

fn sliding(text: &str, length_ms: i64, slide_ms: i64) -> Result<WindowLength, String> {
    let overlap = length_ms / slide_ms;
    if length_ms % slide_ms != 0 {
        return Err(format!("{text:?}: the slide must divide the length, as in \"7d/1d\""));
    }
    match overlap {
        1 => Ok(WindowLength::Millis(length_ms)),
        2..=OVERLAP_MAX => Ok(WindowLength::Sliding { length_ms, slide_ms }),
        _ => Err(format!(
            "{text:?}: a row would be in {overlap} windows, and {OVERLAP_MAX} are the most; make the slide longer"
        )),
    }
}

/// An instant in RFC 3339, or a date (its midnight in UTC), in ms since 1970.
///
/// # Errors
/// What is wrong with the text.
pub fn instant_ms(text: &str) -> Result<i64, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis());
    }
    let instant = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!("{text:?} is neither a date such as 2013-06-15 nor an instant such as 2013-06-15T12:00:00Z")
    })?;
    Ok(instant.with_timezone(&Utc).timestamp_millis())
}

/// A length in ms as text, such as `7 days` or `1 h 30 min`, to the ms.
pub fn length_text(millis: u64) -> String {
    let units = [(86_400_000, "day"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let mut rest = millis;
    let mut parts = Vec::new();
    for (unit, name) in units {
        let count = rest / unit;
        rest %= unit;
        if count > 0 {
            let ending = if name == "day" && count > 1 { "s" } else { "" };
            parts.push(format!("{count} {name}{ending}"));
        }
    }
    if parts.is_empty() { "0 ms".to_owned() } else { parts.join(" ") }
}

/// An instant in ms as text, to the minute if it is a whole one, else as far as it goes.
pub fn instant_text(millis: i64) -> String {
    let format = match millis {
        whole if whole % 60_000 == 0 => "%Y-%m-%d %H:%M",
        whole if whole % 1_000 == 0 => "%Y-%m-%d %H:%M:%S",
        _ => "%Y-%m-%d %H:%M:%S%.3f",
    };
    DateTime::<Utc>::from_timestamp_millis(millis)
        .map_or_else(|| format!("{millis} ms"), |instant| instant.format(format).to_string())
}

/// An instant in ms as RFC 3339 has it, in UTC; [`instant_ms`] of it is the same instant.
pub fn instant_rfc3339(millis: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(millis).map_or_else(
        || format!("{millis} ms"),
        |instant| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true),
    )
}

/// The start of a window as text, as far as its length tells windows apart.
pub fn date_text(millis: i64, length: WindowLength) -> String {
    let starts_at_midnight = |apart: i64| apart % DAY_MS == 0;
    let format = match length {
        WindowLength::Month => "%Y-%m",
        WindowLength::Week => "%Y-%m-%d",
        WindowLength::Millis(apart) | WindowLength::Sliding { slide_ms: apart, .. }
            if starts_at_midnight(apart) =>
        {
            "%Y-%m-%d"
        }
        WindowLength::Millis(_) | WindowLength::Sliding { .. } | WindowLength::All => {
            "%Y-%m-%dT%H:%M"
        }
    };
    DateTime::<Utc>::from_timestamp_millis(millis)
        .map_or_else(|| format!("{millis} ms"), |instant| instant.format(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        assert_eq!(length_ms("1h"), Ok(3_600_000));
        assert_eq!(length_ms("7 days"), Ok(7 * 86_400_000));
        assert!(length_ms("0s").is_err());
        assert!(length_ms("soon").unwrap_err().contains("soon"));
        assert_eq!(window_length("1mo"), Ok(WindowLength::Month));
        assert_eq!(window_length("1d"), Ok(WindowLength::Millis(86_400_000)));
        let sliding = WindowLength::Sliding { length_ms: 3_600_000, slide_ms: 900_000 };
        assert_eq!(window_length("1h/15m"), Ok(sliding));
        assert_eq!(window_length("1d/24h"), Ok(WindowLength::Millis(86_400_000)));
        for wrong in ["1mo/1d", "1w/1d", "7d/2d", "1d/7d", "1d/1ms", "1d/", "/1d", "1d/1h/1m"] {
            assert!(window_length(wrong).is_err(), "{wrong}");
        }
        assert_eq!(instant_ms("1970-01-02"), Ok(86_400_000));
        assert_eq!(instant_ms("1970-01-01T01:00:00+01:00"), Ok(0));
        assert!(instant_ms("yesterday").is_err());
    }

    #[test]
    fn instants_that_differ_read_differently() {
        let cases = [
            (0, "1970-01-01 00:00"),
            (-60_000, "1969-12-31 23:59"),
            (1_371_297_610_000, "2013-06-15 12:00:10"),
            (-1, "1969-12-31 23:59:59.999"),
            (i64::MAX, "9223372036854775807 ms"),
        ];
        for (millis, text) in cases {
            assert_eq!(instant_text(millis), text);
        }
    }

    #[test]
    fn lengths_read_as_they_are_written() {
        let cases = [
            (0, "0 ms"),
            (100, "100 ms"),
            (3_600_000, "1 h"),
            (86_400_000, "1 day"),
            (7 * 86_400_000, "7 days"),
            (5_400_000, "1 h 30 min"),
            (2 * 86_400_000 + 1_001, "2 days 1 s 1 ms"),
        ];
        for (millis, text) in cases {
            assert_eq!(length_text(millis), text);
            if millis > 0 {
                assert_eq!(length_ms(text), Ok(millis as i64));
            }
        }
    }
}
