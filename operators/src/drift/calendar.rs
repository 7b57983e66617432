//! Tumbling windows over event time, aligned to UTC.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};

pub const DAY_MS: i64 = 86_400_000;

/// The length of a drift window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WindowLength {
    /// Aligned to 1970-01-01T00:00:00Z.
    Millis(i64),
    /// From Monday to Monday.
    Week,
    /// Calendar months.
    Month,
    /// All of time; what a baseline is made from.
    All,
}

impl WindowLength {
    /// The window [start, end) in ms that `time` falls into.
    pub fn around(self, time: i64) -> (i64, i64) {
        match self {
            WindowLength::Millis(length) => {
                let start = time.div_euclid(length).saturating_mul(length);
                (start, start.saturating_add(length))
            }
            WindowLength::Week => {
                let days = time.div_euclid(DAY_MS);
                let monday = days - (days + 3).rem_euclid(7);
                (monday.saturating_mul(DAY_MS), (monday + 7).saturating_mul(DAY_MS))
            }
            WindowLength::Month => month_around(time).unwrap_or((i64::MIN, i64::MAX)),
            WindowLength::All => (i64::MIN, i64::MAX),
        }
    }

    /// The longest pane of which every window of these lengths is a union.
    pub fn common_pane(lengths: &[WindowLength]) -> WindowLength {
        if lengths.contains(&WindowLength::All) {
            return WindowLength::All;
        }
        let millis = lengths.iter().map(|length| match length {
            WindowLength::Millis(millis) => *millis,
            _ => DAY_MS,
        });
        WindowLength::Millis(millis.fold(0, greatest_common_divisor))
    }
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// `None` beyond the years that a calendar date can have.
fn month_around(time: i64) -> Option<(i64, i64)> {
    let date = DateTime::<Utc>::from_timestamp_millis(time)?.date_naive();
    let first = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?;
    let next = first.checked_add_months(Months::new(1))?;
    let millis = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp_millis();
    Some((millis(first), millis(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> i64 {
        text.parse::<DateTime<Utc>>().unwrap().timestamp_millis()
    }

    #[test]
    fn windows_are_those_of_the_calendar() {
        let cases = [
            (
                WindowLength::Month,
                "2013-02-28T23:59:59.999Z",
                "2013-02-01T00:00:00Z",
                "2013-03-01T00:00:00Z",
            ),
            (
                WindowLength::Month,
                "2012-12-01T00:00:00Z",
                "2012-12-01T00:00:00Z",
                "2013-01-01T00:00:00Z",
            ),
            (
                WindowLength::Week,
                "2013-01-06T23:00:00Z",
                "2012-12-31T00:00:00Z",
                "2013-01-07T00:00:00Z",
            ),
            (
                WindowLength::Week,
                "1969-12-28T23:00:00Z",
                "1969-12-22T00:00:00Z",
                "1969-12-29T00:00:00Z",
            ),
            (
                WindowLength::Millis(DAY_MS),
                "1969-12-31T01:00:00Z",
                "1969-12-31T00:00:00Z",
                "1970-01-01T00:00:00Z",
            ),
        ];
        for (length, time, start, end) in cases {
            assert_eq!(length.around(millis(time)), (millis(start), millis(end)), "{time}");
        }
    }

    #[test]
    fn panes_divide_every_window() {
        let hours = |n: i64| WindowLength::Millis(n * 3_600_000);
        assert_eq!(WindowLength::common_pane(&[WindowLength::Month, hours(24)]), hours(24));
        assert_eq!(WindowLength::common_pane(&[WindowLength::Week, hours(36)]), hours(12));
        assert_eq!(WindowLength::common_pane(&[hours(4), hours(6)]), hours(2));
    }
}
