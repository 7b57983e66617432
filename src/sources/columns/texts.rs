//! Times that are texts: RFC 3339 and what Arrow reads beside it.

use arrow::array::{StringArray, TimestampMicrosecondArray};
use arrow::compute::kernels::cast_utils::string_to_datetime;
use chrono::Utc;

/// Texts as times in UTC, in microseconds; null where one is no time.
pub fn times_of_texts(texts: &StringArray) -> TimestampMicrosecondArray {
    let mut days = Days::default();
    let times = texts.iter().map(|text| text.and_then(|text| days.micros(text)));
    times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")
}

fn any_micros(text: &str) -> Option<i64> {
    Some(string_to_datetime(&Utc, text).ok()?.timestamp_micros())
}

/// The day that came last: the next time is most likely one of the same.
#[derive(Default)]
struct Days {
    date: [u8; 10],
    /// When it begins, unless it is no day.
    midnight: Option<i64>,
}

impl Days {
    fn micros(&mut self, text: &str) -> Option<i64> {
        let Some((date, micros)) = within_day(text.as_bytes()) else { return any_micros(text) };
        if self.date != *date {
            self.date = *date;
            self.midnight = std::str::from_utf8(date).ok().and_then(any_micros);
        }
        Some(self.midnight? + micros)
    }
}

/// The date and the time of the day (in microseconds) that is written as most are, such as
/// `2013-01-01T05:00:00Z` or `2013-01-01 05:00:00.250+00:00`; `None` of anything else.
fn within_day(text: &[u8]) -> Option<(&[u8; 10], i64)> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let ([b'T' | b' ', h, hh, b':', m, mm, b':', s, ss], rest) = rest.split_first_chunk::<9>()?
    else {
        return None;
    };
    let two = |tens: &u8, ones: &u8| {
        let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
        is_number.then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes, seconds) = (two(h, hh)?, two(m, mm)?, two(s, ss)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let (fraction, zone) = fraction(rest)?;
    let micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + fraction;
    matches!(zone, b"Z" | b"" | b"+00:00").then_some((date, micros))
}

/// Microseconds behind a point, if there is one, and what comes next.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = text else { return Some((0, text)) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = rest[..digits].iter().fold(0, |n, digit| n * 10 + i64::from(digit - b'0'));
    let scale = 10_i64.pow(6_u32.checked_sub(u32::try_from(digits).ok()?)?);
    (digits > 0).then_some((number * scale, &rest[digits..]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};

    use super::*;

    /// Arrow reads any of them one by one.
    #[test]
    fn texts_are_the_times_that_arrow_reads() {
        let mut random = fastrand::Rng::with_seed(7);
        let dates = ["2013-01-01", "2012-02-29", "2013-02-29", "0001-01-01", "9999-12-31", "201"];
        let signs = ["T", " ", "t", "", "_"];
        let times =
            ["05:00:00", "23:59:59", "24:00:00", "00:60:00", "23:59:60", "0a:00:00", "050000"];
        let fractions = ["", ".5", ".250", ".000001", ".1234567", ".", ".12345678901234"];
        let zones = ["", "Z", "z", "+00:00", "+02:00", " -08", "Zz", "x"];
        let mut texts: Vec<Option<String>> = vec![None];
        for _ in 0..20_000 {
            let mut text = Vec::new();
            for parts in [&dates[..], &signs, &times, &fractions, &zones] {
                let among = if random.bool() { 1 } else { parts.len() };
                text.extend(parts[random.usize(..among)].bytes());
            }
            if random.u8(..4) == 0 && !text.is_empty() {
                let at = random.usize(..text.len());
                text[at] = random.u8(b' '..127);
            }
            texts.push(Some(String::from_utf8(text).unwrap()));
        }
        let texts = StringArray::from(texts);
        let found = times_of_texts(&texts);
        let texts: ArrayRef = Arc::new(texts);
        let to = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let expected = cast(&texts, &to).unwrap();
        let expected = expected.as_primitive::<TimestampMicrosecondType>();
        for (row, text) in texts.as_string::<i32>().iter().enumerate() {
            let of =
                |times: &TimestampMicrosecondArray| times.is_valid(row).then(|| times.value(row));
            assert_eq!(of(&found), of(expected), "{text:?}");
        }
        assert_eq!(&found, expected);
        assert!((2_000..18_000).contains(&found.null_count()));
    }
}
