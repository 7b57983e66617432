//! Windows over event time, aligned to UTC.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};

pub const DAY_MS: i64 = 86_400_000;

/// How long drift windows are, and how far apart they start.
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
    /// Windows that overlap: they start at the multiples of `slide_ms`, which divides `length_ms`.
    Sliding { length_ms: i64, slide_ms: i64 },
}

impl WindowLength {
    /// The latest window [start, end) in ms that `time` falls into; the only one but for sliding
    /// windows.
    pub fn latest(self, time: i64) -> (i64, i64) {
        match self {
            WindowLength::Millis(length) => multiples(time.div_euclid(length), 1, length),
            WindowLength::Week => {
                let days = time.div_euclid(DAY_MS);
                multiples(days - (days + 3).rem_euclid(7), 7, DAY_MS)
            }
            WindowLength::Month => month_around(time).unwrap_or_else(|| beyond_the_calendar(time)),
            WindowLength::All => (i64::MIN, i64::MAX),
            WindowLength::Sliding { length_ms, slide_ms } => {
                multiples(time.div_euclid(slide_ms), length_ms / slide_ms, slide_ms)
            }
        }
    }

    /// The windows [start, end) in ms that `time` falls into, the latest first:
    /// [`overlap`](Self::overlap) of them, less those that would start before all of time.
    pub fn around(self, time: i64) -> impl Iterator<Item = (i64, i64)> {
        (0..self.overlap()).map_while(move |back| self.nth_around(time, back))
    }

    /// The window of [`around`](Self::around) that starts `back` slides before the latest.
    pub fn nth_around(self, time: i64, back: u64) -> Option<(i64, i64)> {
        match self {
            WindowLength::Sliding { length_ms, slide_ms } if back > 0 => {
                let number = time.div_euclid(slide_ms).checked_sub_unsigned(back)?;
                number.checked_mul(slide_ms)?;
                Some(multiples(number, length_ms / slide_ms, slide_ms))
            }
            _ => (back == 0).then(|| self.latest(time)),
        }
    }

    /// The end of the window that starts at `start`.
    pub fn end(self, start: i64) -> i64 {
        self.latest(start).1
    }

    /// How many windows an instant is in.
    pub fn overlap(self) -> u64 {
        match self {
            WindowLength::Sliding { length_ms, slide_ms } => (length_ms / slide_ms) as u64,
            _ => 1,
        }
    }

    /// The longest pane of which every window of these lengths is a union.
    pub fn common_pane(lengths: &[WindowLength]) -> WindowLength {
        if lengths.contains(&WindowLength::All) {
            return WindowLength::All;
        }
        let millis = lengths.iter().map(|length| match length {
            WindowLength::Millis(millis) => *millis,
            WindowLength::Sliding { slide_ms, .. } => *slide_ms,
            _ => DAY_MS,
        });
        WindowLength::Millis(millis.fold(0, greatest_common_divisor))
    }
}

/// From the `first` multiple of `unit` on, `count` units; as far as time goes.
fn multiples(first: i64, count: i64, unit: i64) -> (i64, i64) {
    (first.saturating_mul(unit), first.saturating_add(count).saturating_mul(unit))
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// `None` beyond the years that a calendar date can have.
fn month_around(time: i64) -> Option<(i64, i64)> {
    let date = DateTime::<Utc>::from_timestamp_millis(time)?.date_naive();
    let first = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?;
    let next = first.checked_add_months(Months::new(1))?;
    Some((midnight(first), midnight(next)))
}

/// What is before the first month or after the last one, as one window each.
fn beyond_the_calendar(time: i64) -> (i64, i64) {
    if time < 0 {
        (i64::MIN, midnight(NaiveDate::MIN))
    } else {
        (midnight(NaiveDate::MAX.with_day(1).unwrap_or(NaiveDate::MAX)), i64::MAX)
    }
}

fn midnight(date: NaiveDate) -> i64 {
    date.and_time(NaiveTime::MIN).and_utc().timestamp_millis()
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
            assert_eq!(length.latest(millis(time)), (millis(start), millis(end)), "{time}");
        }
    }

    #[test]
    fn panes_divide_every_window() {
        let hours = |n: i64| WindowLength::Millis(n * 3_600_000);
        assert_eq!(WindowLength::common_pane(&[WindowLength::Month, hours(24)]), hours(24));
        assert_eq!(WindowLength::common_pane(&[WindowLength::Week, hours(36)]), hours(12));
        assert_eq!(WindowLength::common_pane(&[hours(4), hours(6)]), hours(2));
    }

    #[test]
    fn sliding_windows_start_at_multiples_of_the_slide() {
        let sliding = WindowLength::Sliding { length_ms: 60, slide_ms: 15 };
        let around = |time: i64| sliding.around(time).collect::<Vec<_>>();
        assert_eq!(around(31), [(30, 90), (15, 75), (0, 60), (-15, 45)]);
        assert_eq!(around(30), around(44));
        assert_eq!(around(-1), [(-15, 45), (-30, 30), (-45, 15), (-60, 0)]);
        assert_eq!((sliding.overlap(), sliding.end(-15)), (4, 45));
        let pane = WindowLength::common_pane(&[sliding, WindowLength::Millis(50)]);
        assert_eq!(pane, WindowLength::Millis(5));
    }

    #[test]
    fn windows_at_the_ends_of_time_are_disjoint() {
        for length in [WindowLength::Month, WindowLength::Week, WindowLength::Millis(DAY_MS + 7)] {
            let (first, second) = (length.latest(i64::MIN), length.latest(length.end(i64::MIN)));
            assert_eq!((first.0, first.1), (i64::MIN, second.0), "{length:?}");
            let last = length.latest(i64::MAX);
            assert_eq!((last.1, length.end(last.0)), (i64::MAX, i64::MAX), "{length:?}");
            assert_eq!(length.latest(last.0 - 1).1, last.0, "{length:?}");
        }
        let sliding = WindowLength::Sliding { length_ms: 40, slide_ms: 10 };
        assert!(sliding.around(i64::MIN + 15).count() < 4);
        assert_eq!(sliding.latest(i64::MIN).1.rem_euclid(10), 0);
        assert_eq!(sliding.latest(i64::MAX).1, i64::MAX);
        let instant = WindowLength::Millis(1);
        assert_eq!(instant.latest(i64::MAX), (i64::MAX, i64::MAX));
        assert_eq!(instant.latest(i64::MIN), (i64::MIN, i64::MIN + 1));
    }
}
