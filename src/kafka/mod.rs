//! What sources and sinks of Kafka share: how clients are made, what they say of the cluster, and what
//! comes around the bytes of a message.

pub mod cluster;
pub mod envelope;
pub mod events;
pub mod health;

pub use cluster::Cluster;
pub use health::Health;

use chrono::{Datelike, Timelike};

/// A time in ms since 1970 as RFC 3339.
pub fn instant(millis: i64) -> String {
    let instant = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
    let (date, time) = (instant.date_naive(), instant.time());
    if !(0..=9_999).contains(&date.year()) {
        return instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    }
    // Every prediction has one: chrono's formatting takes several times as long.
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (at, digits, number) in [
        (0, 4, date.year() as u32),
        (5, 2, date.month()),
        (8, 2, date.day()),
        (11, 2, time.hour()),
        (14, 2, time.minute()),
        (17, 2, time.second()),
        (20, 3, time.nanosecond() / 1_000_000),
    ] {
        let mut left = number;
        for digit in text[at..at + digits].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
    }
    text.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_as_chrono_writes_them() {
        let day = 86_400_000;
        let ends = [-62_167_219_200_000, 253_402_300_799_999, i64::MIN, 0, 951_782_400_000];
        let steps = (0..20_000).map(|step| -40_000 * day + step * 5 * day + step * 7_654_321);
        let around =
            ends.into_iter().flat_map(|end: i64| [-1, 0, 1].map(|by| end.saturating_add(by)));
        for millis in steps.chain(around) {
            let chrono = chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default();
            let expected = chrono.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            assert_eq!(instant(millis), expected, "{millis}");
        }
    }
}
